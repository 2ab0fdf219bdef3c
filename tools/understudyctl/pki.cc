// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/pki.h"

#include <cstdio>

#include "daemon/base/text.h"
#include "daemon/control/json.h"
#include "tools/understudyctl/commands.h"

namespace understudy {

namespace {

void print_line(const std::string& text) { std::printf("%s\n", text.c_str()); }

Status bad(const std::string& message) { return Error(ErrorKind::kInvalidArgument, message); }

Result<WireRole> role_of(const std::string& word) {
  if (auto role = parse_wire_role(word); role.ok()) return role;
  return Error(ErrorKind::kInvalidArgument, "--role is " + quote(word) + "; use agent, receiver or orchestrator");
}

Status init(const std::string& directory) {
  RETURN_IF_ERROR(pki_init(directory));
  print_line("authority: " + pki_authority_certificate_path(directory) + " (for every host) and " +
             pki_authority_key_path(directory) + " (keep it secret, and off the hosts)");
  return ok_status();
}

Status issue(const ControlOptions& options, const std::string& directory) {
  if (options.name.empty())
    return bad("pki issue needs --name, the server's or the receiver's name in its configuration");
  ASSIGN_OR_RETURN(const WireRole role, role_of(options.role));
  const std::string out = options.out.empty() ? directory : options.out;
  const int days = options.days == 0 ? kPkiCertificateDaysDefault : options.days;
  RETURN_IF_ERROR(pki_issue(directory, role, options.name, out, days));
  print_line("issued: " + pki_certificate_path(out, options.name) + " and " + pki_key_path(out, options.name));
  return ok_status();
}

Status show(const std::string& path, bool json) {
  ASSIGN_OR_RETURN(const CertificateInfo info, pki_show(path));
  if (json) {
    Json out = Json::object();
    out["authority"] = info.is_authority;
    out["identity"] = info.identity;
    out["subject"] = info.subject;
    out["issuer"] = info.issuer;
    out["serial"] = info.serial;
    out["sha256"] = info.sha256;
    out["not_before_ns"] = info.not_before_ns;
    out["not_after_ns"] = info.not_after_ns;
    print_line(out.dump_indented());
    return ok_status();
  }
  print_line("identity    " + (info.is_authority ? "certificate authority" : printable(info.identity)));
  print_line("subject     " + printable(info.subject));
  print_line("issuer      " + printable(info.issuer));
  print_line("serial      " + info.serial);
  print_line("sha256      " + info.sha256);
  print_line("valid from  " + format_time_local(info.not_before_ns));
  print_line("valid until " + format_time_local(info.not_after_ns));
  return ok_status();
}

}  // namespace

Status run_pki(const ControlOptions& options) {
  const std::string verb = options.words.empty() ? "" : options.words[0];
  if (verb != "init" && verb != "issue" && verb != "show") {
    return bad("pki needs one of init, issue and show" + (verb.empty() ? "" : ", not " + quote(verb)));
  }
  if (options.words.size() > 2) return bad("pki " + verb + ": unexpected " + quote(options.words[2]));
  const std::string target = options.words.size() == 2 ? options.words[1] : options.directory;
  if (target.empty()) {
    return bad("pki " + verb + (verb == "show" ? " needs a certificate file" : " needs the authority's directory"));
  }
  if (verb == "init") return init(target);
  if (verb == "issue") return issue(options, target);
  return show(target, options.json);
}

}  // namespace understudy
