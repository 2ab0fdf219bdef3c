// SPDX-License-Identifier: Apache-2.0
// Messages over one TLS connection, at either end of it. Never waits: advance() does what the socket allows, and the
// caller polls. Not thread-safe.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "daemon/base/result.h"
#include "daemon/node/node_frame.h"
#include "daemon/wire/tls_stream.h"

namespace understudy {

class NodeChannel {
 public:
  NodeChannel(std::unique_ptr<TlsStream> stream, std::size_t frame_bytes_max);

  // Shakes hands, sends, receives. An error: the connection is over; messages received before it can still be taken.
  Status advance();
  bool is_open() const { return open_; }  // the handshake is done
  // There is something to take, or more to be read without waiting: take(), and call advance() again.
  bool has_more() const { return more_ || !received_.empty(); }
  // Wait for the socket to be writable, too.
  bool wants_write() const;

  // After the handshake. kRefused = it has no certificate.
  Result<PeerIdentity> peer() const { return stream_->peer(); }
  void set_frame_bytes_max(std::size_t bytes) { reader_.set_frame_bytes_max(bytes); }

  std::optional<Json> take();
  // Queues; advance() sends. kBusy when the peer does not take what was queued before (kNodeOutputBytesMax).
  Status send(const Json& message);
  // Says goodbye, as far as that goes without waiting.
  void close();

 private:
  Status shake_hands();
  Status send_queued();
  Status receive();

  std::unique_ptr<TlsStream> stream_;
  NodeFrameReader reader_;
  std::deque<Json> received_;
  std::string output_;
  std::size_t output_begin_ = 0;
  bool open_ = false;
  bool more_ = false;
  bool blocked_ = false;  // the socket took no more
};

}  // namespace understudy
