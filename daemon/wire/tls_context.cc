// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/tls_context.h"

#include <sys/stat.h>

#include <cerrno>

#include "daemon/base/atomic_file.h"
#include "daemon/wire/openssl_util.h"
#include "daemon/wire/tls_words.h"

namespace understudy {

namespace {

// The certificates in it stay whose they are.
void free_stack(STACK_OF(X509)* stack) { sk_X509_free(stack); }

// One read(2) fetches this much ciphertext.
constexpr std::size_t kReadBufferBytes = 256u << 10;
// AES-128 first: it is the fastest with the instructions every server has, and strong enough.
constexpr const char* kCipherSuites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

Status check_key_mode(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return Error::from_errno(errno, "read private key '" + path + "'");
  if ((status.st_mode & (S_IROTH | S_IWOTH)) != 0) {
    return Error(ErrorKind::kInvalidConfig,
                 "private key '" + path + "' can be read or written by everybody; run 'chmod 600 " + path + "'");
  }
  return ok_status();
}

Status configure(SSL_CTX* context, TlsPeer peer) {
  if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(context, kCipherSuites) != 1 || SSL_CTX_set_num_tickets(context, 0) != 1) {
    return Error(ErrorKind::kInternal, "set up tls: " + take_openssl_error());
  }
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(context,
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_default_read_buffer_len(context, kReadBufferBytes);
  SSL_CTX_set_verify(context,
                     SSL_VERIFY_PEER | (peer == TlsPeer::kRequired ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                     &note_verification);
  SSL_CTX_set_verify_depth(context, 1);
  return ok_status();
}

// Verifies with the one certificate of the chain that has the wanted digest as the only authority. `pinned` is the text
// of the digest.
int verify_pinned(X509_STORE_CTX* store, void* pinned) {
  const auto& wanted = *static_cast<const std::string*>(pinned);
  STACK_OF(X509)* sent = X509_STORE_CTX_get0_untrusted(store);
  std::unique_ptr<STACK_OF(X509), OpensslDeleter<free_stack>> trusted(sk_X509_new_null());
  for (int i = 0; trusted && i < sk_X509_num(sent); ++i) {
    X509* certificate = sk_X509_value(sent, i);
    if (certificate_sha256(certificate) != wanted || X509_check_ca(certificate) != 1) continue;
    if (sk_X509_push(trusted.get(), certificate) == 0) return 0;
  }
  if (!trusted) return 0;
  X509_STORE_CTX_set0_trusted_stack(store, trusted.get());
  const int verified = X509_verify_cert(store);
  X509_STORE_CTX_set0_trusted_stack(store, nullptr);  // it does not outlive this call
  return verified == 1 ? 1 : 0;
}

}  // namespace

TlsContext::TlsContext(ssl_ctx_st* context, TlsSide side, Result<WireIdentity> own_identity,
                       std::uint64_t own_not_after_ns)
    : context_(context), side_(side), own_identity_(std::move(own_identity)), own_not_after_ns_(own_not_after_ns) {}

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

Result<std::shared_ptr<const TlsContext>> TlsContext::for_enrolment(std::string authority_sha256) {
  SslContextPtr context(SSL_CTX_new(TLS_client_method()));
  if (!context) return Error(ErrorKind::kInternal, "set up tls: " + take_openssl_error());
  RETURN_IF_ERROR(configure(context.get(), TlsPeer::kRequired));
  std::shared_ptr<TlsContext> made(
      new TlsContext(context.release(), TlsSide::kClient,
                     Error(ErrorKind::kNotFound, "a node that enrols has no certificate yet"), 0));
  made->pinned_sha256_ = std::move(authority_sha256);
  SSL_CTX_set_cert_verify_callback(made->context_, &verify_pinned, &made->pinned_sha256_);
  return std::shared_ptr<const TlsContext>(std::move(made));
}

Result<std::shared_ptr<const TlsContext>> TlsContext::load(const TlsFiles& files, TlsSide side, TlsPeer peer) {
  ASSIGN_OR_RETURN(const std::string authority_pem, read_file(files.authority, kPemBytesMax));
  ASSIGN_OR_RETURN(const std::string certificate_pem, read_file(files.certificate, kPemBytesMax));
  RETURN_IF_ERROR(check_key_mode(files.key));
  ASSIGN_OR_RETURN(const std::string key_pem, read_file(files.key, kPemBytesMax));
  ASSIGN_OR_RETURN(const X509Ptr authority, parse_certificate_pem(authority_pem, files.authority));
  ASSIGN_OR_RETURN(const X509Ptr certificate, parse_certificate_pem(certificate_pem, files.certificate));
  ASSIGN_OR_RETURN(const EvpPkeyPtr key, parse_key_pem(key_pem, files.key));
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    ERR_clear_error();
    return Error(ErrorKind::kInvalidConfig, "'" + files.key + "' is not the key of '" + files.certificate + "'");
  }
  if (X509_check_ca(authority.get()) != 1) {
    return Error(ErrorKind::kInvalidConfig, "'" + files.authority + "' is not the certificate of an authority");
  }
  SslContextPtr context(SSL_CTX_new(side == TlsSide::kServer ? TLS_server_method() : TLS_client_method()));
  if (!context) return Error(ErrorKind::kInternal, "set up tls: " + take_openssl_error());
  RETURN_IF_ERROR(configure(context.get(), peer));
  if (SSL_CTX_use_certificate(context.get(), certificate.get()) != 1 ||
      SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1 ||
      X509_STORE_add_cert(SSL_CTX_get_cert_store(context.get()), authority.get()) != 1) {
    return Error(ErrorKind::kInvalidConfig, "use certificate '" + files.certificate + "': " + take_openssl_error());
  }
  if (peer == TlsPeer::kOptional && SSL_CTX_add1_chain_cert(context.get(), authority.get()) != 1) {
    return Error(ErrorKind::kInternal, "set up tls: " + take_openssl_error());
  }
  const std::uint64_t not_after_ns = asn1_time_to_ns(X509_get0_notAfter(certificate.get()));
  return std::shared_ptr<const TlsContext>(
      new TlsContext(context.release(), side, certificate_identity(certificate.get()), not_after_ns));
}

Result<std::shared_ptr<const TlsContext>> TlsContext::load_as(const TlsFiles& files, TlsSide side,
                                                              const WireIdentity& own) {
  ASSIGN_OR_RETURN(auto context, load(files, side));
  const Result<WireIdentity>& found = context->own_identity();
  if (!found.ok()) return Error(ErrorKind::kInvalidConfig, "'" + files.certificate + "': " + found.error().message());
  if (!(*found == own)) {
    return Error(ErrorKind::kInvalidConfig,
                 "'" + files.certificate + "' is the certificate of " + found->to_text() + ", not of " + own.to_text());
  }
  return context;
}

Status check_tls_files(const TlsFiles& files, TlsSide side, const WireIdentity& own, std::uint64_t now_wall_ns) {
  ASSIGN_OR_RETURN(const auto context, TlsContext::load_as(files, side, own));
  if (context->own_not_after_ns() <= now_wall_ns) {
    return Error(ErrorKind::kInvalidConfig, "'" + files.certificate + "' has expired");
  }
  return ok_status();
}

}  // namespace understudy
