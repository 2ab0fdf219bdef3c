// SPDX-License-Identifier: Apache-2.0
// The session state machines as traces: what goes in, what comes out.
#include "daemon/wire/session.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

using namespace understudy;

namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

std::string text_of(const Message& message) {
  std::string text(frame_type_name(type_of(message)));
  if (const auto* refuse = std::get_if<Refuse>(&message))
    text += "(" + std::string(refuse_code_name(refuse->code)) + ")";
  if (const auto* ack = std::get_if<Ack>(&message)) text += "(" + std::to_string(ack->seq) + ")";
  if (const auto* bye = std::get_if<Bye>(&message)) text += "(" + std::to_string(static_cast<int>(bye->code)) + ")";
  return text;
}

struct ActionText {
  std::string operator()(const SendMessage& action) const { return "send " + text_of(action.message); }
  std::string operator()(const AttachStore& action) const { return "attach " + action.hello.server_name; }
  std::string operator()(const DeliverBatch&) const { return "deliver"; }
  std::string operator()(const DeliverDelta&) const { return "deliver delta"; }
  std::string operator()(const ResizeDeltaCache& resize) const { return "cache " + std::to_string(resize.bytes); }
  std::string operator()(const DeliverDigestQuestion& action) const {
    return "ask " + std::to_string(action.question.token);
  }
  std::string operator()(const SessionDigestAnswer& action) const {
    return "answer " + std::to_string(action.answer.token);
  }
  std::string operator()(const SessionUp& action) const { return "up " + std::to_string(action.welcome.position.seq); }
  std::string operator()(const SessionAck& action) const { return "ack " + std::to_string(action.seq); }
  std::string operator()(const SessionNotice& action) const { return "notice " + action.notice.code; }
  std::string operator()(const CloseSession& action) const { return action.refused ? "close refused" : "close"; }
};

// The actions as one line, and the text of the error that closed the session, if one did.
struct Outcome {
  std::string line;
  std::string error;
};

Outcome outcome_of(const std::vector<SessionAction>& actions) {
  Outcome outcome;
  for (const SessionAction& action : actions) {
    if (!outcome.line.empty()) outcome.line += "; ";
    outcome.line += std::visit(ActionText(), action);
    if (const auto* close = std::get_if<CloseSession>(&action)) outcome.error = close->error.message();
  }
  return outcome;
}

template <typename Session>
struct Driver {
  Session session;
  std::uint64_t now_ns = 0;
  Outcome step(SessionEvent event) {
    std::vector<SessionAction> actions;
    session.step(std::move(event), now_ns, actions);
    return outcome_of(actions);
  }
};

PeerConnected agent_peer(const std::string& name) { return {PeerIdentity{{WireRole::kAgent, name}, "aa"}}; }
PeerConnected receiver_peer(const std::string& name) { return {PeerIdentity{{WireRole::kReceiver, name}, "bb"}}; }

Hello hello_of(const std::string& name) {
  Hello hello;
  hello.server = Uuid::random();
  hello.instance = Uuid::random();
  hello.epoch = 2;
  hello.server_name = name;
  hello.software = "understudy-agent 9";
  return hello;
}

Welcome welcome_of(Seq seq) {
  Welcome welcome;
  welcome.position.seq = seq;
  welcome.position.epoch = 2;
  welcome.receiver_name = "dr-1";
  return welcome;
}

Driver<ServerSession> server_in(ServerSession::State state) {
  Driver<ServerSession> server{ServerSession({"dr-1"}, 0)};
  if (state == ServerSession::State::kConnecting) return server;
  server.step(agent_peer("web-1"));
  if (state == ServerSession::State::kExpectHello) return server;
  server.step(FrameReceived{hello_of("web-1")});
  if (state == ServerSession::State::kAttaching) return server;
  server.step(Attached{welcome_of(10)});
  return server;
}

