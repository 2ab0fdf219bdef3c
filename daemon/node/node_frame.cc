// SPDX-License-Identifier: Apache-2.0
#include "daemon/node/node_frame.h"

#include "daemon/base/check.h"
#include "daemon/base/limits.h"
#include "daemon/base/text.h"

namespace understudy {

namespace {
constexpr std::size_t kLengthBytes = 4;
}

std::string encode_node_frame(const Json& message) {
  const std::string text = message.dump();
  CHECK(text.size() <= kNodeFrameBytesMax);
  std::string frame(kLengthBytes, '\0');
  for (std::size_t i = 0; i < kLengthBytes; ++i) frame[i] = static_cast<char>((text.size() >> (8 * i)) & 0xff);
  return frame + text;
}

void NodeFrameReader::add(std::span<const std::byte> bytes) {
  if (begin_ == bytes_.size()) {
    bytes_.clear();
    begin_ = 0;
  }
  bytes_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Result<std::optional<Json>> NodeFrameReader::next() {
  if (bytes_.size() - begin_ < kLengthBytes) return std::optional<Json>();
  std::size_t length = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    length |= static_cast<std::size_t>(static_cast<unsigned char>(bytes_[begin_ + i])) << (8 * i);
  }
  if (length == 0 || length > frame_bytes_max_) {
    return Error(ErrorKind::kCorrupt, "a message of " + std::to_string(length) + " bytes; allowed: 1 to " +
                                          std::to_string(frame_bytes_max_));
  }
  if (bytes_.size() - begin_ - kLengthBytes < length) {
    if (begin_ > 0) {
      bytes_.erase(0, begin_);
      begin_ = 0;
    }
    return std::optional<Json>();
  }
  auto message = Json::parse(std::string_view(bytes_).substr(begin_ + kLengthBytes, length));
  if (!message.ok()) return std::move(message).error().with_context("a message");
  if (!message->is_object()) return Error(ErrorKind::kCorrupt, "a message that is no JSON object");
  begin_ += kLengthBytes + length;
  return std::optional<Json>(std::move(message).value());
}

}  // namespace understudy
