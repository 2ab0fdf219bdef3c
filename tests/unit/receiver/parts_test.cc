// SPDX-License-Identifier: Apache-2.0
// The small parts of the receiver.
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "daemon/receiver/buffer_pool.h"
#include "daemon/receiver/read_limit.h"
#include "daemon/receiver/receiver_config.h"
#include "daemon/receiver/receiver_status.h"
#include "daemon/receiver/whole_disks.h"

// Behind our headers: it has a CHECK of its own.
#include <doctest/doctest.h>

using namespace understudy;

namespace {

constexpr const char* kGood = R"(name: dr-1
listen: {address: 127.0.0.1, port: 7601}
tls: {authority: ca.crt, certificate: dr-1.crt, key: dr-1.key}
stores:
  - {server: web-1, path: /srv/web-1}
  - {server: web-2, path: /srv/web-2, base_path: /fast/web-2, rate_limit: 20MiB/s, queue_bytes: 8MiB}
segment_bytes: 64MiB
log_level: debug
)";

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("receiver.yaml is read") {
  auto config = parse_receiver_config(kGood, "receiver.yaml");
  REQUIRE_MESSAGE(config.ok(), config.error().message());
  CHECK(config->name == "dr-1");
  CHECK(config->listen_address == "127.0.0.1");
  CHECK(config->listen_port == 7601);
  REQUIRE(config->stores.size() == 2);
  CHECK(config->stores[0] == ReceiverStoreConfig{"web-1", "/srv/web-1", "", 0, 0});
  CHECK(config->stores[1] == ReceiverStoreConfig{"web-2", "/srv/web-2", "/fast/web-2", 20u << 20, 8u << 20});
  CHECK(config->segment_bytes == 64u << 20);
  CHECK(config->log_level == LogLevel::kDebug);
  CHECK(config->control_socket == "/run/understudy/receiver.sock");
}

TEST_CASE("memory for deltas: general, per store, none, and no nonsense") {
  CHECK(parse_receiver_config(kGood, "receiver.yaml")->stores[0].delta_cache_bytes_max == 64u << 20);
  const std::string base = R"(name: dr-1
tls: {authority: /a, certificate: /b, key: /c}
stores: [{server: web-1, path: /srv/web-1}, {server: web-2, path: /srv/web-2, delta_cache_bytes_max: 0}]
)";
  const auto config = parse_receiver_config(base + "delta_cache_bytes_max: 8MiB\n", "receiver.yaml");
  REQUIRE_MESSAGE(config.ok(), config.error().message());
  CHECK(config->stores[0].delta_cache_bytes_max == 8u << 20);
  CHECK(config->stores[1].delta_cache_bytes_max == 0);
  const auto wrong = parse_receiver_config(base + "delta_cache_bytes_max: 5GiB\n", "receiver.yaml");
  REQUIRE_FALSE(wrong.ok());
  CHECK(wrong.error().message() ==
        "receiver.yaml:4:24: 'delta_cache_bytes_max' is '5GiB', out of range; allowed: 0 to 4GiB");
}

