// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/tls_words.h"

#include <cerrno>

#include "daemon/base/text.h"

namespace understudy {

namespace {

void free_text(void*, void* text, CRYPTO_EX_DATA*, int, long, void*) { delete static_cast<std::string*>(text); }

// Where the text of a refused certificate hangs on its SSL.
int verification_index() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, &free_text);
  return index;
}

std::string words_of_verification(int code, X509* certificate) {
  if (certificate == nullptr) return X509_verify_cert_error_string(code);
  const std::string subject = "'" + name_to_text(X509_get_subject_name(certificate)) + "'";
  const std::string issuer = "'" + name_to_text(X509_get_issuer_name(certificate)) + "'";
  switch (code) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return "certificate " + subject + " expired on " +
             format_time_utc(asn1_time_to_ns(X509_get0_notAfter(certificate)));
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return "certificate " + subject + " is not valid before " +
             format_time_utc(asn1_time_to_ns(X509_get0_notBefore(certificate))) + "; are the clocks right?";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
      return "certificate " + subject + " is signed by another authority than ours (its issuer is " + issuer + ")";
    default: return "certificate " + subject + ": " + X509_verify_cert_error_string(code);
  }
}

// What the peer's alert means for whoever reads our log. Empty = no alert about certificates.
std::string words_of_alert(int reason) {
  switch (reason) {
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA: return "it does not know the authority that signed our certificate (unknown ca)";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED: return "our certificate has expired (certificate expired)";
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
      return "it finds our certificate bad: signed by another authority, not yet valid by its clock, or damaged (bad "
             "certificate)";
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
      return "our certificate's signature is not by the authority it trusts (decrypt error)";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN: return "it cannot accept our certificate (certificate unknown)";
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
      return "our certificate is not made for this use (unsupported certificate)";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED: return "our certificate was revoked (certificate revoked)";
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED: return "we sent no certificate (certificate required)";
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED: return "access denied";
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION: return "it does not speak TLS 1.3 (protocol version)";
    default: return std::string();
  }
}

}  // namespace

int note_verification(int preverified, X509_STORE_CTX* context) {
  if (preverified == 1) return 1;
  auto* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx()));
  if (ssl != nullptr && SSL_get_ex_data(ssl, verification_index()) == nullptr) {
    auto text = std::make_unique<std::string>(
        words_of_verification(X509_STORE_CTX_get_error(context), X509_STORE_CTX_get_current_cert(context)));
    if (SSL_set_ex_data(ssl, verification_index(), text.get()) == 1) text.release();
  }
  return 0;
}

Error describe_tls_failure(SSL* ssl, int ssl_error, int error_number, const std::string& peer) {
  const unsigned long code = ERR_peek_error();
  if (const auto* refused = static_cast<const std::string*>(SSL_get_ex_data(ssl, verification_index()))) {
    ERR_clear_error();
    return Error(ErrorKind::kRefused, "refused the certificate of " + peer + ": " + *refused);
  }
  if (ssl_error == SSL_ERROR_SSL && ERR_GET_LIB(code) == ERR_LIB_SSL) {
    const int reason = ERR_GET_REASON(code);
    if (const std::string words = words_of_alert(reason); !words.empty()) {
      ERR_clear_error();
      return Error(ErrorKind::kRefused, peer + " refused our certificate: " + words);
    }
    switch (reason) {
      case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        ERR_clear_error();
        return Error(ErrorKind::kRefused, peer + " sent no certificate");
      case SSL_R_UNEXPECTED_EOF_WHILE_READING:
        ERR_clear_error();
        return Error(ErrorKind::kClosed, peer + " closed the connection");
      case SSL_R_WRONG_VERSION_NUMBER:
      case SSL_R_HTTP_REQUEST:
        ERR_clear_error();
        return Error(ErrorKind::kRefused, peer + " does not speak TLS on this port");
      case SSL_R_UNSUPPORTED_PROTOCOL:
      case SSL_R_NO_PROTOCOLS_AVAILABLE:
        ERR_clear_error();
        return Error(ErrorKind::kRefused, peer + " does not speak TLS 1.3");
      default: break;
    }
  }
  if (ssl_error == SSL_ERROR_SYSCALL && code == 0) {
    ERR_clear_error();
    if (error_number == 0) return Error(ErrorKind::kClosed, peer + " closed the connection");
    return Error::from_errno(error_number, "connection with " + peer);
  }
  if (ssl_error == SSL_ERROR_ZERO_RETURN) {
    ERR_clear_error();
    return Error(ErrorKind::kClosed, peer + " closed the connection");
  }
  return Error(ErrorKind::kRefused, "tls with " + peer + ": " + take_openssl_error());
}

}  // namespace understudy
