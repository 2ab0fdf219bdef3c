// SPDX-License-Identifier: Apache-2.0
#include "daemon/service/command_line.h"

#include <doctest/doctest.h>

#include "daemon/base/exit_code.h"
#include "daemon/service/daemon_program.h"

namespace understudy {

namespace {

CommandLineRules make_rules() {
  CommandLineRules rules;
  rules.program = "understudy-test";
  rules.default_config = "/etc/understudy/test.yaml";
  rules.actions = {{"probe", "look", ""}, {"detach", "end", ""}};
  rules.switches = {{"json", "for machines", "probe"}};
  rules.operands_belong_to = "probe";
  rules.operand = "DISK";
  return rules;
}

Result<CommandLine> parse(std::vector<const char*> words, const CommandLineRules& rules = make_rules()) {
  words.insert(words.begin(), "understudy-test");
  return parse_command_line(rules, static_cast<int>(words.size()), words.data());
}

std::string mistake(const std::vector<const char*>& words) {
  const auto line = parse(words);
  REQUIRE_FALSE(line.ok());
  CHECK(line.error().kind() == ErrorKind::kInvalidArgument);
  return line.error().message();
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// A program that notes what was asked of it.
struct Recorder final : DaemonProgram {
  CommandLineRules rules() const override { return make_rules(); }
  Status load_config(const std::string& path, std::string& printed) override {
    loaded = path;
    printed = "key: value\n";
    if (!mistake.empty()) return Error(ErrorKind::kInvalidConfig, mistake);
    return ok_status();
  }
  Status check_config() override {
    checked = true;
    return mistake_in_check.empty() ? ok_status() : Status(Error(ErrorKind::kInvalidConfig, mistake_in_check));
  }
  int act(const CommandLine& line) override {
    acted = line.action.empty() ? "run" : line.action;
    return 42;
  }

  int run(std::vector<const char*> words) {
    words.insert(words.begin(), "understudy-test");
    return run_daemon_program(*this, static_cast<int>(words.size()), words.data());
  }

  std::string loaded, acted, mistake, mistake_in_check;
  bool checked = false;
};

}  // namespace

TEST_CASE("nothing given: run with the default configuration") {
  const auto line = parse({});
  REQUIRE(line.ok());
  CHECK(line->action.empty());
  CHECK(line->config == "/etc/understudy/test.yaml");
  CHECK_FALSE(line->config_given);
}

TEST_CASE("both ways of giving a value, an action, switches and operands") {
  for (const auto& words : {std::vector<const char*>{"--config", "a.yaml", "--probe", "--json", "/dev/x", "/dev/y"},
                            std::vector<const char*>{"/dev/x", "--json", "--probe", "/dev/y", "--config=a.yaml"}}) {
    const auto line = parse(words);
    REQUIRE(line.ok());
    CHECK(line->config == "a.yaml");
    CHECK(line->config_given);
    CHECK(line->action == "probe");
    CHECK(line->switches == std::set<std::string>{"json"});
    CHECK(line->operands == std::vector<std::string>{"/dev/x", "/dev/y"});
  }
  CHECK(parse({"-h"})->action == "help");
}

TEST_CASE("what is not understood is named") {
  CHECK(has(mistake({"--nonsense"}), "--nonsense"));
  CHECK(has(mistake({"--config"}), "--config"));
  CHECK(has(mistake({"--config", "a", "--config", "b"}), "--config"));
  CHECK(has(mistake({"--prob"}), "--prob"));  // no guessing
  CHECK(has(mistake({"--probe", "--detach"}), "only one of --probe, --detach, --check-config"));
  CHECK(has(mistake({"--json"}), "--json goes with --probe only"));
  CHECK(has(mistake({"/dev/x"}), "'/dev/x'"));
  CHECK(has(mistake({"--detach", "/dev/x"}), "a DISK can be named with --probe only"));
}

TEST_CASE("a program without operands refuses them") {
  CommandLineRules rules = make_rules();
  rules.operand.clear();
  rules.operands_belong_to.clear();
  CHECK_FALSE(parse({"stray"}, rules).ok());
}

TEST_CASE("help names every option and the default") {
  const std::string help = command_line_help(make_rules());
  for (const char* word : {"--config", "--probe", "--detach", "--json", "--check-config", "--print-config", "--version",
                           "--help", "/etc/understudy/test.yaml", "DISK"}) {
    CAPTURE(word);
    CHECK(has(help, word));
  }
}

TEST_CASE("a wrong command line loads nothing, a wrong configuration starts nothing") {
  Recorder program;
  CHECK(program.run({"--nonsense"}) == kExitBadArguments);
  CHECK(program.run({"--version"}) == kExitOk);
  CHECK(program.loaded.empty());

  program.mistake = "a.yaml:1:1: wrong";
  CHECK(program.run({"--config", "a.yaml"}) == kExitBadConfig);
  CHECK(program.run({"--check-config"}) == kExitBadConfig);
  CHECK(program.acted.empty());
  CHECK_FALSE(program.checked);

  program.mistake.clear();
  CHECK(program.run({"--check-config"}) == kExitOk);
  CHECK(program.checked);
  program.mistake_in_check = "the certificate has expired";
  CHECK(program.run({"--check-config"}) == kExitBadConfig);
  CHECK(program.run({"--print-config"}) == kExitOk);
  CHECK(program.acted.empty());
  CHECK(program.run({"--detach"}) == 42);
  CHECK(program.acted == "detach");
  CHECK(program.run({}) == 42);
  CHECK(program.acted == "run");
}

}  // namespace understudy
