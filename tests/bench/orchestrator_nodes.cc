// SPDX-License-Identifier: Apache-2.0
// Many agents of one orchestrator in one process, each with a certificate and a connection of its own: they do at once
// what they are told and report every second. Prints "ready" when all of them are connected, then a line
// "SERVER PHASE TIME_NS" (monotonic clock) for everything that one of them is told, until its input ends.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/base/limits.h"
#include "daemon/node/node_channel.h"
#include "daemon/node/node_connect.h"
#include "daemon/wire/pki.h"
#include "daemon/wire/tls_context.h"

namespace {

using namespace understudy;

constexpr std::uint64_t kSecondNs = 1'000'000'000;

[[noreturn]] void end(const Error& error) {
  std::fprintf(stderr, "orchestrator_nodes: %s\n", error.message().c_str());
  std::exit(1);
}

void put(const std::string& path, const std::string& text) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr || std::fputs(text.c_str(), file) < 0 || std::fclose(file) != 0) std::exit(1);
}

std::uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * kSecondNs + static_cast<std::uint64_t>(now.tv_nsec);
}

// What an agent that does everything at once reports.
const char* state_of(const std::string& phase) {
  if (phase == "replicating") return "realtime-replicating";
  if (phase == "stopped") return "realtime-stopped";
  return "initialized";
}

struct Node {
  std::string name;
  UniqueFd fd;
  std::unique_ptr<NodeChannel> channel;
  bool welcome = false;
  std::string phase = "registered";
  std::uint64_t order = 0;
  std::uint64_t report_ns = 0;

  void say(const Json& message) {
    if (Status status = channel->send(message); !status.ok()) end(status.error());
  }
  void report() {
    Json json = Json::object();
    json["type"] = "report";
    json["order"] = order;
    json["state"] = state_of(phase);
    json["fenced"] = false;
    json["epoch"] = 1;
    json["error"] = "";
    json["progress_permille"] = 1000;
    json["rpo_ns"] = 350'000'000;
    json["backlog_bytes"] = 123'456;
    json["connected"] = true;
    json["findings"].push_back("swap: /dev/vda2 is a swap area of 2 GiB, which is copied, too");
    say(json);
  }
};

std::shared_ptr<const TlsContext> certificate(const std::string& pki, const std::string& directory,
                                              const std::string& name) {
  const auto request = pki_make_request();
  if (!request.ok()) end(request.error());
  const auto made = pki_sign_request(pki, {WireRole::kAgent, name}, request->request_pem);
  if (!made.ok()) end(made.error());
  const std::string key = directory + "/" + name + ".key";
  ::umask(077);
  put(key, request->key_pem);
  put(directory + "/" + name + ".crt", made->certificate_pem);
  auto context = TlsContext::load({pki + "/ca.crt", directory + "/" + name + ".crt", key}, TlsSide::kClient);
  if (!context.ok()) end(context.error());
  return *context;
}

void connect(Node& node, std::shared_ptr<const TlsContext> context, std::uint16_t port) {
  auto fd = connect_node("127.0.0.1", port, system_clock().boot_ns() + 30 * kSecondNs, -1);
  if (!fd.ok()) end(fd.error());
  node.fd = std::move(fd).value();
  auto stream = TlsStream::make(std::move(context), node.fd.get(), "orchestrator");
  if (!stream.ok()) end(stream.error());
  node.channel = std::make_unique<NodeChannel>(std::move(stream).value(), kNodeFrameBytesMax);
  Json hello = Json::object();
  hello["type"] = "hello";
  hello["protocol"] = kNodeProtocol;
  hello["role"] = "agent";
  hello["name"] = node.name;
  hello["software"] = "orchestrator_nodes";
  hello["version"] = "1";
  hello["machine"] = "bench:" + node.name;
  hello["epoch"] = 1;
  node.say(hello);
}

// Whether it was told something.
bool serve(Node& node) {
  bool told = false;
  do {
    const Status advanced = node.channel->advance();
    while (const auto message = node.channel->take()) {
      const std::string type = message->at("type").as_string("");
      if (type == "refuse") end(Error(ErrorKind::kRefused, message->at("reason").as_string("")));
      node.welcome = node.welcome || type == "welcome";
      if (type != "desired") continue;
      node.phase = message->at("phase").as_string("");
      node.order = message->at("order").as_unsigned(0);
      node.report_ns = 0;
      told = true;
    }
    if (!advanced.ok()) end(advanced.error());
  } while (node.channel->has_more());
  return told;
}

void run(const std::string& pki, const std::string& directory, std::uint16_t port, std::size_t count) {
  std::vector<Node> nodes(count);
  const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  std::vector<std::shared_ptr<const TlsContext>> contexts;
  for (std::size_t i = 0; i < count; ++i) {
    nodes[i].name = "web-" + std::to_string(i);
    contexts.push_back(certificate(pki, directory, nodes[i].name));
  }
  for (std::size_t i = 0; i < count; ++i) {
    connect(nodes[i], contexts[i], port);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = i;
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, nodes[i].fd.get(), &event) != 0) std::exit(1);
    while (!nodes[i].welcome) {
      serve(nodes[i]);
      pollfd polled{nodes[i].fd.get(), POLLIN, 0};
      if (!nodes[i].welcome) ::poll(&polled, 1, 1000);
    }
    nodes[i].report_ns = system_clock().boot_ns() + i * kSecondNs / count;
  }
  std::printf("ready\n");
  std::fflush(stdout);
  std::array<epoll_event, 256> events;
  while (true) {
    const int ready = ::epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), 5);
    for (int i = 0; i < ready; ++i) {
      Node& node = nodes[events[static_cast<std::size_t>(i)].data.u64];
      if (!serve(node)) continue;
      std::printf("%s %s %llu\n", node.name.c_str(), node.phase.c_str(),
                  static_cast<unsigned long long>(monotonic_ns()));
      std::fflush(stdout);
    }
    const std::uint64_t now_ns = system_clock().boot_ns();
    for (Node& node : nodes) {
      if (now_ns < node.report_ns) continue;
      node.report_ns = now_ns + kSecondNs;
      node.report();
      serve(node);
    }
    pollfd input{0, POLLIN, 0};
    if (::poll(&input, 1, 0) > 0 && (input.revents & POLLHUP) != 0) return;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: orchestrator_nodes PKI DIRECTORY PORT COUNT\n");
    return 2;
  }
  run(argv[1], argv[2], static_cast<std::uint16_t>(std::atoi(argv[3])), static_cast<std::size_t>(std::atoi(argv[4])));
  return 0;
}
