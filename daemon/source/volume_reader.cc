// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/volume_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace understudy {
namespace {

constexpr std::uint64_t kWindowBytes = 1u << 20;
constexpr std::uint64_t kAlignmentBytes = 4096;  // at least the logical block of every disk

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};

class FileVolume final : public VolumeReader {
 public:
  FileVolume(UniqueFd fd, std::string path, std::uint64_t begin_bytes, std::uint64_t size_bytes,
             std::unique_ptr<std::byte, Free> window, const std::atomic<bool>* cancel)
      : fd_(std::move(fd)),
        path_(std::move(path)),
        begin_bytes_(begin_bytes),
        size_bytes_(size_bytes),
        window_(std::move(window)),
        cancel_(cancel) {}

  std::uint64_t size_bytes() const override { return size_bytes_; }

  Status read(std::uint64_t offset_bytes, std::span<std::byte> out) override {
    if (offset_bytes > size_bytes_ || out.size() > size_bytes_ - offset_bytes) {
      return Error(ErrorKind::kInvalidArgument, "read " + std::to_string(out.size()) + " bytes at " +
                                                    std::to_string(offset_bytes) + " of a volume of " +
                                                    std::to_string(size_bytes_) + " bytes");
    }
    std::uint64_t at = begin_bytes_ + offset_bytes;
    while (!out.empty()) {
      if (at < window_begin_ || at >= window_begin_ + window_filled_) RETURN_IF_ERROR(fill(at));
      const std::uint64_t skip = at - window_begin_;
      const std::size_t bytes = static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), window_filled_ - skip));
      std::memcpy(out.data(), window_.get() + skip, bytes);
      out = out.subspan(bytes);
      at += bytes;
    }
    return ok_status();
  }

  void forget() override { window_filled_ = 0; }

 private:
  // Small at first: file systems scatter their bitmaps, and most of a large window would be read for nothing.
  Status fill(std::uint64_t at) {
    const std::uint64_t begin = at / kAlignmentBytes * kAlignmentBytes;
    const bool goes_on = begin == window_begin_ + window_filled_;
    const std::uint64_t wanted = goes_on ? kWindowBytes : kWindowBytes / 16;
    window_filled_ = 0;
    window_begin_ = begin;
    if (cancel_ != nullptr && cancel_->load(std::memory_order_relaxed)) {
      return Error(ErrorKind::kClosed, "read '" + path_ + "': stopping");
    }
    while (true) {
      const ssize_t got = ::pread(fd_.get(), window_.get(), wanted, static_cast<off_t>(begin));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return Error::from_errno(errno, "read '" + path_ + "' at offset " + std::to_string(begin));
      if (static_cast<std::uint64_t>(got) <= at - begin) {
        return Error(ErrorKind::kIo, "read '" + path_ + "' at offset " + std::to_string(at) + ": it ends before");
      }
      window_filled_ = static_cast<std::uint64_t>(got);
      return ok_status();
    }
  }

  UniqueFd fd_;
  std::string path_;
  std::uint64_t begin_bytes_;
  std::uint64_t size_bytes_;
  std::unique_ptr<std::byte, Free> window_;
  const std::atomic<bool>* cancel_;
  std::uint64_t window_begin_ = 0;
  std::uint64_t window_filled_ = 0;
};

}  // namespace

Result<std::unique_ptr<VolumeReader>> open_volume(const std::string& path, std::uint64_t begin_bytes,
                                                  std::uint64_t size_bytes, const std::atomic<bool>* cancel) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT));
  if (!fd.valid() && errno == EINVAL) fd.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, "open '" + path + "'");
  std::unique_ptr<std::byte, Free> window(static_cast<std::byte*>(std::aligned_alloc(kAlignmentBytes, kWindowBytes)));
  if (!window) return Error(ErrorKind::kNoSpace, "open '" + path + "': no memory for a buffer");
  return std::unique_ptr<VolumeReader>(
      std::make_unique<FileVolume>(std::move(fd), path, begin_bytes, size_bytes, std::move(window), cancel));
}

}  // namespace understudy
