// SPDX-License-Identifier: Apache-2.0
#include "daemon/receiver/store_jobs.h"

#include <algorithm>
#include <utility>

#include "daemon/base/limits.h"
#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/store/segment_index_writer.h"

namespace understudy {
namespace {

// After a job that failed: a full disk, mostly. Reading goes without it meanwhile. Also how often it is looked whether
// replaced files are needed no more.
constexpr std::uint64_t kRetryNs = 60'000'000'000;
// Batches came in so short ago: a merge goes slower.
constexpr std::uint64_t kBusyNs = 1'000'000'000;
constexpr std::uint64_t kBusyShare = 4;
constexpr std::uint64_t kPauseNsMax = 1'000'000'000;
// Another store merges.
constexpr std::uint64_t kWaitNs = 500'000'000;

std::atomic<unsigned> merges_running{0};

}  // namespace

bool MergeTicket::take() {
  unsigned running = merges_running;
  while (!taken_ && running < kMergesMax) taken_ = merges_running.compare_exchange_weak(running, running + 1);
  return taken_;
}

void MergeTicket::give_back() {
  if (std::exchange(taken_, false)) --merges_running;
}

void StoreJobs::drop_merge() {
  merge_.reset();
  ticket_.give_back();
}

StoreJobs::StoreJobs(std::string server_name, StoreOptions options, StoreExecutor& executor, const Clock& clock)
    : server_name_(std::move(server_name)),
      options_(std::move(options)),
      file_system_(options_.file_system != nullptr ? *options_.file_system : posix_file_system()),
      executor_(executor),
      clock_(clock) {}

StoreJobs::~StoreJobs() { stop(); }

void StoreJobs::set_merge(const MergeSettings& settings) {
  {
    const std::lock_guard lock(mutex_);
    if (stopped_ || settings_ == settings) return;
    settings_ = settings;
  }
  executor_.wake(*this);
}

void StoreJobs::post(const std::shared_ptr<Store>& store) {
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return;
    store_ = store;
  }
  executor_.wake(*this);
}

void StoreJobs::set_room(bool room) {
  {
    const std::lock_guard lock(mutex_);
    if (stopped_ || room_ == room) return;
    room_ = room;
  }
  executor_.wake(*this);
}

void StoreJobs::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  executor_.forget(*this);
  drop_merge();
}

StoreJobs::Figures StoreJobs::figures() const {
  const std::lock_guard lock(mutex_);
  return figures_;
}

std::optional<std::uint64_t> StoreJobs::turn() {
  std::shared_ptr<Store> store;
  bool room = true;
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return std::nullopt;
    store = store_.lock();
    room = room_;
  }
  if (!room || store == nullptr) drop_merge();
  if (store == nullptr || store->read_only()) return std::nullopt;
  const Did indexed = index_one(*store->snapshot());
  if (indexed == Did::kFailed) return kRetryNs;
  if (indexed == Did::kSomething) return 0;
  if (!removed_) remove_superseded(*store);
  if (!room) return kRetryNs;
  return merge_some(*store);
}

void StoreJobs::failed(const Error& error, const std::string& what_then) {
  const bool damaged = error.kind() == ErrorKind::kCorrupt;
  const std::lock_guard lock(mutex_);
  if (damaged || figures_.last_error != error.message())
    log_message(damaged ? LogLevel::kError : LogLevel::kWarning, damaged ? kMessageStoreDamaged : kMessageStoreIndex,
                "store of server '" + server_name_ + "': " + error.message() + what_then,
                {{"UNDERSTUDY_SERVER", server_name_}});
  figures_.last_error = error.message();
}

StoreJobs::Did StoreJobs::index_one(const JournalSnapshot& snapshot) {
  const std::vector<JournalSegment>& segments = snapshot.segments();
  const std::size_t sealed = segments.empty() ? 0 : segments.size() - 1;
  Did did = Did::kNothing;
  std::uint64_t waiting = 0;
  std::uint64_t raw = 0;
  for (std::size_t i = 0; i < sealed; ++i) {
    if (segments[i].is_run()) continue;
    ++raw;
    const std::uint64_t number = segments[i].info.number;
    if (number <= indexed_number_ || unreadable_.contains(segments[i].info.first_seq)) continue;
    if (did != Did::kNothing) {
      ++waiting;
      continue;
    }
    const Result<bool> written = write_segment_index(file_system_, snapshot, i);
    if (!written.ok()) {
      ++waiting;
      const bool damaged = written.error().kind() == ErrorKind::kCorrupt;
      failed(written.error(), damaged ? "; views of later points will fail" : ", retrying in 60 s");
      if (damaged) unreadable_.insert(segments[i].info.first_seq);
      did = damaged ? Did::kSomething : Did::kFailed;
      continue;
    }
    indexed_number_ = number;
    if (!*written) continue;
    did = Did::kSomething;
    const std::lock_guard lock(mutex_);
    ++figures_.indexes_written;
    figures_.last_error.clear();
  }
  raw_waiting_ = raw;
  const std::lock_guard lock(mutex_);
  figures_.segments_waiting = waiting;
  figures_.files = segments.size();
  return did;
}

