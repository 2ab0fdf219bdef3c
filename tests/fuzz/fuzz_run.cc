// SPDX-License-Identifier: Apache-2.0
// A run of any content in a store whose MANIFEST names it, followed by a segment that fits: opened, scrubbed, read and
// merged. Once as it is, once with the checksums of its header and its index made right again.
#include <cstdint>
#include <cstring>
#include <vector>

#include "daemon/base/checksum.h"
#include "daemon/store/journal.h"
#include "daemon/store/manifest.h"
#include "daemon/store/run_format.h"
#include "daemon/store/run_merge.h"
#include "daemon/store/segment_index_format.h"
#include "daemon/store/store_paths.h"
#include "daemon/view/view.h"
#include "tests/unit/store/memory_file_system.h"

namespace understudy {
namespace {

void put(MemoryFileSystem& files, const std::string& path, std::span<const std::byte> content) {
  const std::unique_ptr<File> file = files.open(path, FileMode::kCreate).value();
  CHECK(file->write(0, content).ok());
}

template <typename Header>
void seal(std::vector<std::byte>& data, std::size_t at, const Header& header) {
  Header sealed = header;
  sealed.header_checksum = xxh3_64(std::as_bytes(std::span(&sealed, 1)).first(offsetof(Header, header_checksum)));
  std::memcpy(data.data() + at, &sealed, sizeof(sealed));
}

void repair(std::vector<std::byte>& data) {
  RunHeader header;
  if (data.size() < sizeof(header)) return;
  std::memcpy(&header, data.data(), sizeof(header));
  header.magic = kRunMagic;
  header.version = kRunVersion;
  header.header_bytes = static_cast<std::uint16_t>(sizeof(header));
  header.incompatible_flags = 0;
  header.file_bytes = data.size();
  if (header.state_bytes <= data.size() - sizeof(header))
    header.state_checksum = xxh3_64(std::span(data).subspan(sizeof(header), header.state_bytes));
  seal(data, 0, header);
  const std::uint64_t at = header.index_offset_bytes;
  IndexHeader index;
  if (at > data.size() || data.size() - at < sizeof(index)) return;
  std::memcpy(&index, data.data() + at, sizeof(index));
  for (IndexSection* section : {&index.directory, &index.fences, &index.events, &index.places})
    if (section->offset_bytes <= data.size() - at && section->length_bytes <= data.size() - at - section->offset_bytes)
      section->checksum = xxh3_64(std::span(data).subspan(at + section->offset_bytes, section->length_bytes));
  seal(data, at, index);
}

void use(MemoryFileSystem& files, Store& store) {
  (void)store.scrub({}, {}).ok();
  const std::shared_ptr<const JournalSnapshot> snapshot = store.snapshot();
  if (snapshot->segments().size() > 1) {
    const auto merge = RunMerge::begin(files, "/s", snapshot, 0, 1, {});
    for (int i = 0; merge.ok() && i < 10'000; ++i) {
      const Result<bool> done = (*merge)->step();
      if (!done.ok() || *done) break;
    }
  }
  const Result<Timeline> timeline = read_timeline(store);
  if (!timeline.ok() || timeline->last_seq == 0) return;
  const Result<std::unique_ptr<PointInTimeView>> view =
      PointInTimeView::open(store, Point{timeline->last_seq, 0, false});
  if (!view.ok()) return;
  std::vector<std::byte> out(16384);
  for (const DiskGeometry& disk : (*view)->disks()) {
    out.resize(std::min<std::uint64_t>(disk.size_bytes, out.size()));
    (void)(*view)->read(disk.disk, 0, out).ok();
    (void)(*view)->extent_at(disk.disk, disk.size_bytes / 2);
  }
}

void open_with(std::span<const std::byte> run) {
  RunHeader header{};
  if (!run.empty()) std::memcpy(&header, run.data(), std::min(run.size(), sizeof(header)));
  if (header.first_seq == 0 || header.last_seq < header.first_seq || header.last_seq == ~0ull) return;
  MemoryFileSystem files;
  for (const char* directory : {"/s", "/s/journal", "/s/runs", "/s/base", "/s/pins"})
    CHECK(files.make_directory(directory).ok());
  Manifest manifest;
  std::memcpy(manifest.store.bytes.data(), header.store, 16);
  std::memcpy(manifest.identity.server.bytes.data(), header.server, 16);
  manifest.identity.server_name = "fuzz";
  manifest.segment_bytes_max = 1 << 20;
  manifest.incompatible_flags = kManifestHasRuns;
  Sha256 digest;
  digest.update(run);
  manifest.runs.push_back({header.first_seq, header.last_seq, run.size(), digest.digest()});
  const std::string text = encode_manifest(manifest);
  put(files, manifest_path("/s"), std::as_bytes(std::span(text)));
  put(files, "/s/runs/" + run_name(header.first_seq, header.last_seq), run);
  SegmentInfo next;
  next.server = manifest.identity.server;
  next.store = manifest.store;
  next.number = header.last_number + 1;
  next.first_seq = header.last_seq + 1;
  next.previous_bytes = header.last_bytes;
  std::memcpy(next.previous_digest.data(), header.last_digest, sizeof(header.last_digest));
  next.state.position.seq = header.last_seq;
  BatchInfo first;
  first.first_seq = next.first_seq;
  put(files, "/s/journal/" + segment_name(next.first_seq), encode_segment_header(next, first));
  StoreOptions options;
  options.directory = "/s";
  options.file_system = &files;
  const Result<std::unique_ptr<Store>> store = Store::open(options, OpenMode::kReadOnly, {});
  if (store.ok()) use(files, **store);
}

}  // namespace
}  // namespace understudy

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace understudy;
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  std::vector<std::byte> copy(bytes, bytes + size);
  open_with(copy);
  repair(copy);
  open_with(copy);
  return 0;
}
