// SPDX-License-Identifier: Apache-2.0
// A journal segment of any content under a store that is opened, scrubbed and read.
#include <cstdint>
#include <vector>

#include "daemon/store/manifest.h"
#include "daemon/store/store_paths.h"
#include "daemon/view/view.h"
#include "tests/fuzz/repair.h"
#include "tests/unit/store/memory_file_system.h"

namespace understudy {
namespace {

void put(MemoryFileSystem& files, const std::string& path, std::span<const std::byte> content) {
  const std::unique_ptr<File> file = files.open(path, FileMode::kCreate).value();
  CHECK(file->write(0, content).ok());
}

void open_with(std::span<const std::byte> segment, OpenMode mode) {
  // The store that the segment says it belongs to, so that it is not refused at the first look.
  SegmentHeader header{};
  if (!segment.empty()) std::memcpy(&header, segment.data(), std::min(segment.size(), sizeof(header)));
  MemoryFileSystem files;
  for (const char* directory : {"/s", "/s/journal", "/s/base", "/s/pins"}) CHECK(files.make_directory(directory).ok());
  Manifest manifest;
  std::memcpy(manifest.store.bytes.data(), header.store, 16);
  std::memcpy(manifest.identity.server.bytes.data(), header.server, 16);
  manifest.identity.server_name = "fuzz";
  manifest.segment_bytes_max = 1 << 20;
  const std::string text = encode_manifest(manifest);
  put(files, manifest_path("/s"), std::as_bytes(std::span(text)));
  put(files, "/s/journal/" + segment_name(header.first_seq), segment);
  StoreOptions options;
  options.directory = "/s";
  options.file_system = &files;
  const Result<std::unique_ptr<Store>> store = Store::open(options, mode, {});
  if (!store.ok()) return;
  (void)(*store)->scrub({}, {}).ok();
  const Result<Timeline> timeline = read_timeline(**store);
  if (!timeline.ok()) return;
  const Result<Point> point = resolve_point(*timeline, "latest");
  if (!point.ok()) return;
  const Result<std::unique_ptr<PointInTimeView>> view = PointInTimeView::open(**store, *point);
  if (!view.ok()) return;
  std::vector<std::byte> out(4096);
  for (const DiskGeometry& disk : (*view)->disks()) {
    out.resize(std::min<std::uint64_t>(disk.size_bytes, out.size()));
    (void)(*view)->read(disk.disk, 0, out).ok();
    (void)(*view)->extent_at(disk.disk, disk.size_bytes / 2);
  }
}

}  // namespace
}  // namespace understudy

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace understudy;
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  std::vector<std::byte> copy(bytes, bytes + size);
  open_with(copy, OpenMode::kReadWrite);
  repair_segment(copy);
  open_with(copy, OpenMode::kReadOnly);
  return 0;
}
