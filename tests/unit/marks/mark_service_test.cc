// SPDX-License-Identifier: Apache-2.0
#include "daemon/marks/mark_service.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

class FakeClock : public Clock {
 public:
  std::uint64_t boot_ns() const override { return boot; }
  std::uint64_t wall_ns() const override { return wall; }
  std::atomic<std::uint64_t> boot{1'000'000'000'000};
  std::atomic<std::uint64_t> wall{1'800'000'000'000'000'000};  // a whole minute
};

// A stream that gives places at once and acknowledges when it is told to.
struct World {
  std::mutex mutex;
  std::vector<MarkPlacement> placed;
  std::vector<MarkEvent> events;
  bool ready = true;
  int asked = 0;
  Seq seq = 0;
  FakeClock clock;

  std::unique_ptr<MarkService> start(MarkPolicy policy) {
    MarkServiceParts parts;
    parts.policy = std::move(policy);
    parts.server = "web-1";
    parts.disks = [] { return std::vector<DeviceNumber>{}; };
    parts.ready = [this] {
      std::lock_guard lock(mutex);
      ++asked;
      return ready ? ok_status() : Status(Error(ErrorKind::kBusy, "a copy is under way"));
    };
    parts.place = [this](MarkPlacement placement, std::uint64_t) {
      std::lock_guard lock(mutex);
      placed.push_back(std::move(placement));
      return ok_status();
    };
    parts.on_event = [this](const MarkEvent& event) {
      std::lock_guard lock(mutex);
      events.push_back(event);
    };
    parts.clock = &clock;
    auto service = MarkService::start(std::move(parts));
    REQUIRE(service.ok());
    return std::move(service).value();
  }
  void acknowledge() {
    std::vector<MarkPlacement> ready_ones;
    {
      std::lock_guard lock(mutex);
      for (std::size_t i = 0; i < placed.size();) {
        if (!placed[i].description()) {
          ++i;
          continue;
        }
        ready_ones.push_back(placed[i]);
        placed.erase(placed.begin() + static_cast<std::ptrdiff_t>(i));
      }
    }
    for (MarkPlacement& one : ready_ones) one.done(++seq);
  }
  // Acknowledges until the mark has ended one way or the other.
  MarkOutcome wait(MarkService& service, std::uint64_t id) {
    while (true) {
      acknowledge();
      auto outcome = service.outcome(id);
      REQUIRE(outcome.ok());
      if (outcome->state == MarkOutcome::State::kDurable || outcome->state == MarkOutcome::State::kFailed)
        return *outcome;
      ::usleep(1000);
    }
  }
};

}  // namespace

TEST_CASE("mark service: marks that are asked for") {
  World world;
  MarkPolicy policy;
  policy.freeze = false;
  const auto service = world.start(policy);
  const auto crash = service->request({"before-upgrade", Consistency::kCrash});
  REQUIRE(crash.ok());
  const MarkOutcome first = world.wait(*service, *crash);
  CHECK(first.state == MarkOutcome::State::kDurable);
  CHECK(first.mark.name == "before-upgrade");
  CHECK(first.mark.consistency == Consistency::kCrash);
  CHECK(first.mark.reason.empty());
  const MarkOutcome second = world.wait(*service, service->request({"", Consistency::kApplication}).value());
  CHECK(second.mark.name == "application-20270115T080000Z");
  CHECK(second.mark.consistency == Consistency::kApplication);
  CHECK(second.seq == 2);
  CHECK_FALSE(service->request({"bad\nlabel", Consistency::kCrash}).ok());
  CHECK_FALSE(service->outcome(99).ok());
}

