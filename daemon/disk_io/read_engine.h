// SPDX-License-Identifier: Apache-2.0
// Reads of block devices, many at a time, into buffers that the engine owns. Two engines stand behind this: io_uring
// with registered buffers, and a small thread pool for kernels without it; make_read_engine() probes which one works.
//
// Threads: one thread uses an engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "daemon/base/result.h"

namespace understudy {

struct ReadCompletion {
  std::uint32_t buffer = 0;         // index of the buffer that was read into
  std::uint64_t tag = 0;            // as given to submit()
  int error_number = 0;             // 0, or why the read failed
  std::uint32_t bytes_read = 0;     // less than asked for = end of device
};

class ReadEngine {
 public:
  virtual ~ReadEngine() = default;
  virtual std::string_view name() const = 0;  // "io_uring" or "threads"

  virtual std::uint32_t buffer_count() const = 0;
  virtual std::span<std::byte> buffer(std::uint32_t index) = 0;  // page-aligned

  // Starts one read of `bytes` at `offset_bytes` of `fd` into buffer `index`. The buffer must not be in use. fd may be
  // open with O_DIRECT: offset and bytes are then multiples of its logical block.
  virtual Status submit(int fd, std::uint64_t offset_bytes, std::uint32_t bytes, std::uint32_t index,
                        std::uint64_t tag) = 0;
  // The next finished read, if there is one. With wait = true sleeps until there is (must not be called with none
  // under way).
  virtual std::optional<ReadCompletion> reap(bool wait) = 0;
  virtual std::uint32_t in_progress() const = 0;
  // Readable whenever reap() may have something; for poll(2).
  virtual int event_fd() const = 0;
};

enum class ReadEngineChoice : std::uint8_t { kAuto, kUring, kThreads };

// kAuto takes io_uring when a real read through it works, else threads.
Result<std::unique_ptr<ReadEngine>> make_read_engine(ReadEngineChoice choice, std::uint32_t buffer_count,
                                                     std::uint32_t buffer_bytes);

}  // namespace understudy
