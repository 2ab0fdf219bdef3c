// SPDX-License-Identifier: Apache-2.0
#include "daemon/view/view_cache.h"

#include <map>
#include <random>
#include <string>
#include <thread>

#include "daemon/store/file_system.h"
#include "daemon/view/view_spill.h"
#include "tests/unit/temporary_directory.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

struct Value {
  std::uint64_t number = 0;
  ViewCacheWeight own;
  ViewCacheWeight weight() const { return own; }
};
using Cache = ViewCache<Value>;

Result<Cache::Pointer> make_value(std::uint64_t number, ViewCacheWeight weight) {
  return Cache::Pointer(std::make_shared<const Value>(Value{number, weight}));
}

TEST_CASE("of many threads that want the same value one makes it") {
  Cache cache({1 << 20, 0});
  for (std::uint64_t key = 0; key < 20; ++key) {
    std::atomic<int> made{0};
    std::atomic<int> right{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i)
      threads.emplace_back([&] {
        const Result<Cache::Pointer> value = cache.get(key, [&] {
          ++made;
          std::this_thread::yield();
          return make_value(key, {10, 0});
        });
        if (value.ok() && (*value)->number == key) ++right;
      });
    for (std::thread& thread : threads) thread.join();
    CHECK(made.load() == 1);
    CHECK(right.load() == 8);
  }
}

TEST_CASE("an error and an exception are forgotten, and nobody waits for ever") {
  Cache cache({1 << 20, 0});
  const auto failed = cache.get(1, []() -> Result<Cache::Pointer> { return Error(ErrorKind::kIo, "no"); });
  REQUIRE(!failed.ok());
  CHECK(failed.error().message() == "no");
  CHECK_THROWS_AS((void)cache.get(1, []() -> Result<Cache::Pointer> { throw std::bad_alloc(); }), std::bad_alloc);
  CHECK(cache.get(1, [] { return make_value(7, {1, 0}); }).value()->number == 7);
}

TEST_CASE("values go when there are too many, memory and file counted each") {
  std::mt19937_64 random(1);
  for (const bool file : {false, true}) {
    CAPTURE(file);
    Cache cache({10'000, 10'000});
    std::vector<std::uint64_t> held;
    for (int i = 0; i < 3000; ++i) {
      const std::uint64_t weight = random() % 300;
      const std::uint64_t key = random() % 500;
      const ViewCacheWeight of_value = file ? ViewCacheWeight{1, weight} : ViewCacheWeight{weight, 1};
      REQUIRE(cache.get(key, [&] { return make_value(key, of_value); }).value()->number == key);
      REQUIRE(cache.find(key) != nullptr);  // the newest stays
      REQUIRE(cache.weight().memory_bytes <= 10'000);
      REQUIRE(cache.weight().file_bytes <= 10'000);
      if (random() % 10 == 0) {
        cache.forget(key);
        REQUIRE(cache.find(key) == nullptr);
      }
    }
    std::size_t kept = 0;
    for (std::uint64_t key = 0; key < 500; ++key) kept += cache.find(key) != nullptr;
    CHECK(kept > 40);  // of about 66 that fit
    for (std::uint64_t key = 0; key < 500; ++key) cache.forget(key);
    CHECK(cache.weight().memory_bytes == 0);
    CHECK(cache.weight().file_bytes == 0);
  }
  Cache cache({100, 0});
  CHECK(cache.get(1, [] { return make_value(1, {5000, 0}); }).ok());
  CHECK(cache.find(1) != nullptr);
}

TEST_CASE("parts of a spill never overlap, and what was given back is used again") {
  const TemporaryDirectory directory;
  const std::shared_ptr<ViewSpill> spill = ViewSpill::create(posix_file_system(), directory.path()).value();
  CHECK(std::filesystem::is_empty(directory.path()));  // nobody sees the file
  std::mt19937_64 random(2);
  struct Held {
    std::unique_ptr<const ViewSpill::Slot> slot;
    std::vector<std::byte> content;
  };
  std::vector<Held> held;
  for (int i = 0; i < 400; ++i) {
    std::vector<std::byte> content(1 + random() % 300'000);
    for (std::size_t at = 0; at < content.size(); at += 64) content[at] = static_cast<std::byte>(random());
    held.push_back({ViewSpill::put(spill, content), content});
    REQUIRE(held.back().slot != nullptr);
    while (held.size() > 12) {
      const std::size_t which = random() % held.size();
      std::vector<std::byte> got(held[which].content.size());
      REQUIRE(held[which].slot->file().read(held[which].slot->offset_bytes(), got).value() == got.size());
      REQUIRE(got == held[which].content);
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
    }
  }
  CHECK(spill->file_bytes() < 12u << 20);  // 60 MB went through it
  CHECK(ViewSpill::create(posix_file_system(), directory.file("not there")).error().kind() == ErrorKind::kNotFound);
}

}  // namespace
}  // namespace understudy