Driver<ClientSession> client_in(ClientSession::State state) {
  Driver<ClientSession> client{ClientSession({"dr-1", hello_of("web-1")}, 0)};
  if (state == ClientSession::State::kIdle) return client;
  client.step(receiver_peer("dr-1"));
  if (state == ClientSession::State::kExpectWelcome) return client;
  client.step(FrameReceived{welcome_of(10)});
  return client;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("receiver: a session from hello to goodbye") {
  Driver<ServerSession> server{ServerSession({"dr-1"}, 0)};
  CHECK(server.step(agent_peer("web-1")).line == "");
  CHECK(server.step(FrameReceived{hello_of("web-1")}).line == "attach web-1");
  CHECK(server.step(NoticeChanged{{true, "store-full", "x"}}).line == "send notice");
  CHECK(server.step(Attached{welcome_of(10)}).line == "send welcome");
  CHECK(server.step(FrameReceived{BatchFrame{}}).line == "deliver");
  CHECK(server.step(Committed{12}).line == "send ack(12)");
  CHECK(server.step(Committed{12}).line == "");
  CHECK(server.step(Committed{11}).line == "");
  CHECK(server.step(FrameReceived{Ping{4}}).line == "send pong");
  CHECK(server.step(FrameReceived{Bye{ByeCode::kShutdown, "done"}}).line == "close");
  CHECK(server.session.state() == ServerSession::State::kClosed);
  CHECK(server.step(Committed{13}).line == "");
}

TEST_CASE("receiver: who is refused, and with which words") {
  struct Case {
    const char* what;
    PeerConnected peer;
    std::function<void(Hello&)> change;
    const char* line;
    const char* words;
  };
  const std::vector<Case> cases = {
      {"wrong role", receiver_peer("dr-2"), {}, "", ""},
      {"wrong name",
       agent_peer("web-2"),
       {},
       "send refuse(identity); close refused",
       "its certificate is for agent 'web-2'"},
      {"version", agent_peer("web-1"), [](Hello& h) { h.features.version = 2; }, "send refuse(version); close refused",
       "speaks protocol version 2 (understudy-agent 9)"},
      {"feature", agent_peer("web-1"),
       [](Hello& h) {
         h.features.incompatible = 8;
         h.features.incompatible_names = {"byte-deltas"};
       },
       "send refuse(incompatible-feature); close refused", "'byte-deltas' (bit 3)"},
      {"no server id", agent_peer("web-1"), [](Hello& h) { h.server = Uuid{}; }, "send refuse(protocol); close refused",
       "server id"},
      {"no epoch", agent_peer("web-1"), [](Hello& h) { h.epoch = 0; }, "send refuse(protocol); close refused", "epoch"},
  };
  for (const Case& test : cases) {
    CAPTURE(test.what);
    Driver<ServerSession> server{ServerSession({"dr-1"}, 0)};
    const Outcome connected = server.step(test.peer);
    if (test.peer.peer.identity.role != WireRole::kAgent) {
      CHECK(connected.line == "send refuse(identity); close refused");
      CHECK(contains(connected.error, "certificate says receiver 'dr-2'"));
      continue;
    }
    Hello hello = hello_of("web-1");
    if (test.change) test.change(hello);
    const Outcome outcome = server.step(FrameReceived{hello});
    CHECK(outcome.line == test.line);
    CHECK(contains(outcome.error, test.words));
  }
}

TEST_CASE("receiver: compatible flags nobody knows are ignored") {
  Driver<ServerSession> server = server_in(ServerSession::State::kExpectHello);
  Hello hello = hello_of("web-1");
  hello.features.compatible = 0xffffffff;
  CHECK(server.step(FrameReceived{hello}).line == "attach web-1");
}

TEST_CASE("receiver: the store's refusal reaches the agent") {
  Driver<ServerSession> server = server_in(ServerSession::State::kAttaching);
  const Outcome outcome = server.step(AttachRefused{RefuseCode::kEpoch, "store is in epoch 3"});
  CHECK(outcome.line == "send refuse(epoch); close refused");
  CHECK(outcome.error == "store is in epoch 3");
}

TEST_CASE("receiver: which frames may come when") {
  using State = ServerSession::State;
  struct Row {
    State state;
    std::vector<FrameType> allowed;
  };
  const std::vector<Row> rows = {
      {State::kConnecting, {}},
      {State::kExpectHello, {FrameType::kHello, FrameType::kRefuse, FrameType::kBye}},
      {State::kAttaching, {FrameType::kPing, FrameType::kPong, FrameType::kRefuse, FrameType::kBye}},
      {State::kStreaming,
       {FrameType::kBatch, FrameType::kDigestQuestion, FrameType::kPing, FrameType::kPong, FrameType::kRefuse,
        FrameType::kBye}},
  };
  for (const Row& row : rows) {
    const Driver<ServerSession> server = server_in(row.state);
    for (int type = 1; type <= kFrameTypeMax; ++type) {
      const auto frame_type = static_cast<FrameType>(type);
      const bool allowed = std::find(row.allowed.begin(), row.allowed.end(), frame_type) != row.allowed.end();
      CAPTURE(static_cast<int>(row.state));
      CAPTURE(type);
      CHECK(server.session.admit(FrameHeader{frame_type, 0}).ok() == allowed);
    }
  }
}

TEST_CASE("receiver: a question about digests goes to the store, its answer to the agent") {
  Driver<ServerSession> server = server_in(ServerSession::State::kStreaming);
  DigestQuestion question;
  question.token = 3;
  CHECK(server.step(FrameReceived{question}).line == "ask 3");
  CHECK(server.step(DigestAnswered{}).line == "send digest-answer");
  Driver<ServerSession> attaching = server_in(ServerSession::State::kAttaching);
  CHECK(contains(attaching.step(FrameReceived{question}).line, "close"));
  CHECK(attaching.step(DigestAnswered{}).line == "");
}

TEST_CASE("receiver: deltas only where they were granted, and no more memory than that") {
  const auto streaming = [](std::uint64_t granted) {
    Driver<ServerSession> server = server_in(ServerSession::State::kAttaching);
    Welcome welcome = welcome_of(10);
    welcome.delta_cache_bytes_max = granted;
    server.step(Attached{welcome});
    return server;
  };
  for (const FrameType type : {FrameType::kDeltaCache, FrameType::kDeltaBatch}) {
    CHECK(streaming(4096).session.admit(FrameHeader{type, 0}).ok());
    CHECK_FALSE(streaming(0).session.admit(FrameHeader{type, 0}).ok());
    CHECK_FALSE(server_in(ServerSession::State::kAttaching).session.admit(FrameHeader{type, 0}).ok());
  }
  Driver<ServerSession> server = streaming(8192);
  CHECK(server.step(FrameReceived{DeltaCacheSize{8192}}).line == "cache 8192");
  CHECK(server.step(FrameReceived{DeltaBatchFrame{}}).line == "deliver delta");
  CHECK(server.step(FrameReceived{DeltaCacheSize{0}}).line == "cache 0");
  const Outcome outcome = server.step(FrameReceived{DeltaCacheSize{8193}});
  CHECK(outcome.line == "send bye(4); close");
  CHECK(contains(outcome.error, "asks for 8193 bytes, this session was granted 8192"));
}

TEST_CASE("receiver: no hello in time, silence, and pings") {
  Driver<ServerSession> early = server_in(ServerSession::State::kExpectHello);
  early.now_ns = kWireHandshakeNsMax - 1;
  CHECK(early.step(ClockTick{}).line == "");
  early.now_ns = kWireHandshakeNsMax;
  CHECK(early.step(ClockTick{}).line == "close refused");

  Driver<ServerSession> server = server_in(ServerSession::State::kStreaming);
  server.now_ns = kWirePingIntervalNs;
  CHECK(server.step(ClockTick{true, true}).line == "");
  CHECK(server.step(ClockTick{}).line == "send ping");
  CHECK(server.step(ClockTick{}).line == "");
  server.now_ns = 10 * kSecond;
  server.step(BytesReceived{});
  server.now_ns = 10 * kSecond + kWireSilenceNsMax - 1;
  CHECK(server.step(ClockTick{true, true}).line == "");
  server.now_ns += 1;
  const Outcome silent = server.step(ClockTick{});
  CHECK(silent.line == "close");
  CHECK(contains(silent.error, "no sign of life"));
}

TEST_CASE("receiver: who does not read cannot complain of silence") {
  Driver<ServerSession> server = server_in(ServerSession::State::kStreaming);
  for (std::uint64_t second = 1; second < 100; ++second) {
    server.now_ns = second * kSecond;
    CHECK_FALSE(contains(server.step(ClockTick{false, false}).line, "close"));
  }
}

TEST_CASE("receiver: garbage is answered before it closes") {
  const Error garbage(ErrorKind::kCorrupt, "frame header: checksum is wrong");
  for (const auto& [state, line] : std::vector<std::pair<ServerSession::State, const char*>>{
           {ServerSession::State::kExpectHello, "send refuse(protocol); close refused"},
           {ServerSession::State::kStreaming, "send bye(4); close"}}) {
    Driver<ServerSession> server = server_in(state);
    std::vector<SessionAction> actions;
    server.session.broken(garbage, actions);
    CHECK(outcome_of(actions).line == line);
  }
}

TEST_CASE("receiver: stop says goodbye in every state") {
  for (const auto state :
       {ServerSession::State::kExpectHello, ServerSession::State::kAttaching, ServerSession::State::kStreaming}) {
    Driver<ServerSession> server = server_in(state);
    CHECK(server.step(StopSession{ByeCode::kShutdown, "stopping"}).line == "send bye(1); close");
  }
}

TEST_CASE("agent: a session from hello to goodbye") {
  Driver<ClientSession> client{ClientSession({"dr-1", hello_of("web-1")}, 0)};
  CHECK(client.step(receiver_peer("dr-1")).line == "send hello");
  CHECK(client.step(FrameReceived{Notice{true, "store-full", "x"}}).line == "notice store-full");
  CHECK(client.step(FrameReceived{welcome_of(10)}).line == "up 10");
  CHECK(client.step(BatchSent{15}).line == "");
  CHECK(client.step(FrameReceived{Ack{12}}).line == "ack 12");
  CHECK(client.step(FrameReceived{Ack{15}}).line == "ack 15");
  DigestAnswer answer;
  answer.token = 4;
  CHECK(client.step(FrameReceived{answer}).line == "answer 4");
  CHECK(client.step(FrameReceived{Ping{1}}).line == "send pong");
  CHECK(client.step(FrameReceived{Pong{1}}).line == "");
  const Outcome bye = client.step(FrameReceived{Bye{ByeCode::kShutdown, "stopping"}});
  CHECK(bye.line == "close");
  CHECK(contains(bye.error, "receiver 'dr-1' said goodbye: stopping"));
}

TEST_CASE("agent: an ack must be of something sent, and go up") {
  for (const Seq seq : {Seq{0}, Seq{10}, Seq{16}, ~Seq{0}}) {
    Driver<ClientSession> client = client_in(ClientSession::State::kStreaming);
    client.step(BatchSent{15});
    CAPTURE(seq);
    CHECK(client.step(FrameReceived{Ack{seq}}).line == "send bye(4); close");
  }
}

TEST_CASE("agent: which receivers it will not have") {
  struct Case {
    PeerConnected peer;
    std::function<void(Welcome&)> change;
    const char* line;
    const char* words;
  };
  const std::vector<Case> cases = {
      {receiver_peer("dr-2"),
       {},
       "send refuse(identity); close refused",
       "certificate says receiver 'dr-2', expected was receiver 'dr-1'"},
      {agent_peer("dr-1"), {}, "send refuse(identity); close refused", "certificate says agent 'dr-1'"},
      {receiver_peer("dr-1"), [](Welcome& w) { w.features.version = 3; }, "send refuse(version); close refused",
       "version 3"},
      {receiver_peer("dr-1"), [](Welcome& w) { w.features.incompatible = 1; },
       "send refuse(incompatible-feature); close refused", "bit 0"},
      {receiver_peer("dr-1"), [](Welcome& w) { w.position.epoch = 3; }, "send refuse(epoch); close refused", "epoch 3"},
      {receiver_peer("dr-1"), [](Welcome& w) { w.receiver_name = "dr-9"; }, "send refuse(identity); close refused",
       "dr-9"},
  };
  for (const Case& test : cases) {
    Driver<ClientSession> client{ClientSession({"dr-1", hello_of("web-1")}, 0)};
    Outcome outcome = client.step(test.peer);
    if (test.change) {
      Welcome welcome = welcome_of(1);
      test.change(welcome);
      outcome = client.step(FrameReceived{welcome});
    }
    CHECK(outcome.line == test.line);
    CHECK(contains(outcome.error, test.words));
  }
}

TEST_CASE("agent: a refusal is told apart from a lost connection") {
  Driver<ClientSession> client = client_in(ClientSession::State::kExpectWelcome);
  const Outcome outcome = client.step(FrameReceived{Refuse{RefuseCode::kAlreadyConnected, "web-1 is connected"}});
  CHECK(outcome.line == "close refused");
  CHECK(contains(outcome.error, "refused us (already-connected): web-1 is connected"));
}

TEST_CASE("agent: a receiver that is stopping is tried again soon") {
  Driver<ClientSession> client = client_in(ClientSession::State::kExpectWelcome);
  CHECK(client.step(FrameReceived{Refuse{RefuseCode::kShuttingDown, "stopping"}}).line == "close");
}

TEST_CASE("agent: which frames may come when") {
  using State = ClientSession::State;
  for (const auto state : {State::kIdle, State::kExpectWelcome, State::kStreaming}) {
    const Driver<ClientSession> client = client_in(state);
    const bool up = state != State::kIdle;
    CHECK(client.session.admit({FrameType::kWelcome, 0}).ok() == (state == State::kExpectWelcome));
    CHECK(client.session.admit({FrameType::kAck, 8}).ok() == (state == State::kStreaming));
    CHECK(client.session.admit({FrameType::kNotice, 8}).ok() == up);
    CHECK(client.session.admit({FrameType::kRefuse, 8}).ok() == up);
    CHECK_FALSE(client.session.admit({FrameType::kBatch, 8}).ok());
    CHECK_FALSE(client.session.admit({FrameType::kHello, 8}).ok());
  }
}

TEST_CASE("agent: silence ends the session, traffic keeps it") {
  Driver<ClientSession> client = client_in(ClientSession::State::kStreaming);
  for (std::uint64_t second = 1; second < 60; ++second) {
    client.now_ns = second * kSecond;
    client.step(BytesReceived{});
    CHECK_FALSE(contains(client.step(ClockTick{}).line, "close"));
  }
  client.now_ns += kWireSilenceNsMax;
  CHECK(client.step(ClockTick{}).line == "close");
}
