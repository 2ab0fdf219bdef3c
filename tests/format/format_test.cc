// SPDX-License-Identifier: Apache-2.0
// Bytes that released versions wrote must be read for ever, and mean the same.
#include <cstdlib>
#include <string>

#include "daemon/store/journal.h"
#include "daemon/store/store.h"
#include "daemon/view/view.h"
#include "daemon/wire/frame_codec.h"
#include "tests/format/example_stream.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

std::unique_ptr<Store> open_example(const std::string& name) {
  const char* folder = std::getenv("UNDERSTUDY_FORMAT_EXAMPLES");
  REQUIRE(folder != nullptr);
  StoreOptions options;
  options.directory = std::string(folder) + "/" + name;
  Result<std::unique_ptr<Store>> store = Store::open(
      options, OpenMode::kReadOnly, [](const Damage& damage) { FAIL(damage.object << ": " << damage.reason); });
  REQUIRE_MESSAGE(store.ok(), store.error().message());
  return std::move(*store);
}

TEST_CASE("a store of format version 1 is read: identity, position, chain") {
  const std::unique_ptr<Store> store = open_example("store-v1");
  CHECK(store->identity().server == example_server());
  CHECK(store->identity().server_name == "example-1");
  CHECK(store->identity().epoch == 1);
  const StreamPosition position = store->position();
  CHECK(position.seq == 18);
  CHECK(position.generation == 1);
  CHECK(position.cursor == CaptureCursor{example_uuid("ca970000-0000-4000-8000-000000000001"), 19 * 4096, 0});
  CHECK(position.initial_copy_done);
  CHECK(!position.gap_open);
  CHECK(position.disks.size() == 2);
  CHECK(position.last_time_ns == kExampleStartNs + 18 * kExampleStepNs);
  CHECK(to_hex(store->chain_head()) == "998639e2b39274b08ca10de70e14bffb351f87969bac448c3054c73616e28eec");
  CHECK(store->scrub([](const Damage& damage) { FAIL_CHECK(damage.object << ": " << damage.reason); }, {}).ok());
}

TEST_CASE("a store of format version 1 is read: points") {
  const Timeline timeline = read_timeline(*open_example("store-v1")).value();
  REQUIRE(timeline.ranges.size() == 2);
  CHECK(timeline.ranges[0].first_seq == 7);
  CHECK(timeline.ranges[0].last_seq == 12);
  CHECK(timeline.ranges[0].last_barrier_seq == 10);
  CHECK(timeline.ranges[1].first_seq == 16);
  CHECK(timeline.ranges[1].last_seq == 18);
  REQUIRE(timeline.gaps.size() == 2);
  CHECK(timeline.gaps[0].reason == GapReason::kInitialCopy);
  CHECK(timeline.gaps[1].reason == GapReason::kOverflow);
  REQUIRE(timeline.marks.size() == 1);
  CHECK(timeline.marks[0].mark.name == "before-upgrade");
  CHECK(timeline.marks[0].mark.consistency == Consistency::kApplication);
  CHECK(resolve_point(timeline, "latest")->seq == 17);
  CHECK(resolve_point(timeline, "@before-upgrade")->seq == 11);
}

void compare_every_point(const Store& store) {
  Model model;
  Seq seq = 0;
  unsigned points = 0;
  for (const ExampleBatch& batch : example_stream())
    for (const OwnedRecord& record : batch.records) {
      model.apply(record);
      ++seq;
      CAPTURE(seq);
      Result<std::unique_ptr<PointInTimeView>> view = PointInTimeView::open(store, Point{seq, 0, false});
      REQUIRE(view.ok() == model.whole);
      if (!view.ok()) continue;
      ++points;
      CHECK((*view)->disks() == model.geometry);
      for (const DiskGeometry& disk : model.geometry) {
        std::vector<std::byte> got(disk.size_bytes);
        REQUIRE((*view)->read(disk.disk, 0, got).ok());
        CHECK(got == model.content.at(disk.disk));
      }
    }
  CHECK(seq == 18);
  CHECK(points == 9);
}

TEST_CASE("a store of format version 1 is read: every byte at every point") {
  compare_every_point(*open_example("store-v1"));
}

