// SPDX-License-Identifier: Apache-2.0
// The real understudy-receiver as a process: killed, stopped, reloaded, run out of space. UNDERSTUDY_RECEIVER names the
// program. Needs root for a small tmpfs.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>

#include "daemon/control/control_client.h"
#include "tests/unit/receiver/link_harness.h"

// Behind our headers: it has a CHECK of its own.
#include <doctest/doctest.h>

using namespace understudy;
using namespace std::chrono_literals;

namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string slurp(const std::string& path) {
  std::ifstream stream(path);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

std::string program() {
  const char* path = std::getenv("UNDERSTUDY_RECEIVER");
  REQUIRE_MESSAGE(path != nullptr, "UNDERSTUDY_RECEIVER must name the program");
  return path;
}

// One run of the program; killed when the test ends.
class Process {
 public:
  Process(std::vector<std::string> arguments, const std::string& log) {
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
      ::dup2(fd, STDOUT_FILENO);
      ::dup2(fd, STDERR_FILENO);
      const std::string path = program();
      std::vector<char*> argv{const_cast<char*>(path.c_str())};
      for (std::string& argument : arguments) argv.push_back(argument.data());
      argv.push_back(nullptr);
      ::execv(path.c_str(), argv.data());
      ::_exit(127);
    }
  }
  ~Process() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  void signal(int number) const { REQUIRE(::kill(pid_, number) == 0); }
  // Exit status, or minus the signal that ended it; nullopt when it does not end in time.
  std::optional<int> wait(std::chrono::milliseconds timeout = 20s) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    while (std::chrono::steady_clock::now() < deadline) {
      int status = 0;
      if (::waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
      }
      std::this_thread::sleep_for(2ms);
    }
    return std::nullopt;
  }

 private:
  pid_t pid_ = -1;
};

int run_to_end(std::vector<std::string> arguments, const std::string& log) {
  return Process(std::move(arguments), log).wait().value_or(-1000);
}

// A free port; nobody else in this test takes it between.
std::uint16_t free_port() {
  LinkFixture fixture;
  return fixture.start_receiver()->port();
}

struct Host : LinkFixture {
  Host() : port(free_port()) { write_config(); }
  void write_config(const std::string& more_stores = "", const std::string& first_store = "") {
    const TlsFiles tls = pki.files(WireRole::kReceiver, "dr-1");
    std::ofstream out(directory.file("receiver.yaml"));
    out << "name: dr-1\nlisten: {address: 127.0.0.1, port: " << port << "}\n"
        << "tls: {authority: " << tls.authority << ", certificate: " << tls.certificate << ", key: " << tls.key << "}\n"
        << "stores:\n  - {server: web-1, path: " << (first_store.empty() ? store_path() : first_store) << "}\n"
        << more_stores << "control_socket: " << socket() << "\n";
  }
  std::string socket() const { return directory.file("control.sock"); }
  std::string log_path() const { return directory.file("log"); }
  std::unique_ptr<Process> start() {
    auto process =
        std::make_unique<Process>(std::vector<std::string>{"--config", directory.file("receiver.yaml")}, log_path());
    return process;
  }
  Json status() const {
    Json request = Json::object();
    request["command"] = "status";
    for (int i = 0; i < 2000; ++i) {
      auto answer = control_call(socket(), request);
      if (answer.ok()) return std::move(answer).value();
      std::this_thread::sleep_for(5ms);
    }
    return Json();
  }
  bool log_has(const std::string& text) const {
    for (int i = 0; i < 1000; ++i) {
      if (contains(slurp(log_path()), text)) return true;
      std::this_thread::sleep_for(5ms);
    }
    return false;
  }
  std::uint16_t port;
};

}  // namespace

