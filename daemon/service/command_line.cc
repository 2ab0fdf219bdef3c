// SPDX-License-Identifier: Apache-2.0
#include "daemon/service/command_line.h"

#include <boost/program_options.hpp>
#include <optional>
#include <sstream>

#include "daemon/base/text.h"

namespace understudy {

namespace {

namespace po = boost::program_options;

constexpr const char* kOperands = "operands";

std::vector<CommandLineWord> all_actions(const CommandLineRules& rules) {
  std::vector<CommandLineWord> actions = rules.actions;
  actions.push_back({"check-config", rules.check_help, ""});
  actions.push_back({"print-config", "print the configuration with its drop-ins and defaults, and exit", ""});
  actions.push_back({"version", "print the version, and exit", ""});
  actions.push_back({"help", "print this, and exit", ""});
  return actions;
}

void add_words(po::options_description& options, const std::vector<CommandLineWord>& words) {
  for (const CommandLineWord& word : words) {
    const std::string name = word.name == "help" ? "help,h" : word.name;
    options.add_options()(name.c_str(), word.help.c_str());
  }
}

po::options_description visible_options(const CommandLineRules& rules) {
  po::options_description options("options", /* line_length= */ 110);
  options.add_options()("config", po::value<std::string>()->value_name("FILE"),
                        ("configuration (default " + rules.default_config + ")").c_str());
  add_words(options, all_actions(rules));
  add_words(options, rules.switches);
  return options;
}

// What belongs to an action, with another one or with none.
std::optional<Error> misplaced(const CommandLineRules& rules, const CommandLine& line) {
  for (const CommandLineWord& word : rules.switches) {
    if (line.switches.contains(word.name) && line.action != word.belongs_to) {
      return Error(ErrorKind::kInvalidArgument, "--" + word.name + " goes with --" + word.belongs_to + " only");
    }
  }
  if (line.operands.empty() || (!rules.operand.empty() && line.action == rules.operands_belong_to)) return std::nullopt;
  std::string text = "what is " + quote(line.operands.front()) + "? --help lists what is allowed";
  if (!rules.operand.empty()) {
    text += "; a " + rules.operand + " can be named with --" + rules.operands_belong_to + " only";
  }
  return Error(ErrorKind::kInvalidArgument, text);
}

Result<CommandLine> interpret(const CommandLineRules& rules, const po::variables_map& values) {
  CommandLine line;
  line.config_given = values.count("config") != 0;
  line.config = line.config_given ? values["config"].as<std::string>() : rules.default_config;
  std::string allowed;
  for (const CommandLineWord& word : all_actions(rules)) {
    allowed += (allowed.empty() ? "--" : ", --") + word.name;
  }
  for (const CommandLineWord& word : all_actions(rules)) {
    if (values.count(word.name) == 0) continue;
    if (!line.action.empty()) {
      return Error(ErrorKind::kInvalidArgument,
                   "--" + line.action + " and --" + word.name + ": only one of " + allowed + " can be done at a time");
    }
    line.action = word.name;
  }
  for (const CommandLineWord& word : rules.switches) {
    if (values.count(word.name) != 0) line.switches.insert(word.name);
  }
  if (values.count(kOperands) != 0) line.operands = values[kOperands].as<std::vector<std::string>>();
  if (auto error = misplaced(rules, line)) return std::move(*error);
  return line;
}

}  // namespace

Result<CommandLine> parse_command_line(const CommandLineRules& rules, int argc, const char* const* argv) {
  try {
    po::options_description all = visible_options(rules);
    all.add_options()(kOperands, po::value<std::vector<std::string>>(), "");
    po::positional_options_description positions;
    positions.add(kOperands, -1);
    // "--check" must not be taken for --check-config: what is abbreviated in a script means something else in the next
    // version.
    const int style = po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
    po::variables_map values;
    po::store(po::command_line_parser(argc, argv).options(all).positional(positions).style(style).run(), values);
    po::notify(values);
    return interpret(rules, values);
  } catch (const po::error& error) {
    return Error(ErrorKind::kInvalidArgument, std::string(error.what()) + "; --help lists what is allowed");
  }
}

std::string command_line_help(const CommandLineRules& rules) {
  std::ostringstream text;
  text << "usage: " << rules.program << " [--config FILE] [ACTION]\n";
  if (!rules.operand.empty()) {
    text << "       " << rules.program << " --" << rules.operands_belong_to << " [" << rules.operand << "...]\n";
  }
  text << "\nWithout an action it runs as a daemon.\n\n" << visible_options(rules);
  return text.str();
}

}  // namespace understudy