TEST_CASE("a store of format version 1 with a run is read: chain, timeline, every byte at every point") {
  const std::unique_ptr<Store> store = open_example("store-v1-runs");
  CHECK(to_hex(store->chain_head()) == "a37e03a181937ff0bf703295af495b030836562b7cc6d4d6ff4ec9f3481cca77");
  CHECK(store->scrub([](const Damage& damage) { FAIL_CHECK(damage.object << ": " << damage.reason); }, {}).ok());
  const std::shared_ptr<const JournalSnapshot> snapshot = store->snapshot();
  REQUIRE(snapshot->segments().size() == 3);
  const JournalSegment& run = snapshot->segments()[0];
  REQUIRE(run.is_run());
  CHECK(run.name == "00000000000000000001-00000000000000000012.run");
  CHECK(run.run->last_number == 3);
  CHECK(run.run->file_bytes == run.file_bytes());
  CHECK(snapshot->open_segment_index(0).ok());
  CHECK(snapshot->segments()[1].info.number == 4);
  const Timeline timeline = read_timeline(*store).value();
  REQUIRE(timeline.ranges.size() == 2);
  CHECK(timeline.ranges[0].first_seq == 7);
  CHECK(timeline.ranges[0].last_seq == 12);
  REQUIRE(timeline.marks.size() == 1);
  CHECK(resolve_point(timeline, "@before-upgrade")->seq == 11);
  compare_every_point(*store);
}

TEST_CASE("what is encoded today is what version 1 means") {
  std::vector<ExampleBatch> stream = example_stream();
  const std::vector<std::vector<std::byte>> batches = encode_example(stream);
  // Without compression the bytes are fixed; compressed ones may change with the library.
  CHECK(to_hex(std::span(batches[2]).first(24)) == "554e4453425443480100c000000000000000000000000000");
  Sha256 digest;
  digest.update(batches[2]);
  CHECK(to_hex(digest.digest()) == "eaf2125cbb5e459be420b9c44ec87ec17c7dedfe2d3a6d3b61f3c4c59e40894d");
}

// Frames 12 and 13, without which an old agent and a new receiver would not compare. daemon/wire/FORMAT.md.
Digest example_digest(std::uint8_t first) {
  Digest digest;
  for (std::size_t i = 0; i < digest.size(); ++i) digest[i] = static_cast<std::byte>(first + i);
  return digest;
}

void check_frame(const Message& message, const std::string& hex) {
  std::vector<std::byte> frame;
  append_frame(message, frame);
  CHECK(to_hex(frame) == hex);
  const auto header = decode_frame_header(std::span(frame).first<kFrameHeaderBytes>());
  REQUIRE(header.ok());
  const auto decoded = decode_payload(header->type, std::span(frame).subspan(kFrameHeaderBytes));
  REQUIRE(decoded.ok());
  std::vector<std::byte> again;
  append_frame(*decoded, again);
  CHECK(again == frame);
}

TEST_CASE("the frames of a digest scan are what version 1 of the wire means") {
  DigestQuestion question;
  question.token = 0x0102030405060708;
  question.disk = 3;
  question.seq = 0x1112131415161718;
  question.offset_bytes = 64ull << 20;
  question.length_bytes = (2 << 20) + 70'000;
  question.chunk_mask = 5;
  question.digests = {example_digest(0xa0)};
  check_frame(question,
              "555366720c0000004000000082206367"
              "080706050403020101000300010000001817161514131211000000040000000070112100000000000500000000000000"
              "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf");
  question.level = DigestLevel::kLeaves;
  question.chunk_mask = 4;
  question.digests = {example_digest(0xb0), example_digest(0xc0)};
  check_frame(question,
              "555366720c00000050000000dc6a71b6"
              "080706050403020102000300020000001817161514131211000000040000000070112100000000000400000000000000"
              "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecf");
  DigestAnswer answer;
  answer.token = question.token;
  answer.verdict = DigestVerdict::kEqual;
  check_frame(answer,
              "555366720d000000180000000df9f3c0"
              "080706050403020101010000000000000000000000000000");
  answer.verdict = DigestVerdict::kDifferent;
  answer.chunk_mask = 5;
  answer.digests = {example_digest(0xa0), example_digest(0xd0)};
  check_frame(answer,
              "555366720d00000038000000b17c5de3"
              "080706050403020101020000020000000500000000000000a0a1a2a3a4a5a6a7a8a9aaabacadaeafd0d1d2d3d4d5d6d7"
              "d8d9dadbdcdddedf");
  answer.level = DigestLevel::kLeaves;
  answer.chunk_mask = 4;
  answer.digests.clear();
  answer.different = {2};
  check_frame(answer,
              "555366720d0000001a0000004ec01b54"
              "0807060504030201020200000100000004000000000000000200");
}

}  // namespace
}  // namespace understudy
