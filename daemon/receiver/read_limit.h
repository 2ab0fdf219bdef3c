// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace understudy {

// How fast a session may be read: a bucket that fills at `bytes_per_second` (0 = no limit) and holds an eighth of a
// second's worth. Reading goes on while it is not empty and may leave it in debt; it then waits until that is paid, so
// the average is exact whatever the size of a read. Times are of one steady clock. Pure.
class ReadLimit {
 public:
  void set(std::uint64_t bytes_per_second, std::uint64_t now_ns) {
    rate_ = bytes_per_second;
    room_ns_ = kBurstNs;
    at_ns_ = now_ns;
  }
  bool limited() const { return rate_ != 0; }
  std::uint64_t bytes_per_second() const { return rate_; }
  // What one turn should read at most.
  std::uint64_t turn_bytes(std::uint64_t most) const {
    return limited() ? std::clamp<std::uint64_t>(rate_ / 8, 4096, most) : most;
  }
  void charge(std::uint64_t bytes, std::uint64_t now_ns) {
    if (!limited()) return;
    refill(now_ns);
    room_ns_ -= static_cast<std::int64_t>(bytes * 1'000'000'000 / rate_);  // a turn is far below 2^33 bytes
  }
  // How long reading has to wait; 0 = not at all.
  std::uint64_t wait_ns(std::uint64_t now_ns) {
    if (!limited()) return 0;
    refill(now_ns);
    return room_ns_ > 0 ? 0 : static_cast<std::uint64_t>(-room_ns_) + 1;
  }

 private:
  static constexpr std::int64_t kBurstNs = 125'000'000;

  void refill(std::uint64_t now_ns) {
    const auto passed_ns = static_cast<std::int64_t>(now_ns - at_ns_);
    at_ns_ = now_ns;
    room_ns_ = std::min(kBurstNs, room_ns_ + passed_ns);
  }

  std::uint64_t rate_ = 0;
  std::int64_t room_ns_ = kBurstNs;  // of reading at the full rate; negative = debt
  std::uint64_t at_ns_ = 0;
};

}  // namespace understudy
