// SPDX-License-Identifier: Apache-2.0
// Messages, enrolment, the listener and its clients on real sockets.
#include "orchestrator/nodes/node_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <span>
#include <thread>

#include "daemon/base/limits.h"
#include "daemon/node/enroll.h"
#include "daemon/node/machine_identity.h"
#include "daemon/node/node_channel.h"
#include "daemon/node/node_client.h"
#include "daemon/node/node_frame.h"
#include "daemon/wire/pki.h"
#include "orchestrator/nodes/node_directory.h"
#include "orchestrator/state/database.h"
#include "tests/unit/orchestrator/reconciler_harness.h"
#include "tests/unit/temporary_directory.h"

#include <doctest/doctest.h>

namespace understudy {
namespace {

bool until(const std::function<bool()>& condition) {
  for (int i = 0; i < 6000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

std::string bytes_of(std::string text, std::size_t length) {
  std::string frame(4, '\0');
  for (std::size_t i = 0; i < 4; ++i) frame[i] = static_cast<char>((length >> (8 * i)) & 0xff);
  return frame + std::move(text);
}

Result<std::optional<Json>> read_frame(const std::string& bytes, std::size_t bytes_max = 1000) {
  NodeFrameReader reader(bytes_max);
  reader.add(std::as_bytes(std::span(bytes)));
  return reader.next();
}

// An authority, an orchestrator with a database, and what was told.
struct Fixture {
  TemporaryDirectory directory;
  HandClock clock;
  std::mutex mutex;
  std::unique_ptr<OrchestratorState> state;
  std::unique_ptr<NodeDirectory> nodes;
  std::vector<NodeEvent> events;
  std::unique_ptr<NodeServer> server;

  Fixture() {
    REQUIRE(pki_init(pki()).ok());
    REQUIRE(pki_issue(pki(), WireRole::kOrchestrator, "main", directory.file("main")).ok());
    auto opened = OrchestratorState::open(directory.file("state.db"), Durability::kProcess);
    REQUIRE(opened.ok());
    state = std::move(opened).value();
    auto made = NodeDirectory::open(*state, clock, pki());
    REQUIRE(made.ok());
    nodes = std::move(made).value();
  }
  std::string pki() const { return directory.file("pki"); }
  TlsFiles files(const std::string& name) const {
    const std::string in = directory.file(name);
    return {pki_authority_certificate_path(in), pki_certificate_path(in, name), pki_key_path(in, name)};
  }
  TlsFiles issue(WireRole role, const std::string& name) {
    REQUIRE(pki_issue(pki(), role, name, directory.file(name)).ok());
    return files(name);
  }
  void listen(std::uint16_t port = 0) {
    NodeServerOptions options;
    options.address = "127.0.0.1";
    options.port = port;
    options.tls = files("main");
    options.software = "test";
    options.admit = [this](const WireIdentity& identity, const Json& hello) {
      std::lock_guard lock(mutex);
      return nodes->admit(identity, hello);
    };
    options.enroll = [this](const Json& request) {
      std::lock_guard lock(mutex);
      return nodes->enroll(request);
    };
    options.on_event = [this](const NodeEvent& event) {
      std::lock_guard lock(mutex);
      events.push_back(event);
    };
    auto started = NodeServer::start(std::move(options));
    REQUIRE_MESSAGE(started.ok(), (started.ok() ? "" : started.error().message()));
    server = std::move(started).value();
  }
  bool was_told(NodeEvent::Kind kind, const std::string& text) {
    std::lock_guard lock(mutex);
    for (const NodeEvent& event : events) {
      if (event.kind == kind && (event.who + ": " + event.text).find(text) != std::string::npos) return true;
    }
    return false;
  }
};

// A node as a test wants it.
struct TestNode {
  std::mutex mutex;
  std::vector<Json> desired;
  std::vector<std::string> changes;
  std::atomic<std::uint64_t> order{0};
  std::unique_ptr<NodeClient> client;

  void start(const Fixture& fixture, const TlsFiles& tls, WireIdentity identity, const std::string& machine = "",
             const std::string& called = "main") {
    NodeClientOptions options;
    options.orchestrator = {"127.0.0.1", fixture.server->port(), called};
    options.identity = std::move(identity);
    options.tls = tls;
    options.software = "node";
    options.hello = [machine](Json& hello) {
      if (!machine.empty()) hello["machine"] = machine;
      hello["epoch"] = std::uint64_t{1};
    };
    options.report = [this] {
      Json report = Json::object();
      report["order"] = order.load();
      return report;
    };
    options.desired = [this](const Json& wanted) {
      order = wanted.at("order").as_unsigned(0);
      std::lock_guard lock(mutex);
      desired.push_back(wanted);
    };
    options.on_change = [this](const Status&, const std::string& text) {
      std::lock_guard lock(mutex);
      changes.push_back(text);
    };
    auto started = NodeClient::start(std::move(options));
    REQUIRE(started.ok());
    client = std::move(started).value();
  }
  bool was_told(const std::string& text) {
    std::lock_guard lock(mutex);
    for (const std::string& change : changes) {
      if (change.find(text) != std::string::npos) return true;
    }
    return false;
  }
  bool is_connected() const { return client->status().at("connected").as_bool(false); }
};

Json wanted(std::uint64_t order) {
  Json json = Json::object();
  json["order"] = order;
  return json;
}

}  // namespace

TEST_CASE("messages come out whole, however their bytes come in") {
  Json message = Json::object();
  message["type"] = "hello";
  const std::string bytes = encode_node_frame(message) + encode_node_frame(wanted(7));
  NodeFrameReader reader(1000);
  std::vector<Json> got;
  for (const char byte : bytes) {
    reader.add(std::as_bytes(std::span(&byte, 1)));
    auto next = reader.next();
    REQUIRE(next.ok());
    if (*next) got.push_back(**next);
  }
  REQUIRE(got.size() == 2);
  CHECK(got[0] == message);
  CHECK(got[1] == wanted(7));
}

TEST_CASE("what is no message is refused before it is kept") {
  CHECK(read_frame(bytes_of("", 0)).error().message().find("0 bytes") != std::string::npos);
  CHECK(read_frame(bytes_of("", 1001)).error().message().find("allowed: 1 to 1000") != std::string::npos);
  CHECK_FALSE(read_frame(bytes_of("", 0xffffffff)).ok());
  CHECK_FALSE(read_frame(bytes_of("{]", 2)).ok());
  CHECK(read_frame(bytes_of("[1]", 3)).error().message().find("no JSON object") != std::string::npos);
  const auto cut = read_frame(bytes_of("{", 2));
  REQUIRE(cut.ok());
  CHECK_FALSE(cut->has_value());
}

TEST_CASE("a channel says that there is something to take until it was taken") {
  Fixture fixture;
  const TlsFiles tls = fixture.issue(WireRole::kAgent, "web-1");
  int sockets[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets) == 0);
  const UniqueFd client_fd(sockets[0]);
  const UniqueFd server_fd(sockets[1]);
  NodeChannel client(*TlsStream::make(*TlsContext::load(tls, TlsSide::kClient), client_fd.get(), "server"), 1000);
  NodeChannel server(*TlsStream::make(*TlsContext::load(fixture.files("main"), TlsSide::kServer, TlsPeer::kOptional),
                                      server_fd.get(), "client"),
                     1000);
  REQUIRE(client.send(wanted(1)).ok());
  // The message comes in with what ends the handshake; whoever only wanted to send must learn of it.
  for (int i = 0; i < 20 && !server.has_more(); ++i) {
    REQUIRE(client.advance().ok());
    REQUIRE(server.advance().ok());
  }
  REQUIRE(server.advance().ok());
  CHECK(server.has_more());
  CHECK(server.take() == wanted(1));
  CHECK_FALSE(server.has_more());
  CHECK(server.peer().ok());
}

TEST_CASE("a token is read back as it was written, and nothing else is a token") {
  const EnrolmentToken token{std::string(32, 'a'), std::string(64, '1')};
  const auto parsed = EnrolmentToken::parse(token.to_text() + "\n");
  REQUIRE(parsed.ok());
  CHECK(parsed->secret == token.secret);
  CHECK(parsed->authority_sha256 == token.authority_sha256);
  for (std::string bad : {std::string(), std::string("understudy1."), token.to_text().substr(1), token.to_text() + "0",
                          "understudy1." + std::string(97, 'g')}) {
    const auto refused = EnrolmentToken::parse(bad);
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().message().find(token.secret) == std::string::npos);
  }
}

TEST_CASE("a node enrols once with its token and then gets in with what it was given") {
  Fixture fixture;
  fixture.listen();
  const auto token = fixture.nodes->make_token(WireRole::kAgent, "web-1", kTokenLifetimeDefaultNs, "anna");
  REQUIRE(token.ok());
  EnrolmentOptions options{"127.0.0.1", fixture.server->port(), *EnrolmentToken::parse(*token),
                           fixture.directory.file("web-1")};
  const auto enrolled = enroll_node(options);
  REQUIRE_MESSAGE(enrolled.ok(), (enrolled.ok() ? "" : enrolled.error().message()));
  CHECK(*enrolled == WireIdentity{WireRole::kAgent, "web-1"});
  CHECK(until([&] { return fixture.was_told(NodeEvent::Kind::kEnrolled, "agent 'web-1'"); }));

  TestNode node;
  node.start(fixture, fixture.files("web-1"), *enrolled);
  CHECK(until([&] { return node.is_connected(); }));

  options.out_directory = fixture.directory.file("second");
  const auto again = enroll_node(options);
  REQUIRE_FALSE(again.ok());
  CAPTURE(again.error().message());
  CHECK(again.error().kind() == ErrorKind::kRefused);
  CHECK(again.error().message().find("was used on") != std::string::npos);
  options.token.secret = std::string(32, '0');
  CHECK(enroll_node(options).error().message().find("not known here") != std::string::npos);
  // Somebody between, with an authority of his own.
  options.token.authority_sha256 = std::string(64, '0');
  CHECK_FALSE(enroll_node(options).ok());
}

TEST_CASE("a token ends with its time, and a clock that is set back does not bring it back") {
  Fixture fixture;
  const auto token_of = [&] {
    const auto token = fixture.nodes->make_token(WireRole::kReceiver, "dr-1", kTokenLifetimeNsMin, "anna");
    REQUIRE(token.ok());
    Json request = Json::object();
    request["token"] = EnrolmentToken::parse(*token)->secret;
    request["request"] = pki_make_request()->request_pem;
    return request;
  };
  const Json late = token_of();
  fixture.clock.now_ns += kTokenLifetimeNsMin;
  CHECK(fixture.nodes->enroll(late).error().message().find("expired") != std::string::npos);
  const Json early = token_of();
  fixture.clock.now_ns -= 1;
  CHECK(fixture.nodes->enroll(early).error().message().find("expired") != std::string::npos);
  const Json good = token_of();
  CHECK(fixture.nodes->enroll(good).ok());
  // Used up also by a request that cannot be signed.
  Json bad = token_of();
  bad["request"] = "-----BEGIN CERTIFICATE REQUEST-----\nnothing\n-----END CERTIFICATE REQUEST-----\n";
  CHECK(fixture.nodes->enroll(bad).error().kind() == ErrorKind::kInvalidArgument);
  CHECK(fixture.nodes->enroll(bad).error().message().find("was used") != std::string::npos);
  CHECK_FALSE(fixture.nodes->make_token(WireRole::kOrchestrator, "x", kTokenLifetimeDefaultNs, "").ok());
  CHECK_FALSE(fixture.nodes->make_token(WireRole::kAgent, "../x", kTokenLifetimeDefaultNs, "").ok());
  CHECK_FALSE(fixture.nodes->make_token(WireRole::kAgent, "x", kTokenLifetimeNsMax + 1, "").ok());
}

TEST_CASE("a node is told what it should do, as often as it comes, and what it reports is known") {
  Fixture fixture;
  const TlsFiles tls = fixture.issue(WireRole::kAgent, "web-1");
  fixture.listen();
  const WireIdentity identity{WireRole::kAgent, "web-1"};
  fixture.server->set_desired(identity, wanted(5));
  TestNode node;
  node.start(fixture, tls, identity);
  CHECK(until([&] { return node.order == 5; }));
  node.client->report_soon();
  CHECK(until([&] {
    const auto view = fixture.server->find(identity);
    return view && view->report && view->report->at("order").as_unsigned(0) == 5;
  }));
  fixture.server->set_desired(identity, wanted(6));
  CHECK(until([&] { return node.order == 6; }));

  const std::uint16_t port = fixture.server->port();
  fixture.server.reset();
  CHECK(until([&] { return !node.is_connected(); }));
  node.order = 0;
  fixture.listen(port);
  fixture.server->set_desired(identity, wanted(6));
  CHECK(until([&] { return node.order == 6; }));
  CHECK(node.was_told("connected with orchestrator 'main'"));
}

TEST_CASE("lost contact is shown with its age and changes nothing else") {
  Fixture fixture;
  const TlsFiles tls = fixture.issue(WireRole::kAgent, "web-1");
  fixture.listen();
  const WireIdentity identity{WireRole::kAgent, "web-1"};
  TestNode node;
  node.start(fixture, tls, identity);
  CHECK(until([&] {
    const auto view = fixture.server->find(identity);
    return view && view->report;
  }));
  node.client.reset();
  CHECK(until([&] { return fixture.was_told(NodeEvent::Kind::kLost, "agent 'web-1'"); }));
  const auto view = fixture.server->find(identity);
  REQUIRE(view);
  CHECK_FALSE(view->connected);
  CHECK(view->report != nullptr);
  CHECK(view->contact_wall_ns > 0);
}

TEST_CASE("a copy of a host is turned away until the machine is forgotten, also by another process") {
  Fixture fixture;
  const TlsFiles tls = fixture.issue(WireRole::kAgent, "web-1");
  fixture.listen();
  const WireIdentity identity{WireRole::kAgent, "web-1"};
  TestNode original;
  original.start(fixture, tls, identity, "dmi:one");
  CHECK(until([&] { return original.is_connected(); }));
  TestNode copy;
  copy.start(fixture, tls, identity, "dmi:two");
  CHECK(until([&] { return copy.was_told("is used by machine 'dmi:two'"); }));
  CHECK(original.is_connected());
  CHECK(until([&] { return fixture.server->find(identity)->trouble.find("dmi:two") != std::string::npos; }));

  std::unique_lock lock(fixture.mutex);
  auto reopened = NodeDirectory::open(*fixture.state, fixture.clock, fixture.pki());
  REQUIRE(reopened.ok());
  Json hello = Json::object();
  hello["machine"] = "dmi:two";
  CHECK((*reopened)->admit(identity, hello).error().kind() == ErrorKind::kRefused);
  REQUIRE((*reopened)->forget_machine(identity).ok());
  CHECK((*reopened)->admit(identity, hello).ok());
  CHECK_FALSE((*reopened)->forget_machine({WireRole::kAgent, "web-9"}).ok());
}

TEST_CASE("nobody gets in as somebody else") {
  Fixture fixture;
  const TlsFiles web_1 = fixture.issue(WireRole::kAgent, "web-1");
  const TlsFiles dr_1 = fixture.issue(WireRole::kReceiver, "dr-1");
  fixture.listen();
  TestNode liar;
  liar.start(fixture, web_1, {WireRole::kAgent, "web-2"});
  CHECK(until([&] { return liar.was_told("its certificate is for agent 'web-1'"); }));
  TestNode promoted;
  promoted.start(fixture, web_1, {WireRole::kReceiver, "web-1"});
  CHECK(until([&] { return promoted.was_told("its certificate is for agent 'web-1'"); }));
  TestNode elsewhere;
  elsewhere.start(fixture, dr_1, {WireRole::kReceiver, "dr-1"}, "", "other");
  CHECK(until([&] { return elsewhere.was_told("at its address is orchestrator 'main'"); }));
  TemporaryDirectory other;
  REQUIRE(pki_init(other.file("pki")).ok());
  REQUIRE(pki_issue(other.file("pki"), WireRole::kAgent, "web-1", other.file("out")).ok());
  TestNode stranger;
  stranger.start(
      fixture,
      {web_1.authority, pki_certificate_path(other.file("out"), "web-1"), pki_key_path(other.file("out"), "web-1")},
      {WireRole::kAgent, "web-1"});
  CHECK(until([&] { return fixture.was_told(NodeEvent::Kind::kRefused, "another authority"); }));
  CHECK_FALSE(fixture.server->find({WireRole::kAgent, "web-2"}));
  for (const NodeView& view : fixture.server->all()) CHECK_FALSE(view.connected);
}

TEST_CASE("only an orchestrator's certificate makes an orchestrator") {
  Fixture fixture;
  NodeServerOptions options;
  options.address = "127.0.0.1";
  options.port = 0;
  options.tls = fixture.issue(WireRole::kReceiver, "dr-1");
  const auto refused = NodeServer::start(std::move(options));
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message().find("--role orchestrator") != std::string::npos);
}

