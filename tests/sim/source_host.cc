// SPDX-License-Identifier: Apache-2.0
// The machine and its agent. The applications are in applications.cc.
#include "tests/sim/source_host.h"

#include <algorithm>
#include <utility>

namespace understudy::sim {
namespace {

constexpr std::uint64_t kCalmRingBytes = 8 << 20;

Uuid fixed_uuid(std::uint8_t number) {
  Uuid uuid;
  uuid.bytes[0] = std::byte{0x5e};
  uuid.bytes[15] = static_cast<std::byte>(number);
  return uuid;
}

}  // namespace

SourceHost::SourceHost(World& world, Oracle& oracle, Dial dial)
    : world_(world), oracle_(oracle), dial_(std::move(dial)), clock_(world.scheduler, 1'700'000'000 * kSecond) {
  static constexpr std::uint64_t kRings[] = {4 << 20, 256 << 10, 48 << 10, 24 << 10};
  static constexpr std::uint32_t kBatchBytes[] = {1, 4096, 32768, 1 << 20};
  static constexpr std::uint64_t kWindows[] = {2048, 16 << 10, 64 << 20, 64 << 20};
  const std::size_t disks = 1 + world_.below(3);
  for (std::size_t i = 0; i < disks; ++i) sizes_.push_back((8 + world_.below(120)) * 1024 + 512 * world_.below(3));
  ring_bytes_ = kRings[world_.below(4)];
  granule_bytes_ = 4096u << world_.below(2);
  buffers_ = static_cast<std::uint32_t>(world_.between(1, 5));
  buffer_bytes_ = 8192u << world_.below(3);
  write_pause_us_ = static_cast<std::uint32_t>(1000u << world_.below(5));

  digests_ = world_.chance(75);
  repairs_ = world_.chance(40);
  options_.digest.scrub_enabled = world_.chance(60);
  options_.digest.scrub_period_ns = 1;
  options_.digest.scrub_bytes_per_second = 1ull << (19 + world_.below(8));
  options_.digest.recheck_pause_ns = world_.between(1, 50) * kMillisecond;
  read_pause_us_ = static_cast<std::uint32_t>(500u << world_.below(4));
  read_pieces_ = static_cast<std::uint32_t>(2u << world_.below(5));

  options_.server = fixed_uuid(1);
  for (std::size_t i = 0; i < disks; ++i) {
    DiskGeometry disk;
    disk.disk = static_cast<std::uint16_t>(i);
    disk.id = fixed_uuid(static_cast<std::uint8_t>(16 + i));
    disk.name = "/dev/sim" + std::to_string(i);
    disk.size_bytes = sizes_[i];
    options_.disks.push_back(disk);
  }
  options_.stream.batch_payload_bytes_max = kBatchBytes[world_.below(4)];
  options_.stream.batch_age_ns_max = world_.between(1, 8) * kMillisecond;
  options_.events_per_step_max = world_.chance(50) ? 8192 : static_cast<std::uint32_t>(world_.between(1, 4));
  options_.link_window_bytes = kWindows[world_.below(4)];
  options_.copy_window_bytes = std::min<std::uint64_t>(options_.link_window_bytes, 8 << 20);
  options_.copier.chunk_bytes_max = buffer_bytes_;
  options_.copier.bad_retry_ns = 50 * kMillisecond;
  options_.copier.retry_ns = 5 * kMillisecond;

  std::vector<std::vector<std::byte>> content;
  for (std::size_t i = 0; i < disks; ++i) {
    // Some disks hold something that no event ever tells of.
    content.emplace_back(sizes_[i]);
    if (world_.chance(30)) continue;
    const std::uint64_t bytes = std::min<std::uint64_t>(sizes_[i], 512 * (1 + world_.below(64)));
    const auto data = stamped(static_cast<std::uint16_t>(i), 0, bytes);
    std::copy(data.begin(), data.end(), content.back().begin());
  }
  boot(std::move(content));
}

SourceHost::~SourceHost() {
  end_agent();
  world_.scheduler.cancel(step_event_);
}

void SourceHost::boot(std::vector<std::vector<std::byte>> content) {
  ++boots_;
  up_ = true;
  world_.note("source", "boot {}", boots_);
  SimulatedCaptureOptions options;
  for (std::size_t i = 0; i < sizes_.size(); ++i) {
    options.disks.push_back({"/dev/sim" + std::to_string(i), sizes_[i], 512, content[i]});
  }
  options.ring_bytes = ring_bytes_;
  options.granule_bytes = granule_bytes_;
  options.clock = &clock_;
  options.virtual_time = true;
  capture_ = std::make_unique<SimulatedCapture>(std::move(options));
  oracle_.capture_begins(capture_->capture_id(), std::move(content));
  start_agent();
  run_application();
}

void SourceHost::start_agent() {
  ++agent_;
  world_.note("agent", "starts");
  stopping_ = false;
  calls_to_live_ = 0;
  if (on_agent_start) on_agent_start();
  tracker_ = std::make_unique<InterruptedTracker>(capture_->open());
  reader_ = std::make_unique<MemoryDiskReader>(*capture_, buffers_, buffer_bytes_);
  if (digests_) {
    digest_reader_ = std::make_unique<MemoryDiskReader>(*capture_, 2, static_cast<std::uint32_t>(kDigestChunkBytes));
  }
  Hello hello;
  hello.server = options_.server;
  hello.instance = fixed_uuid(static_cast<std::uint8_t>(32 + agent_ % 200));
  hello.server_name = "web-1";
  hello.disks = options_.disks;
  link_ = std::make_unique<SimLink>(world_, clock_, hello, dial_);
  link_->on_up = [this](Seq seq) { oracle_.session_began(seq); };
  link_->set_waker([this] { wake_agent(world_.below(100) * kMicrosecond); });
  replicator_ = std::make_unique<Replicator>(options_, *tracker_, *reader_, *link_, clock_, digest_reader_.get());
  tracker_->meanwhile = [this] { interrupted(); };
  reader_->meanwhile = [this] { interrupted(); };
  if (digest_reader_) digest_reader_->meanwhile = [this] { interrupted(); };
  link_->meanwhile = [this] { interrupted(); };
  wake_agent(0);
}

void SourceHost::end_agent() {
  if (!replicator_) return;
  world_.note("agent", "is gone");
  world_.scheduler.cancel(std::exchange(step_event_, 0));
  tracker_->meanwhile = nullptr;
  reader_->meanwhile = nullptr;
  if (digest_reader_) digest_reader_->meanwhile = nullptr;
  link_->meanwhile = nullptr;
  replicator_.reset();
  link_.reset();
  reader_.reset();
  digest_reader_.reset();
  tracker_.reset();
}

void SourceHost::restart_agent_after(std::uint64_t away_ns) {
  end_agent();
  world_.scheduler.after(1 + away_ns, [this, agent = agent_] {
    if (agent == agent_ && up_) start_agent();
  });
}

// In the middle of the agent's step: other processors write, or the agent dies.
void SourceHost::interrupted() {
  if (!in_step_) return;
  if (calls_to_live_ > 0 && --calls_to_live_ == 0) throw Killed{};
  if (quiet_ || !world_.per_mille(25)) return;
  in_step_ = false;  // nothing interrupts the interruption
  submit();
  if (world_.chance(50) && !in_flight_.empty()) complete(in_flight_.begin()->first);
  if (world_.chance(30)) reader_->progress(world_.random, 4);
  if (digest_reader_ && world_.chance(30)) digest_reader_->progress(world_.random, 4);
  in_step_ = true;
}

void SourceHost::run_step() {
  step_event_ = 0;
  in_step_ = true;
  StepResult result;
  bool killed = false;
  try {
    result = replicator_->step();
  } catch (const Killed&) {
    killed = true;
  }
  in_step_ = false;
  if (killed) {
    world_.note("fault", "the agent is killed in the middle of a step");
    return restart_agent_after(away_ns_);
  }
  oracle_.capture_has(capture_->capture_id());
  while (const auto event = replicator_->take_event()) {
    world_.note("agent", "event {}", static_cast<std::uint64_t>(event->kind));
    REQUIRE(event->kind != ReplicatorEvent::Kind::kDigestDifference, "digest", "a false alarm: " + event->text);
  }
  if (repairs_ && !quiet_ && world_.per_mille(2)) {
    world_.note("agent", "is asked for a repair");
    oracle_.repair_asked();
    (void)replicator_->command(ReplicationCommand::kRepair);
  }
  check_bounds();
  if (stopping_ && replicator_->stop_complete()) return restart_agent_after(away_ns_);
  if (!reading_ && reads_wait()) read_disks();
  const Scheduler::Time wanted =
      result.wait == StepResult::Wait::kNot ? world_.scheduler.now() : clock_.world_time(result.until_ns);
  const Scheduler::Time now = world_.scheduler.now();
  wake_agent((wanted > now ? wanted - now : 0) + 1 + world_.below(20 * kMicrosecond));
}

// I3: the host's memory is what the configuration says. What waits to be encoded lies in the ring or in the buffers
// for copies, however long nothing is taken from it; encoded or not, no more of it than the link's window waits.
void SourceHost::check_bounds() {
  constexpr std::uint64_t kWordsBytes = 64 << 10;  // of marks, geometry and gaps: a few hundred bytes each
  const std::uint64_t ring_used = capture_->head() - tracker_->tail();
  const std::uint64_t ring_bytes = std::max(ring_bytes_, quiet_ ? kCalmRingBytes : 0);
  REQUIRE(ring_used <= ring_bytes, "I3",
          std::to_string(ring_used) + " bytes of the ring are in use, it has " + std::to_string(ring_bytes));
  const std::uint64_t memory = ring_used + std::uint64_t{buffers_} * buffer_bytes_ + kWordsBytes;
  REQUIRE(link_->unencoded_bytes() <= memory, "I3",
          std::to_string(link_->unencoded_bytes()) + " bytes wait to be encoded, ring and buffers hold " +
              std::to_string(memory));
  const std::uint64_t queued = link_->statistics().queued_bytes;
  const std::uint64_t record = std::max<std::uint64_t>(buffer_bytes_, 64 << 10);
  const std::uint64_t batch = options_.stream.batch_payload_bytes_max + record;
  REQUIRE(queued <= options_.link_window_bytes + 2 * batch, "I3",
          std::to_string(queued) + " bytes wait for the link, its window is " +
              std::to_string(options_.link_window_bytes));
}

void SourceHost::wake_agent(std::uint64_t delay_ns) {
  if (!replicator_ || in_step_) return;
  const Scheduler::Time when = world_.scheduler.now() + delay_ns;
  if (step_event_ != 0) {
    if (step_at_ <= when) return;
    world_.scheduler.cancel(step_event_);
  }
  step_at_ = when;
  step_event_ = world_.scheduler.at(when, [this] { run_step(); });
}

bool SourceHost::reads_wait() const {
  return reader_->in_progress() > 0 || (digest_reader_ && digest_reader_->in_progress() > 0);
}

// Reads make progress while others write.
void SourceHost::read_disks() {
  reading_ = true;
  world_.scheduler.after((20 + world_.below(2 * read_pause_us_)) * kMicrosecond, [this] {
    reading_ = false;
    if (!reader_) return;
    reader_->progress(world_.random, static_cast<std::uint32_t>(1 + world_.below(read_pieces_)));
    if (digest_reader_) {
      digest_reader_->progress(world_.random, static_cast<std::uint32_t>(1 + world_.below(4 * read_pieces_)));
    }
    wake_agent(0);
    if (reads_wait()) read_disks();
  });
}

void SourceHost::kill_agent_soon(std::uint64_t away_ns) {
  if (!replicator_) return;
  away_ns_ = away_ns;
  calls_to_live_ = 1 + world_.below(60);
  world_.scheduler.after(world_.below(20 * kMillisecond), [this, agent = agent_] {
    if (agent == agent_ && replicator_) restart_agent_after(away_ns_);
  });
}

void SourceHost::stop_agent(std::uint64_t away_ns) {
  if (!replicator_ || stopping_) return;
  world_.note("fault", "the agent is asked to stop");
  stopping_ = true;
  away_ns_ = away_ns;
  replicator_->request_stop();
  wake_agent(0);
  world_.scheduler.after(kSecond, [this, agent = agent_] {
    if (agent == agent_ && replicator_) restart_agent_after(away_ns_);
  });
}

void SourceHost::crash(std::uint64_t away_ns) {
  if (!up_) return;
  world_.note("fault", "the source loses its power");
  end_agent();
  ++agent_;
  up_ = false;
  // What was in flight reached the disk or not.
  for (const auto& [id, write] : in_flight_) {
    if (world_.chance(50)) capture_->apply(id);
  }
  in_flight_.clear();
  std::vector<std::vector<std::byte>> content = disks();
  capture_.reset();
  world_.scheduler.after(1 + away_ns, [this, content = std::move(content)]() mutable {
    clock_.reboot();
    boot(std::move(content));
  });
}

void SourceHost::shrink_ring(std::uint64_t for_ns) {
  if (!up_) return;
  capture_->set_ring_bytes(512 + world_.below(8 << 10));
  world_.scheduler.after(for_ns, [this] {
    if (up_) capture_->set_ring_bytes(ring_bytes_);
  });
}

void SourceHost::fail_reads(std::uint64_t for_ns) {
  if (!reader_) return;
  const std::uint64_t offset = world_.below(64 << 10);
  reader_->bad_offsets.insert(offset);
  if (digest_reader_) digest_reader_->bad_offsets.insert(offset);
  world_.scheduler.after(for_ns, [this, agent = agent_] {
    if (agent != agent_ || !reader_) return;
    reader_->bad_offsets.clear();
    if (digest_reader_) digest_reader_->bad_offsets.clear();
  });
}

// Each costs a full copy: a run with many of them would get nowhere.
void SourceHost::miss_program() {
  if (misses_left_ == 0 || !up_) return;
  --misses_left_;
  capture_->miss_first_program(1);
}

void SourceHost::flip_bit() {
  if (link_) link_->flip_bit_in_next_batch();
}

void SourceHost::calm_down() {
  quiet_ = true;
  if (!up_) return;
  capture_->set_ring_bytes(kCalmRingBytes);
  capture_->skip_next(0);
  capture_->fail_reads_next(0);
  capture_->miss_first_program(0);
  capture_->fail_settle_next(0);
  while (!in_flight_.empty()) complete(in_flight_.begin()->first);
  if (reader_) reader_->bad_offsets.clear();
  if (digest_reader_) digest_reader_->bad_offsets.clear();
}

bool SourceHost::settled() const {
  return replicator_ && !stopping_ && replicator_->phase() == Phase::kRealtime &&
         capture_->head() == tracker_->tail() && in_flight_.empty();
}

std::vector<std::vector<std::byte>> SourceHost::disks() const {
  std::vector<std::vector<std::byte>> content;
  for (std::uint16_t disk = 0; disk < sizes_.size(); ++disk) {
    const std::span<const std::byte> bytes = capture_->disk_bytes(disk);
    content.emplace_back(bytes.begin(), bytes.end());
  }
  return content;
}

}  // namespace understudy::sim
