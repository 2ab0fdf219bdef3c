// SPDX-License-Identifier: Apache-2.0
// The one task that writes one store: takes received batches in order, appends as many as are waiting, commits once
// for all of them, and only then has them acknowledged (I5).
//
//   receive (network threads) -> queue -> [turn: append, append, ... -> commit -> ack]
//
// It has no thread and no clock of its own: turns are run by a StoreExecutor, so the simulator runs this very code. A
// turn ends with its commit; what has come meanwhile waits until other stores had theirs.
//
// A store without room stops acknowledging, says so, and tries again every second: nothing is lost, the agent keeps
// what was not acknowledged. A store that failed refuses everybody, with the reason, until the receiver is started
// again.
//
// Threads: all functions may be called from any thread and do not wait for the disk, except stop(). Clients are called
// from turns.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/receiver/buffer_pool.h"
#include "daemon/receiver/digest_worker.h"
#include "daemon/receiver/store_executor.h"
#include "daemon/receiver/store_jobs.h"
#include "daemon/store/store.h"
#include "daemon/view/damage_reach.h"
#include "daemon/wire/frame_codec.h"

namespace understudy {

// A session as its store sees it. Called from the store's turns; must return at once.
class StoreClient {
 public:
  virtual ~StoreClient() = default;
  // The store is this client's now; its stream goes on behind `position`.
  virtual void store_attached(const StreamPosition& position, const std::vector<std::uint64_t>& devices) = 0;
  virtual void store_refused(RefuseCode code, const std::string& text) = 0;
  virtual void store_committed(Seq seq) = 0;
  virtual void store_notice(const Notice& notice) = 0;
  // `bytes` of what was submitted are not in the queue any more.
  virtual void store_took(std::size_t bytes) = 0;
  // What was submitted cannot be accepted, or the store has failed: the session is to be closed.
  virtual void store_failed(ByeCode code, const std::string& text) = 0;
  // An answer to ask_digest(); called from the digest worker's turns.
  virtual void store_digest_answer(const DigestAnswer& answer) { (void)answer; }
};

struct StoreStatus {
  std::string server_name;
  std::string directory;
  std::string state;   // "empty" (no store yet), "open", "full", "read-only", "failed"
  std::string reason;  // why it is full, read-only or failed
  std::optional<StoreIdentity> identity;
  StreamPosition position;  // durable
  std::uint64_t journal_bytes = 0;
  std::uint64_t base_bytes = 0;
  std::string chain_head;        // hex
  std::uint64_t batches_in = 0;  // since the receiver started
  std::uint64_t bytes_in = 0;    // encoded, as received
  std::uint64_t commits = 0;
  std::uint64_t commit_ns_total = 0;
  std::uint64_t queued_bytes = 0;
  std::uint64_t last_commit_wall_ns = 0;
  std::vector<std::string> damages;
  std::uint64_t damages_total = 0;
  std::string last_error;
  StoreJobs::Figures jobs;
};

class StoreWorker final : public StoreTask {
 public:
  // Asks for its first turn, which opens the store if there is one. What digest scans ask is read and hashed in turns
  // of `digest_executor`, so that appends do not wait for it. Background work (store_jobs.h) runs on `jobs`; null =
  // there is none. Executors and clock must outlive it.
  StoreWorker(std::string server_name, StoreOptions options, StoreExecutor& executor, StoreExecutor& digest_executor,
              const Clock& clock = system_clock(), StoreExecutor* jobs = nullptr, const MergeSettings& merge = {});
  // stop().
  ~StoreWorker() override;
  StoreWorker(const StoreWorker&) = delete;
  StoreWorker& operator=(const StoreWorker&) = delete;

  const std::string& server_name() const { return server_name_; }

  // Makes `client` the only one whose batches are taken, after everything submitted so far was. Creates the store when
  // there is none. The answer is store_attached() or store_refused().
  void attach(std::shared_ptr<StoreClient> client, const Hello& hello);
  // Batches of anybody but the attached client are dropped.
  void submit(std::shared_ptr<StoreClient> client, Buffer batch);
  // Compares with the content behind everything submitted so far. Answered by store_digest_answer(), unless the client
  // is not the attached one.
  void ask_digest(std::shared_ptr<StoreClient> client, DigestQuestion question);
  // Places whose bytes the store has lost: the attached client, or the next one, is asked to compare them.
  void compare_with_source(std::vector<DamagedExtent> extents);
  // The client is gone. What it submitted is still taken: it may be all that is left of the server.
  void detach(const StoreClient* client);

  StoreStatus status() const;
  void set_merge(const MergeSettings& settings);

  // Takes what is queued, commits, closes the store; a store without room is given up on after one more try.
  void request_stop();
  // The same, and waits for it.
  void stop();
  // A requested stop is over.
  bool ended() const;
  // Drops everything as it is, without a word to the store's files: for a simulated death of the process. Not from a
  // turn.
  void abandon();

  std::optional<std::uint64_t> turn() override;

 private:
  // Of one item, or of a commit.
  enum class Progress : std::uint8_t { kDone, kNoRoom };
  struct Item {
    std::shared_ptr<StoreClient> client;
    std::optional<Hello> hello;  // attach; else a batch
    Buffer batch;
    std::optional<DigestQuestion> question;  // instead of a batch
  };

  bool next_item();
  bool give_up(Item& item);
  bool is_stopping() const;
  void end();
  void open_store();
  Progress process(Item& item);
  Progress attach_now(const std::shared_ptr<StoreClient>& client, const Hello& hello);
  Status create_store(const Hello& hello);
  // Why `hello` may not have the store.
  std::optional<std::pair<RefuseCode, std::string>> reason_to_refuse(const Hello& hello) const;
  Progress compare(Item& item);
  Progress append(const std::shared_ptr<StoreClient>& client, const Buffer& batch);
  bool must_commit();
  Progress commit();
  void set_full(const Error& error);
  void set_room();
  void store_broke(const Error& error);
  void report_damage(const Damage& damage);
  void refresh_status();
  void post_jobs();
  void tell_lost();

  const std::string server_name_;
  const StoreOptions options_;
  StoreExecutor& executor_;
  StoreExecutor& digest_executor_;
  const Clock& clock_;
  std::unique_ptr<StoreJobs> jobs_;  // null = none

  mutable std::mutex mutex_;
  std::condition_variable ended_changed_;
  std::deque<Item> queue_;
  std::uint64_t queued_bytes_ = 0;
  std::vector<DamagedExtent> lost_;        // not told to a client yet
  bool stop_ = false;
  bool ended_ = false;
  StoreStatus status_;

  // Of turns only.
  bool opened_ = false;
  std::optional<Item> item_;               // under way; waits here while there is no room for it
  std::shared_ptr<Store> store_;  // a job may hold it for the time of a turn
  std::optional<Error> open_error_;
  std::shared_ptr<StoreClient> client_;    // attached; null = nobody
  const StoreClient* rejected_ = nullptr;  // its batches are dropped: one of them was wrong
  std::vector<std::uint64_t> devices_;
  bool full_ = false;
  std::size_t sealed_segments_ = 0;        // as of the last post_jobs()
  std::size_t uncommitted_bytes_ = 0;
  std::uint64_t uncommitted_since_ns_ = 0;

  std::unique_ptr<DigestWorker> digests_;  // with the first question
};

}  // namespace understudy
