// SPDX-License-Identifier: Apache-2.0
// wire_replay STORE FROM_SEQ TO_SEQ [deltas=BYTES] [codec=zstd|lz4|none] [level=N]: encodes the stream that a store has
// recorded once more, batch by batch as it came, the way an agent does (LinkEncoder, one thread, everything given to it
// in order and no decision by the clock), and decodes it the way a receiver does. Prints one line:
//
//   raw_bytes changed_bytes wire_bytes batches delta_batches encode_ns
//
// of the batches that begin within FROM_SEQ to TO_SEQ; those before only fill the cache. wire_bytes counts frames and
// what TLS 1.3 adds to them. Every batch must come out of the decoder record by record as it was recorded. So two runs
// with different settings compare these settings and nothing else.
#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "daemon/base/check.h"
#include "daemon/base/text.h"
#include "daemon/store/segment_reader.h"
#include "daemon/store/store_paths.h"
#include "daemon/wire/delta_codec.h"
#include "daemon/wire/frame_codec.h"
#include "daemon/wire/link_encoder.h"

namespace understudy {
namespace {

// Record header, content type and tag of each TLS record of at most 16 KiB.
constexpr std::uint64_t kTlsRecordBytes = 16384;
constexpr std::uint64_t kTlsOverheadBytes = 22;

struct Settings {
  std::string store;
  Seq from_seq = 0;
  Seq to_seq = 0;
  std::uint64_t delta_cache_bytes = 0;
  Compression compression;
};

struct Sum {
  std::uint64_t raw_bytes = 0;
  std::uint64_t changed_bytes = 0;
  std::uint64_t wire_bytes = 0;
  std::uint64_t batches = 0;
  std::uint64_t delta_batches = 0;
  std::uint64_t encode_ns = 0;  // processor time of encoding
};

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "wire_replay: %s\n", what.c_str());
  std::exit(1);
}

std::uint64_t processor_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

class Replay {
 public:
  explicit Replay(const Settings& settings) : settings_(settings), encoder_(1, [this] { notify(); }) {
    encoder_.set_peer(kWireLz4 | kWireZstd | kWireDeltas, settings.delta_cache_bytes);
    encoder_.set_delta_cache_bytes(settings.delta_cache_bytes);
    encoder_.set_compression(settings.compression, false);
  }

  void run() {
    FileSystem& files = posix_file_system();
    auto names = files.list(journal_path(settings_.store));
    if (!names.ok()) fail(names.error().message());
    std::map<Seq, std::string> segments;
    for (const std::string& name : *names) {
      if (const auto seq = parse_segment_name(name)) segments.emplace(*seq, name);
    }
    if (segments.empty()) fail("store '" + settings_.store + "' has no journal");
    for (const auto& [seq, name] : segments) replay_segment(files, journal_path(settings_.store) + "/" + name);
    std::printf("%llu %llu %llu %llu %llu %llu\n", static_cast<unsigned long long>(sum_.raw_bytes),
                static_cast<unsigned long long>(sum_.changed_bytes), static_cast<unsigned long long>(sum_.wire_bytes),
                static_cast<unsigned long long>(sum_.batches), static_cast<unsigned long long>(sum_.delta_batches),
                static_cast<unsigned long long>(sum_.encode_ns));
  }

 private:
  void notify() {
    std::lock_guard lock(mutex_);
    ready_ = true;
    wake_.notify_one();
  }

  void replay_segment(FileSystem& files, const std::string& path) {
    auto file = files.open(path, FileMode::kRead);
    if (!file.ok()) fail(file.error().message());
    auto segment = read_segment_header(**file);
    if (!segment.ok()) fail(segment.error().message());
    const std::uint64_t end = (*file)->size().value();
    std::uint64_t offset = segment->frames_offset_bytes;
    while (offset < end) {
      auto frame = read_frame_header(**file, *segment, offset, end);
      if (!frame.ok()) return;  // space that is reserved and not written yet
      if (Status status = read_frame_batch(**file, *frame, stored_); !status.ok()) fail(status.error().message());
      auto batch = BatchReader::decode(stored_, Verify::kRecords);
      if (!batch.ok()) fail(batch.error().message());
      replay_batch(*batch);
      offset = frame->end_offset_bytes();
    }
  }

