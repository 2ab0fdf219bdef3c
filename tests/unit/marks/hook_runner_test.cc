// SPDX-License-Identifier: Apache-2.0
#include "daemon/marks/hook_runner.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "daemon/base/limits.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::uint64_t kLongNs = 60'000'000'000;

// A script of its own per test.
class Script {
 public:
  explicit Script(const std::string& body) {
    char name[] = "/tmp/understudy-hook-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    directory_ = name;
    path = directory_ / "hook";
    std::ofstream(path) << "#!/bin/sh\n" << body << "\n";
    REQUIRE(::chmod(path.c_str(), 0755) == 0);
  }
  ~Script() { std::filesystem::remove_all(directory_); }
  std::string file(const std::string& name) const { return directory_ / name; }

  HookResult run(std::uint64_t timeout_ns = kLongNs, std::uint64_t grace_ns = 100'000'000) const {
    return run_hook({path, {"UNDERSTUDY_PHASE=pre", "WHERE=" + directory_.string()}, timeout_ns, grace_ns});
  }
  std::string path;

 private:
  std::filesystem::path directory_;
};

std::string content(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A process is gone when nobody of that number is there, or only its remains.
bool is_gone(const std::string& pid) {
  const std::string stat = content("/proc/" + pid + "/stat");
  return stat.empty() || stat.find(") Z ") != std::string::npos;
}

}  // namespace

TEST_CASE("hook: a clean environment, its output, success") {
  const Script script("echo out; echo err >&2; env; pwd; cat; exit 0");
  ::setenv("LEAKED", "yes", 1);
  const HookResult result = script.run();
  ::unsetenv("LEAKED");
  CHECK(result.status.ok());
  CHECK(result.output.find("out err") == 0);
  CHECK(result.output.find("UNDERSTUDY_PHASE=pre") != std::string::npos);
  CHECK(result.output.find("PATH=/usr/local/sbin") != std::string::npos);
  CHECK(result.output.find("LEAKED") == std::string::npos);
  CHECK(result.output.ends_with(" /"));  // its directory; and nothing came on its input
}

TEST_CASE("hook: how it failed is said") {
  CHECK(Script("exit 3").run().status.error().message().find("ended with exit status 3") != std::string::npos);
  CHECK(Script("kill -SEGV $$").run().status.error().message().find("killed by signal 11") != std::string::npos);
}

TEST_CASE("hook: what hangs is killed with its children") {
  const Script script("sleep 1000 & echo $! > $WHERE/child; echo $$ > $WHERE/self; trap '' TERM; sleep 1000");
  const HookResult result = script.run(500'000'000);
  CHECK(result.status.error().kind() == ErrorKind::kTimeout);
  CHECK(is_gone(content(script.file("self")).substr(0, content(script.file("self")).find('\n'))));
  CHECK(is_gone(content(script.file("child")).substr(0, content(script.file("child")).find('\n'))));
}

TEST_CASE("hook: one that ends on SIGTERM may clean up") {
  const Script script("trap 'echo cleaned > $WHERE/done; exit 1' TERM; sleep 1000 & wait");
  CHECK(script.run(300'000'000, kLongNs).status.error().kind() == ErrorKind::kTimeout);
  CHECK(content(script.file("done")) == "cleaned\n");
}

TEST_CASE("hook: a session it leaves behind is not waited for") {
  const Script script("setsid sleep 1000 & echo $! > $WHERE/child");
  const HookResult result = script.run();
  CHECK(result.status.ok());
  const auto pid = static_cast<pid_t>(std::atoi(content(script.file("child")).c_str()));
  REQUIRE(pid > 1);
  CHECK(::kill(pid, SIGKILL) == 0);
}

TEST_CASE("hook: garbage is escaped and floods are cut") {
  const Script script(R"(printf 'a\033[2Jb\377\nc'; exit 1)");
  CHECK(script.run().output == "a\\x1b[2Jb\\xff c");
  const HookResult flood = Script("head -c 5000000 /dev/zero | tr '\\0' x").run();
  CHECK(flood.status.ok());
  CHECK(flood.output == std::string(kHookOutputBytesMax, 'x'));
  CHECK(flood.output_cut);
  const HookResult endless = Script("exec cat /dev/zero").run(300'000'000);
  CHECK(endless.status.error().kind() == ErrorKind::kTimeout);
}

TEST_CASE("hook: what others could change is not run") {
  const Script script("echo ran > $WHERE/ran");
  REQUIRE(::chmod(script.path.c_str(), 0777) == 0);
  CHECK(script.run().status.error().message().find("can be changed by others") != std::string::npos);
  REQUIRE(::chmod(script.path.c_str(), 0644) == 0);
  CHECK(script.run().status.error().message().find("no executable file") != std::string::npos);
  CHECK(run_hook({"/nonexistent/hook", {}, kLongNs}).status.error().kind() == ErrorKind::kNotFound);
  CHECK(run_hook({"/tmp", {}, kLongNs}).status.error().message().find("no executable file") != std::string::npos);
  CHECK(content(script.file("ran")).empty());
}

TEST_CASE("hook: a stop of the agent ends it") {
  const Script script("echo > $WHERE/begun; exec sleep 1000");
  std::atomic<bool> stop{false};
  HookResult result;
  std::thread thread([&] {
    result = run_hook({script.path, {"WHERE=" + script.path.substr(0, script.path.rfind('/'))}, kLongNs, 100'000'000},
                      &stop);
  });
  while (content(script.file("begun")).empty()) ::usleep(1000);
  stop = true;
  thread.join();
  CHECK(result.status.error().kind() == ErrorKind::kClosed);
}

}  // namespace understudy
