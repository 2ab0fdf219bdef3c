// SPDX-License-Identifier: Apache-2.0
// The one implementation of Store. Internal to store/.
//
//   append: validate -> base images (page cache) -> frame into `pending_`
//   commit: fdatasync base -> write `pending_` -> fdatasync segment -> publish
//
// A frame is written only after the base data it names is durable, so a power cut can never leave a frame without it.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "daemon/base/checksum.h"
#include "daemon/store/base_images.h"
#include "daemon/store/extent_set.h"
#include "daemon/store/journal.h"
#include "daemon/store/manifest.h"
#include "daemon/store/recovery.h"
#include "daemon/store/store.h"
#include "daemon/store/store_pin.h"
#include "daemon/store/stream_state.h"

namespace understudy {

class StoreImpl final : public Store {
 public:
  StoreImpl(FileSystem& file_system, StoreOptions options, Manifest manifest, std::unique_ptr<FileLock> lock);
  ~StoreImpl() override;

  // What keeps the files of a store that is open for reading: a pin, or that all of them are open.
  void set_pin(std::shared_ptr<StorePin> pin) { pin_ = std::move(pin); }
  Status hold_files();

  // Takes over what recovery found; in kReadWrite makes it the durable state to go on from.
  Status start(RecoveredJournal recovered, OpenMode mode, const DamageReport& report);

  StoreIdentity identity() const override;
  StreamPosition position() const override;
  std::shared_ptr<const JournalSnapshot> snapshot() const override;
  Status append(std::span<const std::byte> batch) override;
  Result<Seq> commit() override;
  bool read_only() const override;
  std::size_t sealed_segments() const override;
  std::uint64_t journal_bytes() const override;
  std::uint64_t base_bytes() const override;
  Status adopt_run(const MergedRun& run) override;
  Result<std::size_t> remove_superseded() override;
  Sha256Digest chain_head() const override;
  Status scrub(const DamageReport& report, const std::function<bool(std::uint64_t, std::uint64_t)>& progress) override;

 private:
  Status check_writable() const;
  Status check_follows(const BatchInfo& info, std::size_t bytes) const;
  // Validates the records against a copy of the state and says which of them go to the base.
  Result<StreamState> plan_batch(const BatchReader& batch, std::vector<bool>& to_base) const;
  Status write_base(const BatchReader& batch, const StreamState& after, const std::vector<bool>& to_base);
  void add_frame(const BatchInfo& info, std::span<const std::byte> batch);
  Status begin_segment_for(const BatchInfo& info, std::size_t batch_bytes);
  Status create_segment(const BatchInfo& info);
  Status write_pending();
  Status make_durable();
  Status cut_torn_tail(const RecoveredJournal& recovered);
  Status load_base_coverage();
  Status update_base_bytes();
  // A file that is part of the store no more.
  struct Superseded {
    std::string path;
    Seq first_seq = 0;
  };
  Result<std::vector<Superseded>> list_superseded();
  bool is_kept(const Superseded& file, std::uint64_t gone_in_layout, const std::vector<PinInfo>& pins) const;

  // Remembers the first failure: from now on the store is read-only. Returns it.
  Error fail(Error error);

  FileSystem& file_system_;
  const StoreOptions options_;
  const std::string base_directory_;
  std::mutex manifest_mutex_;  // before mutex_; held while the MANIFEST is written
  Manifest manifest_;          // the identity of the writer thread, runs and layout under manifest_mutex_
  std::unique_ptr<FileLock> lock_;
  std::shared_ptr<StorePin> pin_;
  std::shared_ptr<const JournalSnapshot> held_;

  // Writer thread only.
  StreamState state_;                  // after everything appended
  std::unique_ptr<File> file_;         // of the last segment
  std::uint64_t segment_batches_ = 0;  // in it; records follow from its first seq
  std::uint64_t written_bytes_ = 0;    // of the last segment; `pending_` follows
  std::vector<std::byte> pending_;
  Sha256 digest_;  // over the last segment, `pending_` included
  BaseImages base_;
  std::map<std::uint16_t, ExtentSet> in_base_;  // what journaled records say lies in the base: never written again
  bool unsynced_ = false;
  bool base_changed_ = false;  // `base_bytes_` is out of date
  bool started_ = false;       // opened for writing, and what was found is durable

  mutable std::mutex mutex_;  // guards the rest
  std::optional<Error> failure_;
  StoreIdentity identity_;
  StreamPosition durable_;
  std::vector<JournalSegment> segments_;
  std::vector<Damage> damage_;
  mutable std::optional<Sha256Digest> durable_digest_;  // of a store opened for reading, made when asked for
  std::uint64_t journal_bytes_ = 0;
  std::uint64_t base_bytes_ = 0;
  std::uint64_t layout_ = 0;  // as manifest_.layout
  // Paths of superseded files that were kept, and the layout in which they were part of the store no more. Of the
  // thread of jobs.
  std::map<std::string, std::uint64_t> gone_in_layout_;
  mutable std::vector<std::weak_ptr<const JournalSnapshot>> handed_out_;
  // The last one handed out, while somebody has it and nothing has changed: its open files and indexes are shared.
  mutable std::weak_ptr<const JournalSnapshot> snapshot_;
};

// The scrub's work, on a snapshot (scrub.cc).
Status scrub_snapshot(const JournalSnapshot& snapshot, const DamageReport& report,
                      const std::function<bool(std::uint64_t, std::uint64_t)>& progress);

}  // namespace understudy
