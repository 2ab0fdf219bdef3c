// SPDX-License-Identifier: Apache-2.0
// understudy-restore: any point of a store as a disk, from the bare directory, when everything else is gone.
#include <boost/program_options.hpp>
#include <cstdio>
#include <iostream>

#include "daemon/base/exit_code.h"
#include "daemon/base/text.h"
#include "daemon/base/version.h"
#include "tools/restore/commands.h"

namespace understudy {
namespace {

namespace po = boost::program_options;

constexpr char kUsage[] =
    "usage: understudy-restore list STORE [--json]\n"
    "       understudy-restore restore STORE --point POINT [--disk DISK] --to FILE|DEVICE\n"
    "       understudy-restore restore STORE --point POINT --to-directory DIRECTORY\n"
    "       understudy-restore verify STORE [--head SHA256]\n"
    "\n"
    "POINT is 'latest', 'latest-processed', 'latest-application', 'seq:<number>', '@<mark>', a time\n"
    "('2026-03-01T12:03:17Z', or local: '2026-03-01 12:03:17', '12:03:17') or '-90s', '-10m', '-2h' before the newest\n"
    "record. STORE is the directory with the MANIFEST.\n";

bool is_digest(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
}

void check_combination(const std::string& command, const RestoreOptions& options) {
  if (command != "list" && command != "restore" && command != "verify")
    throw po::error("unknown command '" + command + "'; wanted list, restore or verify");
  if (options.store.empty()) throw po::error("'" + command + "' needs the directory of a store");
  if (!options.head.empty() && command != "verify") throw po::error("--head belongs to 'verify'");
  if (!options.head.empty() && !is_digest(options.head))
    throw po::error("--head is " + quote(options.head) + "; wanted 64 hexadecimal digits, as 'verify' prints them");
  if (command != "restore") {
    if (!options.to.empty() || !options.to_directory.empty() || !options.point.empty() || options.disk)
      throw po::error("--point, --disk and --to belong to 'restore'");
    return;
  }
  if (options.point.empty()) throw po::error("'restore' needs --point, for example --point latest");
  if (options.to.empty() == options.to_directory.empty())
    throw po::error("'restore' needs either --to FILE|DEVICE or --to-directory DIRECTORY");
  if (!options.to_directory.empty() && options.disk)
    throw po::error("--to-directory restores all disks; use --to with --disk");
}

// Throws po::error on what can't be meant.
std::string parse(int argc, char** argv, RestoreOptions& options) {
  std::string command;
  std::string disk;
  po::options_description visible("options");
  visible.add_options()("point,p", po::value(&options.point)->value_name("POINT"), "which state of the disks")(
      "disk,d", po::value(&disk)->value_name("SLOT|NAME"), "which disk; needed when there are several")(
      "to", po::value(&options.to)->value_name("FILE|DEVICE"), "new sparse file, or a block device that is not in use")(
      "to-directory", po::value(&options.to_directory)->value_name("DIR"), "all disks, as DIR/<slot>.img")(
      "base", po::value(&options.base_directory)->value_name("DIR"),
      "base images, when they are not where the store says")("overwrite", po::bool_switch(&options.overwrite),
                                                             "replace a target file that has content")(
      "head", po::value(&options.head)->value_name("SHA256"),
      "a chain head that was noted: it must be one of the journal's")("json", po::bool_switch(&options.json),
                                                                      "for machines")(
      "quiet,q", po::bool_switch(&options.quiet), "no progress")("help,h", "this text")("version",
                                                                                        "the version of this program");
  po::options_description all;
  all.add(visible).add_options()("command", po::value(&command), "")("store", po::value(&options.store), "");
  po::positional_options_description positions;
  positions.add("command", 1).add("store", 1);
  po::variables_map values;
  // "-90s" as a value of --point must not be taken for an option: long names and guessing off.
  const int style = po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
  po::store(po::command_line_parser(argc, argv).options(all).positional(positions).style(style).run(), values);
  if (values.count("help") != 0) {
    std::cout << kUsage << "\n" << visible;
    return "help";
  }
  if (values.count("version") != 0) {
    std::cout << "understudy-restore " << version() << "\n";
    return "help";
  }
  po::notify(values);
  if (values.count("disk") != 0) options.disk = disk;
  if (command.empty()) throw po::error("no command given; wanted list, restore or verify");
  check_combination(command, options);
  return command;
}

int run(int argc, char** argv) {
  RestoreOptions options;
  std::string command;
  try {
    command = parse(argc, argv, options);
  } catch (const po::error& error) {
    std::fprintf(stderr, "understudy-restore: %s (--help tells more)\n", error.what());
    return kExitBadArguments;
  }
  if (command == "help") return kExitOk;
  const Status status = command == "list"      ? run_list(options)
                        : command == "restore" ? run_restore(options)
                                               : run_verify(options);
  std::fflush(stdout);
  if (status.ok()) return kExitOk;
  std::fprintf(stderr, "understudy-restore: %s\n", status.error().message().c_str());
  return exit_code_of(status.error().kind());
}

}  // namespace
}  // namespace understudy

int main(int argc, char** argv) { return understudy::run(argc, argv); }
