// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/pki.h"

#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "daemon/base/atomic_file.h"
#include "daemon/base/checksum.h"
#include "daemon/base/text.h"
#include "daemon/base/unique_fd.h"
#include "daemon/wire/frame_codec.h"
#include "daemon/wire/openssl_util.h"

namespace understudy {

namespace {

using X509ReqPtr = std::unique_ptr<X509_REQ, OpensslDeleter<X509_REQ_free>>;

constexpr long kSecondsPerDay = 86400;
// Certificates are valid a little before they were made, for peers whose clock is behind.
constexpr long kBackdateSeconds = 3600;

Error openssl_failed(std::string_view operation) {
  return Error(ErrorKind::kInternal, std::string(operation) + ": " + take_openssl_error());
}

Result<std::string> to_pem(const X509* certificate) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (!bio || PEM_write_bio_X509(bio.get(), certificate) != 1) return openssl_failed("encode certificate");
  char* data = nullptr;
  const long length = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<std::size_t>(length));
}

Result<std::string> to_pem(EVP_PKEY* key) {
  BioPtr bio(BIO_new(BIO_s_secmem()));
  if (!bio || PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return openssl_failed("encode private key");
  }
  char* data = nullptr;
  const long length = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<std::size_t>(length));
}

Status add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  std::unique_ptr<X509_EXTENSION, OpensslDeleter<X509_EXTENSION_free>> extension(
      X509V3_EXT_nconf_nid(nullptr, &context, nid, value.c_str()));
  if (!extension || X509_add_ext(certificate, extension.get(), -1) != 1) {
    return openssl_failed("add certificate extension " + std::string(OBJ_nid2sn(nid)));
  }
  return ok_status();
}

// A certificate for `key` with everything but its extensions and signature.
Result<X509Ptr> new_certificate(EVP_PKEY* key, const std::string& common_name, const X509_NAME* issuer, int days) {
  X509Ptr certificate(X509_new());
  unsigned char serial[16];
  if (!certificate || RAND_bytes(serial, sizeof(serial)) != 1) return openssl_failed("make certificate");
  serial[0] = static_cast<unsigned char>((serial[0] & 0x7f) | 0x40);  // positive, and of constant length
  std::unique_ptr<BIGNUM, OpensslDeleter<BN_free>> number(BN_bin2bn(serial, sizeof(serial), nullptr));
  X509_NAME* subject = X509_get_subject_name(certificate.get());
  const auto* text = reinterpret_cast<const unsigned char*>(common_name.c_str());
  if (!number || X509_set_version(certificate.get(), X509_VERSION_3) != 1 ||
      BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate.get())) == nullptr ||
      X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, text, -1, -1, 0) != 1 ||
      X509_set_issuer_name(certificate.get(), issuer != nullptr ? issuer : subject) != 1 ||
      X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -kBackdateSeconds) == nullptr ||
      X509_gmtime_adj(X509_getm_notAfter(certificate.get()), days * kSecondsPerDay) == nullptr ||
      X509_set_pubkey(certificate.get(), key) != 1) {
    return openssl_failed("make certificate");
  }
  return certificate;
}

Status make_directory(const std::string& directory) {
  if (::mkdir(directory.c_str(), 0700) == 0 || errno == EEXIST) return ok_status();
  return Error::from_errno(errno, "make directory '" + directory + "'");
}

Status require_absent(const std::string& path) {
  struct stat status;
  if (::lstat(path.c_str(), &status) == 0) {
    return Error(ErrorKind::kAlreadyExists, "'" + path + "' exists already and is not overwritten");
  }
  if (errno != ENOENT) return Error::from_errno(errno, "look up '" + path + "'");
  return ok_status();
}

// A new file: never follows or replaces what is there. On an error no file is left.
Status write_new_file(const std::string& path, const std::string& content, mode_t mode) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
  if (!fd.valid()) return Error::from_errno(errno, "create '" + path + "'");
  std::size_t done = 0;
  while (done < content.size()) {
    const ssize_t written = ::write(fd.get(), content.data() + done, content.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) break;
    done += static_cast<std::size_t>(written);
  }
  if (done < content.size() || ::fchmod(fd.get(), mode) != 0 || ::fsync(fd.get()) != 0) {
    const Error error = Error::from_errno(errno, "write '" + path + "'");
    ::unlink(path.c_str());
    return error;
  }
  return ok_status();
}

