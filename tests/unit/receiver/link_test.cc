// SPDX-License-Identifier: Apache-2.0
// Link and receiver together: the stream arrives, whatever happens to connections and processes.
#include <dirent.h>

#include "daemon/wire/frame_codec.h"
#include "tests/unit/receiver/link_harness.h"

#include <doctest/doctest.h>

using namespace understudy;
using namespace std::chrono_literals;

namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a stream arrives, is acknowledged and can be read back") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 8, 16 << 10);
  {
    auto receiver = fixture.start_receiver();
    TestAgent agent(stream, fixture.agent_options(stream, receiver->port()));
    REQUIRE(agent.run_until_acked(200));
    CHECK(agent.ups == 1);
    CHECK(agent.downs == 0);
    REQUIRE(agent.last_up);
    CHECK(agent.last_up->receiver_name == "dr-1");
    CHECK_FALSE(agent.last_up->receiver_boot_id.is_nil());
    const LinkStatistics statistics = agent.link().statistics();
    CHECK(statistics.batches_sent == 201);
    CHECK(statistics.queued_bytes == 0);
    CHECK(statistics.raw_bytes_sent >= 200ull * 8 * (16 << 10));
    const auto reports = receiver->report();
    REQUIRE(reports.size() == 1);
    CHECK(reports[0].connected);
    CHECK(reports[0].store.state == "open");
    CHECK(reports[0].store.position.seq == stream.last_seq_of(200));
    CHECK(reports[0].store.batches_in == 201);
    receiver->stop();
  }
  fixture.check_store(stream, 200);
}

TEST_CASE("every codec arrives, and can be changed while the stream runs") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 4, 32 << 10);
  {
    auto receiver = fixture.start_receiver();
    TlsLinkOptions options = fixture.agent_options(stream, receiver->port());
    options.encoder_threads = 3;
    TestAgent agent(stream, options);
    std::uint64_t batch = 0;
    for (const Codec codec : {Codec::kNone, Codec::kLz4, Codec::kZstd}) {
      agent.link().set_compression({codec, 1}, false);
      const std::uint64_t before = agent.link().statistics().wire_bytes_sent;
      batch += 50;
      REQUIRE(agent.run_until_acked(batch));
      const std::uint64_t sent = agent.link().statistics().wire_bytes_sent - before;
      const std::uint64_t raw = 50ull * 4 * (32 << 10);
      if (codec == Codec::kNone) CHECK(sent > raw);
      if (codec != Codec::kNone) CHECK(sent < raw * 3 / 4);
    }
  }
  fixture.check_store(stream, 150);
}

TEST_CASE("rewritten blocks travel as what changed, on, off and with another size while the stream runs") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 4, 16 << 10, true);
  const std::uint64_t raw = 50ull * 4 * (16 << 10);
  {
    auto receiver = fixture.start_receiver();
    TlsLinkOptions options = fixture.agent_options(stream, receiver->port());
    options.encoder_threads = 3;
    options.adaptive_compression = false;
    options.delta_cache_bytes = 8 << 20;
    TestAgent agent(stream, options);
    REQUIRE(agent.run_until_acked(50));
    CHECK(agent.link().statistics().delta_cache_bytes_max == 8 << 20);
    CHECK(agent.link().statistics().delta_cache_bytes > 0);
    std::uint64_t batch = 50;
    for (const auto& [cache_bytes, share] : {std::pair(0u, 1.0), std::pair(1u << 20, 0.2), std::pair(8u << 20, 0.2),
                                             std::pair(64u << 10, 1.1), std::pair(4096u, 1.1), std::pair(0u, 1.0)}) {
      CAPTURE(cache_bytes);
      agent.link().set_delta_cache_bytes(cache_bytes);
      const LinkStatistics before = agent.link().statistics();
      batch += 50;
      REQUIRE(agent.run_until_acked(batch));
      const LinkStatistics after = agent.link().statistics();
      CHECK(after.delta_cache_bytes_max == cache_bytes);
      CHECK(after.delta_cache_bytes <= cache_bytes + (256 << 10));
      CHECK(after.changed_bytes_sent - before.changed_bytes_sent <=
            static_cast<std::uint64_t>(static_cast<double>(raw) * share));
      if (share < 1) CHECK(after.wire_bytes_sent - before.wire_bytes_sent < raw / 4);
    }
    CHECK(agent.downs == 0);
    const auto reports = receiver->report();
    CHECK(reports[0].session.delta_batches > 150);
    CHECK(reports[0].session.delta_cache_bytes == 0);
    receiver->stop();
  }
  fixture.check_store(stream, 350);
}

