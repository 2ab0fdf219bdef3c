// SPDX-License-Identifier: Apache-2.0
// The keys and rules of our TLS: version 1.3 only, both certificates required, one authority, no session resumption.
// Whether the peer is who we want (role and name) is the session's decision (session.h), so that it can be refused in
// words. Sources: SSL_CTX_new(3), SSL_CTX_set_verify(3), RFC 8446.
//
// Threads: immutable after load(); may be shared.
#pragma once

#include <memory>
#include <string>

#include "daemon/base/result.h"
#include "daemon/wire/identity.h"

struct ssl_ctx_st;

namespace understudy {

struct TlsFiles {
  std::string authority;    // PEM certificate of the authority that signed both ends
  std::string certificate;  // PEM certificate of this end
  std::string key;          // its PEM private key; must not be readable by others
  bool operator==(const TlsFiles&) const = default;
};

enum class TlsSide : std::uint8_t { kClient, kServer };

// Whether the other end must have a certificate. Optional: who has none gets through the handshake, and
// TlsStream::peer() then is an error; a wrong certificate ends the handshake all the same. Only for a server that hands
// out certificates; it then also sends the authority's, for enroll() of the other end.
enum class TlsPeer : std::uint8_t { kRequired, kOptional };

class TlsContext {
 public:
  // Reads and checks the three files: parseable, key and certificate belong together, key not open to all. Does not
  // judge expiry or identity of the own certificate: the peer does, by its clock. Errors name the file.
  static Result<std::shared_ptr<const TlsContext>> load(const TlsFiles& files, TlsSide side,
                                                        TlsPeer peer = TlsPeer::kRequired);
  // The same, when the certificate is that of `own`; else kInvalidConfig, saying whose it is.
  static Result<std::shared_ptr<const TlsContext>> load_as(const TlsFiles& files, TlsSide side,
                                                           const WireIdentity& own);
  // A client that has no certificate yet, and knows its authority only by the SHA-256 of the DER form of that one's
  // certificate (64 hex digits): the server must send the authority's certificate, and one of its own that this signed.
  static Result<std::shared_ptr<const TlsContext>> for_enrolment(std::string authority_sha256);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // What the own certificate says.
  const Result<WireIdentity>& own_identity() const { return own_identity_; }
  std::uint64_t own_not_after_ns() const { return own_not_after_ns_; }
  TlsSide side() const { return side_; }
  ssl_ctx_st* native() const { return context_; }

 private:
  TlsContext(ssl_ctx_st* context, TlsSide side, Result<WireIdentity> own_identity, std::uint64_t own_not_after_ns);

  std::string pinned_sha256_;  // of for_enrolment()

  ssl_ctx_st* context_;
  TlsSide side_;
  Result<WireIdentity> own_identity_;
  std::uint64_t own_not_after_ns_;
};

// For --check-config: whether the files can be loaded as `own` and the certificate has not expired by `now_wall_ns`.
Status check_tls_files(const TlsFiles& files, TlsSide side, const WireIdentity& own, std::uint64_t now_wall_ns);

}  // namespace understudy