TEST_CASE("killed again and again, the receiver keeps what it acknowledged and the stream goes on") {
  Host host;
  const TestStream stream(Uuid::random(), 4, 16 << 10);
  TestAgent agent(stream, host.agent_options(stream, host.port));
  std::mt19937_64 random(std::random_device{}());
  auto process = host.start();
  unsigned mid_stream = 0;
  for (int round = 0; round < 40; ++round) {
    const unsigned ups = agent.ups;
    REQUIRE(agent.run(1'000'000, [&] { return agent.ups > ups; }));
    agent.run(
        1'000'000, [] { return false; }, std::chrono::milliseconds(random() % 60));
    process->signal(SIGKILL);
    REQUIRE(process->wait() == -SIGKILL);
    const Seq acked = agent.acked;
    REQUIRE(agent.run(0, [&] { return !agent.up; }));
    CHECK(agent.acked >= acked);
    if (agent.acked > 4) ++mid_stream;
    process = host.start();  // TestAgent checks that the next welcome is not behind the last ack
  }
  CHECK(mid_stream > 10);
  REQUIRE(agent.run(0, [&] { return agent.up; }));
  const std::uint64_t last = stream.batch_behind(agent.acked) + 20;
  REQUIRE(agent.run_until_acked(last));
  process->signal(SIGTERM);
  CHECK(process->wait() == 0);
  host.check_store(stream, last);
}

TEST_CASE("SIGTERM finishes, says goodbye and exits with 0") {
  Host host;
  const TestStream stream(Uuid::random(), 4, 64 << 10);
  TestAgent agent(stream, host.agent_options(stream, host.port));
  auto process = host.start();
  REQUIRE(agent.run(1'000'000, [&] { return agent.acked > stream.last_seq_of(30); }));
  process->signal(SIGTERM);
  REQUIRE(agent.run(1'000'000, [&] { return !agent.up; }));
  CHECK(contains(agent.last_down, "the receiver is stopping"));
  CHECK(process->wait() == 0);
  StoreOptions options;
  options.directory = host.store_path();
  auto store = Store::open(options, OpenMode::kReadOnly, [](const Damage&) {});
  REQUIRE(store.ok());
  CHECK((*store)->position().seq == agent.acked);
  CHECK(host.log_has("receiver 'dr-1' stopped"));
}

TEST_CASE("status over the control socket") {
  Host host;
  const TestStream stream(Uuid::random(), 4, 16 << 10);
  TestAgent agent(stream, host.agent_options(stream, host.port));
  auto process = host.start();
  REQUIRE(agent.run_until_acked(10));
  const Json status = host.status();
  CHECK(status.at("name").as_string("") == "dr-1");
  const Json& store = status.at("stores").items().at(0);
  CHECK(store.at("server").as_string("") == "web-1");
  CHECK(store.at("server_id").as_string("") == stream.server().to_string());
  CHECK(store.at("state").as_string("") == "open");
  CHECK(store.at("durable_seq").as_unsigned(0) == stream.last_seq_of(10));
  CHECK(store.at("connected").as_bool(false));
  CHECK(store.at("journal_bytes").as_unsigned(0) > 10 * 4 * (16 << 10) / 2);
  CHECK(store.at("chain_head").as_string("").size() == 64);
  CHECK(store.at("newest_record_time_ns").as_unsigned(0) ==
        1'700'000'000'000'000'000ull + stream.last_seq_of(10) * 1'000'000);
}

TEST_CASE("SIGHUP: a bad file keeps the old configuration, a good one is taken") {
  Host host;
  const TestStream stream(Uuid::random(), 4, 16 << 10);
  TestAgent agent(stream, host.agent_options(stream, host.port));
  auto process = host.start();
  REQUIRE(agent.run_until_acked(3));
  const unsigned downs = agent.downs;  // while the program started
  { std::ofstream(host.directory.file("receiver.yaml"), std::ios::app) << "colour: blue\n"; }
  process->signal(SIGHUP);
  CHECK(host.log_has("reload, keeping the old configuration"));
  CHECK(host.log_has("receiver.yaml:7:"));
  REQUIRE(agent.run_until_acked(6));
  host.write_config("  - {server: web-2, path: " + host.directory.file("store-2") + "}\n");
  process->signal(SIGHUP);
  CHECK(host.log_has("configuration reloaded"));
  CHECK(host.status().at("stores").items().size() == 2);
  REQUIRE(agent.run_until_acked(9));
  CHECK(agent.downs == downs);
  process->signal(SIGTERM);
  CHECK(process->wait() == 0);
}