// Key first: a certificate without its key would be useless, a key without certificate is merely left over. On an
// error neither is left.
Status write_pair(const std::string& key_path, EVP_PKEY* key, const std::string& certificate_path, X509* certificate) {
  ASSIGN_OR_RETURN(const std::string key_pem, to_pem(key));
  ASSIGN_OR_RETURN(const std::string certificate_pem, to_pem(certificate));
  RETURN_IF_ERROR(write_new_file(key_path, key_pem, 0600));
  if (auto status = write_new_file(certificate_path, certificate_pem, 0644); !status.ok()) {
    ::unlink(key_path.c_str());
    return status;
  }
  return fsync_directory(parent_directory(key_path));
}

struct Authority {
  X509Ptr certificate;
  EvpPkeyPtr key;
  std::string certificate_pem;
};

Result<Authority> load_authority(const std::string& directory) {
  const std::string certificate_path = pki_authority_certificate_path(directory);
  const std::string key_path = pki_authority_key_path(directory);
  Authority authority;
  auto pem = read_file(certificate_path, kPemBytesMax);
  auto key_pem = read_file(key_path, kPemBytesMax);
  for (const auto* file : {&pem, &key_pem}) {
    if (file->ok()) continue;
    Error error = file->error();
    if (error.kind() == ErrorKind::kNotFound) {
      return Error(ErrorKind::kNotFound, "no authority in '" + directory + "' (" + error.message() +
                                             "); make one with 'understudyctl pki init'");
    }
    return error;
  }
  ASSIGN_OR_RETURN(authority.certificate, parse_certificate_pem(*pem, certificate_path));
  ASSIGN_OR_RETURN(authority.key, parse_key_pem(*key_pem, key_path));
  authority.certificate_pem = std::move(*pem);
  if (X509_check_private_key(authority.certificate.get(), authority.key.get()) != 1) {
    ERR_clear_error();
    return Error(ErrorKind::kInvalidConfig, "'" + key_path + "' is not the key of '" + certificate_path + "'");
  }
  if (X509_check_ca(authority.certificate.get()) != 1) {
    return Error(ErrorKind::kInvalidConfig, "'" + certificate_path + "' is not the certificate of an authority");
  }
  return authority;
}

Status check_days(const X509* authority, int days) {
  const std::uint64_t now_ns = static_cast<std::uint64_t>(std::time(nullptr)) * 1'000'000'000ull;
  const std::uint64_t end_ns = asn1_time_to_ns(X509_get0_notAfter(authority));
  if (end_ns <= now_ns) {
    return Error(ErrorKind::kInvalidArgument, "the authority expired on " + format_time_utc(end_ns));
  }
  const std::uint64_t days_left = (end_ns - now_ns) / (kSecondsPerDay * 1'000'000'000ull);
  if (days < 1 || static_cast<std::uint64_t>(days) > days_left) {
    return Error(ErrorKind::kInvalidArgument, "certificate for " + std::to_string(days) + " days: allowed are 1 to " +
                                                  std::to_string(days_left) + ", as the authority expires on " +
                                                  format_time_utc(end_ns));
  }
  return ok_status();
}

// The certificate of `identity` for a key.
Result<X509Ptr> sign_key(const Authority& authority, const WireIdentity& identity, EVP_PKEY* key, int days) {
  X509* issuer = authority.certificate.get();
  ASSIGN_OR_RETURN(X509Ptr certificate, new_certificate(key, identity.name, X509_get_subject_name(issuer), days));
  X509* raw = certificate.get();
  RETURN_IF_ERROR(add_extension(raw, issuer, NID_basic_constraints, "critical,CA:FALSE"));
  RETURN_IF_ERROR(add_extension(raw, issuer, NID_key_usage, "critical,digitalSignature"));
  // Both: roles are told apart by the identity, with an error that names it.
  RETURN_IF_ERROR(add_extension(raw, issuer, NID_ext_key_usage, "clientAuth,serverAuth"));
  RETURN_IF_ERROR(add_extension(raw, issuer, NID_subject_key_identifier, "hash"));
  RETURN_IF_ERROR(add_extension(raw, issuer, NID_authority_key_identifier, "keyid"));
  RETURN_IF_ERROR(add_extension(raw, issuer, NID_subject_alt_name, "URI:" + identity.to_uri()));
  if (X509_sign(raw, authority.key.get(), EVP_sha256()) == 0) return openssl_failed("sign certificate");
  return certificate;
}

Status check_name(const std::string& name) {
  if (is_valid_wire_name(name) && name != "ca") return ok_status();
  return Error(ErrorKind::kInvalidArgument, "certificate name '" + printable(name) +
                                                "': allowed are 1 to 64 letters, digits, '.', '_' and '-', " +
                                                "beginning with a letter, digit or '_', and not 'ca'");
}

// The authority's certificate beside what it signed, for copying to the host in one go.
Status place_authority(const std::string& path, const std::string& pem) {
  auto present = read_file(path, kPemBytesMax);
  if (present.ok()) {
    if (*present == pem) return ok_status();
    return Error(ErrorKind::kAlreadyExists, "'" + path + "' is of another authority and is not overwritten");
  }
  if (present.error().kind() != ErrorKind::kNotFound) return std::move(present).error();
  return write_new_file(path, pem, 0644);
}

}  // namespace

