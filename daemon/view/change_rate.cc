// SPDX-License-Identifier: Apache-2.0
#include "daemon/view/change_rate.h"

#include "daemon/store/journal.h"

namespace understudy {
namespace {

void count(const Record& record, ChangeBucket& bucket) {
  switch (record.kind) {
    case RecordKind::kWrite: bucket.written_bytes += record.length_bytes; break;
    case RecordKind::kZero: bucket.zeroed_bytes += record.length_bytes; break;
    case RecordKind::kCopy:
      if ((record.flags & kRecordInitial) != 0) return;
      bucket.copied_bytes += record.length_bytes;
      break;
    default: return;
  }
  ++bucket.records;
}

}  // namespace

Result<ChangeRate> read_change_rate(const Store& store, std::uint64_t from_ns, std::uint64_t to_ns,
                                    std::size_t count_wanted) {
  CHECK(count_wanted > 0);
  if (to_ns <= from_ns) return Error(ErrorKind::kInvalidArgument, "there is no time between the two ends of the plot");
  ChangeRate rate;
  rate.bucket_ns = (to_ns - from_ns + count_wanted - 1) / count_wanted;
  rate.buckets.resize(count_wanted);
  for (std::size_t i = 0; i < count_wanted; ++i) rate.buckets[i].begin_ns = from_ns + i * rate.bucket_ns;
  JournalReader reader(store.snapshot());
  while (true) {
    Result<std::unique_ptr<JournalReader::Entry>> entry = reader.next();
    if (!entry.ok()) {
      if (reader.damage() && entry.error().kind() == ErrorKind::kCorrupt) return rate;
      return std::move(entry).error().with_context("read the change rate");
    }
    if (!*entry) return rate;
    for (const Record& record : (*entry)->batch.records())
      if (record.time_ns >= from_ns && record.time_ns < to_ns)
        count(record, rate.buckets[(record.time_ns - from_ns) / rate.bucket_ns]);
  }
}

}  // namespace understudy
