// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/openssl_util.h"

#include <openssl/pem.h>

#include <ctime>

#include "daemon/base/checksum.h"
#include "daemon/base/text.h"

namespace understudy {

std::string take_openssl_error() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "no reason given";
  const char* reason = ERR_reason_error_string(code);
  if (reason != nullptr) return reason;
  char buffer[256];
  ERR_error_string_n(code, buffer, sizeof(buffer));
  return buffer;
}

Result<X509Ptr> parse_certificate_pem(const std::string& pem, const std::string& path) {
  BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  X509Ptr certificate(bio ? PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr) : nullptr);
  if (!certificate) {
    return Error(ErrorKind::kInvalidConfig,
                 "read certificate '" + path + "': not a PEM certificate: " + take_openssl_error());
  }
  return certificate;
}

Result<EvpPkeyPtr> parse_key_pem(const std::string& pem, const std::string& path) {
  BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  // Without a callback OpenSSL would ask for a passphrase on the terminal.
  const auto no_passphrase = [](char*, int, int, void*) { return 0; };
  EvpPkeyPtr key(bio ? PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr) : nullptr);
  if (!key) {
    return Error(ErrorKind::kInvalidConfig,
                 "read private key '" + path + "': not a PEM key without passphrase: " + take_openssl_error());
  }
  return key;
}

std::string name_to_text(const X509_NAME* name) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (!bio || X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253) < 0) return "unknown";
  char* data = nullptr;
  const long length = BIO_get_mem_data(bio.get(), &data);
  return printable(std::string_view(data, static_cast<std::size_t>(length)));
}

std::uint64_t asn1_time_to_ns(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return 0;
  const std::time_t seconds = timegm(&parts);
  return seconds < 0 ? 0 : static_cast<std::uint64_t>(seconds) * 1'000'000'000ull;
}

std::string certificate_sha256(const X509* certificate) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  if (X509_digest(certificate, EVP_sha256(), digest, &length) != 1) return std::string();
  return to_hex(std::as_bytes(std::span(digest, length)));
}

Result<WireIdentity> certificate_identity(const X509* certificate) {
  const std::string subject = name_to_text(X509_get_subject_name(certificate));
  std::unique_ptr<GENERAL_NAMES, OpensslDeleter<GENERAL_NAMES_free>> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  std::string found;
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    const std::string uri(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.uniformResourceIdentifier)),
                          static_cast<std::size_t>(ASN1_STRING_length(name->d.uniformResourceIdentifier)));
    if (!uri.starts_with("understudy:")) continue;
    if (!found.empty()) {
      return Error(ErrorKind::kRefused, "certificate '" + subject + "' carries more than one understudy identity");
    }
    found = uri;
  }
  if (found.empty()) {
    return Error(ErrorKind::kRefused, "certificate '" + subject + "' carries no understudy identity; make one with " +
                                          "'understudyctl pki issue'");
  }
  auto identity = parse_wire_identity(found);
  if (!identity.ok()) return Error(ErrorKind::kRefused, "certificate '" + subject + "': " + identity.error().message());
  return identity;
}

}  // namespace understudy
