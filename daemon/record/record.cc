// SPDX-License-Identifier: Apache-2.0
#include "daemon/record/record.h"

#include <algorithm>
#include <bit>
#include <bitset>
#include <cstring>
#include <optional>

#include "daemon/base/check.h"
#include "daemon/base/text.h"
#include "daemon/record/batch_format.h"

namespace understudy {
namespace {

Error corrupt(std::string message) { return Error(ErrorKind::kCorrupt, std::move(message)); }

template <typename T>
void append_struct(std::vector<std::byte>& out, const T& value) {
  const std::size_t before = out.size();
  out.resize(before + sizeof(T));
  std::memcpy(out.data() + before, &value, sizeof(T));
}

void append_text(std::vector<std::byte>& out, std::string_view text) {
  const std::size_t before = out.size();
  out.resize(before + text.size());
  std::memcpy(out.data() + before, text.data(), text.size());
}

// Takes a struct off the front of `data`; nullopt = too short.
template <typename T>
std::optional<T> take_struct(std::span<const std::byte>& data) {
  if (data.size() < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, data.data(), sizeof(T));
  data = data.subspan(sizeof(T));
  return value;
}

std::optional<std::string> take_text(std::span<const std::byte>& data, std::size_t length) {
  if (data.size() < length) return std::nullopt;
  std::string text(reinterpret_cast<const char*>(data.data()), length);
  data = data.subspan(length);
  return text;
}

// Length of the UTF-8 sequence at the start of `text`, 0 when it is none (overlong, surrogate, beyond U+10FFFF, cut).
std::size_t utf8_sequence_bytes(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = at(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((at(i) & 0xc0) != 0x80) return 0;
  const unsigned second = at(1);
  if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) || (lead == 0xf0 && second < 0x90) ||
      (lead == 0xf4 && second > 0x8f))
    return 0;
  return length;
}

// UTF-8 without control characters.
bool is_clean_text(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = utf8_sequence_bytes(text);
    const auto lead = static_cast<unsigned char>(text[0]);
    if (length == 0 || lead < 0x20 || lead == 0x7f) return false;
    text.remove_prefix(length);
  }
  return true;
}

template <std::size_t N>
bool is_zero(const std::uint8_t (&bytes)[N]) {
  for (std::uint8_t b : bytes)
    if (b != 0) return false;
  return true;
}

}  // namespace

bool is_valid_name(std::string_view text) {
  return !text.empty() && text.size() <= kNameBytesMax && is_clean_text(text);
}

