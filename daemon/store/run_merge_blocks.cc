// SPDX-License-Identifier: Apache-2.0
// The payloads of a merge in the order of the index: the inputs' indexes are merged entry by entry; as many payloads as
// fit in memory are read, frame by frame, and written as blocks; then the next ones. Entries that have no payload go
// along, and name the batch of the stream that has their record.
#include <algorithm>
#include <cstring>
#include <tuple>

#include "daemon/store/run_merge.h"
#include "daemon/store/segment_format.h"

namespace understudy {
namespace {

constexpr std::uint64_t kStepBytes = 4u << 20;
// Entries at a time, so that many without a payload, or with a small one, take no more memory than planned.
constexpr std::size_t kItemsMax = 1u << 20;

auto key_of(const SegmentIndexScan::Entry& entry) {
  return std::tuple(entry.disk, entry.length_class, entry.extent.begin_bytes,
                    entry.extent.end_bytes - entry.extent.begin_bytes, entry.extent.seq);
}

}  // namespace

Status RunMerge::begin_index() {
  if (!out_.empty()) RETURN_IF_ERROR(file_->write(stream_end_ - out_.size(), out_));
  work_bytes_ += out_.size();
  out_.clear();
  reader_.reset();
  written_bytes_ = stream_end_;
  RunInfo& info = run_.info;
  info.frames_end_bytes = stream_end_;
  info.index_offset_bytes = (stream_end_ + kIndexPageBytes - 1) / kIndexPageBytes * kIndexPageBytes;
  std::uint64_t entries = 0;
  for (Input& input : inputs_) {
    entries += input.index->entry_count();
    input.scan = std::make_unique<SegmentIndexScan>(*input.index);
    ASSIGN_OR_RETURN(input.head, input.scan->next());
  }
  pages_.emplace(info.segment);
  pages_at_ = info.index_offset_bytes + kIndexPageBytes;  // behind the header
  pages_end_ = pages_at_ + (entries + kIndexPageEntries - 1) / kIndexPageEntries * kIndexPageBytes;
  info.blocks_offset_bytes = pages_end_;
  blocks_at_ = pages_end_;
  phase_ = Phase::kGather;
  return ok_status();
}

// The next entries of all inputs together.
Status RunMerge::gather() {
  items_.clear();
  by_frame_.clear();
  std::uint64_t bytes = 0;
  while (items_.size() < kItemsMax) {
    Input* least = nullptr;
    for (Input& input : inputs_)
      if (input.head && (least == nullptr || key_of(*input.head) < key_of(*least->head))) least = &input;
    if (least == nullptr) break;
    Item item;
    item.entry = *least->head;
    item.input = static_cast<std::uint32_t>(least - inputs_.data());
    if (item.entry.extent.kind == ExtentKind::kData) {
      const std::uint64_t length = item.entry.extent.end_bytes - item.entry.extent.begin_bytes;
      if (length > kRecordPayloadBytesMax) return damaged(*least, "its index has an impossible payload");
      if (bytes > 0 && bytes + length > options_.payload_bytes_max) break;
      item.payload_offset = bytes;
      bytes += length;
      by_frame_.push_back(static_cast<std::uint32_t>(items_.size()));
    }
    items_.push_back(item);
    ASSIGN_OR_RETURN(least->head, least->scan->next());
    // Also proves that the index is in order.
    if (least->head && key_of(*least->head) <= key_of(item.entry)) return damaged(*least, "its index is not in order");
  }
  if (items_.empty()) {
    phase_ = Phase::kFinish;
    return ok_status();
  }
  std::sort(by_frame_.begin(), by_frame_.end(), [&](std::uint32_t a, std::uint32_t b) {
    return std::tuple(items_[a].input, items_[a].entry.extent.frame_offset_bytes, a) <
           std::tuple(items_[b].input, items_[b].entry.extent.frame_offset_bytes, b);
  });
  payload_.resize(bytes);
  next_ = 0;
  phase_ = Phase::kLoad;
  return ok_status();
}

Status RunMerge::load_some() {
  const std::uint64_t until = work_bytes_ + kStepBytes;
  while (next_ < by_frame_.size() && work_bytes_ < until) {
    const Item& first = items_[by_frame_[next_]];
    std::size_t end = next_ + 1;
    while (end < by_frame_.size() && items_[by_frame_[end]].input == first.input &&
           items_[by_frame_[end]].entry.extent.frame_offset_bytes == first.entry.extent.frame_offset_bytes)
      ++end;
    RETURN_IF_ERROR(load_frame(next_, end));
    next_ = end;
  }
  if (next_ < by_frame_.size()) return ok_status();
  next_ = 0;
  phase_ = Phase::kWrite;
  return ok_status();
}

// by_frame_[begin] to [end - 1] are in one batch.
Status RunMerge::load_frame(std::size_t begin, std::size_t end) {
  const Item& first = items_[by_frame_[begin]];
  const Input& input = inputs_[first.input];
  BatchLocation location;
  location.segment = static_cast<std::uint32_t>(input.segment);
  location.frame.offset_bytes = first.entry.extent.frame_offset_bytes;
  location.frame.batch_bytes = first.entry.extent.batch_bytes;
  ASSIGN_OR_RETURN(const BatchReader batch,
                   read_batch(*snapshot_, location, stored_, Verify::kRecords, BatchOrder::kAny));
  work_bytes_ += stored_.size();
  for (std::size_t i = begin; i < end; ++i) {
    Item& item = items_[by_frame_[i]];
    const IndexedExtent& extent = item.entry.extent;
    const std::optional<std::size_t> number = batch.find(extent.seq);
    if (!number) return damaged(input, "record " + std::to_string(extent.seq) + " is not where its index says");
    const Record& record = batch.records()[*number];
    if ((record.kind != RecordKind::kWrite && record.kind != RecordKind::kCopy) || record.disk != item.entry.disk ||
        record.offset_bytes != extent.begin_bytes || record.length_bytes != extent.end_bytes - extent.begin_bytes ||
        record.payload.size() != record.length_bytes)
      return damaged(input, "record " + std::to_string(extent.seq) + " is not what its index says");
    std::memcpy(payload_.data() + item.payload_offset, record.payload.data(), record.payload.size());
    item.checksum = record.checksum;
    item.kind = record.kind;
    item.flags = record.flags & static_cast<std::uint8_t>(~kRecordInRun);
    item.codec = batch.info().codec;
  }
  return ok_status();
}

Status RunMerge::write_some() {
  const std::uint64_t until = work_bytes_ + kStepBytes;
  while (next_ < items_.size() && work_bytes_ < until) {
    std::size_t end = next_;
    std::uint64_t bytes = 0;
    do {
      const IndexedExtent& extent = items_[end].entry.extent;
      bytes += extent.kind == ExtentKind::kData ? extent.end_bytes - extent.begin_bytes : 0;
      ++end;
    } while (
        end < items_.size() && bytes < options_.block_bytes && end - next_ < kBatchRecordsMax &&
        (items_[end].entry.extent.kind != ExtentKind::kData ||
         bytes + items_[end].entry.extent.end_bytes - items_[end].entry.extent.begin_bytes <= kBatchPayloadBytesMax));
    RETURN_IF_ERROR(write_block(next_, end));
    next_ = end;
  }
  RETURN_IF_ERROR(flush_blocks());
  RETURN_IF_ERROR(flush_pages());
  if (next_ == items_.size()) phase_ = Phase::kGather;
  return ok_status();
}

// The payloads of items_[begin] to [end - 1] as one batch, and their entries in the index.
Status RunMerge::write_block(std::size_t begin, std::size_t end) {
  BatchWriter writer;
  writer.start(run_.info.segment.server, block_count_ + 1, 0, 0);
  writer.set_block_order();
  Compression compression{Codec::kNone, 1};
  for (std::size_t i = begin; i < end; ++i) {
    const Item& item = items_[i];
    if (item.entry.extent.kind != ExtentKind::kData) continue;
    Record record;
    record.kind = item.kind;
    record.flags = item.flags;
    record.disk = item.entry.disk;
    record.offset_bytes = item.entry.extent.begin_bytes;
    record.length_bytes = item.entry.extent.end_bytes - item.entry.extent.begin_bytes;
    record.time_ns = item.entry.extent.seq;
    record.checksum = item.checksum;
    record.payload = std::span(payload_).subspan(item.payload_offset, record.length_bytes);
    if (compression.codec == Codec::kNone) compression.codec = item.codec;
    writer.add(record);
  }
  FrameInfo frame;
  if (!writer.empty()) {
    std::vector<std::byte> encoded;
    writer.encode(Compression{Codec::kZstd, 1}, compression, encoded);
    frame.offset_bytes = blocks_at_ + out_.size();
    frame.first_seq = ++block_count_;
    frame.batch_bytes = static_cast<std::uint32_t>(encoded.size());
    if (frame.end_offset_bytes() / 8 > ~std::uint32_t{0})
      return Error(ErrorKind::kUnsupported, "merge: a run of more than 32 GiB can't be indexed");
    const std::vector<std::byte> header = encode_frame_header(run_.info.segment, frame);
    out_.insert(out_.end(), header.begin(), header.end());
    out_.insert(out_.end(), encoded.begin(), encoded.end());
    work_bytes_ += header.size() + encoded.size();
  }
  for (std::size_t i = begin; i < end; ++i) {
    const Item& item = items_[i];
    IndexEntry entry{};
    if (item.entry.extent.kind == ExtentKind::kData) {
      entry.frame_place = static_cast<std::uint32_t>(frame.offset_bytes / 8);
      entry.batch_bytes_and_kind = frame.batch_bytes | kExtentData;
    } else {
      ASSIGN_OR_RETURN(entry, entry_of(item));
    }
    entry.begin_bytes = item.entry.extent.begin_bytes;
    entry.length_bytes = item.entry.extent.end_bytes - item.entry.extent.begin_bytes;
    entry.seq = item.entry.extent.seq;
    pages_->add(item.entry.disk, item.entry.length_class, entry);
  }
  return ok_status();
}

// Where the record of an item without payload is: in the stream part.
Result<IndexEntry> RunMerge::entry_of(const Item& item) {
  const Seq seq = item.entry.extent.seq;
  const auto behind = std::upper_bound(stream_frames_.begin(), stream_frames_.end(), seq,
                                       [](Seq wanted, const StreamFrame& frame) { return wanted < frame.first_seq; });
  if (behind == stream_frames_.begin() || seq > run_.info.last_seq)
    return damaged(inputs_[item.input], "its index has record " + std::to_string(seq) + " of elsewhere");
  const StreamFrame& frame = *std::prev(behind);
  IndexEntry entry{};
  entry.frame_place = frame.place;
  entry.batch_bytes_and_kind =
      frame.batch_bytes | (item.entry.extent.kind == ExtentKind::kBase ? kExtentBase : kExtentZeros);
  return entry;
}

Status RunMerge::flush_pages() {
  const std::vector<std::byte> pages = pages_->take_pages();
  if (pages.empty()) return ok_status();
  CHECK_LE(pages_at_ + pages.size(), pages_end_);
  RETURN_IF_ERROR(file_->write(pages_at_, pages));
  pages_at_ += pages.size();
  written_bytes_ += pages.size();
  work_bytes_ += pages.size();
  return ok_status();
}

Status RunMerge::flush_blocks() {
  if (out_.empty()) return ok_status();
  RETURN_IF_ERROR(file_->write(blocks_at_, out_));
  file_->begin_writeback(blocks_at_, out_.size());
  blocks_at_ += out_.size();
  written_bytes_ += out_.size();
  out_.clear();
  return ok_status();
}

}  // namespace understudy
