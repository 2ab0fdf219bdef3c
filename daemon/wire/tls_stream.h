// SPDX-License-Identifier: Apache-2.0
// TLS over one non-blocking, connected socket, made for large transfers: up to 256 KiB of ciphertext in one read(2) or
// send(2). Never blocks: says what it waits for, and the caller waits (Asio, poll).
//
// Threads: one at a time. Ownership: borrows the socket, which must outlive the stream and is not closed by it.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "daemon/base/result.h"
#include "daemon/wire/identity.h"
#include "daemon/wire/tls_context.h"

namespace understudy {

enum class TlsState : std::uint8_t {
  kOk,         // done; for read and write: `bytes` were moved
  kWantRead,   // nothing more until the socket is readable
  kWantWrite,  // output waits until the socket is writable; call flush() then
  kClosed,     // the peer closed in order
  kFailed,     // see error()
};

struct TlsResult {
  TlsState state = TlsState::kOk;
  std::size_t bytes = 0;
};

class TlsStream {
 public:
  // `peer_text`: what errors call the other end, "receiver 'dr-1'".
  static Result<std::unique_ptr<TlsStream>> make(std::shared_ptr<const TlsContext> context, int socket,
                                                 std::string peer_text);
  ~TlsStream();
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  // Until kOk. After kFailed an alert for the peer may be pending: flush() it, best effort.
  TlsState handshake();
  // After the handshake. An error names what is wrong with the peer's certificate.
  Result<PeerIdentity> peer() const;

  // As much as is there, at most out.size(); kOk with bytes > 0 means: call again.
  TlsResult read(std::span<std::byte> out);
  // Encrypts and, whenever a large piece has come together, sends. `bytes` were taken, also with kWantWrite.
  TlsResult write(std::span<const std::byte> data);
  // Sends what write() kept back.
  TlsState flush();
  std::size_t output_pending() const;
  // Ciphertext sent so far.
  std::uint64_t bytes_sent() const;
  std::uint64_t bytes_received() const;
  // Queues the closing alert; flush() sends it.
  void shutdown();

  // The error behind kFailed.
  const Error& error() const;

 private:
  struct State;
  explicit TlsStream(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace understudy