std::string mark_reason(std::string_view text) {
  std::string line(text);
  std::replace_if(line.begin(), line.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
  std::string reason = printable(line);
  if (reason.size() <= kMarkReasonBytesMax) return reason;
  std::size_t end = kMarkReasonBytesMax - 4;
  while (end > 0 && (static_cast<unsigned char>(reason[end]) & 0xc0) == 0x80) --end;  // not inside a character
  return reason.substr(0, end) + " ...";
}

std::string_view record_kind_name(RecordKind kind) {
  switch (kind) {
    case RecordKind::kWrite: return "write";
    case RecordKind::kZero: return "zero";
    case RecordKind::kBarrier: return "barrier";
    case RecordKind::kMark: return "mark";
    case RecordKind::kCopy: return "copy";
    case RecordKind::kGap: return "gap";
    case RecordKind::kHeal: return "heal";
    case RecordKind::kGeometry: return "geometry";
  }
  return "unknown";
}

std::string_view gap_reason_name(GapReason reason) {
  switch (reason) {
    case GapReason::kInitialCopy: return "initial-copy";
    case GapReason::kOverflow: return "overflow";
    case GapReason::kNewCapture: return "new-capture";
    case GapReason::kReceiverBehind: return "receiver-behind";
    case GapReason::kRequested: return "requested";
    case GapReason::kCollapsed: return "collapsed";
  }
  return "unknown";
}

std::vector<std::byte> encode_gap(const GapInfo& info) {
  GapPayload payload{};
  payload.reason = static_cast<std::uint8_t>(info.reason);
  std::vector<std::byte> out;
  append_struct(out, payload);
  return out;
}

std::vector<std::byte> encode_mark(const MarkInfo& info) {
  CHECK(is_valid_name(info.name));
  CHECK(is_clean_text(info.reason) && info.reason.size() <= kMarkReasonBytesMax);
  CHECK(info.reason.empty() || info.consistency == Consistency::kCrash);
  MarkPayload payload{};
  payload.consistency = static_cast<std::uint8_t>(info.consistency);
  payload.name_bytes = static_cast<std::uint8_t>(info.name.size());
  std::vector<std::byte> out;
  payload.reason_bytes = static_cast<std::uint16_t>(info.reason.size());
  append_struct(out, payload);
  append_text(out, info.name);
  append_text(out, info.reason);
  return out;
}

std::vector<std::byte> encode_geometry(std::span<const DiskGeometry> disks) {
  CHECK_LE(disks.size(), kDisksMax);
  GeometryPayload payload{};
  payload.disk_count = static_cast<std::uint16_t>(disks.size());
  std::vector<std::byte> out;
  append_struct(out, payload);
  for (const DiskGeometry& disk : disks) {
    CHECK_LT(disk.disk, kDisksMax);
    CHECK_LE(disk.size_bytes, kDiskBytesMax);
    CHECK(is_valid_name(disk.name));
    GeometryDisk entry{};
    entry.disk = disk.disk;
    entry.name_bytes = static_cast<std::uint8_t>(disk.name.size());
    entry.logical_block_bytes = disk.logical_block_bytes;
    entry.size_bytes = disk.size_bytes;
    std::memcpy(entry.id, disk.id.bytes.data(), sizeof(entry.id));
    append_struct(out, entry);
    append_text(out, disk.name);
  }
  return out;
}

Result<GapInfo> decode_gap(std::span<const std::byte> payload) {
  const auto header = take_struct<GapPayload>(payload);
  if (!header || !payload.empty()) return corrupt("decode gap: payload is not 8 bytes long");
  if (header->reason < 1 || header->reason > kGapReasonMax)
    return corrupt("decode gap: unknown reason " + std::to_string(header->reason));
  if (!is_zero(header->reserved)) return corrupt("decode gap: reserved bytes are not zero");
  return GapInfo{static_cast<GapReason>(header->reason)};
}

Result<MarkInfo> decode_mark(std::span<const std::byte> payload) {
  const auto header = take_struct<MarkPayload>(payload);
  if (!header) return corrupt("decode mark: payload is shorter than 8 bytes");
  if (header->consistency < 1 || header->consistency > static_cast<std::uint8_t>(Consistency::kApplication))
    return corrupt("decode mark: unknown consistency " + std::to_string(header->consistency));
  if (!is_zero(header->reserved)) return corrupt("decode mark: reserved bytes are not zero");
  const auto consistency = static_cast<Consistency>(header->consistency);
  auto name = take_text(payload, header->name_bytes);
  auto reason = name ? take_text(payload, header->reason_bytes) : std::nullopt;
  if (!reason || !payload.empty()) return corrupt("decode mark: payload does not end with the name and the reason");
  if (!is_valid_name(*name))
    return corrupt("decode mark: the name is not 1 to 255 bytes of UTF-8 without control characters");
  if (reason->size() > kMarkReasonBytesMax || !is_clean_text(*reason))
    return corrupt("decode mark: the reason is not at most " + std::to_string(kMarkReasonBytesMax) +
                   " bytes of UTF-8 without control characters");
  if (!reason->empty() && consistency != Consistency::kCrash)
    return corrupt("decode mark: an application-consistent point with a reason why it is none");
  return MarkInfo{std::move(*name), consistency, std::move(*reason)};
}

Result<std::vector<DiskGeometry>> decode_geometry(std::span<const std::byte> payload) {
  const auto header = take_struct<GeometryPayload>(payload);
  if (!header) return corrupt("decode geometry: payload is shorter than 8 bytes");
  if (header->disk_count > kDisksMax)
    return corrupt("decode geometry: " + std::to_string(header->disk_count) + " disks, at most " +
                   std::to_string(kDisksMax) + " are possible");
  if (!is_zero(header->reserved)) return corrupt("decode geometry: reserved bytes are not zero");
  std::bitset<kDisksMax> seen;
  std::vector<DiskGeometry> disks;
  for (unsigned i = 0; i < header->disk_count; ++i) {
    const auto entry = take_struct<GeometryDisk>(payload);
    if (!entry) return corrupt("decode geometry: cut off in disk " + std::to_string(i));
    DiskGeometry disk;
    disk.disk = entry->disk;
    disk.size_bytes = entry->size_bytes;
    disk.logical_block_bytes = entry->logical_block_bytes;
    std::memcpy(disk.id.bytes.data(), entry->id, sizeof(entry->id));
    auto name = take_text(payload, entry->name_bytes);
    if (!name || !is_valid_name(*name))
      return corrupt("decode geometry: disk " + std::to_string(i) + " has no valid name");
    disk.name = std::move(*name);
    if (disk.disk >= kDisksMax || seen[disk.disk])
      return corrupt("decode geometry: slot " + std::to_string(disk.disk) + " is out of range or stands twice");
    seen.set(disk.disk);
    if (entry->reserved != 0) return corrupt("decode geometry: reserved bytes are not zero");
    if (disk.size_bytes > kDiskBytesMax || disk.logical_block_bytes < 512 || disk.logical_block_bytes > 65536 ||
        !std::has_single_bit(disk.logical_block_bytes))
      return corrupt("decode geometry: disk '" + disk.name + "' has an impossible size or block size");
    disks.push_back(std::move(disk));
  }
  if (!payload.empty()) return corrupt("decode geometry: bytes are left behind the last disk");
  return disks;
}

}  // namespace understudy
