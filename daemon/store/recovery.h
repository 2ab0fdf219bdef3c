// SPDX-License-Identifier: Apache-2.0
// What is in a journal directory when it is opened. Reads only; Store::open() does the cutting.
//
// A batch that can't be read is a torn tail when nothing proves that it was ever durable: it lies in the last segment,
// and neither the MANIFEST nor a frame written later says that its seq was synced. Everything else is damage.
//
// For kReadOnly, tables are enough where a later frame or the MANIFEST says that the batch was synced: opening takes a
// fraction of the time, and what is wrong with such a payload is found when it is read.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "daemon/base/checksum.h"
#include "daemon/base/result.h"
#include "daemon/store/journal.h"
#include "daemon/store/manifest.h"
#include "daemon/store/store.h"
#include "daemon/store/stream_state.h"

namespace understudy {

struct RecoveredJournal {
  std::vector<JournalSegment> segments;  // intact ones, in order; the last one up to its last intact batch
  StreamState state;                     // after the last intact batch
  Sha256 digest;                         // running over the last of `segments`; not with kReadOnly
  std::uint64_t last_batches = 0;        // in the last of `segments`
  std::vector<Damage> damage;            // of what was durable
  std::optional<Damage> torn_tail;
  std::optional<std::string> torn_file;  // a last segment whose header was never completed: to be removed
};

Result<RecoveredJournal> recover_journal(FileSystem& file_system, const std::string& store_directory,
                                         const Manifest& manifest, OpenMode mode);

}  // namespace understudy
