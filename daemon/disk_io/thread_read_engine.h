// SPDX-License-Identifier: Apache-2.0
// Reads through a few threads with pread(2), for kernels without io_uring.
#pragma once

#include <memory>

#include "daemon/disk_io/read_engine.h"

namespace understudy {

Result<std::unique_ptr<ReadEngine>> make_thread_read_engine(std::uint32_t buffer_count, std::uint32_t buffer_bytes);

}  // namespace understudy