TEST_CASE("command line and exit status") {
  Host host;
  const std::string config = host.directory.file("receiver.yaml");
  CHECK(run_to_end({"--version"}, host.log_path()) == 0);
  CHECK(host.log_has("understudy-receiver "));
  CHECK(run_to_end({"--config", config, "--check-config"}, host.log_path()) == 0);
  CHECK(run_to_end({"--config", config, "--print-config"}, host.log_path()) == 0);
  CHECK(host.log_has("segment_bytes"));
  CHECK(run_to_end({"--nonsense"}, host.log_path()) == 2);
  CHECK(run_to_end({"--config", "/nonexistent.yaml"}, host.log_path()) == 6);
  CHECK(run_to_end({"--config", "/nonexistent.yaml", "--check-config"}, host.log_path()) == 6);
  auto first = host.start();
  (void)host.status();
  CHECK(run_to_end({"--config", config}, host.log_path()) == 1);
  { std::ofstream(config, std::ios::app) << "segment_bytes: lots\n"; }
  CHECK(run_to_end({"--config", config, "--check-config"}, host.log_path()) == 6);
  CHECK(host.log_has("receiver.yaml:7:"));
}

TEST_CASE("a refused agent is named in the receiver's log with the reason it is told itself") {
  Host host;
  const TestStream stream(Uuid::random(), 4, 16 << 10);
  auto process = host.start();
  LinkFixture stranger;
  TlsLinkOptions options = host.agent_options(stream, host.port);
  const std::string authority = options.tls.authority;
  options.tls = stranger.pki.files(WireRole::kAgent, "web-1");
  options.tls.authority = authority;
  {
    TestAgent agent(stream, options);
    REQUIRE(agent.run(0, [&] { return !agent.refusals.empty(); }));
    CHECK_MESSAGE(contains(agent.refusals[0], "refused our certificate: it does"), agent.refusals[0]);
  }
  CHECK(host.log_has("refused: refused the certificate of agent at 127.0.0.1:"));
  CHECK(host.log_has("is signed by another authority than ours"));
  options = host.agent_options(stream, host.port);
  options.hello.server_name = "web-2";
  {
    TestAgent agent(stream, options);
    REQUIRE(agent.run(0, [&] { return !agent.refusals.empty(); }));
    CHECK(contains(agent.refusals[0], "agent says it is server 'web-2', its certificate is for agent 'web-1'"));
  }
  CHECK(host.log_has("refused: agent says it is server 'web-2', its certificate is for agent 'web-1'"));
}

TEST_CASE("a disk that is full stops acknowledgements and loses nothing") {
  Host host;
  const std::string disk = host.directory.file("disk");
  REQUIRE(::mkdir(disk.c_str(), 0700) == 0);
  REQUIRE_MESSAGE(::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=24m") == 0, "mounting a tmpfs needs root");
  struct Unmount {
    std::string path;
    ~Unmount() { ::umount2(path.c_str(), MNT_DETACH); }
  } unmount{disk};
  const std::string store_path = disk + "/store";
  host.write_config("", store_path);
  const TestStream stream(Uuid::random(), 4, 64 << 10);
  {
    auto process = host.start();
    TlsLinkOptions options = host.agent_options(stream, host.port);
    options.compression.codec = Codec::kNone;
    TestAgent agent(stream, options);
    constexpr std::uint64_t kLast = 200;  // 50 MiB
    REQUIRE(agent.run(kLast, [&] { return !agent.notices.empty(); }));
    CHECK(agent.notices[0].active);
    CHECK(agent.notices[0].code == "store-full");
    CHECK(contains(agent.notices[0].text, "no room"));
    const unsigned downs = agent.downs;  // while the program started
    const Seq stopped_at = agent.acked;
    CHECK(stopped_at < stream.last_seq_of(kLast));
    CHECK_FALSE(agent.run(
        kLast, [&] { return agent.acked != stopped_at; }, 2500ms));
    CHECK(agent.up);
    CHECK(host.status().at("stores").items().at(0).at("state").as_string("") == "full");
    CHECK(host.log_has("has no room"));
    REQUIRE(::mount("tmpfs", disk.c_str(), "tmpfs", MS_REMOUNT, "size=128m") == 0);
    REQUIRE(agent.run_until_acked(kLast));
    CHECK(agent.downs == downs);
    CHECK(agent.notices.size() == 2);
    process->signal(SIGTERM);
    CHECK(process->wait() == 0);
  }
  StoreOptions options;
  options.directory = store_path;
  auto store = Store::open(options, OpenMode::kReadOnly, [](const Damage&) {});
  REQUIRE(store.ok());
  CHECK((*store)->position().seq == stream.last_seq_of(200));
  CHECK(
      (*store)
          ->scrub([](const Damage& damage) { FAIL(damage.reason); }, [](std::uint64_t, std::uint64_t) { return true; })
          .ok());
}
