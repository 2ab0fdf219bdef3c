// SPDX-License-Identifier: Apache-2.0
// Reads through io_uring into registered buffers. Sources: io_uring(7), io_uring_register(2), io_uring_enter(2).
#pragma once

#include <memory>

#include "daemon/disk_io/read_engine.h"

namespace understudy {

// kUnsupported (with the setting to change) when the kernel has no io_uring or it is switched off; kPermission when
// the memory for registered buffers may not be locked.
Result<std::unique_ptr<ReadEngine>> make_uring_read_engine(std::uint32_t buffer_count, std::uint32_t buffer_bytes);

}  // namespace understudy
