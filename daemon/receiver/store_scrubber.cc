// SPDX-License-Identifier: Apache-2.0
#include "daemon/receiver/store_scrubber.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "daemon/base/limits.h"
#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/base/text.h"

namespace understudy {

namespace {

constexpr int kScrubNice = 10;

// "disk '/dev/vdb': 65536 bytes at 4096 and 2 more places"
std::string describe_extents(const std::vector<DamagedExtent>& extents, const std::vector<DiskGeometry>& disks) {
  const DamagedExtent& first = extents.front();
  std::string name = std::to_string(first.disk);
  for (const DiskGeometry& disk : disks)
    if (disk.disk == first.disk) name = disk.name;
  std::string text = "disk " + quote(name) + ": " + std::to_string(first.length_bytes) + " bytes at " +
                     std::to_string(first.offset_bytes);
  if (extents.size() > 1) text += " and " + std::to_string(extents.size() - 1) + " more places";
  return text;
}

}  // namespace

std::string describe_damage(const Damage& damage) {
  std::string text = "'" + damage.object + "' at byte " + std::to_string(damage.offset_bytes) + ", " +
                     std::to_string(damage.length_bytes) + " bytes: " + damage.reason;
  if (damage.first_seq != 0) text += "; points from seq " + std::to_string(damage.first_seq) + " on may be affected";
  return text;
}

StoreScrubber::StoreScrubber(const Clock& clock, Lost lost)
    : clock_(clock), lost_(std::move(lost)), thread_([this] { run(); }) {}

StoreScrubber::~StoreScrubber() {
  stop();
  thread_.join();
}

void StoreScrubber::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
}

void StoreScrubber::set(std::map<std::string, StoreOptions> stores, const ScrubSettings& settings) {
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t first_ns = clock_.boot_ns() + std::min(settings.every_ns, kFirstPassDelayNs);
    std::map<std::string, Entry> entries;
    for (auto& [name, options] : stores) {
      const auto old = entries_.find(name);
      const bool same = old != entries_.end() && old->second.options.directory == options.directory;
      Entry entry = same ? std::move(old->second) : Entry{{}, first_ns, {}};
      entry.options = std::move(options);
      // A shorter interval counts at once.
      entry.due_ns = std::min(entry.due_ns, clock_.boot_ns() + settings.every_ns);
      entries.emplace(name, std::move(entry));
    }
    entries_ = std::move(entries);
    settings_ = settings;
  }
  changed_.notify_all();
}

ScrubStatus StoreScrubber::status(const std::string& server_name) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(server_name);
  return found == entries_.end() ? ScrubStatus() : found->second.status;
}

StoreScrubber::Entry* StoreScrubber::find(const std::string& server_name, const std::string& directory) {
  const auto found = entries_.find(server_name);
  return found != entries_.end() && found->second.options.directory == directory ? &found->second : nullptr;
}

void StoreScrubber::run() {
  // Everything else comes first; where a sandbox does not let us say so, the rate alone must do.
  (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kScrubNice);
  std::unique_lock lock(mutex_);
  while (!stop_) {
    const auto next = std::min_element(entries_.begin(), entries_.end(),
                                       [](const auto& a, const auto& b) { return a.second.due_ns < b.second.due_ns; });
    if (next == entries_.end() || settings_.bytes_per_second == 0) {
      changed_.wait(lock);
      continue;
    }
    const std::uint64_t now_ns = clock_.boot_ns();
    if (next->second.due_ns > now_ns) {
      changed_.wait_for(lock, std::chrono::nanoseconds(next->second.due_ns - now_ns));
      continue;
    }
    run_pass(lock, next->first);
  }
}

