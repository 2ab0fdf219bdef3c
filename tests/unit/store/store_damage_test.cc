// SPDX-License-Identifier: Apache-2.0
// Damaged and foreign bytes: found wherever they are, named, never cut away when they were durable.
#include <algorithm>
#include <string>

#include "daemon/base/checksum.h"
#include "daemon/record/batch_format.h"
#include "daemon/store/extent_set.h"
#include "daemon/store/journal.h"
#include "daemon/store/manifest.h"
#include "daemon/store/segment_format.h"
#include "daemon/store/store.h"
#include "tests/unit/store/memory_file_system.h"
#include "tests/unit/store/stream_maker.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

StoreOptions options_on(MemoryFileSystem& files) {
  StoreOptions options;
  options.directory = "/store";
  options.segment_bytes_max = 64 << 10;
  options.file_system = &files;
  return options;
}

// A closed store with some segments and base images.
std::unique_ptr<MemoryFileSystem> make_store(std::uint64_t seed, int batches, StreamMaker* used = nullptr) {
  auto files = std::make_unique<MemoryFileSystem>();
  StreamMaker maker(seed);
  {
    Result<std::unique_ptr<Store>> store = Store::create(options_on(*files), {maker.server(), "web-1", 1});
    REQUIRE(store.ok());
    for (int i = 0; i < batches; ++i) {
      REQUIRE((*store)->append(maker.next_batch()).ok());
      REQUIRE((*store)->commit().ok());
    }
  }
  if (used != nullptr) *used = maker;
  return files;
}

std::vector<std::string> segments_of(const MemoryFileSystem& files) {
  std::vector<std::string> found;
  for (const std::string& path : files.paths())
    if (path.ends_with(".wal")) found.push_back(path);
  return found;
}

// Where base images have bytes that some record vouches for.
std::map<std::string, ExtentSet> proven_base(MemoryFileSystem& files) {
  std::map<std::string, ExtentSet> proven;
  std::unique_ptr<Store> store = Store::open(options_on(files), OpenMode::kReadOnly, {}).value();
  JournalReader reader(store->snapshot());
  while (true) {
    const auto entry = reader.next().value();
    if (!entry) return proven;
    for (const Record& record : entry->batch.records())
      if ((record.flags & kRecordInBase) != 0)
        proven["/store/base/" + std::to_string(record.disk) + ".img"].add(record.offset_bytes, record.length_bytes);
  }
}

// All complaints of opening and scrubbing, "" when there are none.
std::string complaints(MemoryFileSystem& files) {
  std::string text;
  const auto report = [&](const Damage& damage) {
    CHECK(!damage.torn_tail);
    text += damage.object + ": " + damage.reason + "\n";
  };
  Result<std::unique_ptr<Store>> store = Store::open(options_on(files), OpenMode::kReadOnly, report);
  if (!store.ok()) return store.error().message();
  const Status status = (*store)->scrub(report, {});
  CHECK(status.ok() == text.empty());
  return text;
}

TEST_CASE("one flipped bit anywhere is found and its file is named") {
  const std::unique_ptr<MemoryFileSystem> intact = make_store(3, 40);
  REQUIRE(complaints(*intact).empty());
  REQUIRE(segments_of(*intact).size() >= 3);
  std::map<std::string, ExtentSet> proven = proven_base(*intact);
  REQUIRE(!proven.empty());
  std::mt19937_64 random(3);
  std::uint64_t flips = 0;
  for (const std::string& path : intact->paths()) {
    const std::size_t size = intact->content(path).size();
    const std::size_t step = path.ends_with("MANIFEST") ? 1 : path.ends_with(".wal") ? 211 : 997;
    for (std::size_t at = 0; at < size; at += at < 400 ? std::min<std::size_t>(step, 7) : step) {
      if (path.ends_with(".img") && !proven[path].overlaps(at, 1)) continue;
      CAPTURE(path);
      CAPTURE(at);
      std::vector<std::byte>& content = intact->content(path);
      const auto mask = static_cast<std::byte>(1u << random() % 8);
      content[at] ^= mask;
      const std::string found = complaints(*intact);
      content[at] ^= mask;
      ++flips;
      REQUIRE(!found.empty());
      CHECK(found.find(path.substr(path.rfind('/') + 1)) != std::string::npos);
    }
  }
  MESSAGE(flips << " flipped bits");
  CHECK(flips > 1000);
  CHECK(complaints(*intact).empty());
}

