// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "daemon/base/atomic_file.h"
#include "daemon/base/text.h"
#include "daemon/control/json.h"
#include "daemon/view/view.h"
#include "tools/restore/commands.h"
#include "tools/restore/find_head.h"
#include "tools/restore/target.h"

namespace understudy {
namespace {

// Zeroing goes in steps of this, so that progress moves.
constexpr std::uint64_t kZeroStepBytes = 256ull << 20;

struct Job {
  DiskGeometry disk;
  std::unique_ptr<RestoreTarget> target;
  std::uint64_t data_bytes = 0;
};

std::string disk_names(const std::vector<DiskGeometry>& disks) {
  std::string text;
  for (const DiskGeometry& disk : disks)
    text += (text.empty() ? "" : ", ") + std::to_string(disk.disk) + " (" + disk.name + ")";
  return text;
}

Result<std::vector<DiskGeometry>> choose_disks(const std::vector<DiskGeometry>& disks, const RestoreOptions& options) {
  if (disks.empty()) return Error(ErrorKind::kNotFound, "the server had no disks at this point");
  if (options.disk) {
    for (const DiskGeometry& disk : disks)
      if (std::to_string(disk.disk) == *options.disk || disk.name == *options.disk) return std::vector{disk};
    return Error(ErrorKind::kNotFound,
                 "there is no disk '" + printable(*options.disk) + "' at this point; there are: " + disk_names(disks));
  }
  if (!options.to.empty() && disks.size() > 1)
    return Error(ErrorKind::kInvalidArgument, "the server has several disks: " + disk_names(disks) +
                                                  "; choose one with --disk, or restore all with --to-directory");
  return disks;
}

// A target inside the store would destroy what is restored from.
Status refuse_inside_store(const std::string& target_directory, const std::string& store) {
  char resolved_target[PATH_MAX];
  char resolved_store[PATH_MAX];
  if (::realpath(target_directory.c_str(), resolved_target) == nullptr)
    return Error::from_errno(errno, "target directory '" + target_directory + "'");
  if (::realpath(store.c_str(), resolved_store) == nullptr) return Error::from_errno(errno, "store '" + store + "'");
  const std::string inside = std::string(resolved_target) + "/";
  if (inside.starts_with(std::string(resolved_store) + "/"))
    return Error(ErrorKind::kRefused, "the target lies inside the store '" + store + "'");
  return ok_status();
}

std::uint64_t data_bytes_of(const PointInTimeView& view, const DiskGeometry& disk) {
  std::uint64_t bytes = 0;
  for (std::uint64_t at = 0; at < disk.size_bytes;) {
    const PointInTimeView::Extent extent = view.extent_at(disk.disk, at);
    if (!extent.zero) bytes += extent.length_bytes;
    at += extent.length_bytes;
  }
  return bytes;
}

// Zeros first, then data: both cover the disk once.
Status restore_disk(const PointInTimeView& view, const Job& job, bool quiet) {
  const std::string what = "restoring disk " + std::to_string(job.disk.disk) + " (" + job.disk.name + ")";
  ProgressLine progress(what, quiet);
  const std::uint64_t total = job.target->is_device() ? job.disk.size_bytes : job.data_bytes;
  std::uint64_t done = 0;
  for (std::uint64_t at = 0; job.target->is_device() && at < job.disk.size_bytes;) {
    const PointInTimeView::Extent extent = view.extent_at(job.disk.disk, at);
    const std::uint64_t step = extent.zero ? std::min(extent.length_bytes, kZeroStepBytes) : extent.length_bytes;
    if (extent.zero) {
      RETURN_IF_ERROR(job.target->zero(at, step));
      progress.update(done += step, total);
    }
    at += step;
  }
  const auto write = [&](std::uint64_t offset, std::span<const std::byte> data) {
    Status status = job.target->write(offset, data);
    progress.update(done += data.size(), total);
    return status;
  };
  RETURN_IF_ERROR(view.read_all(job.disk.disk, write));
  CHECK_EQ(done, total);
  return job.target->finish();
}

Result<std::vector<Job>> open_targets(const PointInTimeView& view, const RestoreOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<DiskGeometry> disks, choose_disks(view.disks(), options));
  const bool directory = !options.to_directory.empty();
  if (directory && ::mkdir(options.to_directory.c_str(), 0700) != 0 && errno != EEXIST)
    return Error::from_errno(errno, "make directory '" + options.to_directory + "'");
  RETURN_IF_ERROR(refuse_inside_store(directory ? options.to_directory : parent_directory(options.to), options.store));
  std::vector<Job> jobs;
  for (const DiskGeometry& disk : disks) {
    const std::string path = directory ? options.to_directory + "/" + std::to_string(disk.disk) + ".img" : options.to;
    Job job;
    job.disk = disk;
    ASSIGN_OR_RETURN(job.target, RestoreTarget::open(path, disk.size_bytes, options.overwrite));
    job.data_bytes = data_bytes_of(view, disk);
    jobs.push_back(std::move(job));
  }
  return jobs;
}

void print_result(const PointInTimeView& view, const std::vector<Job>& jobs, const RestoreOptions& options) {
  const Point& point = view.point();
  if (!options.json) {
    for (const Job& job : jobs)
      std::printf("restored disk %u (%s), %s, as of seq:%llu, newest write %s, into %s\n", job.disk.disk,
                  job.disk.name.c_str(), format_bytes(job.disk.size_bytes).c_str(),
                  static_cast<unsigned long long>(point.seq), format_time_local(point.time_ns).c_str(),
                  job.target->path().c_str());
    return;
  }
  Json json = Json::object();
  json["point"]["seq"] = point.seq;
  json["point"]["time_ns"] = point.time_ns;
  json["point"]["time"] = format_time_utc(point.time_ns);
  json["point"]["barrier_aligned"] = point.barrier_aligned;
  json["disks"] = Json::array();
  for (const Job& job : jobs) {
    Json item = Json::object();
    item["slot"] = std::uint64_t{job.disk.disk};
    item["name"] = job.disk.name;
    item["size_bytes"] = job.disk.size_bytes;
    item["data_bytes"] = job.data_bytes;
    item["target"] = job.target->path();
    json["disks"].push_back(std::move(item));
  }
  std::printf("%s\n", json.dump_indented().c_str());
}

}  // namespace