  void replay_batch(const BatchReader& recorded) {
    auto outgoing = std::make_unique<OutgoingBatch>();
    const BatchInfo& info = recorded.info();
    outgoing->batch.start(info.server, info.first_seq, info.epoch, info.generation);
    for (const Record& record : recorded.records()) outgoing->batch.add(record);
    outgoing->batch.set_cursor(info.cursor);
    const std::uint64_t begin_ns = processor_ns();
    encoder_.push(std::move(outgoing));
    EncodedBatch encoded = pop();
    const std::uint64_t encode_ns = processor_ns() - begin_ns;
    const bool delta = check(encoded.frame, recorded);
    if (info.first_seq >= settings_.from_seq && info.first_seq <= settings_.to_seq) {
      sum_.raw_bytes += encoded.raw_bytes;
      sum_.changed_bytes += encoded.changed_bytes;
      sum_.wire_bytes += encoded.frame.size() +
                         (encoded.frame.size() + kTlsRecordBytes - 1) / kTlsRecordBytes * kTlsOverheadBytes;
      ++sum_.batches;
      sum_.delta_batches += delta ? 1 : 0;
      sum_.encode_ns += encode_ns;
    }
    encoder_.recycle(std::move(encoded.frame));
  }

  EncodedBatch pop() {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return ready_; });
    ready_ = false;
    lock.unlock();
    auto encoded = encoder_.pop();
    CHECK(encoded);
    return std::move(*encoded);
  }

  // The frames as a receiver takes them. True = the batch came as a delta.
  bool check(std::span<const std::byte> frames, const BatchReader& recorded) {
    bool delta = false;
    while (!frames.empty()) {
      const FrameHeader header = decode_frame_header(frames.first<kFrameHeaderBytes>()).value();
      const auto payload = frames.subspan(kFrameHeaderBytes, header.payload_bytes);
      frames = frames.subspan(kFrameHeaderBytes + header.payload_bytes);
      if (header.type == FrameType::kDeltaCache) {
        decoder_.resize(std::get<DeltaCacheSize>(decode_payload(header.type, payload).value()).bytes);
        continue;
      }
      received_.clear();
      if (header.type == FrameType::kDeltaBatch) {
        delta = true;
        if (Status status = decoder_.decode(payload, received_); !status.ok()) fail(status.error().message());
      } else {
        received_.assign(payload.begin(), payload.end());
      }
      require_equal(recorded);
    }
    return delta;
  }

  void require_equal(const BatchReader& recorded) const {
    auto batch = BatchReader::decode(received_, Verify::kRecords);
    if (!batch.ok()) fail(batch.error().message());
    const bool equal = std::equal(batch->records().begin(), batch->records().end(), recorded.records().begin(),
                                  recorded.records().end(), [](const Record& a, const Record& b) {
                                    return a.kind == b.kind && a.disk == b.disk && a.offset_bytes == b.offset_bytes &&
                                           a.length_bytes == b.length_bytes && a.checksum == b.checksum &&
                                           std::ranges::equal(a.payload, b.payload);
                                  });
    if (!equal) fail("batch of seq " + std::to_string(recorded.info().first_seq) + " is not what was recorded");
  }

  const Settings settings_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool ready_ = false;
  LinkEncoder encoder_;
  DeltaDecoder decoder_;
  std::vector<std::byte> stored_;
  std::vector<std::byte> received_;
  Sum sum_;
};

std::uint64_t number(const std::string& text) {
  const auto value = parse_unsigned(text);
  if (!value) fail("'" + text + "' is no number");
  return *value;
}

int run(int argc, char** argv) {
  Settings settings;
  settings.store = argv[1];
  settings.from_seq = number(argv[2]);
  settings.to_seq = number(argv[3]);
  for (int i = 4; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::string value = argument.substr(std::min(argument.find('=') + 1, argument.size()));
    if (argument.starts_with("deltas=")) {
      settings.delta_cache_bytes = number(value);
    } else if (argument.starts_with("level=")) {
      settings.compression.level = static_cast<int>(number(value));
    } else if (argument == "codec=zstd" || argument == "codec=lz4" || argument == "codec=none") {
      settings.compression.codec = value == "zstd" ? Codec::kZstd : value == "lz4" ? Codec::kLz4 : Codec::kNone;
    } else {
      fail("unknown argument '" + argument + "'");
    }
  }
  Replay(settings).run();
  return 0;
}

}  // namespace
}  // namespace understudy

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: wire_replay STORE FROM_SEQ TO_SEQ [deltas=BYTES] [codec=zstd|lz4|none] [level=N]\n");
    return 2;
  }
  return understudy::run(argc, argv);
}
