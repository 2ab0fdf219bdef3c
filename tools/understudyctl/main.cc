// SPDX-License-Identifier: Apache-2.0
// understudyctl: the operator's command.
#include <algorithm>
#include <boost/program_options.hpp>
#include <cstdio>
#include <iostream>

#include "daemon/base/exit_code.h"
#include "daemon/base/text.h"
#include "daemon/base/version.h"
#include "tools/understudyctl/commands.h"

namespace understudy {
namespace {

namespace po = boost::program_options;

constexpr char kUsage[] =
    "usage: understudyctl status [--json] [--socket SOCKET]\n"
    "       understudyctl mark [[--label] LABEL] [--application-consistent] [--wait] [--json] [--socket SOCKET]\n"
    "       understudyctl stop|restart|repair [--json] [--socket SOCKET]\n"
    "       understudyctl points SERVER|STORE [--json] [--plot[=text|svg]]\n"
    "       understudyctl view open SERVER@POINT [--disk DISK] [--store STORE] [--json]\n"
    "       understudyctl view list|close [NUMBER] [--force] [--json]\n"
    "       understudyctl mount SERVER@POINT DIRECTORY [--disk DISK] [--store STORE] [--json]\n"
    "       understudyctl umount DIRECTORY [--force]\n"
    "       understudyctl diff SERVER@POINT [SERVER]@POINT [--files] [--disk DISK] [--store STORE] [--json]\n"
    "       understudyctl restore SERVER@POINT --to FILE|DEVICE [--format raw|qcow2] [--disk DISK] [--overwrite]\n"
    "                             [--store STORE] [--json]\n"
    "       understudyctl group list [LETTERS] | group show GROUP [--json] [--socket SOCKET]\n"
    "       understudyctl group create GROUP FILE | rename GROUP NAME | delete GROUP | mark GROUP LABEL\n"
    "                     [--application-consistent] [--dry-run] [--wait] [--json] [--socket SOCKET]\n"
    "       understudyctl server add GROUP SERVER --address ADDRESS --os FAMILY[:VERSION] --flavor VCPUSxMEMORY\n"
    "                     --disks DISK[,DISK...] [--phase PHASE] | server remove SERVER\n"
    "                     [--dry-run] [--wait] [--json] [--socket SOCKET]\n"
    "       understudyctl start|stop|restart|repair|failover|confirm|reverse-register|failback|register SERVER\n"
    "                     [--point POINT] [--dry-run] [--wait] [--json] [--socket SOCKET]\n"
    "       understudyctl reverse start|stop|restart|repair SERVER, drill start|clean SERVER [--point POINT],\n"
    "                     change-point SERVER POINT, upgrade SERVER VERSION\n"
    "                     [--dry-run] [--wait] [--json] [--socket SOCKET]\n"
    "       understudyctl plan [GROUP|SERVER] [--json] [--socket SOCKET]\n"
    "       understudyctl tasks [--group GROUP] [--server SERVER] [--operation OPERATION] [--state STATE]\n"
    "                     [--count COUNT] [--json] [--socket SOCKET]\n"
    "       understudyctl approve OBJECT [--json] [--socket SOCKET]\n"
    "       understudyctl node list | node forget agent|receiver NAME [--json] [--socket SOCKET]\n"
    "       understudyctl enroll-token agent|receiver NAME [--lifetime DURATION] [--json] [--socket SOCKET]\n"
    "       understudyctl enroll [TOKEN-FILE] --orchestrator HOST[:PORT] --out DIRECTORY\n"
    "       understudyctl pki init DIRECTORY\n"
    "       understudyctl pki issue DIRECTORY --role agent|receiver|orchestrator --name NAME [--out DIRECTORY]\n"
    "                               [--days DAYS]\n"
    "       understudyctl pki show CERTIFICATE [--json]\n";

struct Command {
  const char* name;
  std::size_t words_min;
  std::size_t words_max;
  const char* words;
  Status (*run)(const ControlOptions&);
  std::vector<std::string> options;  // that mean something to it
};

const std::vector<Command>& commands() {
  static const std::vector<Command> kCommands{
      {"status", 0, 0, "nothing behind it", run_status, {"json", "socket"}},
      {"mark", 0, 1, "one label at most", run_mark, {"json", "socket", "label", "application-consistent", "wait"}},
      {"stop", 0, 1, "one server at most", run_stop, {"json", "socket", "dry-run", "wait"}},
      {"restart", 0, 1, "one server at most", run_restart, {"json", "socket", "dry-run", "wait"}},
      {"repair", 0, 1, "one server at most", run_repair, {"json", "socket", "dry-run", "wait"}},
      {"start", 1, 1, "a server", run_start, {"json", "socket", "dry-run", "wait"}},
      {"failover", 1, 1, "a server", run_failover, {"json", "socket", "dry-run", "wait", "point"}},
      {"confirm", 1, 1, "a server", run_confirm, {"json", "socket", "dry-run", "wait"}},
      {"change-point", 2, 2, "a server and a point", run_change_point, {"json", "socket", "dry-run", "wait"}},
      {"reverse-register", 1, 1, "a server", run_reverse_register, {"json", "socket", "dry-run", "wait"}},
      {"reverse", 2, 2, "start, stop, restart or repair, and a server", run_reverse,
       {"json", "socket", "dry-run", "wait"}},
      {"failback", 1, 1, "a server", run_failback, {"json", "socket", "dry-run", "wait"}},
      {"register", 1, 1, "a server", run_register, {"json", "socket", "dry-run", "wait"}},
      {"drill", 2, 2, "start or clean, and a server", run_drill, {"json", "socket", "dry-run", "wait", "point"}},
      {"upgrade", 2, 2, "a server and a version", run_upgrade, {"json", "socket", "dry-run", "wait"}},
      {"server", 2, 3, "'add', a group and a name, or 'remove' and a name", run_server,
       {"json", "socket", "dry-run", "wait", "address", "os", "flavor", "disks", "phase"}},
      {"points", 1, 1, "a server or the directory of a store", run_points, {"json", "store", "config", "plot"}},
      {"view", 0, 8, "", run_view, {"json", "store", "config", "views", "disk", "force"}},
      {"mount", 2, 2, "SERVER@POINT and a directory", run_mount, {"json", "store", "config", "views", "disk"}},
      {"umount", 1, 1, "the directory where a view is mounted", run_umount, {"views", "force"}},
      {"diff",
       2,
       2,
       "two points, SERVER@POINT and SERVER@POINT",
       run_diff,
       {"json", "store", "config", "views", "disk", "files"}},
      {"restore",
       1,
       1,
       "SERVER@POINT",
       run_point_restore,
       {"json", "store", "config", "views", "disk", "to", "format", "overwrite"}},
      {"group", 1, 3, "list, show, create, rename, delete or mark, and what that takes", run_group,
       {"json", "socket", "dry-run", "wait", "application-consistent"}},
      {"plan", 0, 1, "a group or a server at most", run_plan, {"json", "socket"}},
      {"tasks", 0, 0, "nothing behind it", run_tasks,
       {"json", "socket", "group", "server", "operation", "state", "count"}},
      {"approve", 1, 1, "the object that a plan names", run_approve, {"json", "socket"}},
      {"node", 1, 3, "list, or forget, a role and a name", run_node, {"json", "socket"}},
      {"enroll-token", 2, 2, "a role, agent or receiver, and a name", run_enroll_token, {"json", "socket", "lifetime"}},
      {"enroll", 0, 1, "one file with a token at most", run_enroll, {"orchestrator", "out"}},
      {"pki", 0, 8, "", run_pki, {"json", "directory", "role", "name", "out", "days"}},
  };
  return kCommands;
}

po::options_description visible_options(ControlOptions& options) {
  po::options_description visible("options");
  visible.add_options()("socket", po::value(&options.socket)->value_name("SOCKET"),
                        "control socket (default: those of this machine)")("json", po::bool_switch(&options.json),
                                                                           "for machines")(
      "directory", po::value(&options.directory)->value_name("DIR"), "the authority's directory")(
      "role", po::value(&options.role)->value_name("ROLE"), "agent, receiver or orchestrator")(
      "dry-run", po::bool_switch(&options.dry_run), "only say what would happen")(
      "point", po::value(&options.point)->value_name("POINT"), "latest, a time or a label (default: as declared)")(
      "address", po::value(&options.address)->value_name("ADDRESS"), "of a new server")(
      "os", po::value(&options.os)->value_name("FAMILY[:VERSION]"), "system of a new server, as debian:12")(
      "flavor", po::value(&options.flavor)->value_name("VCPUSxMEMORY"), "size of a new server, as 2x4GiB")(
      "disks", po::value(&options.disks)->value_name("DISK[,DISK...]"), "whole disks of a new server")(
      "phase", po::value(&options.phase)->value_name("PHASE"), "of a new server (default: initialized)")(
      "lifetime", po::value(&options.lifetime)->value_name("DURATION"), "how long a token is good (default: 1h)")(
      "orchestrator", po::value(&options.orchestrator)->value_name("HOST[:PORT]"), "where to enrol (port: 7601)")(
      "name", po::value(&options.name)->value_name("NAME"), "name in the certificate")(
      "out", po::value(&options.out)->value_name("DIR"), "where to write (default: the authority's directory)")(
      "days", po::value(&options.days)->value_name("DAYS"), "how long a certificate is valid")(
      "label", po::value(&options.label)->value_name("LABEL"), "what a mark is to be called (default: kind and time)")(
      "application-consistent", po::bool_switch(&options.application_consistent),
      "run the hooks and freeze the file systems for the mark")(
      "wait", po::bool_switch(&options.wait),
      "until the receiver has the mark, or what was declared is there; tells what became of it")(
      "store", po::value(&options.store)->value_name("STORE"),
      "directory of the store (default: where receiver.yaml says that the server's is)")(
      "config", po::value(&options.config)->value_name("FILE"),
      "configuration of the receiver (default: /etc/understudy/receiver.yaml)")(
      "views", po::value(&options.views)->value_name("DIR"),
      "where open views are noted (default: /run/understudy/views)")(
      "disk", po::value(&options.disk)->value_name("SLOT|NAME"), "only this disk")(
      "force", po::bool_switch(&options.force), "also when it is in use")(
      "to", po::value(&options.to)->value_name("FILE|DEVICE"), "where a disk is restored to")(
      "format", po::value(&options.format)->value_name("FORMAT"),
      "raw or qcow2 (default: qcow2 for a target *.qcow2, else raw)")("overwrite", po::bool_switch(&options.overwrite),
                                                                      "replace a file that has content")(
      "plot", po::value(&options.plot)->value_name("FORMAT")->implicit_value("text"),
      "the change rate over time as text or svg, on stdout")("files", po::bool_switch(&options.files),
                                                             "compare files, not blocks")(
      "group", po::value(&options.group)->value_name("GROUP"), "tasks of this group")(
      "server", po::value(&options.server)->value_name("SERVER"), "tasks of this server")(
      "operation", po::value(&options.operation)->value_name("OPERATION"), "tasks of this kind, as failover")(
      "state", po::value(&options.state)->value_name("STATE"), "tasks that are open, done or failed")(
      "count", po::value(&options.count)->value_name("COUNT"), "so many tasks at most (default: 100)")(
      "completion", po::value<std::string>()->value_name("SHELL"), "print completions for bash or zsh, and exit")(
      "help,h", "this text")("version", "the version of this program");
  return visible;
}

// For bash; zsh takes the same by bashcompinit. What the program knows is what is completed.
Status print_completion(const std::string& shell) {
  if (shell != "bash" && shell != "zsh") {
    return Error(ErrorKind::kInvalidArgument, "--completion is " + quote(shell) + "; use bash or zsh");
  }
  std::string names;
  std::string cases;
  for (const Command& command : commands()) {
    std::string words;
    for (const std::string& option : command.options) words += " --" + option;
    names += std::string(names.empty() ? "" : " ") + command.name;
    cases += std::string("    ") + command.name + ") words='" + words.substr(words.empty() ? 0 : 1) + "' ;;\n";
  }
  std::printf(
      "%s_understudyctl() {\n"
      "  local words\n"
      "  case \"${COMP_WORDS[1]}\" in\n%s"
      "  esac\n"
      "  [ \"$COMP_CWORD\" = 1 ] && words='%s --help --version --completion'\n"
      "  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
      "}\n"
      "complete -o default -F _understudyctl understudyctl\n",
      shell == "zsh" ? "autoload -U +X bashcompinit && bashcompinit\n" : "", cases.c_str(), names.c_str());
  return ok_status();
}

const Command& find_command(const std::string& name) {
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    if (command.name == name) return command;
    names.emplace_back(command.name);
  }
  if (name.empty()) throw po::error("no command given; wanted one of " + quoted_list(names));
  const auto near = nearest_word(name, names);
  throw po::error("unknown command " + quote(name) +
                  (near ? "; did you mean '" + *near + "'?" : "; wanted one of " + quoted_list(names)));
}

void check_fit(const Command& command, const ControlOptions& options, const po::variables_map& values) {
  if (options.words.size() < command.words_min || options.words.size() > command.words_max) {
    throw po::error("'" + std::string(command.name) + "' takes " + command.words);
  }
  for (const auto& [name, value] : values) {
    const bool internal = name == "command" || name == "words" || value.defaulted();
    const bool known = std::find(command.options.begin(), command.options.end(), name) != command.options.end();
    if (!internal && !known) throw po::error("--" + name + " means nothing to '" + command.name + "'");
  }
  if (values.count("label") != 0 && !options.words.empty()) throw po::error("the mark was given two labels");
  if (values.count("days") != 0 && options.days < 1) throw po::error("--days must be at least 1");
}

// The command that was asked for, or nullptr when help or version was printed. Throws po::error.
const Command* parse(int argc, char** argv, ControlOptions& options) {
  std::string name;
  const po::options_description visible = visible_options(options);
  po::options_description all;
  all.add(visible).add_options()("command", po::value(&name), "")("words", po::value(&options.words), "");
  po::positional_options_description positions;
  positions.add("command", 1).add("words", -1);
  po::variables_map values;
  const int style = po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
  po::store(po::command_line_parser(argc, argv).options(all).positional(positions).style(style).run(), values);
  if (values.count("help") != 0) {
    std::cout << kUsage << "\n" << visible;
    return nullptr;
  }
  if (values.count("version") != 0) {
    std::cout << "understudyctl " << version() << "\n";
    return nullptr;
  }
  if (values.count("completion") != 0) {
    const Status printed = print_completion(values["completion"].as<std::string>());
    if (!printed.ok()) throw po::error(printed.error().message());
    return nullptr;
  }
  po::notify(values);
  const Command& command = find_command(name);
  check_fit(command, options, values);
  return &command;
}

ExitCode exit_code_for(const Error& error, const Command& command) {
  // A daemon that is not there is the one case of "not found" that has a number of its own.
  const bool asks_daemon = std::find(command.options.begin(), command.options.end(), "socket") != command.options.end();
  return asks_daemon && error.kind() == ErrorKind::kNotFound ? kExitNotRunning : exit_code_of(error.kind());
}

int run(int argc, char** argv) {
  ControlOptions options;
  const Command* command = nullptr;
  try {
    command = parse(argc, argv, options);
  } catch (const po::error& error) {
    std::fprintf(stderr, "understudyctl: %s (--help tells more)\n", error.what());
    return kExitBadArguments;
  }
  if (command == nullptr) return kExitOk;
  const Status status = command->run(options);
  if (std::fflush(stdout) != 0 && status.ok()) {
    std::fprintf(stderr, "understudyctl: cannot write the result\n");
    return kExitFailure;
  }
  if (status.ok()) return kExitOk;
  std::fprintf(stderr, "understudyctl: %s\n", status.error().message().c_str());
  return exit_code_for(status.error(), *command);
}

}  // namespace
}  // namespace understudy

int main(int argc, char** argv) { return understudy::run(argc, argv); }
