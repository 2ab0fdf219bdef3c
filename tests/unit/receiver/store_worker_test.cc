// SPDX-License-Identifier: Apache-2.0
// One store's thread against a file system that waits, runs full and fails: what is acknowledged, and when.
#include "daemon/receiver/store_worker.h"

#include "daemon/receiver/store_threads.h"

#include <atomic>
#include <condition_variable>

#include "tests/unit/receiver/link_harness.h"
#include "tests/unit/store/memory_file_system.h"

// Behind our headers: it has a CHECK of its own.
#include <doctest/doctest.h>

using namespace understudy;
using namespace std::chrono_literals;

namespace {

// Notes what its store tells it.
class NotingClient final : public StoreClient {
 public:
  void store_attached(const StreamPosition& position, const std::vector<std::uint64_t>&) override {
    note([&] { attached = position.seq; });
  }
  void store_refused(RefuseCode code, const std::string& text) override {
    note([&] { refused = std::string(refuse_code_name(code)) + ": " + text; });
  }
  void store_committed(Seq seq) override {
    note([&] { committed = seq; });
  }
  void store_notice(const Notice& notice) override {
    note([&] { notices.push_back(notice); });
  }
  void store_took(std::size_t bytes) override {
    note([&] { took += bytes; });
  }
  void store_failed(ByeCode code, const std::string& text) override {
    note([&] { failed = std::to_string(static_cast<int>(code)) + ": " + text; });
  }

  bool wait(const std::function<bool()>& done, std::chrono::milliseconds timeout = 10s) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, timeout, done);
  }

  std::optional<Seq> attached;
  std::string refused;
  Seq committed = 0;
  std::vector<Notice> notices;
  std::size_t took = 0;
  std::string failed;

 private:
  void note(const std::function<void()>& change) {
    {
      std::lock_guard lock(mutex_);
      change();
    }
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
};

struct Bench {
  Bench() : stream(Uuid::random(), 4, 16 << 10), pool(1 << 20) {
    options.directory = "/store";
    options.file_system = &disk;
  }
  Hello hello(std::uint64_t epoch = 1) const {
    Hello made;
    made.server = stream.server();
    made.server_name = "web-1";
    made.epoch = epoch;
    return made;
  }
  Buffer batch(std::uint64_t number, std::uint64_t epoch = 1) {
    std::vector<std::byte> bytes;
    (void)stream.make(number, epoch)->batch.encode({Codec::kNone, 1}, bytes);
    Buffer buffer = pool.take(bytes.size());
    std::copy(bytes.begin(), bytes.end(), buffer.bytes().begin());
    return buffer;
  }

  StoreThreads threads{2};
  MemoryFileSystem disk;
  TestStream stream;
  BufferPool pool;
  StoreOptions options;
  std::shared_ptr<NotingClient> client = std::make_shared<NotingClient>();
};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("nothing is acknowledged before it is synced") {
  Bench bench;
  std::atomic<bool> closed_gate{false};
  std::atomic<int> waiting{0};
  bench.disk.set_fault([&](const FileOperation& operation) -> std::optional<Error> {
    if (operation.kind != FileOperation::Kind::kSync) return std::nullopt;
    ++waiting;
    while (closed_gate) std::this_thread::sleep_for(1ms);
    --waiting;
    return std::nullopt;
  });
  StoreWorker worker("web-1", bench.options, bench.threads, bench.threads);
  worker.attach(bench.client, bench.hello());
  REQUIRE(bench.client->wait([&] { return bench.client->attached.has_value(); }));
  CHECK(*bench.client->attached == 0);
  closed_gate = true;
  for (std::uint64_t number = 0; number < 3; ++number) worker.submit(bench.client, bench.batch(number));
  while (waiting == 0) std::this_thread::sleep_for(1ms);
  CHECK_FALSE(bench.client->wait([&] { return bench.client->committed != 0; }, 200ms));
  closed_gate = false;
  CHECK(bench.client->wait([&] { return bench.client->committed == bench.stream.last_seq_of(2); }));
}