StoreJobs::Begun StoreJobs::begin_merge(Store& store) {
  MergeSettings settings;
  {
    const std::lock_guard lock(mutex_);
    settings = settings_;
  }
  if (settings.bytes_per_second == 0) return Begun::kNo;
  MergePolicy policy;
  policy.unit_bytes = options_.segment_bytes_max;
  policy.files = settings.files;
  policy.run_bytes_max = settings.run_bytes_max;
  std::shared_ptr<const JournalSnapshot> snapshot = store.snapshot();
  const std::optional<MergeChoice> choice =
      choose_merge(snapshot->segments(), policy,
                   [this](const JournalSegment& segment) { return unreadable_.contains(segment.info.first_seq); });
  if (!choice) return Begun::kNo;
  if (!ticket_.take()) return Begun::kLater;
  RunMergeOptions options;
  options.payload_bytes_max = settings.memory_bytes;
  options.block_bytes = settings.block_bytes;
  const std::vector<JournalSegment>& segments = snapshot->segments();
  std::vector<Seq> firsts;
  for (std::size_t i = choice->first; i < choice->first + choice->count; ++i)
    firsts.push_back(segments[i].info.first_seq);
  Result<std::unique_ptr<RunMerge>> begun =
      RunMerge::begin(file_system_, options_.directory, snapshot, choice->first, choice->count, options);
  merged_ = std::move(firsts);
  if (begun.ok()) {
    merge_ = std::move(*begun);
    return Begun::kYes;
  }
  give_up(begun.error());
  return begun.error().kind() == ErrorKind::kCorrupt ? Begun::kLater : Begun::kNo;
}

// The inputs stay as they are.
void StoreJobs::give_up(const Error& error) {
  drop_merge();
  if (error.kind() != ErrorKind::kCorrupt) return failed(error, ", retrying in 60 s");
  unreadable_.insert(merged_.begin(), merged_.end());
  failed(error, "; it stays as it is, and what is beside it is not merged with it");
}

std::optional<std::uint64_t> StoreJobs::merge_some(Store& store) {
  const Begun begun = merge_ != nullptr ? Begun::kYes : begin_merge(store);
  if (begun == Begun::kLater) return kWaitNs;
  if (begun == Begun::kNo) {
    if (files_kept_ > 0) remove_superseded(store);
    const std::lock_guard lock(mutex_);
    const bool again = files_kept_ > 0 || !figures_.last_error.empty();
    return again ? std::optional<std::uint64_t>(kRetryNs) : std::nullopt;
  }
  const std::uint64_t before = merge_->work_bytes();
  const Result<bool> done = merge_->step();
  if (!done.ok()) {
    const bool damaged = done.error().kind() == ErrorKind::kCorrupt;
    give_up(done.error());
    return damaged ? 0 : kRetryNs;
  }
  const std::uint64_t work = merge_->work_bytes() - before;
  if (*done) end_merge(store);
  return pause_ns(work);
}

void StoreJobs::end_merge(Store& store) {
  const MergedRun run = merge_->run();
  const std::uint64_t written_bytes = merge_->written_bytes();
  drop_merge();  // with its snapshot, which would keep what is to be removed
  const Status adopted = store.adopt_run(run);
  if (!adopted.ok()) {
    failed(adopted.error(), ", retrying in 60 s");
  } else {
    const std::lock_guard lock(mutex_);
    ++figures_.merges;
    figures_.merged_bytes += written_bytes;
    figures_.last_error.clear();
  }
  remove_superseded(store);
}

void StoreJobs::remove_superseded(Store& store) {
  const Result<std::size_t> kept = store.remove_superseded();
  if (!kept.ok()) return failed(kept.error(), ", retrying in 60 s");
  removed_ = true;
  files_kept_ = *kept;
  const std::lock_guard lock(mutex_);
  figures_.files_kept = *kept;
}

std::uint64_t StoreJobs::pause_ns(std::uint64_t work_bytes) const {
  std::uint64_t rate = 0;
  std::size_t files = 0;
  {
    const std::lock_guard lock(mutex_);
    rate = std::max<std::uint64_t>(settings_.bytes_per_second, 1);
    files = settings_.files;
  }
  const bool busy = clock_.boot_ns() - last_commit_ns_ < kBusyNs;
  if (busy && raw_waiting_ <= 2 * files) rate = std::max<std::uint64_t>(rate / kBusyShare, 1);
  const double pause = static_cast<double>(work_bytes) * 1e9 / static_cast<double>(rate);
  return static_cast<std::uint64_t>(std::min(pause, static_cast<double>(kPauseNsMax)));
}

}  // namespace understudy
