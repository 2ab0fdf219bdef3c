// SPDX-License-Identifier: Apache-2.0
// The store of one protected server: an append-only, hash-chained journal of batches, and the base images under it.
// FORMAT.md in this folder has every byte. Directory:
//
//   MANIFEST  lock  journal/<first seq, 20 digits>.wal and .idx  base/<disk slot>.img  pins/
//
// Order of side effects: base data durable BEFORE the journal frame that names it is durable BEFORE commit() returns
// BEFORE the receiver acknowledges. After a failed fsync the store is read-only until it is opened again.
//
// Threads: one writer thread calls append() and commit(); views and readers run on any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/base/checksum.h"
#include "daemon/base/limits.h"
#include "daemon/base/result.h"
#include "daemon/record/batch.h"
#include "daemon/record/record.h"

namespace understudy {

class FileSystem;       // file_system.h
class JournalSnapshot;  // journal.h
struct MergedRun;       // run_merge.h

struct StoreIdentity {
  Uuid server;
  std::string server_name;
  std::uint64_t epoch = 1;
};

struct StoreOptions {
  std::string directory;
  std::string base_directory;                 // empty = as the MANIFEST says, else <directory>/base
  // A segment is sealed before it passes one of these; a single batch may.
  std::uint64_t segment_bytes_max = 256ull << 20;
  std::uint64_t segment_records_max = kSegmentRecordsMax;
  std::uint64_t segment_batches_max = kSegmentBatchesMax;
  // How a store that is opened for reading keeps the files that it may need while others merge them: by a pin
  // (store_pin.h) or, where that can't be written, by opening them all at once; always so; or not at all, for a scrub,
  // which passes over what was merged meanwhile.
  enum class Keep : std::uint8_t { kByPin, kOpen, kNothing };
  Keep keep = Keep::kByPin;
  FileSystem* file_system = nullptr;          // null = the machine's; tests give one that fails. Outlives the store
};

// Damage found while opening or scrubbing: never skipped silently.
struct Damage {
  std::string object;                         // file name
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  Seq first_seq = 0;                          // points at and after this one may be affected; 0 = none
  std::string reason;
  bool torn_tail = false;                     // the normal trace of a crash: nothing acknowledged is lost
};
using DamageReport = std::function<void(const Damage&)>;

enum class OpenMode : std::uint8_t { kReadWrite, kReadOnly };

class Store {
 public:
  virtual ~Store() = default;

  // A new store in an empty or missing directory.
  static Result<std::unique_ptr<Store>> create(const StoreOptions& options, const StoreIdentity& identity);
  // An existing one. Damage of what was durable (anything but a torn tail) is reported and leaves the store read-only
  // with everything before it readable; a format this program does not know is an error. kReadWrite takes the lock (the
  // holder is named when it is taken), cuts a torn tail at the last
  // whole batch and reports it. kReadOnly changes nothing, needs no lock and sees what was durable when it was opened;
  // of the last segment it proves the tables and what may be a torn tail, other payloads only when they are read.
  static Result<std::unique_ptr<Store>> open(const StoreOptions& options, OpenMode mode, const DamageReport& report);

  // An empty store takes the epoch of the first batch.
  virtual StoreIdentity identity() const = 0;
  // Position after the last committed record.
  virtual StreamPosition position() const = 0;
  // What is durable now, for readers; immutable and independent of the store's life.
  virtual std::shared_ptr<const JournalSnapshot> snapshot() const = 0;

  // Appends one encoded batch (record/batch.h) that must follow the last one: server, epoch and seq are checked,
  // and every payload against its capture checksum. Payloads of initial COPY records go to the base images.
  // kRefused and kCorrupt: the batch is wrong and nothing changed. kNoSpace: nothing changed, append it again when
  // there is room.
  virtual Status append(std::span<const std::byte> batch) = 0;
  // Makes everything appended durable; returns the last durable seq. kNoSpace is recoverable: nothing appended is
  // lost, call again when there is room. Any other failure leaves the store read-only.
  virtual Result<Seq> commit() = 0;
  // True after a failed fsync or write that could not be undone, and for a store opened read-only or damaged.
  virtual bool read_only() const = 0;

  // Segments of the journal that no append will change any more, those that runs stand for included.
  virtual std::size_t sealed_segments() const = 0;
  // Bytes in journal and base.
  virtual std::uint64_t journal_bytes() const = 0;
  virtual std::uint64_t base_bytes() const = 0;

  // Puts a run, which is durable under its name, in the place of the segments and runs that it was made of. The
  // MANIFEST says so durably when it returns. kNoSpace: nothing changed. kRefused: they are not there (any more). Of
  // one thread at a time, beside the writer's.
  virtual Status adopt_run(const MergedRun& run) = 0;
  // Removes files that runs took the place of, and what an interrupted job left, but those that a pin or a snapshot
  // keeps; how many were kept. Of the same thread.
  virtual Result<std::size_t> remove_superseded() = 0;

  // SHA-256 chain head over the whole journal: equal heads = equal history.
  virtual Sha256Digest chain_head() const = 0;

  // Reads everything back and checks headers, chain and checksums. `progress` gets bytes done and total, and may
  // return false to stop.
  virtual Status scrub(const DamageReport& report,
                       const std::function<bool(std::uint64_t, std::uint64_t)>& progress) = 0;
};

}  // namespace understudy