TEST_CASE("a bandwidth limit holds for every byte on the wire, and can be changed while the stream runs") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 4, 16 << 10);
  {
    auto receiver = fixture.start_receiver();
    TlsLinkOptions options = fixture.agent_options(stream, receiver->port());
    options.compression.codec = Codec::kNone;
    options.bandwidth.limit = 2 << 20;
    const auto begin = std::chrono::steady_clock::now();
    TestAgent agent(stream, options);
    // Bytes before time: being late cannot make this fail.
    const auto within_limit = [&](double allowed) {
      const auto sent = static_cast<double>(agent.link().statistics().wire_bytes_sent);
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
      return sent <= allowed + elapsed.count() * (2 << 20);
    };
    bool held = true;
    REQUIRE(agent.run(60, [&] {
      held = held && within_limit((2 << 20) / 20 + (64 << 10));
      return agent.acked == stream.last_seq_of(60);
    }));
    CHECK(held);
    CHECK(agent.link().statistics().bandwidth_limit == 2 << 20);
    CHECK(agent.link().statistics().wire_bytes_sent > 60 * 4 * (16 << 10));
    agent.link().set_bandwidth({});
    REQUIRE(agent.run_until_acked(400));
    CHECK(agent.link().statistics().bandwidth_limit == 0);
    CHECK(agent.downs == 0);
    receiver->stop();
  }
  fixture.check_store(stream, 400);
}

TEST_CASE("the receiver's bound on memory for deltas holds, and a receiver that allows none gets none") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 4, 16 << 10, true);
  std::uint64_t batch = 0;
  for (const std::uint64_t allowed : {std::uint64_t{1} << 20, std::uint64_t{0}}) {
    ReceiverConfig config = fixture.config();
    config.listen_port = 0;
    config.stores[0].delta_cache_bytes_max = allowed;
    auto receiver = ReceiverServer::start(config, {}).value();
    TlsLinkOptions options = fixture.agent_options(stream, receiver->port());
    options.delta_cache_bytes = 8 << 20;
    TestAgent agent(stream, options);
    batch += 40;
    REQUIRE(agent.run_until_acked(batch));
    CHECK(agent.link().statistics().delta_cache_bytes_max == allowed);
    CHECK(receiver->report()[0].session.delta_cache_bytes_max == allowed);
    CHECK((receiver->report()[0].session.delta_batches > 0) == (allowed > 0));
    receiver->stop();
  }
  fixture.check_store(stream, batch);
}

TEST_CASE("deltas over cut connections: each session begins with empty caches") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 3, 8 << 10, true);
  {
    auto receiver = fixture.start_receiver();
    TestProxy proxy(receiver->port());
    TlsLinkOptions options = fixture.agent_options(stream, proxy.port());
    options.delta_cache_bytes = 4 << 20;
    options.encoder_threads = 3;
    options.retry_ns_max = options.retry_ns_min;
    TestAgent agent(stream, options);
    for (std::uint64_t cut = 6000; cut < 120'000; cut += 7919) {
      proxy.cut_after_bytes = cut;
      const unsigned before = proxy.connections;
      REQUIRE(agent.run(
          1'000'000, [&] { return proxy.connections >= before + 2; }, 20s));
    }
    proxy.cut_after_bytes = 0;
    const std::uint64_t batch = stream.batch_behind(agent.acked) + 200;
    REQUIRE(agent.run_until_acked(batch));
    for (const std::string& reason : agent.down_reasons) CHECK_FALSE(contains(reason, "delta"));
    receiver->stop();
    fixture.check_store(stream, batch);
  }
}

TEST_CASE("cut at any byte, the stream goes on where the receiver stands") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 3, 8 << 10);
  {
    auto receiver = fixture.start_receiver();
    TestProxy proxy(receiver->port());
    TlsLinkOptions options = fixture.agent_options(stream, proxy.port());
    options.retry_ns_max = options.retry_ns_min;
    TestAgent agent(stream, options);
    // Through the handshake in small strides, then through frames, and ever further.
    for (std::uint64_t cut = 100; cut < 120'000; cut += cut < 6000 ? 397 : 7919) {
      proxy.cut_after_bytes = cut;
      const unsigned before = proxy.connections;
      // Two more: the first of them may have begun with the cut before.
      REQUIRE(agent.run(
          1'000'000, [&] { return proxy.connections >= before + 2; }, 20s));
    }
    CHECK(agent.acked > 0);
    proxy.cut_after_bytes = 0;
    const std::uint64_t batch = stream.batch_behind(agent.acked) + 200;
    REQUIRE(agent.run_until_acked(batch));
    receiver->stop();
    fixture.check_store(stream, batch);
  }
}