TEST_CASE("noise on the port disturbs nobody") {
  Fixture fixture;
  const TlsFiles tls = fixture.issue(WireRole::kAgent, "web-1");
  fixture.listen();
  TestNode node;
  node.start(fixture, tls, {WireRole::kAgent, "web-1"});
  CHECK(until([&] { return node.is_connected(); }));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(fixture.server->port());
  REQUIRE(::inet_pton(AF_INET, "127.0.0.1", &address.sin_addr) == 1);
  for (int i = 0; i < 20; ++i) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
    REQUIRE(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    const std::string noise = i % 2 == 0 ? "GET / HTTP/1.1\r\n\r\n" : std::string(3000, static_cast<char>(i * 7));
    CHECK(::send(fd.get(), noise.data(), noise.size(), MSG_NOSIGNAL) > 0);
  }
  CHECK(until([&] { return fixture.was_told(NodeEvent::Kind::kRefused, "127.0.0.1"); }));
  CHECK(node.is_connected());
}

TEST_CASE("a machine is known by what a copy of its disks has not, when there is such a thing") {
  TemporaryDirectory root;
  const auto put = [&](const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root.file(path)).parent_path());
    std::FILE* file = std::fopen(root.file(path).c_str(), "w");
    REQUIRE(file != nullptr);
    std::fputs(text.c_str(), file);
    std::fclose(file);
  };
  CHECK(machine_identity(root.path()) == "unknown");
  put("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
  CHECK(machine_identity(root.path()) == "machine-id:0123456789abcdef0123456789abcdef");
  put("sys/class/dmi/id/product_uuid", "00000000-0000-0000-0000-000000000000\n");
  CHECK(machine_identity(root.path()).starts_with("machine-id:"));
  put("sys/class/dmi/id/product_uuid", "4C4C4544-0042-3510-8050-B4C04F565231\n");
  CHECK(machine_identity(root.path()) == "dmi:4c4c4544-0042-3510-8050-b4c04f565231");
}

}  // namespace understudy
