// SPDX-License-Identifier: Apache-2.0
// Free space of an ext2, ext3 or ext4 that is not mounted, by its block bitmaps.
//
// Refused, so that all of it is read (the message says why): not cleanly unmounted, errors noted, a feature that is not
// known here, any checksum or count that does not agree with another. A file system that nobody has mounted is believed
// only when everything it says of its blocks agrees.
//
// Thread-safe: no state. What the medium says is checked before it is used: any bytes give a list or an error.
#pragma once

#include <cstdint>

#include "daemon/source/extents.h"
#include "daemon/source/volume_reader.h"

namespace understudy {

// Free extents of at least `length_bytes_min`, in bytes from the beginning of the volume.
//   kInvalidArgument  no ext file system
//   kUnsupported      a feature that is not known here
//   kBusy             in use, or not cleanly unmounted
//   kCorrupt          checksums or counts do not agree
//   kIo               the volume cannot be read
Result<ExtentList> ext_free_space(VolumeReader& volume, std::uint64_t length_bytes_min);

}  // namespace understudy