TEST_CASE("damage in the middle is not cut away: the store opens read-only with everything before it") {
  const std::unique_ptr<MemoryFileSystem> files = make_store(4, 30);
  const std::string last = segments_of(*files).back();
  std::vector<std::byte>& content = files->content(last);
  content[content.size() / 2] ^= std::byte{1};
  const std::vector<std::byte> before = content;
  std::vector<Damage> damages;
  Result<std::unique_ptr<Store>> store =
      Store::open(options_on(*files), OpenMode::kReadWrite, [&](const Damage& damage) { damages.push_back(damage); });
  REQUIRE(store.ok());
  REQUIRE(damages.size() == 1);
  CHECK(!damages[0].torn_tail);
  CHECK(last.ends_with(damages[0].object));
  CHECK(damages[0].offset_bytes < content.size() / 2);
  CHECK(damages[0].first_seq == (*store)->position().seq + 1);
  CHECK((*store)->read_only());
  CHECK((*store)->append(std::vector<std::byte>(200)).error().kind() == ErrorKind::kCorrupt);
  *store = nullptr;
  CHECK(files->content(last) == before);
}

TEST_CASE("a torn tail is cut at the last whole batch, at whatever byte it is torn") {
  StreamMaker maker(5);
  MemoryFileSystem files;
  std::vector<Seq> ends;
  std::vector<std::size_t> sizes;
  std::string path;
  {
    std::unique_ptr<Store> store = Store::create(options_on(files), {maker.server(), "web-1", 1}).value();
    REQUIRE(store->append(maker.next_batch()).ok());
    REQUIRE(store->commit().ok());
    path = segments_of(files).back();
    // Killed, not closed: the MANIFEST does not prove what came last.
    files.set_fault([](const FileOperation& operation) -> std::optional<Error> {
      if (operation.kind == FileOperation::Kind::kCreate) return Error::from_errno(EIO, "killed");
      return std::nullopt;
    });
    for (int i = 0; i < 2; ++i) {
      ends.push_back(store->position().seq);
      sizes.push_back(files.content(path).size());
      REQUIRE(store->append(maker.next_batch()).ok());
      REQUIRE(store->commit().ok());
    }
    ends.push_back(store->position().seq);
    sizes.push_back(files.content(path).size());
  }
  files.set_fault(nullptr);
  for (std::size_t size = sizes[1] + 1; size < sizes[2]; size += 37) {
    CAPTURE(size);
    const std::unique_ptr<MemoryFileSystem> torn = files.clone();
    torn->content(path).resize(size);
    std::vector<Damage> damages;
    std::unique_ptr<Store> store = Store::open(options_on(*torn), OpenMode::kReadWrite, [&](const Damage& damage) {
                                     damages.push_back(damage);
                                   }).value();
    REQUIRE(damages.size() == 1);
    CHECK(damages[0].torn_tail);
    CHECK(damages[0].offset_bytes == sizes[1]);
    CHECK(damages[0].length_bytes == size - sizes[1]);
    CHECK(!damages[0].reason.empty());
    CHECK(store->position().seq == ends[1]);
    CHECK(!store->read_only());
    CHECK(torn->content(path).size() == sizes[1]);
  }
  // Torn inside a batch that a later frame's maker knew to be durable: that is damage.
  const std::unique_ptr<MemoryFileSystem> damaged = files.clone();
  damaged->content(path)[sizes[0] + 60] ^= std::byte{4};
  bool reported = false;
  std::unique_ptr<Store> store = Store::open(options_on(*damaged), OpenMode::kReadWrite, [&](const Damage& damage) {
                                   CHECK(!damage.torn_tail);
                                   reported = true;
                                 }).value();
  CHECK(reported);
  CHECK(store->read_only());
  CHECK(damaged->content(path).size() == sizes[2]);
}

TEST_CASE("a missing or foreign segment is named") {
  const std::unique_ptr<MemoryFileSystem> intact = make_store(6, 40);
  const std::vector<std::string> segments = segments_of(*intact);
  REQUIRE(segments.size() >= 4);
  const std::unique_ptr<MemoryFileSystem> missing = intact->clone();
  REQUIRE(missing->remove(segments[1]).ok());
  CHECK(complaints(*missing).find("segments are missing") != std::string::npos);
  const std::unique_ptr<MemoryFileSystem> no_tail = intact->clone();
  REQUIRE(no_tail->remove(segments.back()).ok());
  CHECK(complaints(*no_tail).find("MANIFEST says") != std::string::npos);
  const std::unique_ptr<MemoryFileSystem> foreign = intact->clone();
  const std::unique_ptr<MemoryFileSystem> other = make_store(60, 40);
  foreign->content(segments[0]) = other->content(segments_of(*other)[0]);
  CHECK(complaints(*foreign).find("segment is of another server") != std::string::npos);
}