TEST_CASE("the scrub: how fast and how often, or not at all") {
  const ReceiverConfig usual = parse_receiver_config(kGood, "receiver.yaml").value();
  CHECK(usual.scrub == ScrubSettings{16u << 20, 7ull * 24 * 3600 * 1'000'000'000});
  const ReceiverConfig set =
      parse_receiver_config(std::string(kGood) + "scrub: {rate: 1MiB/s, every: 2h}\n", "receiver.yaml").value();
  CHECK(set.scrub == ScrubSettings{1u << 20, 7200ull * 1'000'000'000});
  CHECK(parse_receiver_config(std::string(kGood) + "scrub: {rate: none}\n", "receiver.yaml")->scrub.bytes_per_second ==
        0);
  for (const char* wrong : {"{rate: 1KiB/s}", "{rate: 20MiB}", "{every: 1ms}", "{every: often}", "{evry: 7d}"}) {
    CAPTURE(wrong);
    const auto config = parse_receiver_config(std::string(kGood) + "scrub: " + wrong + "\n", "receiver.yaml");
    REQUIRE_FALSE(config.ok());
    CHECK(contains(config.error().message(), "receiver.yaml:9:"));
  }
}

TEST_CASE("merging: how fast, in how much memory, how many files, or not at all") {
  CHECK(parse_receiver_config(kGood, "receiver.yaml")->merge == MergeSettings{});
  const ReceiverConfig set =
      parse_receiver_config(std::string(kGood) + "merge: {rate: 1MiB/s, memory: 64MiB, files: 4, run_bytes: 1GiB}\n",
                            "receiver.yaml")
          .value();
  CHECK(set.merge.bytes_per_second == 1u << 20);
  CHECK(set.merge.memory_bytes == 64u << 20);
  CHECK(set.merge.files == 4);
  CHECK(set.merge.run_bytes_max == 1u << 30);
  CHECK(parse_receiver_config(std::string(kGood) + "merge: {rate: none}\n", "receiver.yaml")->merge.bytes_per_second ==
        0);
  for (const char* wrong : {"{rate: 1KiB/s}", "{memory: 1MiB}", "{files: 1}", "{run_bytes: 32GiB}", "{size: 1}"}) {
    CAPTURE(wrong);
    const auto config = parse_receiver_config(std::string(kGood) + "merge: " + wrong + "\n", "receiver.yaml");
    REQUIRE_FALSE(config.ok());
    CHECK(contains(config.error().message(), "receiver.yaml:9:"));
  }
}

TEST_CASE("mistakes in receiver.yaml are all told, with their places") {
  auto config = parse_receiver_config(R"(name: dr 1
listen: {address: example.org, port: 0}
tls: {authority: ca.crt, certificate: dr-1.crt}
stores:
  - {server: web-1, path: /srv/a}
  - {server: web-1, path: /srv/b}
  - {server: web-3, path: /srv/a/inside, rate_limit: 20MiB, queue_bytes: 1}
segment_bytes: 1KiB
colour: blue
)",
                                      "receiver.yaml");
  REQUIRE_FALSE(config.ok());
  CHECK(config.error().kind() == ErrorKind::kInvalidConfig);
  const std::string text = config.error().message();
  for (const char* part : {"receiver.yaml:1:", "receiver.yaml:2:", "example.org", "key", "receiver.yaml:6:",
                           "has a store already", "receiver.yaml:7:", "overlaps '/srv/a'", "'20MiB' is no rate",
                           "for example 20MiB/s", "queue_bytes", "segment_bytes", "receiver.yaml:8:", "colour"}) {
    CHECK_MESSAGE(contains(text, part), part << " in " << text);
  }
}

TEST_CASE("large buffers come back, small ones and too many do not") {
  BufferPool pool(4u << 20);
  const std::byte* memory = nullptr;
  {
    Buffer buffer = pool.take(1 << 20);
    memory = buffer.bytes().data();
    CHECK(buffer.size() == 1u << 20);
    CHECK(pool.spare_bytes() == 0);
  }
  CHECK(pool.spare_bytes() == 1u << 20);
  {
    Buffer buffer = pool.take(900'000);
    CHECK(buffer.bytes().data() == memory);
    CHECK(buffer.size() == 900'000);
    Buffer moved = std::move(buffer);
    CHECK(moved.bytes().data() == memory);
    moved = pool.take(10);
    CHECK(pool.spare_bytes() == 1u << 20);
  }
  CHECK(pool.spare_bytes() == 1u << 20);
  {
    std::vector<Buffer> many;
    for (int i = 0; i < 10; ++i) many.push_back(pool.take(1 << 20));
  }
  CHECK(pool.spare_bytes() == 4u << 20);
  CHECK(pool.take(0).size() == 0);
}

TEST_CASE("the disk under a path is found through its file system") {
  // Nothing is known of this machine's disks, but what is answered must be whole disks that exist.
  for (const std::uint64_t device : whole_disks_under("/no/such/path/yet")) {
    const std::string node = "/sys/dev/block/" + std::to_string(device >> 20) + ":" + std::to_string(device & 0xfffff);
    struct stat status {};
    CHECK(::stat(node.c_str(), &status) == 0);
    CHECK(::stat((node + "/partition").c_str(), &status) != 0);
  }
  struct stat root {};
  REQUIRE(::stat("/", &root) == 0);
  if (major(root.st_dev) != 0) CHECK_FALSE(whole_disks_under("/").empty());
  CHECK(whole_disks_under("/proc").empty());
}

TEST_CASE("status says everything an operator asks") {
  StoreReport report;
  report.store.server_name = "web-1";
  report.store.directory = "/srv/web-1";
  report.store.state = "read-only";
  report.store.reason = "sync failed";
  report.store.position.seq = 42;
  report.connected = true;
  report.session.address = "10.0.0.1:5000";
  const Json json = receiver_status_json("dr-1", "understudy-receiver 1", 7600, {report});
  auto parsed = Json::parse(json.dump());
  REQUIRE(parsed.ok());
  const Json& store = parsed->at("stores").items().at(0);
  CHECK(store.at("server").as_string("") == "web-1");
  CHECK(store.at("durable_seq").as_unsigned(0) == 42);
  CHECK(store.at("read_only").as_bool(false));
  CHECK(store.at("peer").at("address").as_string("") == "10.0.0.1:5000");
}

TEST_CASE("a read limit holds its average whatever the size of a read, and waits no longer than it must") {
  ReadLimit limit;
  std::uint64_t now_ns = 1'000'000'000;
  CHECK_FALSE(limit.limited());
  limit.charge(1u << 30, now_ns);
  CHECK(limit.wait_ns(now_ns) == 0);
  constexpr std::uint64_t kRate = 10u << 20;
  for (const std::uint64_t read_bytes : {std::uint64_t{512}, std::uint64_t{64} << 10, std::uint64_t{4} << 20}) {
    limit.set(kRate, now_ns);
    const std::uint64_t begin_ns = now_ns;
    std::uint64_t bytes = 0;
    while (bytes < 40 * kRate) {
      limit.charge(read_bytes, now_ns);
      bytes += read_bytes;
      now_ns += limit.wait_ns(now_ns);
      CHECK(limit.wait_ns(now_ns) == 0);
    }
    const double seconds = static_cast<double>(now_ns - begin_ns) / 1e9;
    CHECK(seconds > 39.5);
    CHECK(seconds < 41.0);
  }
  // Time in which nothing came is not saved up beyond the burst.
  now_ns += 3600'000'000'000;
  limit.charge(kRate / 4, now_ns);
  CHECK(limit.wait_ns(now_ns) > 100'000'000);
}
