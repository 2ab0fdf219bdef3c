// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>

#include "daemon/base/text.h"
#include "daemon/control/json.h"
#include "daemon/view/view.h"
#include "tools/restore/commands.h"

namespace understudy {
namespace {

std::string damage_text(const Damage& damage) {
  return "'" + damage.object + "' at byte " + std::to_string(damage.offset_bytes) + ", " +
         std::to_string(damage.length_bytes) + " bytes: " + damage.reason;
}

Json json_of_place(Seq seq, std::uint64_t time_ns) {
  Json json = Json::object();
  json["seq"] = seq;
  json["time_ns"] = time_ns;
  json["time"] = format_time_utc(time_ns);
  return json;
}

Json json_of(const PointRange& range) {
  Json json = Json::object();
  json["first"] = json_of_place(range.first_seq, range.first_time_ns);
  json["last"] = json_of_place(range.last_seq, range.last_time_ns);
  json["last_barrier_seq"] = range.last_barrier_seq;
  return json;
}

Json json_of(const Gap& gap) {
  Json json = Json::object();
  json["first"] = json_of_place(gap.first_seq, gap.first_time_ns);
  json["healed"] = gap.last_seq == 0 ? Json() : json_of_place(gap.last_seq, gap.last_time_ns);
  json["reason"] = gap_reason_name(gap.reason);
  return json;
}

Json json_of(const NamedPoint& point) {
  Json json = json_of_place(point.seq, point.time_ns);
  json["name"] = point.mark.name;
  json["consistency"] = point.mark.consistency == Consistency::kApplication ? "application" : "crash";
  json["reason"] = point.mark.reason.empty() ? Json() : Json(point.mark.reason);
  return json;
}

Json json_of(const DiskGeometry& disk) {
  Json json = Json::object();
  json["slot"] = std::uint64_t{disk.disk};
  json["id"] = disk.id.to_string();
  json["name"] = disk.name;
  json["size_bytes"] = disk.size_bytes;
  json["logical_block_bytes"] = std::uint64_t{disk.logical_block_bytes};
  return json;
}

template <typename Items>
Json json_array(const Items& items) {
  Json json = Json::array();
  for (const auto& item : items) json.push_back(json_of(item));
  return json;
}

void print_json(const Store& store, const Timeline& timeline, const std::string& path) {
  const StreamPosition position = store.position();
  const Result<Point> latest = resolve_point(timeline, "latest");
  Json json = Json::object();
  json["store"] = path;
  json["server"]["id"] = store.identity().server.to_string();
  json["server"]["name"] = store.identity().server_name;
  json["epoch"] = store.identity().epoch;
  json["generation"] = position.generation;
  json["newest"] = json_of_place(timeline.last_seq, timeline.last_time_ns);
  json["latest"] = Json();
  if (latest.ok()) {
    json["latest"] = json_of_place(latest->seq, latest->time_ns);
    json["latest"]["barrier_aligned"] = latest->barrier_aligned;
  }
  json["disks"] = json_array(timeline.disks);
  json["guaranteed_back_to"] =
      timeline.ranges.empty()
          ? Json()
          : json_of_place(timeline.ranges.front().first_seq, timeline.ranges.front().first_time_ns);
  json["ranges"] = json_array(timeline.ranges);
  json["gaps"] = json_array(timeline.gaps);
  json["marks"] = json_array(timeline.marks);
  json["journal_bytes"] = store.journal_bytes();
  json["base_bytes"] = store.base_bytes();
  json["damage"] = timeline.damage ? Json(damage_text(*timeline.damage)) : Json();
  std::printf("%s\n", json.dump_indented().c_str());
}

// The begin of what is kept; where it has gaps is said beside it.
void print_guarantee(const Timeline& timeline) {
  if (timeline.ranges.empty()) return;
  const PointRange& first = timeline.ranges.front();
  const auto gaps = std::count_if(timeline.gaps.begin(), timeline.gaps.end(),
                                  [&](const Gap& gap) { return gap.first_seq > first.first_seq; });
  std::printf("history guaranteed back to %s (seq:%llu)%s\n", format_time_local(first.first_time_ns).c_str(),
              static_cast<unsigned long long>(first.first_seq),
              gaps == 0   ? ""
              : gaps == 1 ? ", but for the gap"
                          : (", but for " + std::to_string(gaps) + " gaps").c_str());
}

void print_text(const Store& store, const Timeline& timeline) {
  const StoreIdentity identity = store.identity();
  std::printf("server %s (%s), epoch %llu\n", identity.server_name.c_str(), identity.server.to_string().c_str(),
              static_cast<unsigned long long>(identity.epoch));
  std::printf("journal %s, base images %s, newest record seq:%llu of %s\n", format_bytes(store.journal_bytes()).c_str(),
              format_bytes(store.base_bytes()).c_str(), static_cast<unsigned long long>(timeline.last_seq),
              timeline.last_seq == 0 ? "never" : format_time_local(timeline.last_time_ns).c_str());
  for (const DiskGeometry& disk : timeline.disks)
    std::printf("disk %u: %s, %s\n", disk.disk, disk.name.c_str(), format_bytes(disk.size_bytes).c_str());
  for (const PointRange& range : timeline.ranges)
    std::printf("points from %s (seq:%llu) to %s (seq:%llu)\n", format_time_local(range.first_time_ns).c_str(),
                static_cast<unsigned long long>(range.first_seq), format_time_local(range.last_time_ns).c_str(),
                static_cast<unsigned long long>(range.last_seq));
  for (const Gap& gap : timeline.gaps)
    std::printf(
        "gap from %s (seq:%llu) %s: %s\n", format_time_local(gap.first_time_ns).c_str(),
        static_cast<unsigned long long>(gap.first_seq),
        gap.last_seq == 0
            ? "until now"
            : ("to " + format_time_local(gap.last_time_ns) + " (seq:" + std::to_string(gap.last_seq) + ")").c_str(),
        std::string(gap_reason_name(gap.reason)).c_str());
  print_guarantee(timeline);
  for (const NamedPoint& point : timeline.marks)
    std::printf("mark @%s: %s (seq:%llu), %s-consistent%s%s\n", point.mark.name.c_str(),
                format_time_local(point.time_ns).c_str(), static_cast<unsigned long long>(point.seq),
                point.mark.consistency == Consistency::kApplication ? "application" : "crash",
                point.mark.reason.empty() ? "" : ": ", point.mark.reason.c_str());
  if (timeline.damage) std::printf("damage: %s; nothing behind it is offered\n", damage_text(*timeline.damage).c_str());
  const Result<Point> latest = resolve_point(timeline, "latest");
  if (latest.ok())
    std::printf("latest is seq:%llu, newest write %s%s\n", static_cast<unsigned long long>(latest->seq),
                format_time_local(latest->time_ns).c_str(), latest->barrier_aligned ? "" : ", not at a barrier");
  else
    std::printf("%s\n", latest.error().message().c_str());
}

}  // namespace

Result<std::unique_ptr<Store>> open_store_to_read(const RestoreOptions& options) {
  StoreOptions store_options;
  store_options.directory = options.store;
  store_options.base_directory = options.base_directory;
  return Store::open(store_options, OpenMode::kReadOnly, [](const Damage& damage) {
    std::fprintf(stderr, "understudy-restore: %s %s%s\n",
                 damage.torn_tail ? "the journal ends in an unfinished batch (normal after a crash):" : "DAMAGE:",
                 damage_text(damage).c_str(), damage.torn_tail ? ", ignoring" : "");
  });
}

Status run_list(const RestoreOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, open_store_to_read(options));
  ASSIGN_OR_RETURN(const Timeline timeline, read_timeline(*store));
  if (options.json)
    print_json(*store, timeline, options.store);
  else
    print_text(*store, timeline);
  return ok_status();
}

}  // namespace understudy
