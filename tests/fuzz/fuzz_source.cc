// SPDX-License-Identifier: Apache-2.0
// File systems of any content: a list of free extents within the volume, ascending, or an error. The input is spread
// over the places where they look first, because images are large and a fuzzer's inputs small: 16 bits of offset (in
// units of 512 bytes), 16 bits of length, the bytes; again and again.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "daemon/source/ext_free_space.h"
#include "daemon/source/xfs_free_space.h"

namespace understudy {
namespace {

// One image for all inputs: what an input wrote is made zeros again, for clearing it all took most of the time.
std::vector<std::byte>& zero_image() {
  static std::vector<std::byte> bytes(16u << 20);
  return bytes;
}

class SparseVolume final : public VolumeReader {
 public:
  explicit SparseVolume(std::span<const std::uint8_t> input) : bytes_(zero_image()) {
    while (input.size() > 4) {
      const std::size_t at = static_cast<std::size_t>(input[0] | input[1] << 8) * 512 % bytes_.size();
      const std::size_t wanted = static_cast<std::size_t>(input[2] | input[3] << 8);
      input = input.subspan(4);
      const std::size_t length = std::min({wanted, input.size(), bytes_.size() - at});
      std::memcpy(bytes_.data() + at, input.data(), length);
      written_.emplace_back(at, length);
      input = input.subspan(length);
    }
  }
  ~SparseVolume() override {
    for (const auto& [at, length] : written_) std::memset(bytes_.data() + at, 0, length);
  }
  SparseVolume(const SparseVolume&) = delete;
  SparseVolume& operator=(const SparseVolume&) = delete;
  std::uint64_t size_bytes() const override { return bytes_.size(); }
  Status read(std::uint64_t offset_bytes, std::span<std::byte> out) override {
    if (offset_bytes > bytes_.size() || out.size() > bytes_.size() - offset_bytes) {
      return Error(ErrorKind::kInvalidArgument, "behind the end");
    }
    std::memcpy(out.data(), bytes_.data() + offset_bytes, out.size());
    return ok_status();
  }

 private:
  std::vector<std::byte>& bytes_;
  std::vector<std::pair<std::size_t, std::size_t>> written_;
};

void check_list(const Result<ExtentList>& list, std::uint64_t size_bytes) {
  if (!list.ok()) return;
  std::uint64_t behind = 0;
  for (const Extent& extent : *list) {
    CHECK_GT(extent.length_bytes, 0u);
    CHECK_LE(behind, extent.offset_bytes);
    CHECK_LE(extent.length_bytes, size_bytes);
    CHECK_LE(extent.offset_bytes, size_bytes - extent.length_bytes);
    behind = extent.end_bytes();
  }
}

}  // namespace
}  // namespace understudy

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace understudy;
  SparseVolume volume({data, size});
  check_list(ext_free_space(volume, 1), volume.size_bytes());
  check_list(xfs_free_space(volume, 1), volume.size_bytes());
  return 0;
}