void StoreScrubber::run_pass(std::unique_lock<std::mutex>& lock, const std::string& server_name) {
  const std::string server = server_name;  // the entry may go while the lock is not held
  Entry& begun = entries_.at(server);
  const std::uint64_t begin_ns = clock_.boot_ns();
  begun.due_ns = begin_ns + settings_.every_ns;
  StoreOptions options = begun.options;
  options.keep = StoreOptions::Keep::kNothing;  // a pass takes days: nothing is kept for it
  begun.status.running = true;
  begun.status.done_bytes = begun.status.total_bytes = begun.status.damages_total = 0;
  begun.status.damages.clear();
  begun.status.damaged_extents.clear();
  begun.status.damaged_points.clear();
  begun.status.last_error.clear();
  lock.unlock();
  Status status;
  // What opening finds, scrubbing reports again.
  Result<std::unique_ptr<Store>> store = Store::open(options, OpenMode::kReadOnly, [](const Damage&) {});
  const bool none = !store.ok() && store.error().kind() == ErrorKind::kNotFound;  // its agent has not come yet
  if (store.ok()) {
    std::vector<Damage> damages;
    status = (*store)->scrub(
        [&](const Damage& damage) {
          if (damage.torn_tail) return;
          add_damage(server, options.directory, damage);
          if (damages.size() < kStoreDamagesMax) damages.push_back(damage);
        },
        [&](std::uint64_t done, std::uint64_t total) {
          return pace(server, options.directory, begin_ns, done, total);
        });
    if (!damages.empty()) find_reach(server, **store, options.directory, damages);
  } else if (!none) {
    status = std::move(store).error();
  }
  lock.lock();
  Entry* entry = find(server, options.directory);
  if (entry == nullptr) return;
  entry->status.running = false;
  const bool came_to_end = status.ok() || status.error().kind() == ErrorKind::kCorrupt;
  if (!came_to_end) entry->status.last_error = status.error().message();
  if (!came_to_end || none) return;
  ++entry->status.passes;
  entry->status.last_end_wall_ns = clock_.wall_ns();
}

bool StoreScrubber::pace(const std::string& server_name, const std::string& directory, std::uint64_t begin_ns,
                         std::uint64_t done_bytes, std::uint64_t total_bytes) {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    Entry* entry = find(server_name, directory);
    if (entry == nullptr || settings_.bytes_per_second == 0) return false;
    if (done_bytes > entry->status.done_bytes) {
      entry->status.bytes += done_bytes - entry->status.done_bytes;
      entry->status.done_bytes = done_bytes;
    }
    entry->status.total_bytes = total_bytes;
    const auto needed_ns = static_cast<std::uint64_t>(static_cast<double>(done_bytes) * 1e9 /
                                                      static_cast<double>(settings_.bytes_per_second));
    const std::uint64_t passed_ns = clock_.boot_ns() - begin_ns;
    if (passed_ns >= needed_ns) return true;
    changed_.wait_for(lock, std::chrono::nanoseconds(needed_ns - passed_ns));
  }
  return false;
}

void StoreScrubber::find_reach(const std::string& server_name, const Store& store, const std::string& directory,
                               const std::vector<Damage>& damages) {
  const std::string what = "store '" + directory + "': scrub: ";
  const Result<DamageReach> reach = find_damage_reach(store, damages, kStoreDamagedExtentsMax);
  if (!reach.ok()) {
    log_message(LogLevel::kError, kMessageStoreDamaged,
                what + "which points the damage reaches can't be told: " + reach.error().message(),
                {{"UNDERSTUDY_SERVER", server_name}});
    return;
  }
  Seq first_seq = 0;
  for (const Damage& damage : damages)
    if (damage.first_seq != 0 && (first_seq == 0 || damage.first_seq < first_seq)) first_seq = damage.first_seq;
  std::string points;
  if (reach->last_seq != 0)
    points = "from seq " + std::to_string(first_seq) + " to seq " + std::to_string(reach->last_seq) + " (" +
             format_time_local(reach->last_time_ns) + ")";
  {
    const std::lock_guard lock(mutex_);
    Entry* entry = find(server_name, directory);
    if (entry == nullptr) return;
    entry->status.damaged_extents = reach->extents;
    entry->status.damaged_points = points;
  }
  if (reach->newest) {
    log_message(LogLevel::kError, kMessageStoreDamaged,
                what + "points " + points + " have lost " + describe_extents(reach->extents, store.position().disks) +
                    "; to be compared with the source and copied anew",
                {{"UNDERSTUDY_SERVER", server_name}});
    if (lost_) lost_(server_name, reach->extents);
  } else if (reach->last_seq != 0) {
    log_message(LogLevel::kWarning, kMessageStoreDamaged,
                what + "points " + points + " have lost what is damaged, later ones do not need it",
                {{"UNDERSTUDY_SERVER", server_name}});
  }
}

void StoreScrubber::add_damage(const std::string& server_name, const std::string& directory, const Damage& damage) {
  const std::string text = describe_damage(damage);
  const std::lock_guard lock(mutex_);
  Entry* entry = find(server_name, directory);
  if (entry == nullptr) return;
  if (++entry->status.damages_total > kStoreDamagesMax) return;
  entry->status.damages.push_back(text);
  log_message(LogLevel::kError, kMessageStoreDamaged, "store '" + directory + "': scrub: damaged: " + text,
              {{"UNDERSTUDY_SERVER", server_name}});
}

}  // namespace understudy
