// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "daemon/source/volume_reader.h"

namespace understudy::xfs {

// Where the journal ends, in its blocks of 512 bytes, when the last thing in it says that the file system was cleanly
// unmounted. The journal is `blocks` long and begins at `offset_bytes`. kBusy: it has to be replayed; kCorrupt: it
// makes no sense, which includes writes that were cut off.
Result<std::uint64_t> clean_log_head(VolumeReader& volume, std::uint64_t offset_bytes, std::uint64_t blocks,
                                     std::span<const std::byte> uuid);

}  // namespace understudy::xfs