std::string pki_authority_certificate_path(std::string_view directory) { return std::string(directory) + "/ca.crt"; }
std::string pki_authority_key_path(std::string_view directory) { return std::string(directory) + "/ca.key"; }
std::string pki_certificate_path(std::string_view directory, std::string_view name) {
  return std::string(directory) + "/" + std::string(name) + ".crt";
}
std::string pki_key_path(std::string_view directory, std::string_view name) {
  return std::string(directory) + "/" + std::string(name) + ".key";
}

Status pki_init(const std::string& directory) {
  const std::string key_path = pki_authority_key_path(directory);
  const std::string certificate_path = pki_authority_certificate_path(directory);
  RETURN_IF_ERROR(make_directory(directory));
  RETURN_IF_ERROR(require_absent(key_path));
  RETURN_IF_ERROR(require_absent(certificate_path));
  EvpPkeyPtr key(EVP_EC_gen("P-256"));
  if (!key) return openssl_failed("make P-256 key");
  ASSIGN_OR_RETURN(X509Ptr certificate, new_certificate(key.get(), "Understudy authority", nullptr, kPkiAuthorityDays));
  X509* raw = certificate.get();
  RETURN_IF_ERROR(add_extension(raw, raw, NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
  RETURN_IF_ERROR(add_extension(raw, raw, NID_key_usage, "critical,keyCertSign,cRLSign"));
  RETURN_IF_ERROR(add_extension(raw, raw, NID_subject_key_identifier, "hash"));
  if (X509_sign(raw, key.get(), EVP_sha256()) == 0) return openssl_failed("sign authority");
  return write_pair(key_path, key.get(), certificate_path, raw);
}

Status pki_issue(const std::string& directory, WireRole role, const std::string& name, const std::string& out_directory,
                 int days) {
  RETURN_IF_ERROR(check_name(name));
  ASSIGN_OR_RETURN(const Authority authority, load_authority(directory));
  RETURN_IF_ERROR(check_days(authority.certificate.get(), days));
  const std::string key_path = pki_key_path(out_directory, name);
  const std::string certificate_path = pki_certificate_path(out_directory, name);
  RETURN_IF_ERROR(make_directory(out_directory));
  RETURN_IF_ERROR(require_absent(key_path));
  RETURN_IF_ERROR(require_absent(certificate_path));
  EvpPkeyPtr key(EVP_EC_gen("P-256"));
  if (!key) return openssl_failed("make P-256 key");
  ASSIGN_OR_RETURN(const X509Ptr certificate, sign_key(authority, WireIdentity{role, name}, key.get(), days));
  RETURN_IF_ERROR(place_authority(pki_authority_certificate_path(out_directory), authority.certificate_pem));
  return write_pair(key_path, key.get(), certificate_path, certificate.get());
}

Result<CertificateRequest> pki_make_request() {
  EvpPkeyPtr key(EVP_EC_gen("P-256"));
  X509ReqPtr request(X509_REQ_new());
  if (!key || !request) return openssl_failed("make P-256 key");
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (!bio || X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) != 1 ||
      X509_REQ_set_pubkey(request.get(), key.get()) != 1 ||
      X509_REQ_sign(request.get(), key.get(), EVP_sha256()) == 0 ||
      PEM_write_bio_X509_REQ(bio.get(), request.get()) != 1) {
    return openssl_failed("make certificate request");
  }
  char* data = nullptr;
  const long length = BIO_get_mem_data(bio.get(), &data);
  CertificateRequest made;
  made.request_pem.assign(data, static_cast<std::size_t>(length));
  ASSIGN_OR_RETURN(made.key_pem, to_pem(key.get()));
  return made;
}

Result<SignedCertificate> pki_sign_request(const std::string& directory, const WireIdentity& identity,
                                           const std::string& request_pem, int days) {
  RETURN_IF_ERROR(check_name(identity.name));
  const auto bad = [](const char* why) {
    ERR_clear_error();
    return Error(ErrorKind::kInvalidArgument, std::string("certificate request: ") + why);
  };
  if (request_pem.size() > kPemBytesMax) return bad("it is too long");
  BioPtr bio(BIO_new_mem_buf(request_pem.data(), static_cast<int>(request_pem.size())));
  X509ReqPtr request(bio ? PEM_read_bio_X509_REQ(bio.get(), nullptr, nullptr, nullptr) : nullptr);
  if (!request) return bad("it is none in PEM form");
  EVP_PKEY* key = X509_REQ_get0_pubkey(request.get());
  char group[16] = "";
  std::size_t length = 0;
  if (key == nullptr || EVP_PKEY_get_group_name(key, group, sizeof(group), &length) != 1 ||
      std::string_view(group) != "prime256v1") {
    return bad("its key is no P-256 key");
  }
  if (X509_REQ_verify(request.get(), key) != 1) return bad("it is not signed by the key that it is about");
  ASSIGN_OR_RETURN(const Authority authority, load_authority(directory));
  RETURN_IF_ERROR(check_days(authority.certificate.get(), days));
  ASSIGN_OR_RETURN(const X509Ptr certificate, sign_key(authority, identity, key, days));
  ASSIGN_OR_RETURN(std::string pem, to_pem(certificate.get()));
  return SignedCertificate{std::move(pem), authority.certificate_pem};
}

Status pki_store(const std::string& out_directory, const WireIdentity& identity, const std::string& key_pem,
                 const SignedCertificate& made) {
  RETURN_IF_ERROR(check_name(identity.name));
  const std::string key_path = pki_key_path(out_directory, identity.name);
  const std::string certificate_path = pki_certificate_path(out_directory, identity.name);
  ASSIGN_OR_RETURN(const EvpPkeyPtr key, parse_key_pem(key_pem, key_path));
  ASSIGN_OR_RETURN(const X509Ptr certificate, parse_certificate_pem(made.certificate_pem, certificate_path));
  ASSIGN_OR_RETURN(const X509Ptr authority, parse_certificate_pem(made.authority_pem, "ca.crt"));
  ASSIGN_OR_RETURN(const WireIdentity is_for, certificate_identity(certificate.get()));
  if (!(is_for == identity)) {
    return Error(ErrorKind::kRefused, "the certificate is for " + is_for.to_text() + ", not for " + identity.to_text());
  }
  if (X509_check_private_key(certificate.get(), key.get()) != 1 ||
      X509_verify(certificate.get(), X509_get0_pubkey(authority.get())) != 1) {
    ERR_clear_error();
    return Error(ErrorKind::kRefused, "the certificate does not belong to this key and the authority it came with");
  }
  RETURN_IF_ERROR(make_directory(out_directory));
  RETURN_IF_ERROR(require_absent(key_path));
  RETURN_IF_ERROR(require_absent(certificate_path));
  RETURN_IF_ERROR(place_authority(pki_authority_certificate_path(out_directory), made.authority_pem));
  return write_pair(key_path, key.get(), certificate_path, certificate.get());
}

Result<std::string> pki_authority_sha256(const std::string& certificate_path) {
  ASSIGN_OR_RETURN(const std::string pem, read_file(certificate_path, kPemBytesMax));
  ASSIGN_OR_RETURN(const X509Ptr certificate, parse_certificate_pem(pem, certificate_path));
  return certificate_sha256(certificate.get());
}

Result<CertificateInfo> pki_show(const std::string& certificate_path) {
  ASSIGN_OR_RETURN(const std::string pem, read_file(certificate_path, kPemBytesMax));
  ASSIGN_OR_RETURN(const X509Ptr certificate, parse_certificate_pem(pem, certificate_path));
  CertificateInfo info;
  info.is_authority = X509_check_ca(certificate.get()) == 1;
  info.subject = name_to_text(X509_get_subject_name(certificate.get()));
  info.issuer = name_to_text(X509_get_issuer_name(certificate.get()));
  if (auto identity = certificate_identity(certificate.get()); identity.ok()) info.identity = identity->to_uri();
  const ASN1_INTEGER* serial = X509_get0_serialNumber(certificate.get());
  info.serial = to_hex(
      std::as_bytes(std::span(ASN1_STRING_get0_data(serial), static_cast<std::size_t>(ASN1_STRING_length(serial)))));
  info.sha256 = certificate_sha256(certificate.get());
  info.not_before_ns = asn1_time_to_ns(X509_get0_notBefore(certificate.get()));
  info.not_after_ns = asn1_time_to_ns(X509_get0_notAfter(certificate.get()));
  return info;
}

}  // namespace understudy
