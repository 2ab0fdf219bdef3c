// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/oracle/history.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "tests/integration/oracle/stamp.h"

namespace understudy::oracle {

History::History(const std::vector<LogContent>& logs) {
  for (std::uint32_t log = 0; log < logs.size(); ++log) {
    const LogContent& content = logs[log];
    for (std::uint32_t i = 0; i < content.header.target_count; ++i) {
      if (target_index(content.header.targets[i].id))
        throw std::runtime_error("target " + std::to_string(content.header.targets[i].id) + " stands in two logs");
      targets_.push_back(content.header.targets[i]);
    }
    if (by_number_.contains(content.header.run)) throw std::runtime_error("the same stamp log was given twice");
    by_number_[content.header.run].resize(content.slots.empty() ? 0 : content.slots.back().number);
    for (const LogSlot& slot : content.slots) {
      const auto target = target_index(slot.target);
      if (!target || slot.sector + slot.sectors > targets_[*target].sectors)
        throw std::runtime_error("operation " + std::to_string(slot.number) + " of the log lies outside its target");
      operations_.push_back({slot, log, *target});
    }
  }
  if (operations_.size() >= std::numeric_limits<std::uint32_t>::max()) throw std::runtime_error("too many operations");
  std::stable_sort(operations_.begin(), operations_.end(), [](const LoggedOperation& a, const LoggedOperation& b) {
    return a.submitted_ns() < b.submitted_ns();
  });
  for (std::uint32_t i = 0; i < operations_.size(); ++i)
    by_number_[logs[operations_[i].log].header.run][operations_[i].slot.number - 1] = i + 1;
}

std::optional<std::uint32_t> History::find(std::uint64_t run, std::uint64_t number) const {
  const auto found = by_number_.find(run);
  if (found == by_number_.end() || number == 0 || number > found->second.size()) return std::nullopt;
  const std::uint32_t index = found->second[number - 1];
  return index == 0 ? std::nullopt : std::optional(index - 1);
}

std::optional<std::uint32_t> History::target_index(std::uint32_t id) const {
  for (std::uint32_t i = 0; i < targets_.size(); ++i)
    if (targets_[i].id == id) return i;
  return std::nullopt;
}

std::optional<std::uint32_t> identify_sector(const History& history, std::uint32_t target, std::uint64_t sector,
                                             const std::byte* data, std::string* ret_error) {
  const std::span<const std::byte, kSectorBytes> bytes(data, kSectorBytes);
  Stamp stamp;
  const std::string place =
      "disk " + std::to_string(history.targets()[target].id) + " sector " + std::to_string(sector);
  switch (read_stamp(bytes, &stamp)) {
    case SectorContent::kZero: return 0;
    case SectorContent::kForeign:
      *ret_error = place + " holds bytes that no stamped write made (torn or corrupt)";
      return std::nullopt;
    case SectorContent::kStamped: break;
  }
  const auto index = history.find(stamp.run, stamp.write_number);
  const std::string write = place + " holds write " + std::to_string(stamp.write_number);
  if (!index) {
    *ret_error = write + " of run " + std::to_string(stamp.run) + ", which no log knows (invented or of an older run)";
    return std::nullopt;
  }
  const LoggedOperation& operation = history.operations()[*index];
  const LogSlot& slot = operation.slot;
  const bool inside = stamp.sector >= slot.sector && stamp.sector < slot.sector + slot.sectors;
  if (stamp.target != history.targets()[target].id || stamp.sector != sector || operation.target != target || !inside) {
    *ret_error = write + ", which belongs to disk " + std::to_string(stamp.target) + " sector " +
                 std::to_string(stamp.sector) + " (misplaced)";
    return std::nullopt;
  }
  if (slot.kind != OperationKind::kWrite || stamp.wall_ns != slot.submit_wall_ns) {
    *ret_error = write + ", but the log has another operation under that number (invented)";
    return std::nullopt;
  }
  return *index + 1;
}

ImageContent read_image(const History& history, std::uint32_t target, const std::string& path,
                        std::uint64_t offset_bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw std::runtime_error("open image '" + path + "': " + std::strerror(errno));
  constexpr std::size_t kBufferSectors = 4096;
  std::vector<std::byte> buffer(kBufferSectors * kSectorBytes);
  ImageContent content;
  content.target = target;
  content.sectors.resize(history.targets()[target].sectors);
  std::string error;
  for (std::uint64_t sector = 0; sector < content.sectors.size() && error.empty();) {
    const std::size_t count = std::min<std::uint64_t>(kBufferSectors, content.sectors.size() - sector);
    std::size_t done = 0;
    while (done < count * kSectorBytes) {
      const ssize_t got = ::pread(fd, buffer.data() + done, count * kSectorBytes - done,
                                  static_cast<off_t>(offset_bytes + sector * kSectorBytes + done));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) {
        error = "read image '" + path + "' at sector " + std::to_string(sector) + ": " +
                (got < 0 ? std::strerror(errno) : "the image is shorter than the target");
        break;
      }
      done += static_cast<std::size_t>(got);
    }
    for (std::size_t i = 0; i < count && error.empty(); ++i)
      content.sectors[sector + i] =
          identify_sector(history, target, sector + i, buffer.data() + i * kSectorBytes, &error).value_or(0);
    sector += count;
  }
  ::close(fd);
  if (!error.empty()) throw std::runtime_error(error);
  return content;
}

}  // namespace understudy::oracle
