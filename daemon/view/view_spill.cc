// SPDX-License-Identifier: Apache-2.0
#include "daemon/view/view_spill.h"

#include <iterator>

#include "daemon/base/uuid.h"

namespace understudy {
namespace {

// Parts begin and end on multiples of this: few sizes, so that what was given back fits again.
constexpr std::uint64_t kPartBytes = 64 << 10;

}  // namespace

Result<std::shared_ptr<ViewSpill>> ViewSpill::create(FileSystem& file_system, const std::string& directory) {
  const std::string path = directory + "/.understudy-view-" + Uuid::random().to_string();
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, file_system.open(path, FileMode::kCreate));
  RETURN_IF_ERROR(file_system.remove(path));
  return std::make_shared<ViewSpill>(std::move(file));
}

std::unique_ptr<const ViewSpill::Slot> ViewSpill::put(const std::shared_ptr<ViewSpill>& spill,
                                                      std::span<const std::byte> data) {
  const std::uint64_t length = (data.size() + kPartBytes - 1) / kPartBytes * kPartBytes;
  auto slot = std::make_unique<const Slot>(spill, spill->take(length), length);
  if (!spill->file_->write(slot->offset_bytes(), data).ok()) return nullptr;
  return slot;
}

std::uint64_t ViewSpill::file_bytes() const {
  const std::lock_guard lock(mutex_);
  return end_bytes_;
}

std::uint64_t ViewSpill::take(std::uint64_t length_bytes) {
  const std::lock_guard lock(mutex_);
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    const auto [offset, length] = *it;
    if (length < length_bytes) continue;
    free_.erase(it);
    if (length > length_bytes) free_.emplace(offset + length_bytes, length - length_bytes);
    return offset;
  }
  const std::uint64_t offset = end_bytes_;
  end_bytes_ += length_bytes;
  return offset;
}

void ViewSpill::give_back(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  const std::lock_guard lock(mutex_);
  const auto next = free_.lower_bound(offset_bytes);
  if (next != free_.end() && next->first == offset_bytes + length_bytes) {
    length_bytes += next->second;
    free_.erase(next);
  }
  const auto after = free_.lower_bound(offset_bytes);
  if (after != free_.begin() && std::prev(after)->first + std::prev(after)->second == offset_bytes)
    std::prev(after)->second += length_bytes;
  else
    free_.emplace(offset_bytes, length_bytes);
}

}  // namespace understudy
