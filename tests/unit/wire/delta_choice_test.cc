// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/delta_choice.h"

// Behind our headers: it has a CHECK of its own.
#include <doctest/doctest.h>

using namespace understudy;

namespace {

using Way = DeltaChoice::Way;
constexpr std::uint64_t kWhole = 100'000;

// How many of 160 batches are encoded twice; `stored` of both ways as they would come out.
unsigned comparisons(DeltaChoice& choice, std::uint64_t changed, std::uint64_t whole_stored,
                     std::uint64_t changed_stored, Way otherwise) {
  unsigned count = 0;
  for (int i = 0; i < 160; ++i) {
    const Way way = choice.decide(kWhole, changed, true);
    if (way == Way::kCompare) {
      ++count;
      choice.compared(kWhole, changed, whole_stored, changed_stored);
    } else {
      CHECK(way == otherwise);
    }
  }
  return count;
}

}  // namespace

TEST_CASE("what is clearly smaller is taken, and looked at again now and then") {
  DeltaChoice changes_win;
  CHECK(comparisons(changes_win, 5'000, 30'000, 2'000, Way::kChanges) == 10);
  DeltaChoice whole_wins;
  CHECK(comparisons(whole_wins, 60'000, 10'000, 50'000, Way::kWhole) == 10);
}

TEST_CASE("what is not clear is compared") {
  DeltaChoice choice;
  CHECK(comparisons(choice, 50'000, 30'000, 28'000, Way::kChanges) == 160);
}

TEST_CASE("where nearly everything changed the last comparison counts") {
  DeltaChoice changes_won;
  CHECK(comparisons(changes_won, 95'000, 30'000, 29'000, Way::kChanges) == 10);
  DeltaChoice whole_won;
  CHECK(comparisons(whole_won, 95'000, 29'000, 30'000, Way::kWhole) == 10);
}

TEST_CASE("what needs no comparison gets none") {
  DeltaChoice choice;
  CHECK(choice.decide(kWhole, 0, true) == Way::kChanges);
  CHECK(choice.decide(kWhole, kWhole, true) == Way::kWhole);
  CHECK(choice.decide(kWhole, kWhole + 100, true) == Way::kWhole);
  CHECK(choice.decide(0, 0, true) == Way::kWhole);
  CHECK(choice.decide(kWhole, 50'000, false) == Way::kChanges);
}

TEST_CASE("without time for comparisons the forecast alone decides") {
  DeltaChoice choice;
  choice.compared(kWhole, 50'000, 30'000, 40'000);
  for (int i = 0; i < 100; ++i) CHECK(choice.decide(kWhole, 50'000, false) == Way::kWhole);
  CHECK(choice.decide(kWhole, 10'000, false) == Way::kChanges);
}

TEST_CASE("a change of the load is noticed") {
  DeltaChoice choice;
  comparisons(choice, 5'000, 30'000, 2'000, Way::kChanges);
  for (int i = 0; i < 200; ++i) {
    if (choice.decide(kWhole, 40'000, true) == Way::kCompare) choice.compared(kWhole, 40'000, 10'000, 39'000);
  }
  CHECK(choice.decide(kWhole, 40'000, false) == Way::kWhole);
}
