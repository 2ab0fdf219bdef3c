// SPDX-License-Identifier: Apache-2.0
// The small certificate authority behind mutual TLS: one self-signed authority per installation, one certificate per
// agent and receiver. P-256 keys; identity in the subject alternative name (identity.h). Private keys are written with
// mode 0600, and no file is ever overwritten.
//
// These functions do file I/O and are for tools; thread-safe.
// Sources: RFC 5280, OpenSSL 3 X509_new(3), X509V3_EXT_nconf_nid(3), EVP_EC_gen(3).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "daemon/base/result.h"
#include "daemon/wire/identity.h"

namespace understudy {

inline constexpr int kPkiAuthorityDays = 3650;
inline constexpr int kPkiCertificateDaysDefault = 1825;

// File names inside a directory.
std::string pki_authority_certificate_path(std::string_view directory);               // <dir>/ca.crt
std::string pki_authority_key_path(std::string_view directory);                       // <dir>/ca.key
std::string pki_certificate_path(std::string_view directory, std::string_view name);  // <dir>/<name>.crt
std::string pki_key_path(std::string_view directory, std::string_view name);          // <dir>/<name>.key

// Makes the directory (mode 0700) when it is missing, and in it ca.key and ca.crt. kAlreadyExists when one of the two
// is there already.
Status pki_init(const std::string& directory);

// Signs a new key with the authority in `directory` and writes <name>.key, <name>.crt and, for convenience, the
// authority's ca.crt to `out_directory` (made when missing; an equal ca.crt may be there already).
// `days`: 1 to what is left of the authority's life. kInvalidArgument for a bad name or days, kNotFound without an
// authority, kAlreadyExists when a file of that name is there.
Status pki_issue(const std::string& directory, WireRole role, const std::string& name, const std::string& out_directory,
                 int days = kPkiCertificateDaysDefault);

// A key made where it stays, and the request to have it signed (PKCS #10).
struct CertificateRequest {
  std::string key_pem;
  std::string request_pem;
};
Result<CertificateRequest> pki_make_request();

struct SignedCertificate {
  std::string certificate_pem;
  std::string authority_pem;
};
// Signs the request's key for `identity`, whatever the request says of a name. kInvalidArgument when it is no request,
// when it is not signed by the very key it is about, or when that is no P-256 key; else as pki_issue().
Result<SignedCertificate> pki_sign_request(const std::string& directory, const WireIdentity& identity,
                                           const std::string& request_pem, int days = kPkiCertificateDaysDefault);

// Writes what pki_make_request() and pki_sign_request() made as pki_issue() would have, after having checked that they
// belong together and that the certificate is for `identity`.
Status pki_store(const std::string& out_directory, const WireIdentity& identity, const std::string& key_pem,
                 const SignedCertificate& certificate);

// SHA-256 of the DER form of the authority's certificate, lower-case hex: by that a node knows it which enrols.
Result<std::string> pki_authority_sha256(const std::string& certificate_path);

struct CertificateInfo {
  bool is_authority = false;
  std::string subject;  // one line, RFC 2253
  std::string issuer;
  std::string identity;             // "understudy:agent:web-1"; empty for an authority or a foreign certificate
  std::string serial;               // hex
  std::string sha256;               // of the DER form, hex
  std::uint64_t not_before_ns = 0;  // wall clock, since 1970
  std::uint64_t not_after_ns = 0;
};

// Reads one PEM certificate.
Result<CertificateInfo> pki_show(const std::string& certificate_path);

}  // namespace understudy