TEST_CASE("a full store stops acknowledging, says so once, and goes on by itself") {
  Bench bench;
  StoreWorker worker("web-1", bench.options, bench.threads, bench.threads);
  worker.attach(bench.client, bench.hello());
  worker.submit(bench.client, bench.batch(0));
  REQUIRE(bench.client->wait([&] { return bench.client->committed == 4; }));
  bench.disk.set_space(bench.disk.used_bytes() + (100 << 10));
  for (std::uint64_t number = 1; number <= 20; ++number) worker.submit(bench.client, bench.batch(number));
  REQUIRE(bench.client->wait([&] { return !bench.client->notices.empty(); }));
  CHECK(bench.client->notices[0].active);
  CHECK(bench.client->notices[0].code == "store-full");
  CHECK(worker.status().state == "full");
  const Seq stopped_at = bench.client->committed;
  CHECK(stopped_at < bench.stream.last_seq_of(20));
  CHECK_FALSE(bench.client->wait([&] { return bench.client->committed != stopped_at; }, 1500ms));
  CHECK(bench.client->notices.size() == 1);
  bench.disk.set_space(~std::uint64_t{0});
  REQUIRE(bench.client->wait([&] { return bench.client->committed == bench.stream.last_seq_of(20); }));
  REQUIRE(bench.client->wait([&] { return bench.client->notices.size() == 2; }));
  CHECK_FALSE(bench.client->notices[1].active);
  CHECK(worker.status().state == "open");
  CHECK(bench.client->failed.empty());
}

TEST_CASE("a full store can be stopped, and keeps exactly what it acknowledged or more") {
  Bench bench;
  Seq committed = 0;
  {
    StoreWorker worker("web-1", bench.options, bench.threads, bench.threads);
    worker.attach(bench.client, bench.hello());
    worker.submit(bench.client, bench.batch(0));
    REQUIRE(bench.client->wait([&] { return bench.client->committed == 4; }));
    bench.disk.set_space(bench.disk.used_bytes() + (100 << 10));
    for (std::uint64_t number = 1; number <= 20; ++number) worker.submit(bench.client, bench.batch(number));
    REQUIRE(bench.client->wait([&] { return !bench.client->notices.empty(); }));
    worker.stop();
    committed = bench.client->committed;
  }
  auto store = Store::open(bench.options, OpenMode::kReadOnly, [](const Damage&) {});
  REQUIRE(store.ok());
  CHECK((*store)->position().seq >= committed);
}

TEST_CASE("an agent that comes while the store is full is told, and accepted when there is room") {
  Bench bench;
  StoreWorker worker("web-1", bench.options, bench.threads, bench.threads);
  worker.attach(bench.client, bench.hello());
  worker.submit(bench.client, bench.batch(0));
  REQUIRE(bench.client->wait([&] { return bench.client->committed == 4; }));
  bench.disk.set_space(bench.disk.used_bytes() + (100 << 10));
  for (std::uint64_t number = 1; number <= 20; ++number) worker.submit(bench.client, bench.batch(number));
  REQUIRE(bench.client->wait([&] { return !bench.client->notices.empty(); }));
  worker.detach(bench.client.get());
  auto next = std::make_shared<NotingClient>();
  worker.attach(next, bench.hello());
  REQUIRE(next->wait([&] { return !next->notices.empty(); }));
  CHECK_FALSE(next->attached);
  bench.disk.set_space(~std::uint64_t{0});
  REQUIRE(next->wait([&] { return next->attached.has_value(); }));
  CHECK(*next->attached == bench.stream.last_seq_of(20));  // what the first had sent was not thrown away
}

TEST_CASE("a failed sync is never acknowledged, and the store refuses everybody afterwards") {
  Bench bench;
  StoreWorker worker("web-1", bench.options, bench.threads, bench.threads);
  worker.attach(bench.client, bench.hello());
  worker.submit(bench.client, bench.batch(0));
  REQUIRE(bench.client->wait([&] { return bench.client->committed == 4; }));
  bench.disk.set_fault([](const FileOperation& operation) -> std::optional<Error> {
    if (operation.kind == FileOperation::Kind::kSync) return Error(ErrorKind::kIo, "sync: Input/output error", 5);
    return std::nullopt;
  });
  worker.submit(bench.client, bench.batch(1));
  REQUIRE(bench.client->wait([&] { return !bench.client->failed.empty(); }));
  CHECK(contains(bench.client->failed, "3: "));
  CHECK(bench.client->committed == 4);
  bench.disk.set_fault(nullptr);
  CHECK(worker.status().state == "read-only");
  auto next = std::make_shared<NotingClient>();
  worker.attach(next, bench.hello());
  REQUIRE(next->wait([&] { return !next->refused.empty(); }));
  CHECK_MESSAGE(contains(next->refused, "store-read-only: store '/store' is read-only: "), next->refused);
  CHECK_MESSAGE(contains(next->refused, "Input/output error"), next->refused);
}

