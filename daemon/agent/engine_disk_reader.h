// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "daemon/base/unique_fd.h"
#include "daemon/disk_io/read_engine.h"
#include "daemon/replicate/disk_reader.h"
#include "daemon/tracker/tracker.h"

namespace understudy {

// The tracked disks, opened with O_DIRECT, behind a ReadEngine.
class EngineDiskReader final : public DiskReader {
 public:
  static Result<std::unique_ptr<EngineDiskReader>> open(const std::vector<TrackedDisk>& disks,
                                                        std::unique_ptr<ReadEngine> engine);

  std::uint32_t buffer_count() const override { return engine_->buffer_count(); }
  std::uint32_t buffer_bytes() const override;
  std::span<std::byte> buffer(std::uint32_t index) override { return engine_->buffer(index); }
  Status submit(std::uint16_t disk, std::uint64_t offset_bytes, std::uint32_t bytes, std::uint32_t index,
                std::uint64_t tag) override;
  std::optional<ReadCompletion> reap() override { return engine_->reap(false); }
  std::uint32_t in_progress() const override { return engine_->in_progress(); }
  Result<std::uint64_t> size_bytes(std::uint16_t disk) override;
  std::optional<std::uint64_t> written_bytes(std::uint16_t disk) override;

  ReadEngine& engine() { return *engine_; }

 private:
  struct Disk {
    std::uint16_t slot = 0;
    std::string path;
    UniqueFd fd;
    std::string statistics_path;
  };
  EngineDiskReader(std::vector<Disk> disks, std::unique_ptr<ReadEngine> engine)
      : disks_(std::move(disks)), engine_(std::move(engine)) {}
  const Disk* find(std::uint16_t slot) const;

  std::vector<Disk> disks_;
  std::unique_ptr<ReadEngine> engine_;  // behind the descriptors: its reads end before they close
};

}  // namespace understudy
