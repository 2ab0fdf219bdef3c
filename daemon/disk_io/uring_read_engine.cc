// SPDX-License-Identifier: Apache-2.0
#include "daemon/disk_io/uring_read_engine.h"

#include <liburing.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "daemon/base/check.h"
#include "daemon/base/unique_fd.h"
#include "daemon/disk_io/read_buffers.h"

namespace understudy {
namespace {

class UringReadEngine final : public ReadEngine {
 public:
  explicit UringReadEngine(ReadBuffers buffers) : buffers_(std::move(buffers)), reads_(buffers_.count()) {}

  ~UringReadEngine() override {
    if (!ring_ready_) return;
    while (in_progress_ > 0) reap(true);  // the kernel must not write into memory that is unmapped
    io_uring_queue_exit(&ring_);
  }

  Status set_up() {
    int result = io_uring_queue_init(buffers_.count(), &ring_, 0);
    if (result < 0) {
      if (result == -EPERM || result == -ENOSYS) {
        return Error(ErrorKind::kUnsupported,
                     "set up io_uring: the kernel has none or it is switched off; try 'sysctl -w "
                     "kernel.io_uring_disabled=0'",
                     -result);
      }
      return Error::from_errno(-result, "set up io_uring");
    }
    ring_ready_ = true;
    std::vector<iovec> vectors(buffers_.count());
    for (std::uint32_t i = 0; i < buffers_.count(); ++i) {
      vectors[i] = {.iov_base = buffers_.at(i).data(), .iov_len = buffers_.bytes()};
    }
    result = io_uring_register_buffers(&ring_, vectors.data(), static_cast<unsigned>(vectors.size()));
    if (result < 0) return Error::from_errno(-result, "register buffers with io_uring");
    event_fd_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!event_fd_.valid()) return Error::from_errno(errno, "create eventfd");
    result = io_uring_register_eventfd(&ring_, event_fd_.get());
    if (result < 0) return Error::from_errno(-result, "register eventfd with io_uring");
    return ok_status();
  }

  std::string_view name() const override { return "io_uring"; }
  std::uint32_t buffer_count() const override { return buffers_.count(); }
  std::span<std::byte> buffer(std::uint32_t index) override { return buffers_.at(index); }
  std::uint32_t in_progress() const override { return in_progress_; }
  int event_fd() const override { return event_fd_.get(); }

  Status submit(int fd, std::uint64_t offset_bytes, std::uint32_t bytes, std::uint32_t index,
                std::uint64_t tag) override {
    CHECK_LT(index, buffers_.count());
    CHECK_GT(bytes, 0u);
    CHECK_LE(bytes, buffers_.bytes());
    Read& read = reads_[index];
    CHECK(!read.busy);
    read = {.busy = true, .fd = fd, .offset_bytes = offset_bytes, .bytes = bytes, .done_bytes = 0, .tag = tag};
    if (Status status = start(index); !status.ok()) {
      read.busy = false;
      return status;
    }
    ++in_progress_;
    return ok_status();
  }

  std::optional<ReadCompletion> reap(bool wait) override {
    CHECK(!wait || in_progress_ > 0);
    for (;;) {
      io_uring_cqe* entry = nullptr;
      if (io_uring_peek_cqe(&ring_, &entry) != 0) {
        // Clear the event before looking again, so that a completion in between makes it readable once more.
        eventfd_t value = 0;
        ::eventfd_read(event_fd_.get(), &value);
        if (io_uring_peek_cqe(&ring_, &entry) != 0) {
          if (!wait) return std::nullopt;
          const int result = io_uring_wait_cqe(&ring_, &entry);
          if (result == -EINTR) continue;
          CHECK_EQ(result, 0);
        }
      }
      const auto index = static_cast<std::uint32_t>(entry->user_data);
      const int result = entry->res;
      io_uring_cqe_seen(&ring_, entry);
      if (auto completion = finished(index, result)) return completion;
    }
  }

 private:
  struct Read {
    bool busy = false;
    int fd = -1;
    std::uint64_t offset_bytes = 0;
    std::uint32_t bytes = 0;
    std::uint32_t done_bytes = 0;
    std::uint64_t tag = 0;
  };

  // Asks the kernel for what is missing of the read into `index`.
  Status start(std::uint32_t index) {
    const Read& read = reads_[index];
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    CHECK(entry != nullptr);  // as many entries as buffers, and each submission is handed over at once
    io_uring_prep_read_fixed(entry, read.fd, buffers_.at(index).data() + read.done_bytes, read.bytes - read.done_bytes,
                             read.offset_bytes + read.done_bytes, static_cast<int>(index));
    entry->user_data = index;
    for (;;) {
      const int result = io_uring_submit(&ring_);
      if (result >= 0) return ok_status();
      if (result == -EINTR || result == -EAGAIN || result == -EBUSY) continue;
      return Error::from_errno(-result, "submit a read to io_uring");
    }
  }

  // Takes one kernel completion; a read that came back short is continued until the device says it ended.
  std::optional<ReadCompletion> finished(std::uint32_t index, int result) {
    CHECK_LT(index, buffers_.count());
    Read& read = reads_[index];
    CHECK(read.busy);
    int error_number = 0;
    bool more = false;
    if (result > 0) {
      read.done_bytes += static_cast<std::uint32_t>(result);
      more = read.done_bytes < read.bytes;
    } else if (result == -EINTR || result == -EAGAIN) {
      more = true;
    } else if (result < 0) {
      error_number = -result;
    }
    if (more) {
      Status status = start(index);
      if (status.ok()) return std::nullopt;
      error_number = status.error().error_number();
    }
    read.busy = false;
    --in_progress_;
    return ReadCompletion{
        .buffer = index, .tag = read.tag, .error_number = error_number, .bytes_read = read.done_bytes};
  }

  ReadBuffers buffers_;
  std::vector<Read> reads_;
  std::uint32_t in_progress_ = 0;
  io_uring ring_{};
  bool ring_ready_ = false;
  UniqueFd event_fd_;
};

}  // namespace

Result<std::unique_ptr<ReadEngine>> make_uring_read_engine(std::uint32_t buffer_count, std::uint32_t buffer_bytes) {
  ASSIGN_OR_RETURN(ReadBuffers buffers, ReadBuffers::make(buffer_count, buffer_bytes));
  auto engine = std::make_unique<UringReadEngine>(std::move(buffers));
  RETURN_IF_ERROR(engine->set_up());
  return std::unique_ptr<ReadEngine>(std::move(engine));
}

}  // namespace understudy
