// SPDX-License-Identifier: Apache-2.0
// Commands about nodes: enroll-token and node at the orchestrator, enroll on the node.
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "daemon/base/atomic_file.h"
#include "daemon/base/text.h"
#include "daemon/control/control_client.h"
#include "daemon/node/enroll.h"
#include "daemon/wire/pki.h"
#include "tools/understudyctl/caller.h"
#include "tools/understudyctl/commands.h"

namespace understudy {

namespace {

constexpr std::uint16_t kNodesPort = 7601;
constexpr std::size_t kTokenFileBytesMax = 4096;

Error bad(const std::string& text) { return Error(ErrorKind::kInvalidArgument, text); }

Result<Json> ask(const ControlOptions& options, const Json& request) {
  return control_call(options.socket.empty() ? kOrchestratorSocket : options.socket, request);
}

// "host", "host:port", "[v6]:port"
Result<std::pair<std::string, std::uint16_t>> parse_address(const std::string& text) {
  std::string host = text;
  std::uint64_t port = kNodesPort;
  const std::size_t colon = text.rfind(':');
  const bool has_port = colon != std::string::npos && (text.find(':') == colon || text[colon - 1] == ']');
  if (has_port) {
    const auto number = parse_unsigned(text.substr(colon + 1));
    if (!number || *number == 0 || *number > 65535)
      return bad("--orchestrator: " + quote(text) + " has no port of 1 to 65535");
    port = *number;
    host = text.substr(0, colon);
  }
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (host.empty()) return bad("--orchestrator: " + quote(text) + " names no host");
  return std::pair(host, static_cast<std::uint16_t>(port));
}

// Not on the command line, where every user of the machine could read it.
Result<EnrolmentToken> read_token(const std::string& file) {
  std::string text;
  if (file.empty() || file == "-") {
    if (::isatty(0) == 1) std::fprintf(stderr, "token: ");
    std::getline(std::cin, text);
  } else {
    ASSIGN_OR_RETURN(text, read_file(file, kTokenFileBytesMax));
  }
  return EnrolmentToken::parse(text);
}

std::string node_line(const Json& node) {
  std::string text = node.at("role").as_string("") + " " + printable(node.at("name").as_string(""));
  text.resize(std::max<std::size_t>(text.size(), 28), ' ');
  if (node.at("connected").as_bool(false)) {
    text += " connected from " + printable(node.at("address").as_string("")) + ", " +
            printable(node.at("software").as_string(""));
  } else if (!node.at("lost_for_ns").is_null()) {
    text += " out of contact for " + format_duration_ns(node.at("lost_for_ns").as_unsigned(0));
  } else {
    text += " not heard of";
  }
  if (const std::string trouble = node.at("trouble").as_string(""); !trouble.empty()) {
    text += "\n  turned away: " + printable(trouble);
  }
  return text;
}

}  // namespace

Status run_enroll_token(const ControlOptions& options) {
  std::uint64_t lifetime_ns = 3'600'000'000'000;
  if (!options.lifetime.empty()) {
    const auto parsed = parse_duration_ns(options.lifetime);
    if (!parsed) return bad("--lifetime: " + quote(options.lifetime) + " is no duration; for example 30min or 2h");
    lifetime_ns = *parsed;
  }
  Json request = Json::object();
  request["command"] = "enroll-token";
  request["role"] = options.words[0];
  request["name"] = options.words[1];
  request["lifetime_ns"] = lifetime_ns;
  request["by"] = calling_user();
  ASSIGN_OR_RETURN(const Json answer, ask(options, request));
  if (options.json) {
    std::printf("%s\n", answer.dump_indented().c_str());
  } else {
    std::printf("%s\n", answer.at("token").as_string("").c_str());
    std::fprintf(stderr, "good once, until %s; on the node: understudyctl enroll --orchestrator HOST --out DIRECTORY\n",
                 format_time_local(answer.at("expires_time_ns").as_unsigned(0)).c_str());
  }
  return ok_status();
}

Status run_enroll(const ControlOptions& options) {
  if (options.orchestrator.empty() || options.out.empty()) {
    return bad("enroll needs --orchestrator, its host, and --out, the directory for key and certificate");
  }
  EnrolmentOptions enrolment;
  ASSIGN_OR_RETURN(const auto address, parse_address(options.orchestrator));
  enrolment.host = address.first;
  enrolment.port = address.second;
  ASSIGN_OR_RETURN(enrolment.token, read_token(options.words.empty() ? "" : options.words[0]));
  enrolment.out_directory = options.out;
  ASSIGN_OR_RETURN(const WireIdentity identity, enroll_node(enrolment));
  std::printf("this node is %s: %s and %s\n", identity.to_text().c_str(),
              pki_certificate_path(options.out, identity.name).c_str(),
              pki_key_path(options.out, identity.name).c_str());
  return ok_status();
}

Status run_node(const ControlOptions& options) {
  const std::string& verb = options.words[0];
  if (verb == "forget" && options.words.size() == 3) {
    Json request = Json::object();
    request["command"] = "node-forget";
    request["role"] = options.words[1];
    request["name"] = options.words[2];
    RETURN_IF_ERROR(ask(options, request));
    std::printf("the next machine with the certificate of %s %s is taken for it\n", options.words[1].c_str(),
                printable(options.words[2]).c_str());
    return ok_status();
  }
  if (verb != "list" || options.words.size() != 1) return bad("node takes 'list', or 'forget', a role and a name");
  Json request = Json::object();
  request["command"] = "nodes";
  ASSIGN_OR_RETURN(const Json nodes, ask(options, request));
  if (options.json) {
    std::printf("%s\n", nodes.dump_indented().c_str());
    return ok_status();
  }
  for (const Json& node : nodes.items()) std::printf("%s\n", node_line(node).c_str());
  if (nodes.items().empty()) std::printf("no node was heard of since the orchestrator was started\n");
  return ok_status();
}

}  // namespace understudy