TEST_CASE("a receiver that restarts loses nothing and is found again") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 4, 8 << 10);
  auto receiver = fixture.start_receiver();
  const std::uint16_t port = receiver->port();
  TestAgent agent(stream, fixture.agent_options(stream, port));
  std::uint64_t batch = 0;
  for (int restart = 0; restart < 5; ++restart) {
    batch += 30;
    agent.run(batch, [&] { return agent.acked > stream.last_seq_of(batch - 15); });
    receiver->stop();
    REQUIRE(agent.run(batch, [&] { return !agent.up; }));
    CHECK(agent.was_down_for("the receiver is stopping"));
    agent.down_reasons.clear();
    receiver.reset();
    receiver = fixture.start_receiver(port);
  }
  REQUIRE(agent.run_until_acked(batch));
  receiver->stop();
  fixture.check_store(stream, batch);
}

TEST_CASE("stopping the receiver acknowledges what it had received") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 4, 64 << 10);
  auto receiver = fixture.start_receiver();
  TestAgent agent(stream, fixture.agent_options(stream, receiver->port()));
  REQUIRE(agent.run(400, [&] { return agent.acked > stream.last_seq_of(50); }));
  receiver->stop();
  REQUIRE(agent.run(0, [&] { return !agent.up; }));
  StoreOptions options;
  options.directory = fixture.store_path();
  auto store = Store::open(options, OpenMode::kReadOnly, [](const Damage&) {});
  REQUIRE(store.ok());
  CHECK((*store)->position().seq == agent.acked);
}

TEST_CASE("an agent that ends in the middle of its stream leaves a store that is whole up to some batch") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 4, 64 << 10);
  auto receiver = fixture.start_receiver(0, 1 << 20);
  Seq acked = 0;
  {
    TestAgent agent(stream, fixture.agent_options(stream, receiver->port()));
    REQUIRE(agent.run(400, [&] { return agent.link().statistics().batches_sent >= 100; }));
    acked = agent.acked;
  }
  const auto deadline = std::chrono::steady_clock::now() + 20s;
  while (receiver->report()[0].connected && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(10ms);
  receiver->stop();
  StoreOptions options;
  options.directory = fixture.store_path();
  const Seq stored = Store::open(options, OpenMode::kReadOnly, [](const Damage&) {}).value()->position().seq;
  CHECK(stored >= acked);
  fixture.check_store(stream, stream.batch_behind(stored) - 1);
}

TEST_CASE("the same agent process takes its session over at once; its old connection hangs") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 2, 4 << 10);
  auto receiver = fixture.start_receiver();
  TestProxy proxy(receiver->port());
  TlsLinkOptions options = fixture.agent_options(stream, proxy.port());
  options.hello.instance = Uuid::random();
  auto cut_off = std::make_unique<TestAgent>(stream, options);
  REQUIRE(cut_off->run_until_acked(5));
  proxy.stalled = true;
  options.port = receiver->port();
  TestAgent again(stream, options);
  REQUIRE(again.run_until_acked(10, 2s));
  CHECK(again.refusals.empty());
}

TEST_CASE("another agent process is refused while the first is alive, and let in when it is gone") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 2, 4 << 10);
  auto receiver = fixture.start_receiver();
  auto first = std::make_unique<TestAgent>(stream, fixture.agent_options(stream, receiver->port()));
  REQUIRE(first->run_until_acked(5));
  TestAgent second(stream, fixture.agent_options(stream, receiver->port()));
  REQUIRE(second.run(
      5, [&] { return !second.refusals.empty(); }, 10s));
  CHECK(contains(second.refusals[0], "already-connected"));
  CHECK(contains(second.refusals[0], "that connection is alive"));
  REQUIRE(first->run_until_acked(8));
  CHECK(first->downs == 0);
  first.reset();
  REQUIRE(second.run_until_acked(12, 10s));
}

