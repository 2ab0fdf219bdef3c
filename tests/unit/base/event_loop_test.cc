// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/event_loop.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <thread>

#include "daemon/base/clock.h"
#include "daemon/base/signals.h"

using namespace understudy;

namespace {

constexpr std::uint64_t kMillisecond = 1'000'000;

struct Pipe {
  Pipe() {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    read_end.reset(ends[0]);
    write_end.reset(ends[1]);
  }
  UniqueFd read_end;
  UniqueFd write_end;
};

}  // namespace

TEST_CASE("work posted from other threads runs on the loop's thread in order") {
  auto loop = EventLoop::create().value();
  std::string order;
  std::thread::id ran_on;
  std::thread poster([&] {
    loop->post([&] { order += "a"; });
    loop->post([&] {
      order += "b";
      ran_on = std::this_thread::get_id();
    });
    loop->stop();
  });
  poster.join();
  loop->post([&] { order += "c"; });
  // stop() came first: run() ends at once, and what was posted is dropped with the loop.
  REQUIRE(loop->run().ok());
  CHECK(order.empty());

  auto second = EventLoop::create().value();
  std::thread other([&] {
    second->post([&] { order += "a"; });
    second->post([&] {
      order += "b";
      ran_on = std::this_thread::get_id();
      second->stop();
    });
  });
  REQUIRE(second->run().ok());
  other.join();
  CHECK(order == "ab");
  CHECK(ran_on == std::this_thread::get_id());
}

TEST_CASE("a readable descriptor calls back until it is unwatched") {
  auto loop = EventLoop::create().value();
  Pipe pipe;
  int calls = 0;
  loop->watch(pipe.read_end.get(), [&] {
    if (++calls == 3) loop->unwatch(pipe.read_end.get());
  });
  REQUIRE(::write(pipe.write_end.get(), "x", 1) == 1);  // never read: stays readable
  loop->after(20 * kMillisecond, [&] { loop->stop(); });
  REQUIRE(loop->run().ok());
  CHECK(calls == 3);
}

TEST_CASE("a descriptor unwatched by another callback of the same turn is not called") {
  auto loop = EventLoop::create().value();
  Pipe first;
  Pipe second;
  int calls = 0;
  const auto callback = [&] {
    ++calls;
    loop->unwatch(first.read_end.get());
    loop->unwatch(second.read_end.get());
    loop->stop();
  };
  loop->watch(first.read_end.get(), callback);
  loop->watch(second.read_end.get(), callback);
  REQUIRE(::write(first.write_end.get(), "x", 1) == 1);
  REQUIRE(::write(second.write_end.get(), "x", 1) == 1);
  REQUIRE(loop->run().ok());
  CHECK(calls == 1);
}

TEST_CASE("timers fire once or again and again, and can be cancelled from a callback") {
  auto loop = EventLoop::create().value();
  int once = 0;
  int repeated = 0;
  int cancelled = 0;
  const std::uint64_t start = system_clock().boot_ns();
  loop->after(5 * kMillisecond, [&] { ++once; });
  const auto victim = loop->after(15 * kMillisecond, [&] { ++cancelled; });
  loop->after(6 * kMillisecond, [&] { loop->cancel(victim); });
  loop->every(10 * kMillisecond, [&] {
    if (++repeated == 3) loop->stop();
  });
  REQUIRE(loop->run().ok());
  CHECK(once == 1);
  CHECK(repeated == 3);
  CHECK(cancelled == 0);
  CHECK(system_clock().boot_ns() - start >= 30 * kMillisecond);
}

TEST_CASE("a loop that was held up does not call a repeating timer for every time that it missed") {
  auto loop = EventLoop::create().value();
  int calls = 0;
  std::uint64_t held_up_until_ns = 0;
  std::uint64_t third_ns = 0;
  loop->every(10 * kMillisecond, [&] {
    ++calls;
    if (calls == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      held_up_until_ns = system_clock().boot_ns();
    }
    if (calls < 3) return;
    third_ns = system_clock().boot_ns();
    loop->stop();
  });
  REQUIRE(loop->run().ok());
  CHECK(calls == 3);
  // The second call is the late one; the next comes an interval behind it, however slow the machine is.
  CHECK(third_ns - held_up_until_ns >= 10 * kMillisecond);
}

TEST_CASE("signals are taken from a descriptor") {
  auto signals = SignalSet::open({SIGUSR1, SIGHUP}).value();
  CHECK_FALSE(signals.take().has_value());
  auto loop = EventLoop::create().value();
  loop->watch(signals.fd(), [&] { loop->stop(); });
  REQUIRE(::kill(::getpid(), SIGHUP) == 0);
  REQUIRE(loop->run().ok());
  CHECK(signals.take() == SIGHUP);
  CHECK_FALSE(signals.take().has_value());
}
