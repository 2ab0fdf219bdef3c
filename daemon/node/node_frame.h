// SPDX-License-Identifier: Apache-2.0
// What travels between a node and the orchestrator: a length and a JSON object, over and over (FORMAT.md). Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "daemon/base/result.h"
#include "daemon/control/json.h"

namespace understudy {

inline constexpr std::uint64_t kNodeProtocol = 1;

// The bytes of one message. A message longer than kNodeFrameBytesMax (limits.h) is a bug of the caller.
std::string encode_node_frame(const Json& message);

// Takes bytes as they come and gives messages as they are complete. Not thread-safe.
class NodeFrameReader {
 public:
  // Longer messages are refused before they are kept.
  explicit NodeFrameReader(std::size_t frame_bytes_max) : frame_bytes_max_(frame_bytes_max) {}
  void set_frame_bytes_max(std::size_t bytes) { frame_bytes_max_ = bytes; }

  void add(std::span<const std::byte> bytes);
  // nullopt = not all of it is there yet. An error: what comes is no such message, and nothing behind it can be read.
  Result<std::optional<Json>> next();

 private:
  std::size_t frame_bytes_max_;
  std::string bytes_;
  std::size_t begin_ = 0;  // of bytes_, what was not given yet
};

}  // namespace understudy
