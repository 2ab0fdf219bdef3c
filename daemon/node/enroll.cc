// SPDX-License-Identifier: Apache-2.0
#include "daemon/node/enroll.h"

#include <poll.h>

#include <algorithm>

#include "daemon/base/checksum.h"
#include "daemon/base/clock.h"
#include "daemon/base/limits.h"
#include "daemon/base/text.h"
#include "daemon/node/node_channel.h"
#include "daemon/node/node_connect.h"
#include "daemon/wire/pki.h"
#include "daemon/wire/tls_context.h"

namespace understudy {

namespace {

constexpr std::string_view kTokenBegin = "understudy1.";
constexpr std::size_t kSecretDigits = 32;
constexpr std::size_t kDigestDigits = 64;

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// Sends one message and waits for the answer to it.
Result<Json> ask(NodeChannel& channel, int fd, const Json& question, std::uint64_t deadline_ns) {
  bool asked = false;
  while (true) {
    Status status = channel.advance();
    if (auto answer = channel.take()) return std::move(*answer);
    if (!status.ok()) return std::move(status).error();
    if (channel.is_open() && !asked) {
      // TLS has proved its certificate; this is the orchestrator's, and not just anybody's of the same authority.
      ASSIGN_OR_RETURN(const PeerIdentity peer, channel.peer());
      if (peer.identity.role != WireRole::kOrchestrator) {
        return Error(ErrorKind::kRefused, "at this address is " + peer.identity.to_text() + ", not an orchestrator");
      }
      RETURN_IF_ERROR(channel.send(question));
      asked = true;
      continue;
    }
    if (channel.has_more()) continue;
    RETURN_IF_ERROR(
        wait_for_socket(fd, static_cast<short>(POLLIN | (channel.wants_write() ? POLLOUT : 0)), deadline_ns, -1));
  }
}

}  // namespace

std::string EnrolmentToken::to_text() const { return std::string(kTokenBegin) + secret + "." + authority_sha256; }

Result<EnrolmentToken> EnrolmentToken::parse(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ' || text.back() == '\r')) text.remove_suffix(1);
  const Error bad(ErrorKind::kInvalidArgument,
                  "this is no enrolment token; it begins with '" + std::string(kTokenBegin) + "' and has " +
                      std::to_string(kTokenBegin.size() + kSecretDigits + 1 + kDigestDigits) +
                      " characters: copy all of what 'understudyctl enroll-token' printed");
  if (text.size() != kTokenBegin.size() + kSecretDigits + 1 + kDigestDigits || !text.starts_with(kTokenBegin))
    return bad;
  text.remove_prefix(kTokenBegin.size());
  EnrolmentToken token{std::string(text.substr(0, kSecretDigits)), std::string(text.substr(kSecretDigits + 1))};
  if (text[kSecretDigits] != '.' || !is_hex(token.secret) || !is_hex(token.authority_sha256)) return bad;
  return token;
}

std::string enrolment_secret_sha256(const std::string& secret) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(secret)));
  return to_hex(hash.digest());
}

Result<WireIdentity> enroll_node(const EnrolmentOptions& options) {
  const std::uint64_t deadline_ns = system_clock().boot_ns() + options.timeout_ns;
  ASSIGN_OR_RETURN(const CertificateRequest request, pki_make_request());
  ASSIGN_OR_RETURN(const auto context, TlsContext::for_enrolment(options.token.authority_sha256));
  ASSIGN_OR_RETURN(const UniqueFd fd, connect_node(options.host, options.port, deadline_ns, -1));
  ASSIGN_OR_RETURN(auto stream, TlsStream::make(context, fd.get(), "orchestrator at '" + options.host + "'"));
  NodeChannel channel(std::move(stream), kNodeFrameBytesMax);
  Json question = Json::object();
  question["type"] = "enroll";
  question["protocol"] = kNodeProtocol;
  question["token"] = options.token.secret;
  question["request"] = request.request_pem;
  ASSIGN_OR_RETURN(const Json answer, ask(channel, fd.get(), question, deadline_ns));
  channel.close();
  if (answer.at("type").as_string("") != "enrolled") {
    return Error(ErrorKind::kRefused,
                 "the orchestrator refused: " + printable(answer.at("reason").as_string("it gave no reason")));
  }
  ASSIGN_OR_RETURN(const WireRole role, parse_wire_role(answer.at("role").as_string("")));
  const WireIdentity identity{role, answer.at("name").as_string("")};
  const SignedCertificate made{answer.at("certificate").as_string(""), answer.at("authority").as_string("")};
  RETURN_IF_ERROR(pki_store(options.out_directory, identity, request.key_pem, made));
  return identity;
}

}  // namespace understudy
