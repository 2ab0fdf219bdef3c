// SPDX-License-Identifier: Apache-2.0
// How a node comes to its certificate: with a token that is good once. Blocks; for tools. Thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "daemon/base/result.h"
#include "daemon/wire/identity.h"

namespace understudy {

// A token as people carry it to the node: "understudy1.<secret>.<sha256 of the authority's certificate>".
struct EnrolmentToken {
  std::string secret;            // 32 lower-case hex digits
  std::string authority_sha256;  // 64
  std::string to_text() const;
  static Result<EnrolmentToken> parse(std::string_view text);  // kInvalidArgument; never repeats the secret
};

// What is kept of a secret where tokens are made: its SHA-256.
std::string enrolment_secret_sha256(const std::string& secret);

struct EnrolmentOptions {
  std::string host;
  std::uint16_t port = 0;
  EnrolmentToken token;
  std::string out_directory;  // gets <name>.key, <name>.crt and ca.crt
  std::uint64_t timeout_ns = 30'000'000'000;
};

// Makes a key here, has it signed by the orchestrator, writes key and certificate. The result is who this node is now.
// kRefused, with the orchestrator's words, for a token that is unknown, used or expired; the token is used up also when
// the answer is lost. Nothing is written unless all of it is right.
Result<WireIdentity> enroll_node(const EnrolmentOptions& options);

}  // namespace understudy