TEST_CASE("mark service: while the stream lacks writes there is no mark, and no application is touched") {
  World world;
  world.ready = false;
  MarkPolicy policy;
  policy.hooks = {{"never", "/nonexistent", "/nonexistent"}};
  const auto service = world.start(policy);
  const MarkOutcome outcome = world.wait(*service, service->request({"m", Consistency::kApplication}).value());
  CHECK(outcome.state == MarkOutcome::State::kFailed);
  CHECK(outcome.error_kind == ErrorKind::kBusy);
  CHECK(outcome.error == "mark 'm': a copy is under way");
  CHECK(world.placed.empty());
}

TEST_CASE("mark service: a hook that fails leaves its words in the mark and in the log") {
  World world;
  MarkPolicy policy;
  policy.freeze = false;
  policy.hooks = {{"missing", "/nonexistent/hook", ""}};
  const auto service = world.start(policy);
  const MarkOutcome outcome = world.wait(*service, service->request({"m", Consistency::kApplication}).value());
  CHECK(outcome.state == MarkOutcome::State::kDurable);
  CHECK(outcome.mark.consistency == Consistency::kCrash);
  CHECK(outcome.mark.reason.find("pre hook 'missing': hook '/nonexistent/hook'") == 0);
  service->stop();
  REQUIRE(world.events.size() == 1);
  CHECK(world.events[0].kind == MarkEvent::Kind::kNotQuiesced);
}

TEST_CASE("mark service: a scheduled mark that cannot be made is made up for once") {
  World world;
  world.ready = false;
  MarkPolicy policy;
  policy.freeze = false;
  policy.crash_consistent.every_ns = 60'000'000'000;
  policy.application_consistent.every_ns = 120'000'000'000;
  const auto service = world.start(policy);
  CHECK(service->next_ns(Consistency::kCrash) == world.clock.wall + 60'000'000'000);
  const auto turn = [&](std::uint64_t ns) {  // time passes, and the service looks at the clock
    world.clock.wall += ns;
    world.clock.boot += ns;
    service->set_policy(policy);
  };
  const auto wait_for = [&](const std::function<bool()>& condition) {
    while (true) {
      {
        std::lock_guard lock(world.mutex);
        if (condition()) return;
      }
      service->set_policy(policy);
      ::usleep(1000);
    }
  };
  for (int minute = 1; minute <= 5; ++minute) {
    turn(61'000'000'000);
    wait_for([&] { return world.asked >= minute; });
  }
  {
    std::lock_guard lock(world.mutex);
    CHECK(world.placed.empty());
    CHECK(world.events.size() == 1);  // said once
    world.ready = true;
  }
  turn(11'000'000'000);
  wait_for([&] { return !world.placed.empty(); });
  service->stop();
  REQUIRE(world.placed.size() == 1);  // one for all that were missed, of the better kind
  CHECK(world.placed[0].name.starts_with("application-"));
}

TEST_CASE("mark service: a stop ends a hook and runs the post hook") {
  char name[] = "/tmp/understudy-stop-XXXXXX";
  REQUIRE(::mkdtemp(name) != nullptr);
  const std::string directory = name;
  const auto script = [&](const std::string& file, const std::string& body) {
    std::ofstream(directory + "/" + file) << "#!/bin/sh\n" << body << "\n";
    REQUIRE(::chmod((directory + "/" + file).c_str(), 0755) == 0);
    return directory + "/" + file;
  };
  World world;
  MarkPolicy policy;
  policy.freeze = false;
  policy.hooks = {{"slow", script("pre", "echo > " + directory + "/begun; exec sleep 1000"),
                   script("post", "echo $UNDERSTUDY_PRE_RESULT $UNDERSTUDY_QUIESCED > " + directory + "/ended"),
                   600'000'000'000}};
  const auto service = world.start(policy);
  REQUIRE(service->request({"m", Consistency::kApplication}).ok());
  while (!std::filesystem::exists(directory + "/begun")) ::usleep(1000);
  service->stop();
  std::string words;
  std::ifstream ended(directory + "/ended");
  std::getline(ended, words);
  CHECK(words == "failed no");
  std::filesystem::remove_all(directory);
}

}  // namespace understudy