TEST_CASE("refused with words: who may not have this store") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 2, 4 << 10);
  auto receiver = fixture.start_receiver();
  {
    TestAgent agent(stream, fixture.agent_options(stream, receiver->port()));
    REQUIRE(agent.run_until_acked(3));
  }
  struct Case {
    std::function<void(TlsLinkOptions&)> change;
    std::vector<std::string> words;
  };
  const Uuid other = Uuid::random();
  const std::vector<Case> cases = {
      {[&](TlsLinkOptions& o) { o.hello.epoch = 2; }, {"epoch", "is in epoch 1", "is in epoch 2"}},
      {[&](TlsLinkOptions& o) { o.hello.server = other; },
       {"wrong-server", stream.server().to_string(), other.to_string()}},
      {[&](TlsLinkOptions& o) { o.hello.features.version = 9; }, {"version", "speaks protocol version 9"}},
      {[&](TlsLinkOptions& o) {
         o.hello.features.incompatible = 4;
         o.hello.features.incompatible_names = {"byte-deltas"};
       },
       {"incompatible-feature", "'byte-deltas'"}},
      {[&](TlsLinkOptions& o) { o.hello.server_name = "web-9"; },
       {"identity", "web-9", "certificate is for agent 'web-1'"}},
      {[&](TlsLinkOptions& o) {
         o.tls = fixture.pki.files(WireRole::kAgent, "web-7");
         o.hello.server_name = "web-7";
       },
       {"unknown-server", "no store configured for server 'web-7'"}},
      {[&](TlsLinkOptions& o) {
         o.tls = fixture.pki.files(WireRole::kReceiver, "dr-5");
         o.hello.server_name = "web-1";
       },
       {"identity", "certificate says receiver 'dr-5'"}},
      {[&](TlsLinkOptions& o) { o.receiver_name = "dr-3"; }, {"certificate says receiver 'dr-1'", "receiver 'dr-3'"}},
      {[&](TlsLinkOptions& o) { o.tls.certificate = "/nonexistent/web-1.crt"; }, {"/nonexistent/web-1.crt"}},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    CAPTURE(i);
    TlsLinkOptions options = fixture.agent_options(stream, receiver->port());
    cases[i].change(options);
    TestAgent agent(stream, options);
    REQUIRE(agent.run(
        3, [&] { return !agent.refusals.empty(); }, 10s));
    CHECK(agent.ups == 0);
    for (const std::string& word : cases[i].words) {
      CHECK_MESSAGE(contains(agent.refusals[0], word), agent.refusals[0]);
    }
  }
}

TEST_CASE("an agent that finds nobody keeps trying and says so once") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 2, 4 << 10);
  std::uint16_t port = 0;
  {
    auto receiver = fixture.start_receiver();
    port = receiver->port();
  }
  TestAgent agent(stream, fixture.agent_options(stream, port));
  CHECK_FALSE(agent.run(
      1, [&] { return agent.up; }, 300ms));
  CHECK(agent.downs == 1);
  CHECK(contains(agent.last_down, "connect to receiver 'dr-1' at 127.0.0.1:"));
  auto receiver = fixture.start_receiver(port);
  REQUIRE(agent.run_until_acked(1));
}

TEST_CASE("a name that does not exist is an error, not a hang") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 2, 4 << 10);
  TlsLinkOptions options = fixture.agent_options(stream, 1);
  options.host = "no-such-host.invalid";
  TestAgent agent(stream, options);
  agent.run(
      0, [&] { return agent.downs > 0; }, 10s);
  if (agent.downs > 0) CHECK(contains(agent.last_down, "no-such-host.invalid"));
}

TEST_CASE("a configuration that is reloaded brings stores in and takes them out") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 2, 4 << 10);
  auto receiver = fixture.start_receiver();
  TestAgent agent(stream, fixture.agent_options(stream, receiver->port()));
  REQUIRE(agent.run_until_acked(3));

  ReceiverConfig config = fixture.config();
  config.stores = {{"web-2", fixture.directory.file("store-2"), ""}};
  REQUIRE(receiver->reload(config).ok());
  REQUIRE(agent.run(
      3, [&] { return !agent.refusals.empty(); }, 10s));
  CHECK(agent.was_down_for("configuration"));
  CHECK(contains(agent.refusals[0], "no store configured"));

  config = fixture.config();
  config.stores.push_back({"web-2", fixture.directory.file("store-2"), ""});
  REQUIRE(receiver->reload(config).ok());
  REQUIRE(agent.run_until_acked(6));
  CHECK(receiver->report().size() == 2);

  ReceiverConfig wrong = config;
  wrong.tls.key = "/nonexistent";
  CHECK_FALSE(receiver->reload(wrong).ok());
  REQUIRE(agent.run_until_acked(9));
  ReceiverConfig moved = config;
  moved.listen_port = 1;
  auto not_applied = receiver->reload(moved);
  REQUIRE(not_applied.ok());
}
