// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver/link_harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "daemon/base/checksum.h"
#include "daemon/view/view.h"

// Behind our headers: it has a CHECK of its own.
#include <doctest/doctest.h>

namespace understudy {

TestPki::TestPki(const std::string& directory) : directory_(directory + "/pki") { REQUIRE(pki_init(directory_).ok()); }

TlsFiles TestPki::files(WireRole role, const std::string& name) {
  const Status issued = pki_issue(directory_, role, name, directory_);
  if (!issued.ok()) REQUIRE(issued.error().kind() == ErrorKind::kAlreadyExists);
  return {pki_authority_certificate_path(directory_), pki_certificate_path(directory_, name),
          pki_key_path(directory_, name)};
}

TestStream::TestStream(Uuid server, unsigned writes_per_batch, std::uint32_t write_bytes, bool rewrites)
    : server_(server),
      capture_id_(Uuid::random()),
      writes_per_batch_(writes_per_batch),
      write_bytes_(write_bytes),
      rewrites_(rewrites) {}

std::uint64_t TestStream::batch_behind(Seq seq) const {
  if (seq == 0) return 0;
  REQUIRE((seq - 4) % writes_per_batch_ == 0);
  return (seq - 4) / writes_per_batch_ + 1;
}

TestStream::Write TestStream::write_of(Seq seq) const {
  constexpr std::uint64_t kPlaces = 16;
  std::mt19937_64 random(rewrites_ ? seq % kPlaces : seq);
  Write write;
  write.offset_bytes = random() % ((kDiskBytes - write_bytes_) / 512) * 512;
  write.payload.resize(write_bytes_);
  // Half of it compresses.
  for (std::size_t i = 0; i + 8 <= write.payload.size(); i += 8) {
    const std::uint64_t word = i % 16 == 0 ? random() : (rewrites_ ? random() : seq);
    std::memcpy(write.payload.data() + i, &word, sizeof(word));
  }
  if (rewrites_) std::memcpy(write.payload.data() + seq % 64 * 8, &seq, sizeof(seq));
  return write;
}

std::unique_ptr<OutgoingBatch> TestStream::make(std::uint64_t batch, std::uint64_t epoch) const {
  auto outgoing = std::make_unique<OutgoingBatch>();
  auto payloads = std::make_shared<std::vector<std::vector<std::byte>>>();
  payloads->reserve(writes_per_batch_ + 4);
  const Seq first = batch == 0 ? 1 : last_seq_of(batch - 1) + 1;
  outgoing->batch.start(server_, first, epoch, 1);
  const auto add = [&](RecordKind kind, std::uint8_t flags, std::uint64_t offset, std::uint64_t length, Seq seq,
                       std::vector<std::byte> payload) {
    payloads->push_back(std::move(payload));
    Record record;
    record.kind = kind;
    record.flags = flags;
    record.offset_bytes = offset;
    record.length_bytes = length;
    record.time_ns = 1'700'000'000'000'000'000ull + seq * 1'000'000;
    record.payload = payloads->back();
    record.checksum = record.payload.empty() ? 0 : xxh3_64(record.payload);
    outgoing->batch.add(record);
  };
  if (batch == 0) {
    DiskGeometry disk;
    disk.id = server_;
    disk.name = "/dev/test";
    disk.size_bytes = kDiskBytes;
    add(RecordKind::kGeometry, 0, 0, 0, 1, encode_geometry(std::span(&disk, 1)));
    add(RecordKind::kGap, 0, 0, 0, 2, encode_gap({GapReason::kInitialCopy}));
    add(RecordKind::kCopy, kRecordZeros | kRecordInitial, 0, kDiskBytes, 3, {});
    add(RecordKind::kHeal, 0, 0, 0, 4, {});
  } else {
    for (unsigned i = 0; i < writes_per_batch_; ++i) {
      Write write = write_of(first + i);
      add(RecordKind::kWrite, 0, write.offset_bytes, write_bytes_, first + i, std::move(write.payload));
    }
  }
  outgoing->batch.set_cursor({capture_id_, (batch + 1) * 4096, 0});
  outgoing->keepalive.push_back(payloads);
  return outgoing;
}

std::vector<std::byte> TestStream::disk_after(std::uint64_t batch) const {
  std::vector<std::byte> disk(kDiskBytes);
  for (Seq seq = 5; seq <= last_seq_of(batch); ++seq) {
    const Write write = write_of(seq);
    std::memcpy(disk.data() + write.offset_bytes, write.payload.data(), write.payload.size());
  }
  return disk;
}

TestAgent::TestAgent(const TestStream& stream, TlsLinkOptions options) : stream_(stream), epoch_(options.hello.epoch) {
  auto link = TlsLink::start(std::move(options));
  REQUIRE_MESSAGE(link.ok(), link.error().message());
  link_ = std::move(link).value();
}

bool TestAgent::was_down_for(std::string_view text) const {
  return std::ranges::any_of(down_reasons,
                             [text](const std::string& reason) { return reason.find(text) != std::string::npos; });
}

void TestAgent::take(const LinkEvent& event) {
  if (const auto* is_up = std::get_if<LinkUp>(&event)) {
    CHECK_FALSE(up);
    CHECK(is_up->position.seq >= acked);  // what was acknowledged is durable
    up = true;
    ++ups;
    last_up = *is_up;
    acked = is_up->position.seq;
    next_batch_ = stream_.batch_behind(is_up->position.seq);
  } else if (const auto* ack = std::get_if<LinkAck>(&event)) {
    CHECK(ack->seq > acked);
    acked = ack->seq;
  } else if (const auto* down = std::get_if<LinkDown>(&event)) {
    up = false;
    ++downs;
    last_down = down->error.message();
    down_reasons.push_back(last_down);
  } else if (const auto* refused = std::get_if<LinkRefused>(&event)) {
    up = false;
    refusals.push_back(refused->error.message());
  } else if (const auto* notice = std::get_if<LinkNotice>(&event)) {
    notices.push_back(*notice);
  }
}

bool TestAgent::run(std::uint64_t last_batch, const std::function<bool()>& done, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (!done()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    bool worked = false;
    while (auto event = link_->poll()) {
      take(*event);
      worked = true;
    }
    if (up && next_batch_ <= last_batch && link_->statistics().queued_bytes < (8u << 20)) {
      link_->send(stream_.make(next_batch_++, epoch_));
      worked = true;
    }
    if (!worked) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

bool TestAgent::run_until_acked(std::uint64_t last_batch, std::chrono::milliseconds timeout) {
  return run(
      last_batch, [&] { return acked >= stream_.last_seq_of(last_batch); }, timeout);
}

namespace {

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// Small buffers, so that a cut hits bytes that are still on their way.
UniqueFd small_socket() {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return fd;
}

}  // namespace

TestProxy::TestProxy(std::uint16_t target_port) : target_port_(target_port), listener_(small_socket()) {
  const sockaddr_in address = loopback(0);
  REQUIRE(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  REQUIRE(::listen(listener_.get(), 16) == 0);
  sockaddr_in bound{};
  socklen_t length = sizeof(bound);
  REQUIRE(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&bound), &length) == 0);
  port_ = ntohs(bound.sin_port);
  acceptor_ = std::thread([this] { accept_loop(); });
}

TestProxy::~TestProxy() {
  stop_ = true;
  acceptor_.join();
  for (std::thread& thread : forwarders_) thread.join();
}

void TestProxy::accept_loop() {
  while (!stop_) {
    pollfd waiting{listener_.get(), POLLIN, 0};
    if (::poll(&waiting, 1, 20) <= 0) continue;
    UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client.valid()) continue;
    ++connections;
    std::lock_guard lock(mutex_);
    forwarders_.emplace_back([this, fd = client.release()] { forward(UniqueFd(fd)); });
  }
}

void TestProxy::forward(UniqueFd client) {
  UniqueFd server = small_socket();
  const sockaddr_in address = loopback(target_port_);
  if (::connect(server.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return;
  std::vector<char> buffer(64 << 10);
  std::uint64_t forwarded = 0;
  bool was_stalled = false;
  while (!stop_) {
    if (stalled) {
      was_stalled = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      continue;
    }
    if (was_stalled) return;  // a mended cable does not bring old connections back
    pollfd waiting[2] = {{client.get(), POLLIN, 0}, {server.get(), POLLIN, 0}};
    if (::poll(waiting, 2, 20) <= 0) continue;
    for (int side = 0; side < 2; ++side) {
      if (waiting[side].revents == 0) continue;
      std::size_t want = buffer.size();
      const std::uint64_t cut = cut_after_bytes;
      if (cut != 0) want = std::min<std::uint64_t>(want, cut - std::min(cut, forwarded));
      if (want == 0) return;
      const ssize_t got = ::recv(waiting[side].fd, buffer.data(), want, 0);
      if (got <= 0) return;
      for (ssize_t at = 0; at < got;) {
        const ssize_t sent =
            ::send(waiting[1 - side].fd, buffer.data() + at, static_cast<std::size_t>(got - at), MSG_NOSIGNAL);
        if (sent <= 0) return;
        at += sent;
      }
      forwarded += static_cast<std::uint64_t>(got);
      bytes += static_cast<std::uint64_t>(got);
    }
  }
}

LinkFixture::LinkFixture() : pki(directory.path()) {}

ReceiverConfig LinkFixture::config() {
  ReceiverConfig config;
  config.name = "dr-1";
  config.listen_address = "127.0.0.1";
  config.listen_port = 0;
  config.tls = pki.files(WireRole::kReceiver, "dr-1");
  config.stores = {{"web-1", store_path(), ""}};
  return config;
}

std::unique_ptr<ReceiverServer> LinkFixture::start_receiver(std::uint16_t port, std::size_t queue_bytes_max) {
  ReceiverConfig with_port = config();
  with_port.listen_port = port;
  ReceiverServer::Options options;
  options.software = "test";
  options.session_queue_bytes_max = queue_bytes_max;
  options.times = times;
  auto server = ReceiverServer::start(with_port, options);
  REQUIRE_MESSAGE(server.ok(), server.error().message());
  return std::move(server).value();
}

TlsLinkOptions LinkFixture::agent_options(const TestStream& stream, std::uint16_t port) {
  TlsLinkOptions options;
  options.host = "127.0.0.1";
  options.port = port;
  options.receiver_name = "dr-1";
  options.tls = pki.files(WireRole::kAgent, "web-1");
  options.hello.server = stream.server();
  options.hello.server_name = "web-1";
  options.hello.epoch = 1;
  options.hello.software = "test-agent";
  options.retry_ns_min = 10'000'000;
  options.retry_ns_max = 50'000'000;
  options.refused_retry_ns = 50'000'000;
  return options;
}

void LinkFixture::check_store(const TestStream& stream, std::uint64_t batch) {
  StoreOptions options;
  options.directory = store_path();
  std::vector<std::string> damages;
  const auto note = [&](const Damage& damage) {
    if (!damage.torn_tail) damages.push_back(damage.reason);
  };
  auto store = Store::open(options, OpenMode::kReadOnly, note);
  REQUIRE_MESSAGE(store.ok(), store.error().message());
  CHECK((*store)->position().seq == stream.last_seq_of(batch));
  const Status scrubbed = (*store)->scrub(note, [](std::uint64_t, std::uint64_t) { return true; });
  CHECK(scrubbed.ok());
  CHECK(damages.empty());
  Point point;
  point.seq = stream.last_seq_of(batch);
  auto view = PointInTimeView::open(**store, point);
  REQUIRE_MESSAGE(view.ok(), view.error().message());
  std::vector<std::byte> disk(TestStream::kDiskBytes);
  const Status read = (*view)->read(0, 0, disk);
  REQUIRE_MESSAGE(read.ok(), read.error().message());
  CHECK(disk == stream.disk_after(batch));
}

}  // namespace understudy
