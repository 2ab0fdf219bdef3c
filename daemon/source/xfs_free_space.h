// SPDX-License-Identifier: Apache-2.0
// Free space of an XFS that is not mounted, by its trees of free space (format versions 4 and 5).
//
// Refused, so that all of it is read (the message says why): a journal that has to be replayed or lies elsewhere,
// features that are not known here, any checksum, owner, order or count that does not agree.
//
// Thread-safe: no state. What the medium says is checked before it is used: any bytes give a list or an error.
#pragma once

#include <cstdint>

#include "daemon/source/extents.h"
#include "daemon/source/volume_reader.h"

namespace understudy {

// Free extents of at least `length_bytes_min`, in bytes from the beginning of the volume. Errors as ext_free_space().
Result<ExtentList> xfs_free_space(VolumeReader& volume, std::uint64_t length_bytes_min);

}  // namespace understudy
