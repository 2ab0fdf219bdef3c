// SPDX-License-Identifier: Apache-2.0
#include "daemon/disk_io/thread_read_engine.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "daemon/base/check.h"
#include "daemon/base/unique_fd.h"
#include "daemon/disk_io/read_buffers.h"

namespace understudy {
namespace {

// Enough to keep a disk busy with 1 MiB reads; more only adds switching.
constexpr std::uint32_t kThreadsMax = 4;

class ThreadReadEngine final : public ReadEngine {
 public:
  explicit ThreadReadEngine(ReadBuffers buffers) : buffers_(std::move(buffers)), busy_(buffers_.count(), false) {}

  ~ThreadReadEngine() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_ready_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  Status set_up() {
    event_fd_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!event_fd_.valid()) return Error::from_errno(errno, "create eventfd");
    try {
      for (std::uint32_t i = 0; i < std::min(kThreadsMax, buffers_.count()); ++i) {
        threads_.emplace_back([this] { run(); });
      }
    } catch (const std::system_error& error) {
      return Error::from_errno(error.code().value(), "start a reading thread");
    }
    return ok_status();
  }

  std::string_view name() const override { return "threads"; }
  std::uint32_t buffer_count() const override { return buffers_.count(); }
  std::span<std::byte> buffer(std::uint32_t index) override { return buffers_.at(index); }
  std::uint32_t in_progress() const override { return in_progress_; }
  int event_fd() const override { return event_fd_.get(); }

  Status submit(int fd, std::uint64_t offset_bytes, std::uint32_t bytes, std::uint32_t index,
                std::uint64_t tag) override {
    CHECK_LT(index, buffers_.count());
    CHECK_GT(bytes, 0u);
    CHECK_LE(bytes, buffers_.bytes());
    CHECK(!busy_[index]);
    busy_[index] = true;
    ++in_progress_;
    {
      std::lock_guard lock(mutex_);
      work_.push_back({.fd = fd, .offset_bytes = offset_bytes, .bytes = bytes, .buffer = index, .tag = tag});
    }
    work_ready_.notify_one();
    return ok_status();
  }

  std::optional<ReadCompletion> reap(bool wait) override {
    CHECK(!wait || in_progress_ > 0);
    std::unique_lock lock(mutex_);
    if (done_.empty()) {
      eventfd_t value = 0;
      ::eventfd_read(event_fd_.get(), &value);  // under the lock: a completion after this makes it readable again
      if (!wait) return std::nullopt;
      done_ready_.wait(lock, [this] { return !done_.empty(); });
    }
    const ReadCompletion completion = done_.front();
    done_.pop_front();
    lock.unlock();
    busy_[completion.buffer] = false;
    --in_progress_;
    return completion;
  }

 private:
  struct Work {
    int fd = -1;
    std::uint64_t offset_bytes = 0;
    std::uint32_t bytes = 0;
    std::uint32_t buffer = 0;
    std::uint64_t tag = 0;
  };

  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      work_ready_.wait(lock, [this] { return stopping_ || !work_.empty(); });
      if (stopping_) return;
      const Work work = work_.front();
      work_.pop_front();
      lock.unlock();
      const ReadCompletion completion = read(work);
      lock.lock();
      done_.push_back(completion);
      ::eventfd_write(event_fd_.get(), 1);
      done_ready_.notify_one();
    }
  }

  ReadCompletion read(const Work& work) const {
    ReadCompletion completion{.buffer = work.buffer, .tag = work.tag};
    std::byte* target = buffers_.at(work.buffer).data();
    while (completion.bytes_read < work.bytes) {
      const ssize_t count = ::pread(work.fd, target + completion.bytes_read, work.bytes - completion.bytes_read,
                                    static_cast<off_t>(work.offset_bytes + completion.bytes_read));
      if (count == 0) break;
      if (count > 0) {
        completion.bytes_read += static_cast<std::uint32_t>(count);
      } else if (errno != EINTR) {
        completion.error_number = errno;
        break;
      }
    }
    return completion;
  }

  ReadBuffers buffers_;
  std::vector<bool> busy_;            // user's thread only
  std::uint32_t in_progress_ = 0;     // user's thread only
  UniqueFd event_fd_;
  std::mutex mutex_;                  // guards work_, done_, stopping_
  std::condition_variable work_ready_;
  std::condition_variable done_ready_;
  std::deque<Work> work_;
  std::deque<ReadCompletion> done_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

Result<std::unique_ptr<ReadEngine>> make_thread_read_engine(std::uint32_t buffer_count, std::uint32_t buffer_bytes) {
  ASSIGN_OR_RETURN(ReadBuffers buffers, ReadBuffers::make(buffer_count, buffer_bytes));
  auto engine = std::make_unique<ThreadReadEngine>(std::move(buffers));
  RETURN_IF_ERROR(engine->set_up());
  return std::unique_ptr<ReadEngine>(std::move(engine));
}

}  // namespace understudy