TEST_CASE("sealed segments get their index without anybody waiting for it") {
  Bench bench;
  bench.options.segment_batches_max = 2;
  StoreThreads jobs(1, StoreThreads::Priority::kLow);
  StoreWorker worker("web-1", bench.options, bench.threads, bench.threads, system_clock(), &jobs);
  worker.attach(bench.client, bench.hello());
  for (std::uint64_t number = 0; number < 9; ++number) worker.submit(bench.client, bench.batch(number));
  REQUIRE(bench.client->wait([&] { return bench.client->committed == bench.stream.last_seq_of(8); }));
  const auto until = std::chrono::steady_clock::now() + 30s;
  while (worker.status().jobs.indexes_written < 4 && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(1ms);
  CHECK(worker.status().jobs.indexes_written == 4);
  worker.stop();
  std::size_t indexes = 0;
  for (const std::string& path : bench.disk.paths()) indexes += path.ends_with(".idx") ? 1 : 0;
  CHECK(indexes == 4);
}

TEST_CASE("a batch that does not fit ends its session and leaves the store alone") {
  Bench bench;
  StoreWorker worker("web-1", bench.options, bench.threads, bench.threads);
  worker.attach(bench.client, bench.hello());
  worker.submit(bench.client, bench.batch(0));
  worker.submit(bench.client, bench.batch(3));  // 1 and 2 are missing
  worker.submit(bench.client, bench.batch(1));  // of the same broken session
  REQUIRE(bench.client->wait([&] { return !bench.client->failed.empty(); }));
  CHECK_MESSAGE(contains(bench.client->failed, "records between are missing"), bench.client->failed);
  auto next = std::make_shared<NotingClient>();
  worker.attach(next, bench.hello());
  REQUIRE(next->wait([&] { return next->attached.has_value(); }));
  CHECK(*next->attached == 4);
  Buffer damaged = bench.batch(1);
  damaged.bytes()[damaged.size() / 2] ^= std::byte{1};
  worker.submit(next, std::move(damaged));
  REQUIRE(next->wait([&] { return !next->failed.empty(); }));
  CHECK(next->committed == 0);
  CHECK(worker.status().state == "open");
}

TEST_CASE("batches of a replaced client are dropped") {
  Bench bench;
  StoreWorker worker("web-1", bench.options, bench.threads, bench.threads);
  worker.attach(bench.client, bench.hello());
  worker.submit(bench.client, bench.batch(0));
  auto next = std::make_shared<NotingClient>();
  worker.attach(next, bench.hello());
  worker.submit(bench.client, bench.batch(1));
  REQUIRE(next->wait([&] { return next->attached.has_value(); }));
  CHECK(*next->attached == 4);
  worker.submit(next, bench.batch(1));
  REQUIRE(next->wait([&] { return next->committed == bench.stream.last_seq_of(1); }));
  REQUIRE(bench.client->wait([&] { return bench.client->took == bench.batch(0).size() + bench.batch(1).size(); }));
}

TEST_CASE("an empty store takes the agent's epoch, later the agent must have the store's") {
  Bench bench;
  {
    StoreWorker worker("web-1", bench.options, bench.threads, bench.threads);
    worker.attach(bench.client, bench.hello(3));
    REQUIRE(bench.client->wait([&] { return bench.client->attached.has_value(); }));
  }
  StoreWorker worker("web-1", bench.options, bench.threads, bench.threads);
  auto next = std::make_shared<NotingClient>();
  worker.attach(next, bench.hello(5));
  worker.submit(next, bench.batch(0, 5));
  REQUIRE(next->wait([&] { return next->committed == 4; }));
  auto old = std::make_shared<NotingClient>();
  worker.attach(old, bench.hello(3));
  REQUIRE(old->wait([&] { return !old->refused.empty(); }));
  CHECK_MESSAGE(contains(old->refused, "epoch: store '/store' is in epoch 5, the agent 'web-1' is in epoch 3"),
                old->refused);
}
