// SPDX-License-Identifier: Apache-2.0
// Small things that every file using OpenSSL needs. Included by .cc files of this folder only: it pulls in OpenSSL.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <span>
#include <string>

#include "daemon/base/result.h"
#include "daemon/wire/identity.h"

namespace understudy {

template <auto kFree>
struct OpensslDeleter {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using X509Ptr = std::unique_ptr<X509, OpensslDeleter<X509_free>>;
using EvpPkeyPtr = std::unique_ptr<EVP_PKEY, OpensslDeleter<EVP_PKEY_free>>;
using BioPtr = std::unique_ptr<BIO, OpensslDeleter<BIO_free_all>>;
using SslContextPtr = std::unique_ptr<SSL_CTX, OpensslDeleter<SSL_CTX_free>>;
using SslPtr = std::unique_ptr<SSL, OpensslDeleter<SSL_free>>;

// The oldest error of this thread's queue as words, and empties the queue.
std::string take_openssl_error();

// Longer PEM files are refused.
inline constexpr std::size_t kPemBytesMax = 64u << 10;
Result<X509Ptr> parse_certificate_pem(const std::string& pem, const std::string& path);
Result<EvpPkeyPtr> parse_key_pem(const std::string& pem, const std::string& path);

// "CN=web-1" (RFC 2253).
std::string name_to_text(const X509_NAME* name);
// Since 1970; 0 when the certificate's time cannot be read.
std::uint64_t asn1_time_to_ns(const ASN1_TIME* time);
// Of the DER form, lower-case hex.
std::string certificate_sha256(const X509* certificate);
// The one `understudy:` URI of the certificate; an error says what is wrong with it.
Result<WireIdentity> certificate_identity(const X509* certificate);

}  // namespace understudy
