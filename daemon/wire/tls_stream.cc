// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/tls_stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "daemon/base/check.h"
#include "daemon/wire/openssl_util.h"
#include "daemon/wire/tls_words.h"

namespace understudy {

namespace {

// Output is sent in pieces of about this size.
constexpr std::size_t kSendBytes = 256u << 10;
// Plaintext of one TLS record.
constexpr std::size_t kRecordBytes = 16384;

// Ciphertext on its way to the socket. Grows to kSendBytes and a record, and only on connections that send much.
class OutputBuffer {
 public:
  void append(const void* data, std::size_t bytes) {
    if (begin_ == end_) begin_ = end_ = 0;
    if (end_ + bytes > capacity_) grow(bytes);
    std::memcpy(data_.get() + end_, data, bytes);
    end_ += bytes;
  }
  std::size_t size() const { return end_ - begin_; }
  const std::byte* data() const { return data_.get() + begin_; }
  void consume(std::size_t bytes) { begin_ += bytes; }

 private:
  void grow(std::size_t bytes) {
    std::size_t capacity = capacity_ == 0 ? 4096 : capacity_;
    while (capacity < size() + bytes) capacity *= 2;
    auto larger = std::make_unique_for_overwrite<std::byte[]>(capacity);
    if (size() > 0) std::memcpy(larger.get(), data(), size());
    end_ = size();
    begin_ = 0;
    data_ = std::move(larger);
    capacity_ = capacity;
  }

  std::unique_ptr<std::byte[]> data_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

int output_write(BIO* bio, const char* data, int bytes) {
  BIO_clear_retry_flags(bio);
  if (bytes <= 0) return 0;
  static_cast<OutputBuffer*>(BIO_get_data(bio))->append(data, static_cast<std::size_t>(bytes));
  return bytes;
}

long output_control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

// A BIO that only appends to an OutputBuffer: TLS records are collected and sent many at a time.
BIO_METHOD* output_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "understudy output");
    CHECK(made != nullptr);
    BIO_meth_set_write(made, &output_write);
    BIO_meth_set_ctrl(made, &output_control);
    return made;
  }();
  return method;
}

}  // namespace

struct TlsStream::State {
  std::shared_ptr<const TlsContext> context;
  int socket = -1;
  std::string peer_text;
  OutputBuffer output;
  SslPtr ssl;  // behind `output`, which its BIO refers to
  BIO* input = nullptr;
  std::uint64_t bytes_sent = 0;
  std::optional<Error> error;
  std::optional<Error> send_error;  // does not keep anybody from reading what the peer said before

  TlsState fail(int ssl_error, int error_number) {
    if (!error) error = describe_tls_failure(ssl.get(), ssl_error, error_number, peer_text);
    return TlsState::kFailed;
  }

  // What a call of OpenSSL that did not succeed waits for.
  TlsState after(int result) {
    const int error_number = errno;
    const int ssl_error = SSL_get_error(ssl.get(), result);
    switch (ssl_error) {
      case SSL_ERROR_WANT_READ: return TlsState::kWantRead;
      case SSL_ERROR_WANT_WRITE: return TlsState::kWantWrite;
      case SSL_ERROR_ZERO_RETURN: return TlsState::kClosed;
      default: return fail(ssl_error, error_number);
    }
  }

  TlsState send_output() {
    if (send_error) return TlsState::kFailed;
    while (output.size() > 0) {
      const ssize_t sent = ::send(socket, output.data(), output.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0) {
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return TlsState::kWantWrite;
        send_error = Error::from_errno(errno, "send to " + peer_text);
        return TlsState::kFailed;
      }
      output.consume(static_cast<std::size_t>(sent));
      bytes_sent += static_cast<std::uint64_t>(sent);
    }
    return TlsState::kOk;
  }
};

TlsStream::TlsStream(std::unique_ptr<State> state) : state_(std::move(state)) {}
TlsStream::~TlsStream() = default;

