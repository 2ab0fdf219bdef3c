// SPDX-License-Identifier: Apache-2.0
#include "tools/understudyctl/status_text.h"

#include <algorithm>
#include <cstdio>

#include "daemon/base/text.h"

namespace understudy {

namespace {

constexpr std::size_t kLabelColumns = 12;
constexpr std::size_t kBarColumns = 30;

// Lines of "  label       value".
class Table {
 public:
  explicit Table(const std::string& title) : text_(title + "\n") {}
  void row(std::string label, const std::string& value) {
    if (value.empty()) return;
    label.resize(std::max(label.size(), kLabelColumns), ' ');
    text_ += "  " + label + " " + printable(value) + "\n";
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

std::uint64_t number(const Json& json, std::string_view name) { return json.at(name).as_unsigned(0); }
std::string text(const Json& json, std::string_view name) { return json.at(name).as_string(""); }

std::string count_of(std::uint64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string recovery_point_row(const Json& status) {
  if (status.at("rpo_now_ns").is_null()) return "none yet: the first copy has not ended";
  std::string row = format_duration_ns(number(status, "rpo_now_ns")) + " now";
  if (!status.at("rpo_p50_ns").is_null()) row += ", median " + format_duration_ns(number(status, "rpo_p50_ns"));
  if (!status.at("rpo_p99_ns").is_null()) row += ", 99 % under " + format_duration_ns(number(status, "rpo_p99_ns"));
  return row;
}

std::string copy_row(const Json& status) {
  const std::uint64_t total = number(status, "copy_total_bytes");
  const std::uint64_t done = number(status, "copy_done_bytes");
  if (total == 0 || done >= total) return "";
  std::string row = progress_bar(done, total) + "  " + format_bytes(done) + " of " + format_bytes(total);
  if (!status.at("copy_left_ns").is_null()) {
    row += ", about " + format_duration_ns(number(status, "copy_left_ns")) + " left";
  }
  return row;
}

std::string losses_row(const Json& losses) {
  static constexpr std::pair<const char*, const char*> kCauses[] = {
      {"ring_full", "ring full"}, {"skipped", "capture skipped"}, {"unreadable", "memory unreadable"},
      {"too_long", "too long"},   {"untracked", "untracked"},     {"unprovable", "unprovable"}};
  if (!losses.is_object()) return "";
  const std::uint64_t total = number(losses, "total");
  std::string causes;
  for (const auto& [name, words] : kCauses) {
    const std::uint64_t count = number(losses, name);
    if (count != 0) causes += (causes.empty() ? "" : ", ") + std::string(words) + " " + std::to_string(count);
  }
  if (total == 0 && causes.empty()) return "none";
  return count_of(total, "write") + " went to the dirty map" + (causes.empty() ? "" : " (" + causes + ")");
}

std::string gap_row(const Json& status) {
  if (!status.at("gap_open").as_bool(false)) return "none";
  std::string row = text(status, "gap_reason");
  if (const std::uint64_t since = number(status, "gap_since_time_ns"); since != 0) {
    row += ", since " + format_time_local(since);
  }
  return row;
}

std::string link_row(const Json& status) {
  const std::string name = text(status, "receiver");
  return (name.empty() ? "" : "'" + name + "', ") +
         (status.at("connected").as_bool(false) ? "connected" : "not connected");
}

std::string eta_text(const Json& wire) {
  const std::uint64_t eta_ns = number(wire, "eta_ns");
  return eta_ns < 1'000'000'000 ? "" : ", done in about " + format_duration_ns(eta_ns);
}

std::string wire_row(const Json& wire) {
  if (!wire.is_object()) return "";
  const std::uint64_t cache = number(wire, "delta_cache_bytes_max");
  std::string row = cache == 0 ? "no deltas"
                               : "deltas against " + format_bytes(number(wire, "delta_cache_bytes")) + " of at most " +
                                     format_bytes(cache);
  if (const std::string effort = text(wire, "effort"); !effort.empty() && effort != "full") {
    row += ", only " + effort + " effort, because encoding is slower than the link";
  }
  const std::uint64_t limit = number(wire, "bandwidth_limit");
  return row + (limit == 0 ? "" : ", limited to " + format_bytes(limit) + "/s");
}

std::string disks_row(const Json& status, std::string_view name) {
  std::string row;
  for (const Json& disk : status.at("disks").items()) {
    row += (row.empty() ? "" : ", ") + text(disk, name) + " " + format_bytes(number(disk, "size_bytes"));
  }
  return row;
}

// "100.0 % proved equal within 24 h", and what is under way or was found.
std::string proof_row(const Json& status) {
  const Json& digest = status.at("digest");
  if (!digest.is_object()) return "";
  const std::uint64_t total = number(digest, "provable_bytes");
  const std::uint64_t proved = number(digest, "proved_bytes");
  const double share = total == 0 ? 0 : static_cast<double>(proved) / static_cast<double>(total);
  char percent[16];
  std::snprintf(percent, sizeof(percent), "%.1f %%",
                static_cast<double>(static_cast<std::uint64_t>(share * 1000)) / 10);
  std::string row = std::string(percent) + " of the replica proved equal within " +
                    std::to_string(number(digest, "proved_window_ns") / 3'600'000'000'000) + " h";
  if (!digest.at("scrub_enabled").as_bool(true)) row += ", scrub switched off";
  if (digest.at("active").as_bool(false)) {
    row += "; " + text(digest, "purpose") + ": compared " + format_bytes(number(digest, "done_bytes")) + " of " +
           format_bytes(number(digest, "total_bytes"));
  }
  return row;
}

std::string agent_text(const Json& status) {
  std::string server = text(status, "server");
  Table table("agent" + (server.empty() ? std::string() : " of server '" + printable(server) + "'"));
  table.row("state", text(status, "state"));
  table.row("phase", text(status, "phase"));
  table.row("disks", disks_row(status, "path"));
  for (const Json& error : status.at("errors").items()) table.row("error", error.as_string(""));
  table.row("advice", text(status.at("error"), "advice"));
  table.row("copy", copy_row(status));
  if (const std::uint64_t bytes = number(status, "copy_left_out_bytes"); bytes != 0) {
    table.row("left out", format_bytes(bytes) + " of free space");
  }
  table.row("behind", recovery_point_row(status));
  table.row("receiver", link_row(status));
  table.row("notice", text(status, "notice"));
  table.row("overload", text(status, "overload"));
  const std::uint64_t ring = number(status, "ring_bytes");
  table.row("backlog", format_bytes(number(status, "backlog_bytes")) +
                           (ring == 0 ? "" : " of a ring of " + format_bytes(ring)) + eta_text(status.at("wire")));
  table.row("throughput", format_bytes(number(status, "raw_bytes_per_second")) + "/s of data, " +
                              format_bytes(number(status, "wire_bytes_per_second")) + "/s on the wire");
  table.row("wire", wire_row(status.at("wire")));
  table.row("proof", proof_row(status));
  if (status.at("digest").is_object()) table.row("difference", text(status.at("digest"), "last_finding"));
  table.row("losses", losses_row(status.at("losses")));
  table.row("gap", gap_row(status));
  if (const std::uint64_t bytes = number(status, "unreadable_bytes"); bytes != 0) {
    table.row("unreadable", format_bytes(bytes) + " of the disks cannot be read");
  }
  table.row("stream", "seq " + std::to_string(number(status, "acknowledged_seq")) + " acknowledged of " +
                          std::to_string(number(status, "last_seq")) + ", epoch " +
                          std::to_string(number(status, "epoch")) + ", generation " +
                          std::to_string(number(status, "generation")));
  if (status.at("errors").items().empty()) table.row("last error", text(status, "last_error"));
  for (const Json& finding : status.at("findings").items()) {
    const std::string advice = text(finding, "advice");
    table.row("finding", text(finding, "text") + (advice.empty() ? "" : "; " + advice));
  }
  return table.take();
}

std::string scrub_row(const Json& scrub) {
  if (!scrub.is_object()) return "";
  const std::uint64_t damages = number(scrub, "damages_total");
  const std::string found = damages == 0 ? "no damage" : count_of(damages, "damaged place");
  if (scrub.at("running").as_bool(false))
    return progress_bar(number(scrub, "done_bytes"), number(scrub, "total_bytes")) + ", " + found + " so far";
  const std::string error = text(scrub, "last_error");
  if (!error.empty()) return "did not come to the end: " + error;
  const std::uint64_t end = number(scrub, "last_end_time_ns");
  return end == 0 ? "" : found + ", all read until " + format_time_local(end);
}

// Which points the damage has reached.
std::string lost_row(const Json& scrub) {
  const std::string points = text(scrub, "damaged_points");
  if (points.empty()) return "";
  std::uint64_t bytes = 0;
  for (const Json& extent : scrub.at("damaged_extents").items()) bytes += number(extent, "length_bytes");
  if (bytes == 0) return "points " + points + "; later ones do not need what is damaged";
  return "points " + points + ", the newest " + format_bytes(bytes) + ", to be copied anew";
}

std::string store_text(const Json& store) {
  Table table("store of server '" + printable(text(store, "server")) + "'");
  const std::string reason = text(store, "reason");
  table.row("state", text(store, "state") + (reason.empty() ? "" : ": " + reason));
  table.row("directory", text(store, "directory"));
  const Json& peer = store.at("peer");
  table.row("agent", peer.is_null() ? "not connected"
                                    : "connected from " + text(peer, "address") +
                                          (peer.at("paused").as_bool(false) ? ", paused" : ""));
  const std::uint64_t newest = number(store, "newest_record_time_ns");
  table.row("durable", "seq " + std::to_string(number(store, "durable_seq")) +
                           (newest == 0 ? "" : ", newest write of " + format_time_local(newest)));
  table.row("gap", gap_row(store));
  if (!store.at("initial_copy_done").as_bool(true)) table.row("copy", "the first copy has not ended: no points yet");
  table.row("size", format_bytes(number(store, "journal_bytes")) + " journal, " +
                        format_bytes(number(store, "base_bytes")) + " base");
  table.row("disks", disks_row(store, "name"));
  for (const Json& damage : store.at("damages").items()) table.row("damage", damage.as_string(""));
  table.row("scrub", scrub_row(store.at("scrub")));
  for (const Json& damage : store.at("scrub").at("damages").items()) table.row("damage", damage.as_string(""));
  table.row("lost", lost_row(store.at("scrub")));
  table.row("last error", text(store, "last_error"));
  return table.take();
}

std::string receiver_text(const Json& status) {
  std::string out = "receiver '" + printable(text(status, "name")) + "', port " +
                    std::to_string(number(status, "port")) + ", " +
                    count_of(status.at("stores").items().size(), "store") + "\n";
  for (const Json& store : status.at("stores").items()) out += "\n" + store_text(store);
  return out;
}

}  // namespace

std::string progress_bar(std::uint64_t done, std::uint64_t total) {
  const double share = total == 0 ? 1.0 : static_cast<double>(std::min(done, total)) / static_cast<double>(total);
  const auto filled = static_cast<std::size_t>(share * static_cast<double>(kBarColumns));
  char percent[16];
  // Rounded down: 100 % is said only when it is all done.
  std::snprintf(percent, sizeof(percent), "%5.1f %%",
                static_cast<double>(static_cast<std::uint64_t>(share * 1000)) / 10);
  return "[" + std::string(filled, '#') + std::string(kBarColumns - filled, '.') + "] " + percent;
}

std::string status_text(const Json& status) {
  return status.at("stores").is_array() ? receiver_text(status) : agent_text(status);
}

}  // namespace understudy
