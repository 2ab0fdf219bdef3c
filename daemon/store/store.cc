// SPDX-License-Identifier: Apache-2.0
// The opening half of the store, and what readers ask it.
#include "daemon/store/store.h"

#include <algorithm>
#include <array>

#include "daemon/base/limits.h"
#include "daemon/base/text.h"
#include "daemon/store/store_impl.h"
#include "daemon/store/store_paths.h"

namespace understudy {
namespace {

constexpr int kOpenTriesMax = 8;

FileSystem& file_system_of(const StoreOptions& options) {
  return options.file_system != nullptr ? *options.file_system : posix_file_system();
}

std::string base_directory_of(const StoreOptions& options, const Manifest& manifest) {
  if (!options.base_directory.empty()) return options.base_directory;
  if (!manifest.base_directory.empty()) return manifest.base_directory;
  return default_base_path(options.directory);
}

// A directory may hold what an interrupted create() left: everything but a MANIFEST.
Status require_empty(FileSystem& file_system, const std::string& directory) {
  static constexpr std::array<std::string_view, 6> kOurs = {"lock", "journal", "runs", "base", "pins", "MANIFEST.new"};
  ASSIGN_OR_RETURN(const std::vector<std::string> names, file_system.list(directory));
  for (const std::string& name : names)
    if (std::find(kOurs.begin(), kOurs.end(), name) == kOurs.end())
      return Error(ErrorKind::kAlreadyExists,
                   name == "MANIFEST" ? "there is a store in '" + directory + "' already"
                                      : "directory '" + directory + "' is not empty: it has '" + printable(name) + "'");
  Result<std::vector<std::string>> segments = file_system.list(journal_path(directory));
  if (segments.ok() && !segments->empty())
    return Error(ErrorKind::kAlreadyExists, "'" + directory + "' has a journal but no MANIFEST");
  return ok_status();
}

Status check_identity(const StoreIdentity& identity) {
  if (identity.server.is_nil()) return Error(ErrorKind::kInvalidArgument, "the server has no id");
  if (!is_valid_name(identity.server_name))
    return Error(ErrorKind::kInvalidArgument, "server name '" + printable(identity.server_name) +
                                                  "' must be 1 to 255 bytes of UTF-8 without control characters");
  return ok_status();
}

Result<std::unique_ptr<Store>> create_store(const StoreOptions& options, const StoreIdentity& identity) {
  FileSystem& file_system = file_system_of(options);
  RETURN_IF_ERROR(check_identity(identity));
  const std::string& directory = options.directory;
  RETURN_IF_ERROR(file_system.make_directory(directory));
  RETURN_IF_ERROR(require_empty(file_system, directory));
  ASSIGN_OR_RETURN(std::unique_ptr<FileLock> lock, file_system.lock(lock_path(directory)));
  RETURN_IF_ERROR(file_system.make_directory(journal_path(directory)));
  RETURN_IF_ERROR(file_system.make_directory(runs_path(directory)));
  RETURN_IF_ERROR(file_system.make_directory(pins_path(directory)));
  Manifest manifest;
  manifest.store = Uuid::random();
  manifest.identity = identity;
  manifest.base_directory = options.base_directory;
  manifest.segment_bytes_max = options.segment_bytes_max;
  RETURN_IF_ERROR(file_system.make_directory(base_directory_of(options, manifest)));
  RETURN_IF_ERROR(write_manifest(file_system, directory, manifest));
  RETURN_IF_ERROR(file_system.sync_directory(directory + "/.."));
  auto store = std::make_unique<StoreImpl>(file_system, options, std::move(manifest), std::move(lock));
  RETURN_IF_ERROR(store->start(RecoveredJournal{}, OpenMode::kReadWrite, {}));
  return std::unique_ptr<Store>(std::move(store));
}

Result<std::unique_ptr<StoreImpl>> open_once(const StoreOptions& options, OpenMode mode, const DamageReport& report,
                                             std::uint64_t* layout) {
  FileSystem& file_system = file_system_of(options);
  std::unique_ptr<FileLock> lock;
  // The MANIFEST first: no lock file is made in a directory that is no store.
  ASSIGN_OR_RETURN(Manifest manifest, read_manifest(file_system, options.directory));
  if (mode == OpenMode::kReadWrite) {
    ASSIGN_OR_RETURN(lock, file_system.lock(lock_path(options.directory)));
    ASSIGN_OR_RETURN(manifest, read_manifest(file_system, options.directory));
  }
  *layout = manifest.layout;
  ASSIGN_OR_RETURN(RecoveredJournal recovered, recover_journal(file_system, options.directory, manifest, mode));
  auto store = std::make_unique<StoreImpl>(file_system, options, std::move(manifest), std::move(lock));
  RETURN_IF_ERROR(store->start(std::move(recovered), mode, report));
  return store;
}

// A reader that may not write in the store has no pin to keep the files. It opens them all; if the MANIFEST is still
// the one it had read, they are those of that MANIFEST, and stay whatever is removed later.
Result<std::unique_ptr<Store>> open_without_pin(const StoreOptions& options, const DamageReport& report) {
  FileSystem& file_system = file_system_of(options);
  for (int i = 0;; ++i) {
    std::vector<Damage> damages;
    std::uint64_t layout = 0;
    Result<std::unique_ptr<StoreImpl>> store = open_once(
        options, OpenMode::kReadOnly, [&](const Damage& damage) { damages.push_back(damage); }, &layout);
    if (store.ok() && options.keep != StoreOptions::Keep::kNothing)
      if (Status held = (*store)->hold_files(); !held.ok()) store = held.error();
    ASSIGN_OR_RETURN(const Manifest now, read_manifest(file_system, options.directory));
    if (now.layout != layout && i < kOpenTriesMax) continue;
    if (!store.ok()) return std::move(store).error();
    if (now.layout != layout)
      return Error(ErrorKind::kBusy,
                   "its files are being merged again and again; try again later, or as a user that "
                   "may write in '" +
                       pins_path(options.directory) + "'");
    if (report)
      for (const Damage& damage : damages) report(damage);
    return std::unique_ptr<Store>(std::move(*store));
  }
}

Result<std::unique_ptr<Store>> open_store(const StoreOptions& options, OpenMode mode, const DamageReport& report) {
  FileSystem& file_system = file_system_of(options);
  std::uint64_t layout = 0;
  std::shared_ptr<StorePin> pin;
  if (mode == OpenMode::kReadOnly) {
    // No pin in a directory that is no store.
    if (Result<Manifest> manifest = read_manifest(file_system, options.directory); !manifest.ok())
      return std::move(manifest).error();
    if (options.keep == StoreOptions::Keep::kByPin)
      if (Result<std::shared_ptr<StorePin>> taken = StorePin::take(file_system, options.directory); taken.ok())
        pin = std::move(*taken);
    if (pin == nullptr) return open_without_pin(options, report);
  }
  ASSIGN_OR_RETURN(std::unique_ptr<StoreImpl> store, open_once(options, mode, report, &layout));
  if (pin != nullptr) {
    RETURN_IF_ERROR(pin->narrow(layout, store->position().seq));
    store->set_pin(std::move(pin));
  }
  return std::unique_ptr<Store>(std::move(store));
}

}  // namespace

Result<std::unique_ptr<Store>> Store::create(const StoreOptions& options, const StoreIdentity& identity) {
  Result<std::unique_ptr<Store>> store = create_store(options, identity);
  if (!store.ok()) return std::move(store).error().with_context("create store '" + options.directory + "'");
  return store;
}

Result<std::unique_ptr<Store>> Store::open(const StoreOptions& options, OpenMode mode, const DamageReport& report) {
  Result<std::unique_ptr<Store>> store = open_store(options, mode, report);
  if (!store.ok()) return std::move(store).error().with_context("open store '" + options.directory + "'");
  return store;
}

StoreImpl::StoreImpl(FileSystem& file_system, StoreOptions options, Manifest manifest, std::unique_ptr<FileLock> lock)
    : file_system_(file_system),
      options_(std::move(options)),
      base_directory_(base_directory_of(options_, manifest)),
      manifest_(std::move(manifest)),
      lock_(std::move(lock)),
      base_(file_system, base_directory_),
      identity_(manifest_.identity) {}

StoreImpl::~StoreImpl() {
  // After a clean end the MANIFEST proves how far the journal was durable, so that a later loss can't pass for a torn
  // tail. Without it (a crash, a full disk) only the last group of batches lacks that proof.
  if (!started_ || failure_ || durable_.seq == manifest_.durable_seq) return;
  const std::lock_guard lock(manifest_mutex_);
  manifest_.durable_seq = durable_.seq;
  (void)write_manifest(file_system_, options_.directory, manifest_).ok();
}

Status StoreImpl::start(RecoveredJournal recovered, OpenMode mode, const DamageReport& report) {
  for (const Damage& damage : recovered.damage)
    if (report) report(damage);
  if (recovered.torn_tail && report) report(*recovered.torn_tail);
  if (mode == OpenMode::kReadOnly) {
    failure_ = Error(ErrorKind::kPermission, "the store is open for reading only");
  } else if (!recovered.damage.empty()) {
    const Damage& first = recovered.damage.front();
    failure_ = Error(ErrorKind::kCorrupt, "the store is damaged and therefore read-only: '" + first.object +
                                              "' at byte " + std::to_string(first.offset_bytes) + ": " + first.reason);
  }
  const bool writable = !failure_;
  if (writable) RETURN_IF_ERROR(cut_torn_tail(recovered));
  state_ = std::move(recovered.state);
  if (state_.position.seq == 0) state_.position.epoch = manifest_.identity.epoch;
  durable_ = state_.position;
  segments_ = std::move(recovered.segments);
  damage_ = std::move(recovered.damage);
  digest_ = std::move(recovered.digest);
  segment_batches_ = recovered.last_batches;
  if (mode == OpenMode::kReadWrite) durable_digest_ = segments_.empty() ? Sha256Digest{} : digest_.digest();
  for (const JournalSegment& segment : segments_) journal_bytes_ += segment.file_bytes();
  layout_ = manifest_.layout;
  base_bytes_ = snapshot()->base_allocated_bytes();
  if (!writable) return ok_status();

  // A process that was killed may have left everything in the page cache only: it is durable from here on.
  RETURN_IF_ERROR(base_.open_existing());
  RETURN_IF_ERROR(base_.sync());
  if (!segments_.empty()) {
    const std::string path = journal_path(options_.directory) + "/" + segments_.back().name;
    ASSIGN_OR_RETURN(file_, file_system_.open(path, FileMode::kWrite));
    written_bytes_ = segments_.back().end_bytes;
    RETURN_IF_ERROR(file_->sync());
  }
  RETURN_IF_ERROR(file_system_.sync_directory(journal_path(options_.directory)));
  RETURN_IF_ERROR(load_base_coverage());
  RETURN_IF_ERROR(update_base_bytes());
  started_ = true;
  return ok_status();
}

Status StoreImpl::cut_torn_tail(const RecoveredJournal& recovered) {
  if (!recovered.torn_tail) return ok_status();
  const std::string path = journal_path(options_.directory) + "/" + recovered.torn_tail->object;
  if (recovered.torn_file) return file_system_.remove(path);
  ASSIGN_OR_RETURN(const std::unique_ptr<File> file, file_system_.open(path, FileMode::kWrite));
  RETURN_IF_ERROR(file->truncate(recovered.torn_tail->offset_bytes));
  return file->sync();
}

// While the first full copy is under way, the tables say what must not be written in the base again.
Status StoreImpl::load_base_coverage() {
  if (state_.position.initial_copy_done) return ok_status();
  JournalReader reader(snapshot());
  while (true) {
    ASSIGN_OR_RETURN(const std::unique_ptr<JournalReader::Entry> entry, reader.next());
    if (!entry) return ok_status();
    for (const Record& record : entry->batch.records())
      if ((record.flags & kRecordInBase) != 0) in_base_[record.disk].add(record.offset_bytes, record.length_bytes);
  }
}

StoreIdentity StoreImpl::identity() const {
  const std::lock_guard lock(mutex_);
  return identity_;
}

StreamPosition StoreImpl::position() const {
  const std::lock_guard lock(mutex_);
  return durable_;
}

std::shared_ptr<const JournalSnapshot> StoreImpl::snapshot() const {
  const std::lock_guard lock(mutex_);
  std::shared_ptr<const JournalSnapshot> last = snapshot_.lock();
  if (last != nullptr && last->position().seq == durable_.seq && last->segments().size() == segments_.size() &&
      last->layout() == layout_ && last->identity().epoch == identity_.epoch)
    return last;
  last = std::make_shared<JournalSnapshot>(file_system_, options_.directory, base_directory_, identity_, durable_,
                                           segments_, damage_, layout_, pin_);
  snapshot_ = last;
  std::erase_if(handed_out_, [](const auto& old) { return old.expired(); });
  handed_out_.push_back(last);
  return last;
}

bool StoreImpl::read_only() const {
  const std::lock_guard lock(mutex_);
  return failure_.has_value();
}

std::size_t StoreImpl::sealed_segments() const {
  const std::lock_guard lock(mutex_);
  return segments_.empty() ? 0 : segments_.back().last_number() - 1;
}

std::uint64_t StoreImpl::journal_bytes() const {
  const std::lock_guard lock(mutex_);
  return journal_bytes_;
}

std::uint64_t StoreImpl::base_bytes() const {
  const std::lock_guard lock(mutex_);
  return base_bytes_;
}

Sha256Digest StoreImpl::chain_head() const {
  {
    const std::lock_guard lock(mutex_);
    if (durable_digest_) return *durable_digest_;
  }
  const Result<Sha256Digest> digest = digest_last_segment(*snapshot());
  const std::lock_guard lock(mutex_);
  if (digest.ok()) durable_digest_ = *digest;
  return digest.ok() ? *digest : Sha256Digest{};
}

Status StoreImpl::scrub(const DamageReport& report, const std::function<bool(std::uint64_t, std::uint64_t)>& progress) {
  return scrub_snapshot(*snapshot(), report, progress);
}

}  // namespace understudy