Result<std::unique_ptr<TlsStream>> TlsStream::make(std::shared_ptr<const TlsContext> context, int socket,
                                                   std::string peer_text) {
  auto state = std::make_unique<State>();
  state->context = std::move(context);
  state->socket = socket;
  state->peer_text = std::move(peer_text);
  state->ssl.reset(SSL_new(state->context->native()));
  BioPtr input(BIO_new_socket(socket, BIO_NOCLOSE));
  BioPtr output(BIO_new(output_method()));
  if (!state->ssl || !input || !output) return Error(ErrorKind::kInternal, "start tls: " + take_openssl_error());
  BIO_set_data(output.get(), &state->output);
  BIO_set_init(output.get(), 1);
  state->input = input.get();
  SSL_set_bio(state->ssl.get(), input.release(), output.release());
  if (state->context->side() == TlsSide::kServer) {
    SSL_set_accept_state(state->ssl.get());
  } else {
    SSL_set_connect_state(state->ssl.get());
  }
  return std::unique_ptr<TlsStream>(new TlsStream(std::move(state)));
}

TlsState TlsStream::handshake() {
  ERR_clear_error();
  errno = 0;
  const int result = SSL_do_handshake(state_->ssl.get());
  const TlsState state = result == 1 ? TlsState::kOk : state_->after(result);
  if (state == TlsState::kFailed) return state;
  if (state == TlsState::kClosed) return state_->fail(SSL_ERROR_ZERO_RETURN, 0);
  const TlsState flushed = state_->send_output();
  return flushed == TlsState::kOk ? state : flushed;
}

Result<PeerIdentity> TlsStream::peer() const {
  const X509Ptr certificate(SSL_get1_peer_certificate(state_->ssl.get()));
  if (!certificate || SSL_get_verify_result(state_->ssl.get()) != X509_V_OK) {
    return Error(ErrorKind::kRefused, state_->peer_text + " has no proved certificate");
  }
  ASSIGN_OR_RETURN(WireIdentity identity, certificate_identity(certificate.get()));
  return PeerIdentity{std::move(identity), certificate_sha256(certificate.get())};
}

TlsResult TlsStream::read(std::span<std::byte> out) {
  if (state_->error) return {TlsState::kFailed, 0};
  std::size_t total = 0;
  while (total < out.size()) {
    ERR_clear_error();
    errno = 0;
    std::size_t bytes = 0;
    const int result = SSL_read_ex(state_->ssl.get(), out.data() + total, out.size() - total, &bytes);
    if (result == 1) {
      total += bytes;
      continue;
    }
    const TlsState state = state_->after(result);
    // What was read before counts first; the state comes back with the next call.
    return total > 0 ? TlsResult{TlsState::kOk, total} : TlsResult{state, 0};
  }
  return {TlsState::kOk, total};
}

TlsResult TlsStream::write(std::span<const std::byte> data) {
  if (state_->error || state_->send_error) return {TlsState::kFailed, 0};
  std::size_t total = 0;
  while (total < data.size()) {
    if (state_->output.size() >= kSendBytes) {
      if (const TlsState state = state_->send_output(); state != TlsState::kOk) return {state, total};
    }
    ERR_clear_error();
    errno = 0;
    std::size_t bytes = 0;
    const int result =
        SSL_write_ex(state_->ssl.get(), data.data() + total, std::min(kRecordBytes, data.size() - total), &bytes);
    if (result != 1) return {state_->after(result), total};
    total += bytes;
  }
  return {TlsState::kOk, total};
}

TlsState TlsStream::flush() { return state_->send_output(); }
std::size_t TlsStream::output_pending() const { return state_->output.size(); }
std::uint64_t TlsStream::bytes_sent() const { return state_->bytes_sent; }
std::uint64_t TlsStream::bytes_received() const { return BIO_number_read(state_->input); }

void TlsStream::shutdown() {
  if (!SSL_in_init(state_->ssl.get()) && !state_->error) {
    ERR_clear_error();
    SSL_shutdown(state_->ssl.get());
    ERR_clear_error();
  }
}

const Error& TlsStream::error() const {
  if (state_->error) return *state_->error;
  CHECK(state_->send_error.has_value());
  return *state_->send_error;
}

}  // namespace understudy
