// SPDX-License-Identifier: Apache-2.0
#include "daemon/receiver/store_worker.h"

#include <algorithm>
#include <utility>

#include "daemon/base/atomic_file.h"
#include "daemon/base/checksum.h"
#include "daemon/base/limits.h"
#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/base/text.h"
#include "daemon/digest/compare_notice.h"
#include "daemon/receiver/whole_disks.h"
#include "daemon/store/file_system.h"

namespace understudy {

namespace {

constexpr std::uint64_t kRoomRetryNs = 1'000'000'000;
// While more keeps coming, an append waits no longer than this for its commit.
constexpr std::uint64_t kCommitDelayNsMax = 20'000'000;
constexpr const char* kNoticeStoreFull = "store-full";

std::string describe(const Damage& damage) {
  std::string text = "'" + damage.object + "': " + damage.reason + " (" + std::to_string(damage.length_bytes) +
                     " bytes at " + std::to_string(damage.offset_bytes) + ")";
  if (damage.first_seq != 0) text += ", points from seq " + std::to_string(damage.first_seq) + " on may be affected";
  return text;
}

// `path` and its parents.
Status make_directories(FileSystem& file_system, const std::string& path) {
  if (file_system.make_directory(path).ok()) return ok_status();
  const std::string parent = parent_directory(path);
  if (parent != path) RETURN_IF_ERROR(make_directories(file_system, parent));
  return file_system.make_directory(path);
}

}  // namespace

StoreWorker::StoreWorker(std::string server_name, StoreOptions options, StoreExecutor& executor,
                         StoreExecutor& digest_executor, const Clock& clock, StoreExecutor* jobs,
                         const MergeSettings& merge)
    : server_name_(std::move(server_name)),
      options_(std::move(options)),
      executor_(executor),
      digest_executor_(digest_executor),
      clock_(clock) {
  if (jobs != nullptr) {
    jobs_ = std::make_unique<StoreJobs>(server_name_, options_, *jobs, clock);
    jobs_->set_merge(merge);
  }
  status_.server_name = server_name_;
  status_.directory = options_.directory;
  status_.state = "empty";
  executor_.wake(*this);
}

StoreWorker::~StoreWorker() { stop(); }

void StoreWorker::attach(std::shared_ptr<StoreClient> client, const Hello& hello) {
  std::optional<std::string> full_reason;
  {
    std::lock_guard lock(mutex_);
    if (status_.state == "full") full_reason = status_.reason;
  }
  // Accepting waits for room, too: tell why before it may take long.
  if (full_reason) client->store_notice(Notice{true, kNoticeStoreFull, *full_reason});
  {
    std::unique_lock lock(mutex_);
    if (stop_) {
      lock.unlock();
      return client->store_refused(RefuseCode::kShuttingDown, "the receiver is stopping or its configuration changed");
    }
    queue_.push_back(Item{std::move(client), hello, {}, {}});
  }
  executor_.wake(*this);
}

void StoreWorker::submit(std::shared_ptr<StoreClient> client, Buffer batch) {
  {
    std::lock_guard lock(mutex_);
    if (stop_) return;
    queued_bytes_ += batch.size();
    queue_.push_back(Item{std::move(client), std::nullopt, std::move(batch), {}});
  }
  executor_.wake(*this);
}

void StoreWorker::ask_digest(std::shared_ptr<StoreClient> client, DigestQuestion question) {
  {
    std::lock_guard lock(mutex_);
    if (stop_) return;
    queue_.push_back(Item{std::move(client), std::nullopt, {}, std::move(question)});
  }
  executor_.wake(*this);
}

void StoreWorker::detach(const StoreClient* client) {
  std::lock_guard lock(mutex_);
  // An attach that nobody waits for any more.
  std::erase_if(queue_, [client](const Item& item) { return item.hello && item.client.get() == client; });
}

StoreStatus StoreWorker::status() const {
  std::lock_guard lock(mutex_);
  StoreStatus status = status_;
  status.queued_bytes = queued_bytes_;
  if (jobs_ != nullptr) status.jobs = jobs_->figures();
  return status;
}

void StoreWorker::set_merge(const MergeSettings& settings) {
  if (jobs_ != nullptr) jobs_->set_merge(settings);
}

void StoreWorker::request_stop() {
  {
    std::lock_guard lock(mutex_);
    if (stop_) return;
    stop_ = true;
  }
  executor_.wake(*this);
}

void StoreWorker::stop() {
  request_stop();
  {
    std::unique_lock lock(mutex_);
    ended_changed_.wait(lock, [this] { return ended_; });
  }
  digests_.reset();
  executor_.forget(*this);
  if (jobs_ != nullptr) jobs_->stop();
}

bool StoreWorker::ended() const {
  std::lock_guard lock(mutex_);
  return ended_;
}

void StoreWorker::abandon() {
  executor_.forget(*this);
  digests_.reset();
  if (jobs_ != nullptr) jobs_->stop();
  store_.reset();
  client_.reset();
  item_.reset();
  std::lock_guard lock(mutex_);
  queue_.clear();
  stop_ = ended_ = true;
}

std::optional<std::uint64_t> StoreWorker::turn() {
  {
    std::lock_guard lock(mutex_);
    if (ended_) return std::nullopt;
  }
  if (!opened_) {
    opened_ = true;
    open_store();
  }
  while (next_item()) {
    if (process(*item_) == Progress::kNoRoom && !give_up(*item_)) return kRoomRetryNs;
    item_.reset();
    if (must_commit()) break;
  }
  if (uncommitted_bytes_ > 0 && commit() == Progress::kNoRoom && !is_stopping()) return kRoomRetryNs;
  tell_lost();
  std::lock_guard lock(mutex_);
  if (!queue_.empty()) return 0;
  if (stop_) end();
  return std::nullopt;
}

void StoreWorker::compare_with_source(std::vector<DamagedExtent> extents) {
  {
    std::lock_guard lock(mutex_);
    lost_ = std::move(extents);
  }
  executor_.wake(*this);
}

void StoreWorker::tell_lost() {
  if (client_ == nullptr) return;
  std::vector<DamagedExtent> lost;
  {
    std::lock_guard lock(mutex_);
    lost.swap(lost_);
  }
  for (const DamagedExtent& extent : lost) {
    const std::string code = compare_notice_code({extent.disk, extent.offset_bytes, extent.length_bytes});
    client_->store_notice(Notice{true, code, "store '" + options_.directory + "' has lost " +
                                                 format_bytes_exact(extent.length_bytes) + " at offset " +
                                                 std::to_string(extent.offset_bytes) + " of disk " +
                                                 std::to_string(extent.disk) + " to damage"});
  }
}

// Makes item_ the next one to be processed; false = there is none.
bool StoreWorker::next_item() {
  if (item_) return true;
  std::lock_guard lock(mutex_);
  if (queue_.empty()) return false;
  item_ = std::move(queue_.front());
  queue_.pop_front();
  queued_bytes_ -= item_->batch.size();
  return true;
}

bool StoreWorker::is_stopping() const {
  std::lock_guard lock(mutex_);
  return stop_;
}

// While stopping, what found no room is left to the agent, which keeps everything that was not acknowledged.
bool StoreWorker::give_up(Item& item) {
  if (!is_stopping()) return false;
  if (item.hello) {
    item.client->store_refused(RefuseCode::kShuttingDown, "the receiver is stopping");
  } else {
    item.client->store_took(item.batch.size());
  }
  return true;
}

// Under mutex_, at the end of the last turn, which does not wait for what is being compared; stop() does.
void StoreWorker::end() {
  if (digests_ != nullptr) digests_->stop_soon();
  store_.reset();
  ended_ = true;
  ended_changed_.notify_all();
}

// Group commit: for everything that is waiting, but neither too much nor too late.
bool StoreWorker::must_commit() {
  if (uncommitted_bytes_ == 0) return false;
  if (uncommitted_bytes_ >= kStoreCommitBytesMax) return true;
  return clock_.boot_ns() - uncommitted_since_ns_ >= kCommitDelayNsMax;
}

void StoreWorker::open_store() {
  open_error_.reset();
  {
    std::lock_guard lock(mutex_);
    status_.damages.clear();
    status_.damages_total = 0;
  }
  auto opened = Store::open(options_, OpenMode::kReadWrite, [this](const Damage& damage) { report_damage(damage); });
  if (!opened.ok()) {
    if (opened.error().kind() == ErrorKind::kNotFound) return;  // to be created by the first hello
    open_error_ = std::move(opened).error().with_context("open store '" + options_.directory + "'");
    log_error(kMessageStoreFailed, *open_error_, {{"UNDERSTUDY_SERVER", server_name_}});
    refresh_status();
    return;
  }
  if (const StoreIdentity identity = (*opened)->identity(); identity.server_name != server_name_) {
    open_error_ = Error(ErrorKind::kRefused, "store '" + options_.directory + "' belongs to server '" +
                                                 identity.server_name + "', the configuration gives it to server '" +
                                                 server_name_ + "'; name the right directory");
    log_error(kMessageStoreFailed, *open_error_, {{"UNDERSTUDY_SERVER", server_name_}});
    refresh_status();
    return;
  }
  store_ = std::move(opened).value();
  const StreamPosition position = store_->position();
  log_message(store_->read_only() ? LogLevel::kError : LogLevel::kInfo, kMessageStoreOpened,
              "opened store '" + options_.directory + "' of server '" + server_name_ + "' at seq " +
                  std::to_string(position.seq) + ", epoch " + std::to_string(position.epoch) +
                  (store_->read_only() ? ", read-only because it is damaged" : ""),
              {{"UNDERSTUDY_SERVER", server_name_}});
  refresh_status();
  sealed_segments_ = 0;
  post_jobs();
}

// What was sealed since the last time needs an index, and may be merged.
void StoreWorker::post_jobs() {
  const std::size_t sealed = store_->sealed_segments();
  if (jobs_ == nullptr || sealed == sealed_segments_) return;
  sealed_segments_ = sealed;
  jobs_->post(store_);
}

void StoreWorker::report_damage(const Damage& damage) {
  const std::string text = describe(damage);
  if (damage.torn_tail) {
    log_message(LogLevel::kNotice, kMessageStoreTornTail,
                "store '" + options_.directory +
                    "': cut off an unfinished end left by a crash, nothing acknowledged is " + "lost: " + text,
                {{"UNDERSTUDY_SERVER", server_name_}});
    return;
  }
  log_message(LogLevel::kError, kMessageStoreDamaged, "store '" + options_.directory + "': damaged: " + text,
              {{"UNDERSTUDY_SERVER", server_name_}});
  std::lock_guard lock(mutex_);
  ++status_.damages_total;
  if (status_.damages.size() < kStoreDamagesMax) status_.damages.push_back(text);
}

StoreWorker::Progress StoreWorker::process(Item& item) {
  if (item.hello) return attach_now(item.client, *item.hello);
  if (item.question) return compare(item);
  if (item.client == client_ && item.client.get() != rejected_ && store_ != nullptr &&
      append(item.client, item.batch) == Progress::kNoRoom) {
    return Progress::kNoRoom;
  }
  const std::size_t bytes = item.batch.size();
  item.batch = Buffer();
  item.client->store_took(bytes);
  return Progress::kDone;
}

StoreWorker::Progress StoreWorker::attach_now(const std::shared_ptr<StoreClient>& client, const Hello& hello) {
  if (digests_ != nullptr) digests_->forget();
  // The position to go on from is that of durable records.
  if (uncommitted_bytes_ > 0 && commit() == Progress::kNoRoom) return Progress::kNoRoom;
  client_.reset();
  rejected_ = nullptr;
  if (store_ == nullptr) {
    open_store();
    if (store_ == nullptr && !open_error_) {
      if (Status created = create_store(hello); !created.ok()) {
        open_error_ = std::move(created).error();
        log_error(kMessageStoreFailed, *open_error_, {{"UNDERSTUDY_SERVER", server_name_}});
        refresh_status();
      }
    }
  }
  if (const auto reason = reason_to_refuse(hello)) {
    client->store_refused(reason->first, reason->second);
    return Progress::kDone;
  }
  client_ = client;
  StreamPosition position = store_->position();
  if (position.seq == 0) position.epoch = hello.epoch;  // an empty store takes the agent's
  devices_ = whole_disks_under(options_.directory);
  if (!options_.base_directory.empty()) {
    const auto base = whole_disks_under(options_.base_directory);
    devices_.insert(devices_.end(), base.begin(), base.end());
    std::sort(devices_.begin(), devices_.end());
    devices_.erase(std::unique(devices_.begin(), devices_.end()), devices_.end());
  }
  refresh_status();
  client->store_attached(position, devices_);
  return Progress::kDone;
}

Status StoreWorker::create_store(const Hello& hello) {
  FileSystem& file_system = options_.file_system != nullptr ? *options_.file_system : posix_file_system();
  RETURN_IF_ERROR(make_directories(file_system, parent_directory(options_.directory)));
  auto created = Store::create(options_, StoreIdentity{hello.server, server_name_, hello.epoch});
  if (!created.ok()) return std::move(created).error().with_context("create store '" + options_.directory + "'");
  store_ = std::move(created).value();
  log_message(LogLevel::kNotice, kMessageStoreCreated,
              "created store '" + options_.directory + "' for server '" + server_name_ + "' (" +
                  hello.server.to_string() + "), epoch " + std::to_string(hello.epoch),
              {{"UNDERSTUDY_SERVER", server_name_}});
  return ok_status();
}

std::optional<std::pair<RefuseCode, std::string>> StoreWorker::reason_to_refuse(const Hello& hello) const {
  if (store_ == nullptr) return std::pair(RefuseCode::kStoreFailed, open_error_->message());
  const StoreIdentity identity = store_->identity();
  if (identity.server != hello.server) {
    return std::pair(RefuseCode::kWrongServer, "store '" + options_.directory + "' belongs to server '" +
                                                   identity.server_name + "' with id " + identity.server.to_string() +
                                                   ", the agent '" + hello.server_name + "' has id " +
                                                   hello.server.to_string() +
                                                   "; if the server was installed anew, give it a new store directory");
  }
  const StreamPosition position = store_->position();
  if (position.seq != 0 && position.epoch != hello.epoch) {
    return std::pair(RefuseCode::kEpoch, "store '" + options_.directory + "' is in epoch " +
                                             std::to_string(position.epoch) + ", the agent '" + hello.server_name +
                                             "' is in epoch " + std::to_string(hello.epoch) +
                                             (hello.epoch < position.epoch ? ": it was replaced by a failover" : ""));
  }
  if (store_->read_only()) {
    std::lock_guard lock(mutex_);
    std::string why = status_.last_error;
    if (why.empty() && !status_.damages.empty()) why = "damaged: " + status_.damages.front();
    return std::pair(RefuseCode::kStoreReadOnly, "store '" + options_.directory + "' is read-only" +
                                                     (why.empty() ? std::string() : ": " + why) +
                                                     "; repair it, then restart the receiver");
  }
  return std::nullopt;
}

// What is asked about must be durable, so that a snapshot has it; a group commit is due anyway when nothing else waits.
StoreWorker::Progress StoreWorker::compare(Item& item) {
  if (item.client != client_ || store_ == nullptr) return Progress::kDone;
  if (uncommitted_bytes_ > 0 && commit() == Progress::kNoRoom) return Progress::kNoRoom;
  if (item.client != client_ || store_ == nullptr) return Progress::kDone;  // the commit failed
  if (digests_ == nullptr) digests_ = std::make_unique<DigestWorker>(server_name_, digest_executor_, clock_);
  digests_->ask(std::move(*item.question), store_->snapshot(),
                [client = item.client](const DigestAnswer& answer) { client->store_digest_answer(answer); });
  return Progress::kDone;
}

StoreWorker::Progress StoreWorker::append(const std::shared_ptr<StoreClient>& client, const Buffer& batch) {
  const Status status = store_->append(batch.bytes());
  if (!status.ok()) {
    const Error& error = status.error();
    if (error.kind() == ErrorKind::kNoSpace && !store_->read_only()) {
      if (uncommitted_bytes_ > 0) (void)commit();  // what found room before need not wait
      set_full(error);
      return Progress::kNoRoom;
    }
    if (store_->read_only()) {
      store_broke(error);
      return Progress::kDone;
    }
    rejected_ = client.get();
    client->store_failed(ByeCode::kBadData, "batch not accepted: " + error.message());
    return Progress::kDone;
  }
  if (uncommitted_bytes_ == 0) uncommitted_since_ns_ = clock_.boot_ns();
  uncommitted_bytes_ += batch.size();
  std::lock_guard lock(mutex_);
  ++status_.batches_in;
  status_.bytes_in += batch.size();
  return Progress::kDone;
}

StoreWorker::Progress StoreWorker::commit() {
  const std::uint64_t begin_ns = clock_.boot_ns();
  Result<Seq> durable = store_->commit();
  if (!durable.ok()) {
    const Error& error = durable.error();
    if (error.kind() == ErrorKind::kNoSpace && !store_->read_only()) {
      set_full(error);
      return Progress::kNoRoom;
    }
    store_broke(error);
    return Progress::kDone;
  }
  uncommitted_bytes_ = 0;
  if (jobs_ != nullptr) jobs_->committed();
  if (full_) set_room();
  {
    std::lock_guard lock(mutex_);
    ++status_.commits;
    status_.commit_ns_total += clock_.boot_ns() - begin_ns;
    status_.last_commit_wall_ns = clock_.wall_ns();
  }
  refresh_status();
  if (client_) client_->store_committed(*durable);
  post_jobs();
  return Progress::kDone;
}

void StoreWorker::set_full(const Error& error) {
  if (full_) return;
  full_ = true;
  if (jobs_ != nullptr) jobs_->set_room(false);
  const std::string text = "store '" + options_.directory + "' on the receiver has no room (" + error.message() +
                           "): acknowledging stopped, it goes on by itself when there is room";
  log_message(LogLevel::kError, kMessageStoreNoSpace, text + ", retrying in 1 s",
              {{"UNDERSTUDY_SERVER", server_name_}});
  std::shared_ptr<StoreClient> waiting;
  {
    std::lock_guard lock(mutex_);
    status_.state = "full";
    status_.reason = error.message();
    status_.last_error = error.message();
    for (const Item& item : queue_) {
      if (item.hello) waiting = item.client;
    }
  }
  for (const auto& client : {client_, waiting}) {
    if (client) client->store_notice(Notice{true, kNoticeStoreFull, text});
  }
}

void StoreWorker::set_room() {
  full_ = false;
  if (jobs_ != nullptr) jobs_->set_room(true);
  const std::string text = "store '" + options_.directory + "' on the receiver has room again: acknowledging goes on";
  log_message(LogLevel::kNotice, kMessageStoreSpaceAgain, text, {{"UNDERSTUDY_SERVER", server_name_}});
  if (client_) client_->store_notice(Notice{false, kNoticeStoreFull, text});
}

void StoreWorker::store_broke(const Error& error) {
  uncommitted_bytes_ = 0;
  log_error(kMessageStoreReadOnly, Error(error).with_context("store '" + options_.directory + "' is read-only now"),
            {{"UNDERSTUDY_SERVER", server_name_}});
  {
    std::lock_guard lock(mutex_);
    status_.last_error = error.message();
  }
  refresh_status();
  if (client_)
    client_->store_failed(ByeCode::kStoreFailed, "store '" + options_.directory + "' failed: " + error.message());
  client_.reset();
}

void StoreWorker::refresh_status() {
  StreamPosition position;
  std::optional<StoreIdentity> identity;
  std::uint64_t journal_bytes = 0;
  std::uint64_t base_bytes = 0;
  std::string chain_head;
  bool read_only = false;
  if (store_ != nullptr) {
    position = store_->position();
    identity = store_->identity();
    journal_bytes = store_->journal_bytes();
    base_bytes = store_->base_bytes();
    chain_head = to_hex(store_->chain_head());
    read_only = store_->read_only();
  }
  std::lock_guard lock(mutex_);
  status_.position = std::move(position);
  status_.identity = std::move(identity);
  status_.journal_bytes = journal_bytes;
  status_.base_bytes = base_bytes;
  status_.chain_head = std::move(chain_head);
  if (open_error_) {
    status_.state = "failed";
    status_.reason = open_error_->message();
    status_.last_error = open_error_->message();
  } else if (read_only) {
    status_.state = "read-only";
    status_.reason =
        status_.last_error.empty() && !status_.damages.empty() ? status_.damages.front() : status_.last_error;
  } else if (store_ == nullptr) {
    status_.state = "empty";
    status_.reason.clear();
  } else if (!full_) {
    status_.state = "open";
    status_.reason.clear();
  }
}

}  // namespace understudy
