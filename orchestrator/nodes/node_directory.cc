// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/nodes/node_directory.h"

#include "daemon/base/text.h"
#include "daemon/base/uuid.h"
#include "daemon/node/enroll.h"
#include "daemon/wire/frame_codec.h"
#include "daemon/wire/pki.h"

namespace understudy {

namespace {

constexpr std::size_t kMachineBytesMax = 128;

std::string fresh_secret() {
  // Two version 4 UUIDs have 244 random bits; a digest of them is 128 of these.
  const std::string random = Uuid::random().to_string() + Uuid::random().to_string();
  return enrolment_secret_sha256(random).substr(0, 32);
}

}  // namespace

Result<std::unique_ptr<NodeDirectory>> NodeDirectory::open(OrchestratorState& state, const Clock& clock,
                                                           std::string authority_directory) {
  std::unique_ptr<NodeDirectory> directory(new NodeDirectory(state, clock, std::move(authority_directory)));
  ASSIGN_OR_RETURN(const std::vector<KnownNode> nodes, state.nodes());
  for (const KnownNode& node : nodes) {
    ASSIGN_OR_RETURN(const WireRole role, parse_wire_role(node.role));
    directory->known_[{role, node.name}] = node;
  }
  return directory;
}

Status NodeDirectory::save(const KnownNode& node) {
  RETURN_IF_ERROR(state_.write([&] { return state_.set_node(node); }));
  ASSIGN_OR_RETURN(const WireRole role, parse_wire_role(node.role));
  known_[{role, node.name}] = node;
  return ok_status();
}

Result<std::string> NodeDirectory::make_token(WireRole role, const std::string& name, std::uint64_t lifetime_ns,
                                              const std::string& by) {
  if (authority_directory_.empty()) {
    return Error(ErrorKind::kUnsupported,
                 "nodes cannot enrol here: set 'nodes.authority_directory' to the directory of ca.crt and ca.key");
  }
  if (role == WireRole::kOrchestrator) {
    return Error(ErrorKind::kInvalidArgument, "a token is for an agent or a receiver");
  }
  if (!is_valid_wire_name(name) || name == "ca") {
    return Error(ErrorKind::kInvalidArgument, quote(name) +
                                                  " is no name of a node: 1 to 64 letters, digits, '.', '_' "
                                                  "and '-', beginning with a letter, digit or '_'");
  }
  if (lifetime_ns < kTokenLifetimeNsMin || lifetime_ns > kTokenLifetimeNsMax) {
    return Error(ErrorKind::kInvalidArgument,
                 "a token is good for 1min to 7d, not for " + format_duration_exact_ns(lifetime_ns));
  }
  ASSIGN_OR_RETURN(std::string digest, pki_authority_sha256(pki_authority_certificate_path(authority_directory_)));
  const EnrolmentToken token{fresh_secret(), std::move(digest)};
  Enrolment made;
  made.secret_sha256 = enrolment_secret_sha256(token.secret);
  made.role = wire_role_name(role);
  made.name = name;
  made.made_by = by;
  made.made_ns = clock_.wall_ns();
  made.expires_ns = made.made_ns + lifetime_ns;
  RETURN_IF_ERROR(state_.write([&] { return state_.set_enrolment(made, made.made_ns); }));
  return token.to_text();
}

Result<Json> NodeDirectory::enroll(const Json& request) {
  const std::uint64_t now_ns = clock_.wall_ns();
  ASSIGN_OR_RETURN(const std::optional<Enrolment> found,
                   state_.enrolment(enrolment_secret_sha256(request.at("token").as_string(""))));
  if (!found) return Error(ErrorKind::kRefused, "the token is not known here; make a new one");
  if (found->used_ns != 0) {
    return Error(ErrorKind::kRefused, "the token was used on " + format_time_utc(found->used_ns) +
                                          " already; make a new one, and find out who that was if it was not you");
  }
  // A clock that was set back must not make a token live longer than from its making.
  if (now_ns >= found->expires_ns || now_ns < found->made_ns) {
    return Error(ErrorKind::kRefused,
                 "the token expired on " + format_time_utc(found->expires_ns) + "; make a new one");
  }
  ASSIGN_OR_RETURN(const WireRole role, parse_wire_role(found->role));
  const WireIdentity identity{role, found->name};
  Enrolment used = *found;
  used.used_ns = now_ns;
  // Another machine may be it from now on: this is how a lost host is replaced.
  KnownNode node{found->role, found->name, "", now_ns};
  const Status written = state_.write([&]() -> Status {
    RETURN_IF_ERROR(state_.set_enrolment(used, now_ns));
    return state_.set_node(node);
  });
  if (!written.ok()) return written.error();
  known_[identity] = node;
  ASSIGN_OR_RETURN(const SignedCertificate made,
                   pki_sign_request(authority_directory_, identity, request.at("request").as_string("")));
  Json answer = Json::object();
  answer["role"] = found->role;
  answer["name"] = found->name;
  answer["certificate"] = made.certificate_pem;
  answer["authority"] = made.authority_pem;
  return answer;
}

Status NodeDirectory::admit(const WireIdentity& identity, const Json& hello) {
  const std::string machine = hello.at("machine").as_string("").substr(0, kMachineBytesMax);
  const auto known = known_.find(identity);
  if (known != known_.end() && known->second.machine == machine) return ok_status();
  if (known == known_.end() || known->second.machine.empty()) {
    KnownNode node{std::string(wire_role_name(identity.role)), identity.name, machine,
                   known == known_.end() ? 0 : known->second.enrolled_ns};
    return save(node);
  }
  return Error(ErrorKind::kRefused, "the certificate of " + identity.to_text() + " is used by machine " +
                                        quote(machine) + ", but that node is machine " + quote(known->second.machine) +
                                        ". Is this a copy of it? If it has moved: 'understudyctl node forget " +
                                        std::string(wire_role_name(identity.role)) + " " + identity.name + "'");
}

Status NodeDirectory::forget_machine(const WireIdentity& identity) {
  const auto known = known_.find(identity);
  if (known == known_.end() || known->second.machine.empty()) {
    return Error(ErrorKind::kNotFound, "no machine is known for " + identity.to_text());
  }
  KnownNode node = known->second;
  node.machine.clear();
  return save(node);
}

}  // namespace understudy