Status run_restore(const RestoreOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, open_store_to_read(options));
  ASSIGN_OR_RETURN(const Timeline timeline, read_timeline(*store));
  ASSIGN_OR_RETURN(const Point point, resolve_point(timeline, options.point));
  ASSIGN_OR_RETURN(const std::unique_ptr<PointInTimeView> view, PointInTimeView::open(*store, point));
  ASSIGN_OR_RETURN(const std::vector<Job> jobs, open_targets(*view, options));
  for (const Job& job : jobs)
    if (Status status = restore_disk(*view, job, options.quiet); !status.ok())
      return std::move(status).error().with_context("restore disk " + std::to_string(job.disk.disk) +
                                                    " (the target is incomplete)");
  print_result(*view, jobs, options);
  return ok_status();
}

namespace {

// A history that is sound in itself may still be another than the one whose head was noted. The seq up to which it is
// proved to be that one; nullopt = none was noted.
Result<std::optional<Seq>> compare_head(const Store& store, std::string wanted) {
  if (wanted.empty()) return std::optional<Seq>();
  std::transform(wanted.begin(), wanted.end(), wanted.begin(), [](unsigned char c) { return std::tolower(c); });
  const std::string found = to_hex(store.chain_head());
  if (found == wanted) return std::optional(store.position().seq);
  ASSIGN_OR_RETURN(const std::optional<Seq> seq, find_head(store, wanted));
  if (seq) return seq;
  return Error(ErrorKind::kCorrupt, "the chain head is " + found + ", and " + wanted +
                                        " never was: the journal is sound in itself, but it is not the one whose head "
                                        "was noted, or was altered");
}

}  // namespace

Status run_verify(const RestoreOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, open_store_to_read(options));
  Status status;
  {
    ProgressLine progress("verifying", options.quiet);
    status = store->scrub(
        [](const Damage& damage) {
          std::printf("damage: '%s' at byte %llu, %llu bytes: %s; points from seq:%llu on may be affected\n",
                      damage.object.c_str(), static_cast<unsigned long long>(damage.offset_bytes),
                      static_cast<unsigned long long>(damage.length_bytes), damage.reason.c_str(),
                      static_cast<unsigned long long>(damage.first_seq));
        },
        [&](std::uint64_t done, std::uint64_t total) {
          progress.update(done, total);
          return true;
        });
  }
  const std::string head = to_hex(store->chain_head());
  const StreamPosition position = store->position();
  std::optional<Seq> proved;
  if (status.ok()) {
    Result<std::optional<Seq>> compared = compare_head(*store, options.head);
    if (compared.ok())
      proved = *compared;
    else
      status = std::move(compared).error();
  }
  if (options.json) {
    Json json = Json::object();
    json["ok"] = status.ok();
    json["last_seq"] = position.seq;
    json["journal_bytes"] = store->journal_bytes();
    json["base_bytes"] = store->base_bytes();
    json["chain_head"] = head;
    json["head_seq"] = proved ? Json(*proved) : Json();
    std::printf("%s\n", json.dump_indented().c_str());
  } else if (status.ok()) {
    std::printf("verified: journal %s, base images %s, records up to seq:%llu\nchain head: %s\n",
                format_bytes(store->journal_bytes()).c_str(), format_bytes(store->base_bytes()).c_str(),
                static_cast<unsigned long long>(position.seq), head.c_str());
    if (proved)
      std::printf("the noted head is that of seq:%llu: nothing up to there was altered since\n",
                  static_cast<unsigned long long>(*proved));
  }
  return status;
}

}  // namespace understudy