// Sets a field of a header and makes its checksum right again, as a newer program would have written it.
template <typename Header>
void rewrite(std::vector<std::byte>& content, std::size_t at, std::size_t checksum_at,
             const std::function<void(Header&)>& change) {
  Header header;
  std::memcpy(&header, content.data() + at, sizeof(header));
  change(header);
  std::memcpy(content.data() + at, &header, sizeof(header));
  const le64 checksum = xxh3_64(std::span(content).subspan(at, checksum_at));
  std::memcpy(content.data() + at + checksum_at, &checksum, sizeof(checksum));
}

TEST_CASE("a newer format is refused by name, not taken for damage") {
  const std::unique_ptr<MemoryFileSystem> intact = make_store(7, 20);
  const std::string last = segments_of(*intact).back();
  const auto refused = [](MemoryFileSystem& files) {
    Result<std::unique_ptr<Store>> store = Store::open(options_on(files), OpenMode::kReadWrite, {});
    REQUIRE(!store.ok());
    CHECK(store.error().kind() == ErrorKind::kUnsupported);
    return store.error().message();
  };
  const std::unique_ptr<MemoryFileSystem> version = intact->clone();
  rewrite<SegmentHeader>(version->content(last), 0, offsetof(SegmentHeader, header_checksum),
                         [](SegmentHeader& header) { header.version = 2; });
  CHECK(refused(*version).find("format version 2 is newer than version 1") != std::string::npos);
  const std::unique_ptr<MemoryFileSystem> flags = intact->clone();
  rewrite<SegmentHeader>(flags->content(last), 0, offsetof(SegmentHeader, header_checksum),
                         [](SegmentHeader& header) { header.incompatible_flags = 8; });
  CHECK(refused(*flags).find("unknown incompatible flags 8") != std::string::npos);
  const std::unique_ptr<MemoryFileSystem> batch = intact->clone();
  SegmentHeader header;
  std::memcpy(&header, batch->content(last).data(), sizeof(header));
  rewrite<BatchHeader>(batch->content(last), sizeof(header) + header.state_bytes + sizeof(FrameHeader),
                       offsetof(BatchHeader, header_checksum),
                       [](BatchHeader& changed) { changed.incompatible_flags = 0x10; });
  CHECK(refused(*batch).find("unknown incompatible flags 0x00000010") != std::string::npos);
  const std::unique_ptr<MemoryFileSystem> manifest = intact->clone();
  std::vector<std::byte>& content = manifest->content("/store/MANIFEST");
  std::string text(reinterpret_cast<const char*>(content.data()), content.size());
  text.replace(text.find("version 1"), 9, "version 3");
  text.resize(text.rfind("checksum "));
  char checksum[40];
  std::snprintf(checksum, sizeof(checksum), "checksum %016llx\n",
                static_cast<unsigned long long>(xxh3_64(std::as_bytes(std::span(text)))));
  text += checksum;
  content.assign(reinterpret_cast<const std::byte*>(text.data()),
                 reinterpret_cast<const std::byte*>(text.data()) + text.size());
  CHECK(refused(*manifest).find("store format version 3 is newer") != std::string::npos);
}

TEST_CASE("equal heads mean equal history, and the chain is plain SHA-256 of the files") {
  const std::unique_ptr<MemoryFileSystem> files = make_store(8, 30);
  const std::vector<std::string> segments = segments_of(*files);
  REQUIRE(segments.size() >= 2);
  for (std::size_t i = 0; i + 1 < segments.size(); ++i) {
    Sha256 digest;
    digest.update(files->content(segments[i]));
    SegmentHeader header;
    std::memcpy(&header, files->content(segments[i + 1]).data(), sizeof(header));
    CHECK(std::memcmp(digest.digest().data(), header.previous_digest, 32) == 0);
    CHECK(header.previous_bytes == files->content(segments[i]).size());
  }
  Sha256 digest;
  digest.update(files->content(segments.back()));
  CHECK(Store::open(options_on(*files), OpenMode::kReadOnly, {}).value()->chain_head() == digest.digest());
}

}  // namespace
}  // namespace understudy
