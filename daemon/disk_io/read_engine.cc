// SPDX-License-Identifier: Apache-2.0
#include "daemon/disk_io/read_engine.h"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "daemon/base/unique_fd.h"
#include "daemon/disk_io/thread_read_engine.h"
#include "daemon/disk_io/uring_read_engine.h"

namespace understudy {
namespace {

constexpr std::uint32_t kProbeBytes = 4096;

// Proves an engine by one read whose bytes are known. A kernel may offer io_uring and still fail the operation
// (seccomp filters, old kernels without fixed reads), so nothing less counts.
Status prove(ReadEngine& engine) {
  UniqueFd file(::memfd_create("understudy-probe", MFD_CLOEXEC));
  if (!file.valid()) return Error::from_errno(errno, "create a file for the probe read");
  std::array<std::byte, kProbeBytes> expected;
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = static_cast<std::byte>(i * 131 + (i >> 8));
  if (::pwrite(file.get(), expected.data(), expected.size(), 0) != static_cast<ssize_t>(expected.size())) {
    return Error::from_errno(errno, "write a file for the probe read");
  }
  RETURN_IF_ERROR(engine.submit(file.get(), 0, kProbeBytes, 0, 1));
  const auto completion = engine.reap(true);
  if (completion->error_number != 0) return Error::from_errno(completion->error_number, "probe read");
  if (completion->bytes_read != kProbeBytes ||
      std::memcmp(engine.buffer(0).data(), expected.data(), kProbeBytes) != 0) {
    return Error(ErrorKind::kUnsupported, "probe read: got " + std::to_string(completion->bytes_read) +
                                              " bytes that are not what was written");
  }
  return ok_status();
}

Result<std::unique_ptr<ReadEngine>> make_proved(Result<std::unique_ptr<ReadEngine>> engine, std::string_view name) {
  const std::string context = "read engine '" + std::string(name) + "'";
  if (!engine.ok()) return std::move(engine).error().with_context(context);
  if (Status status = prove(**engine); !status.ok()) return std::move(status).error().with_context(context);
  return engine;
}

}  // namespace

Result<std::unique_ptr<ReadEngine>> make_read_engine(ReadEngineChoice choice, std::uint32_t buffer_count,
                                                     std::uint32_t buffer_bytes) {
  if (choice != ReadEngineChoice::kThreads) {
    auto engine = make_proved(make_uring_read_engine(buffer_count, buffer_bytes), "io_uring");
    if (engine.ok() || choice == ReadEngineChoice::kUring) return engine;
  }
  return make_proved(make_thread_read_engine(buffer_count, buffer_bytes), "threads");
}

}  // namespace understudy
