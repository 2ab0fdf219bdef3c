// SPDX-License-Identifier: Apache-2.0
// Runs: what a merge makes, what it refuses, and that nobody loses a file that is still read.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <string>

#include "daemon/store/journal.h"
#include "daemon/store/merge_policy.h"
#include "daemon/store/run_merge.h"
#include "daemon/store/store.h"
#include "daemon/store/store_paths.h"
#include "daemon/store/store_pin.h"
#include "daemon/view/view.h"
#include "tests/unit/store/memory_file_system.h"
#include "tests/unit/store/stream_maker.h"
#include "tests/unit/temporary_directory.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

StoreOptions options_on(MemoryFileSystem& files) {
  StoreOptions options;
  options.directory = "/store";
  options.segment_bytes_max = 48 << 10;
  options.file_system = &files;
  return options;
}

void fill(Store& store, StreamMaker& maker, std::size_t sealed) {
  while (store.sealed_segments() < sealed) {
    REQUIRE(store.append(maker.next_batch()).ok());
    REQUIRE(store.commit().ok());
  }
}

Result<MergedRun> merge(MemoryFileSystem& files, const Store& store, std::size_t first, std::size_t count,
                        std::uint64_t payload_bytes_max = 20'000) {
  RunMergeOptions options;
  options.payload_bytes_max = payload_bytes_max;
  options.block_bytes = 8 << 10;
  ASSIGN_OR_RETURN(const std::unique_ptr<RunMerge> job,
                   RunMerge::begin(files, "/store", store.snapshot(), first, count, options));
  while (true) {
    ASSIGN_OR_RETURN(const bool done, job->step());
    if (done) return job->run();
  }
}

std::set<std::string> journal_files(MemoryFileSystem& files) {
  std::set<std::string> found;
  for (const std::string& path : files.paths())
    if (path.ends_with(".wal") || path.ends_with(".run")) found.insert(path.substr(path.rfind('/') + 1));
  return found;
}

void compare_with_model(const PointInTimeView& view, const StreamMaker& maker, Seq seq) {
  Model model;
  for (Seq i = 1; i <= seq; ++i) model.apply(maker.history()[i - 1]);
  for (const DiskGeometry& disk : model.geometry) {
    std::vector<std::byte> got(disk.size_bytes);
    const Status status = view.read(disk.disk, 0, got);
    REQUIRE_MESSAGE(status.ok(), status.error().message());
    REQUIRE(got == model.content.at(disk.disk));
  }
}

const auto kNoDamage = [](const Damage& damage) { FAIL_CHECK(damage.object << ": " << damage.reason); };

TEST_CASE("a run takes the place of its segments: same head, same records, every head in between is found") {
  MemoryFileSystem files;
  StreamMaker maker(41);
  std::unique_ptr<Store> store = Store::create(options_on(files), {maker.server(), "web-1", 1}).value();
  fill(*store, maker, 7);
  const Sha256Digest head = store->chain_head();
  const std::vector<JournalSegment> before = store->snapshot()->segments();
  const Result<MergedRun> run = merge(files, *store, 1, 4);
  REQUIRE_MESSAGE(run.ok(), run.error().message());
  CHECK(run->info.segment.number == 2);
  CHECK(run->info.last_number == 5);
  CHECK(run->info.last_digest == before[5].info.previous_digest);
  REQUIRE(store->adopt_run(*run).ok());
  CHECK(store->remove_superseded().value() == 0);
  CHECK(store->sealed_segments() == 7);
  CHECK(store->journal_bytes() == store->snapshot()->journal_bytes());
  CHECK(journal_files(files) ==
        std::set<std::string>{before[0].name, run->name, before[5].name, before[6].name, before[7].name});
  CHECK(store->adopt_run(*run).ok());  // the same once more changes nothing but the layout
  CHECK(store->chain_head() == head);

  // Every batch is there with the head that was behind it.
  JournalReader reader(store->snapshot());
  std::size_t heads = 0;
  Seq seq = 1;
  while (true) {
    const auto entry = reader.next();
    REQUIRE_MESSAGE(entry.ok(), entry.error().message());
    if (*entry == nullptr) break;
    const BatchInfo& info = (*entry)->batch.info();
    CHECK(info.first_seq == seq);
    seq = info.last_seq() + 1;
    heads += info.head.has_value();
    for (std::size_t i = 2; i < 6; ++i)
      if (info.head && info.last_seq() + 1 == before[i].info.first_seq)
        CHECK(*info.head == before[i].info.previous_digest);
  }
  CHECK(seq == maker.next_seq());
  CHECK(heads > 4);
  CHECK(store->scrub(kNoDamage, {}).ok());

  // And after a restart; appending goes on.
  store = nullptr;
  store = Store::open(options_on(files), OpenMode::kReadWrite, kNoDamage).value();
  CHECK(store->chain_head() == head);
  fill(*store, maker, 9);
  CHECK(store->snapshot()->segments().back().info.number == 10);
  CHECK(store->scrub(kNoDamage, {}).ok());
}

TEST_CASE("a view held over merges and removals still reads, whoever holds it, and nothing is kept behind it") {
  MemoryFileSystem files;
  StreamMaker maker(42);
  std::unique_ptr<Store> store = Store::create(options_on(files), {maker.server(), "web-1", 1}).value();
  fill(*store, maker, 9);
  const auto open_view = [&](const Store& from) {
    return PointInTimeView::open(from, Point{from.position().seq, 0, false}).value();
  };
  const auto merge_and_remove = [&](std::size_t first, std::size_t count) {
    const Result<MergedRun> run = merge(files, *store, first, count);
    REQUIRE_MESSAGE(run.ok(), run.error().message());
    REQUIRE(store->adopt_run(*run).ok());
    return store->remove_superseded().value();
  };
  // Views of a whole stream only: go on to a point that is one.
  Model model;
  for (Seq i = 1; i < maker.next_seq(); ++i) model.apply(maker.history()[i - 1]);
  while (!model.whole) {
    REQUIRE(store->append(maker.next_batch()).ok());
    REQUIRE(store->commit().ok());
    model = Model();
    for (Seq i = 1; i < maker.next_seq(); ++i) model.apply(maker.history()[i - 1]);
  }
  const Seq seq = store->position().seq;
  SUBCASE("in this process") {
    std::unique_ptr<PointInTimeView> view = open_view(*store);
    CHECK(merge_and_remove(0, 4) == 4);  // no indexes were written
    compare_with_model(*view, maker, seq);
    CHECK(merge_and_remove(0, 3) > 4);  // the run is needed by nobody, its layout was never handed out
    compare_with_model(*view, maker, seq);
    view = nullptr;
    CHECK(store->remove_superseded().value() == 0);
  }
  SUBCASE("in another process, over a restart of the writer") {
    std::unique_ptr<Store> reader = Store::open(options_on(files), OpenMode::kReadOnly, kNoDamage).value();
    std::unique_ptr<PointInTimeView> view = open_view(*reader);
    reader = nullptr;  // the view keeps the pin
    CHECK(merge_and_remove(0, 4) == 4);
    store = nullptr;
    store = Store::open(options_on(files), OpenMode::kReadWrite, kNoDamage).value();
    CHECK(store->remove_superseded().value() == 4);
    compare_with_model(*view, maker, seq);
    view = nullptr;
    CHECK(store->remove_superseded().value() == 0);
    compare_with_model(*open_view(*store), maker, seq);
  }
  SUBCASE("a reader that came later keeps nothing of before") {
    CHECK(merge_and_remove(0, 4) == 0);
    const std::unique_ptr<Store> reader = Store::open(options_on(files), OpenMode::kReadOnly, kNoDamage).value();
    CHECK(store->remove_superseded().value() == 0);
    compare_with_model(*open_view(*reader), maker, seq);
  }
  SUBCASE("a reader that may not write holds the files themselves") {
    StoreOptions options = options_on(files);
    options.keep = StoreOptions::Keep::kOpen;
    const std::unique_ptr<Store> reader = Store::open(options, OpenMode::kReadOnly, kNoDamage).value();
    const std::unique_ptr<PointInTimeView> view = open_view(*reader);
    CHECK(merge_and_remove(0, 5) == 0);
    CHECK(merge_and_remove(0, 3) == 0);
    compare_with_model(*view, maker, seq);
  }
}

// A file system that does something just before the n-th time a path is opened.
class Interposed final : public FileSystem {
 public:
  Interposed(FileSystem& below, std::uint64_t number, std::function<void()> act)
      : below_(below), number_(number), act_(std::move(act)) {}
  Result<std::unique_ptr<File>> open(const std::string& path, FileMode mode) override {
    strike();
    return below_.open(path, mode);
  }
  Status rename(const std::string& from, const std::string& to) override {
    strike();
    return below_.rename(from, to);
  }
  Status remove(const std::string& path) override { return below_.remove(path); }
  Status make_directory(const std::string& path) override { return below_.make_directory(path); }
  Status sync_directory(const std::string& path) override { return below_.sync_directory(path); }
  Result<std::vector<std::string>> list(const std::string& path) override {
    strike();
    return below_.list(path);
  }
  Result<std::unique_ptr<FileLock>> lock(const std::string& path) override {
    strike();
    return below_.lock(path);
  }
  bool struck() const { return struck_; }

 private:
  void strike() {
    if (calls_++ != number_) return;
    struck_ = true;
    act_();
  }
  FileSystem& below_;
  const std::uint64_t number_;
  const std::function<void()> act_;
  std::uint64_t calls_ = 0;
  bool struck_ = false;
};

TEST_CASE("no reader loses a file, at whatever call of its opening and reading a merge ends and removes") {
  for (const StoreOptions::Keep keep :
       {StoreOptions::Keep::kByPin, StoreOptions::Keep::kOpen, StoreOptions::Keep::kNothing}) {
    CAPTURE(static_cast<int>(keep));
    std::uint64_t strikes = 0;
    for (std::uint64_t number = 0;; ++number) {
      CAPTURE(number);
      MemoryFileSystem files;
      StreamMaker maker(43);
      std::unique_ptr<Store> store = Store::create(options_on(files), {maker.server(), "web-1", 1}).value();
      fill(*store, maker, 6);
      Interposed interposed(files, number, [&] {
        const Result<MergedRun> run = merge(files, *store, 0, 4, 1 << 20);
        REQUIRE_MESSAGE(run.ok(), run.error().message());
        REQUIRE(store->adopt_run(*run).ok());
        REQUIRE(store->remove_superseded().ok());
      });
      StoreOptions options = options_on(files);
      options.file_system = &interposed;
      options.keep = keep;
      const Result<std::unique_ptr<Store>> reader = Store::open(options, OpenMode::kReadOnly, kNoDamage);
      REQUIRE_MESSAGE(reader.ok(), reader.error().message());
      const Status scrubbed = (*reader)->scrub(kNoDamage, {});
      REQUIRE_MESSAGE(scrubbed.ok(), scrubbed.error().message());
      if (!interposed.struck()) break;
      ++strikes;
    }
    CHECK(strikes > 10);
  }
}

TEST_CASE("pins: those of the dead fall away, those of the living count under whatever name") {
  MemoryFileSystem files;
  REQUIRE(files.make_directory("/store").ok());
  REQUIRE(files.make_directory("/store/pins").ok());
  CHECK(read_pins(files, "/store").value().empty());
  std::shared_ptr<StorePin> first = StorePin::take(files, "/store").value();
  const std::shared_ptr<StorePin> second = StorePin::take(files, "/store").value();
  REQUIRE(second->narrow(7, 100).ok());
  std::vector<PinInfo> pins = read_pins(files, "/store").value();
  REQUIRE(pins.size() == 2);
  CHECK(pins[0].keeps(~Seq{0}, 1));
  CHECK(pins[1].keeps(100, 8));
  CHECK_FALSE(pins[1].keeps(101, 8));
  CHECK_FALSE(pins[1].keeps(1, 7));
  first = nullptr;
  CHECK(read_pins(files, "/store").value().size() == 1);
  // A holder that died leaves its file, which is nobody's: a lock does not outlive its process.
  { REQUIRE(files.open("/store/pins/3-9-dead.pin", FileMode::kCreate).ok()); }
  { REQUIRE(files.open("/store/pins/unborn.new", FileMode::kCreate).ok()); }
  CHECK(read_pins(files, "/store").value().size() == 1);
  CHECK(files.list("/store/pins").value().size() == 1);
  // narrow() while the directory is being looked through.
  for (std::uint64_t number = 0; number < 12; ++number) {
    CAPTURE(number);
    const std::shared_ptr<StorePin> pin = StorePin::take(files, "/store").value();
    Interposed interposed(files, number, [&] { REQUIRE(pin->narrow(5, 50 + number).ok()); });
    CHECK(read_pins(interposed, "/store").value().size() == 2);
  }
}

TEST_CASE("the pin of a killed process falls away, on the machine's own file system") {
  const TemporaryDirectory directory;
  FileSystem& files = posix_file_system();
  REQUIRE(files.make_directory(pins_path(directory.path())).ok());
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const auto pin = StorePin::take(files, directory.path());
    const char word = pin.ok() && (*pin)->narrow(3, 77).ok() ? 'y' : 'n';
    if (::write(ready[1], &word, 1) == 1)
      while (true) ::pause();
    ::_exit(1);
  }
  char word = 0;
  REQUIRE(::read(ready[0], &word, 1) == 1);
  CHECK(word == 'y');
  const std::vector<PinInfo> pins = read_pins(files, directory.path()).value();
  REQUIRE(pins.size() == 1);
  CHECK(pins[0].layout == 3);
  CHECK(pins[0].seq == 77);
  REQUIRE(::kill(child, SIGKILL) == 0);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  ::close(ready[0]);
  ::close(ready[1]);
  CHECK(read_pins(files, directory.path()).value().empty());
  CHECK(files.list(pins_path(directory.path())).value().empty());
}

TEST_CASE("what is damaged is not merged, and stays") {
  MemoryFileSystem files;
  StreamMaker maker(44);
  std::unique_ptr<Store> store = Store::create(options_on(files), {maker.server(), "web-1", 1}).value();
  fill(*store, maker, 6);
  const Result<MergedRun> run = merge(files, *store, 0, 2);
  REQUIRE(run.ok());
  REQUIRE(store->adopt_run(*run).ok());
  REQUIRE(store->remove_superseded().ok());
  const std::set<std::string> before = journal_files(files);
  const std::vector<JournalSegment> segments = store->snapshot()->segments();
  std::mt19937_64 random(1);
  for (int i = 0; i < 400; ++i) {
    const JournalSegment& segment = segments[static_cast<std::size_t>(i % 3)];
    const std::string path =
        (segment.is_run() ? std::string("/store/runs/") : std::string("/store/journal/")) + segment.name;
    std::byte& byte = files.content(path)[random() % segment.file_bytes()];
    const auto bit = static_cast<std::byte>(1u << random() % 8);
    byte ^= bit;
    const Result<MergedRun> refused = merge(files, *store, 0, 3);
    CHECK_FALSE(refused.ok());
    byte ^= bit;
  }
  CHECK(journal_files(files) == before);
  CHECK(merge(files, *store, 0, 3).ok());
}

TEST_CASE("a flipped bit in a run is found by its name, and never served") {
  MemoryFileSystem files;
  StreamMaker maker(45);
  std::unique_ptr<Store> store = Store::create(options_on(files), {maker.server(), "web-1", 1}).value();
  fill(*store, maker, 6);
  const Result<MergedRun> run = merge(files, *store, 0, 5);
  REQUIRE(run.ok());
  REQUIRE(store->adopt_run(*run).ok());
  Model model;
  Seq seq = 0;
  for (Seq i = 1; i < maker.next_seq(); ++i) {
    model.apply(maker.history()[i - 1]);
    if (model.whole) seq = i;
  }
  REQUIRE(seq > 0);
  model = Model();
  for (Seq i = 1; i <= seq; ++i) model.apply(maker.history()[i - 1]);
  store = nullptr;
  std::mt19937_64 random(2);
  std::vector<std::byte>& content = files.content("/store/runs/" + run->name);
  for (int i = 0; i < 300; ++i) {
    std::byte& byte = content[random() % content.size()];
    const auto bit = static_cast<std::byte>(1u << random() % 8);
    byte ^= bit;
    std::string object;
    const auto note = [&](const Damage& damage) { object = damage.object; };
    const auto opened = Store::open(options_on(files), OpenMode::kReadOnly, note);
    REQUIRE_MESSAGE(opened.ok(), opened.error().message());
    CHECK_FALSE((*opened)->scrub(note, {}).ok());
    CHECK(object == run->name);
    const auto view = PointInTimeView::open(**opened, Point{seq, 0, false});
    for (const DiskGeometry& disk : model.geometry) {
      std::vector<std::byte> got(disk.size_bytes);
      if (view.ok() && (*view)->read(disk.disk, 0, got).ok()) CHECK(got == model.content.at(disk.disk));
    }
    byte ^= bit;
  }
}

TEST_CASE("a run of another history, or of what is not sealed, is refused; one that is missing is damage") {
  MemoryFileSystem files;
  StreamMaker maker(46);
  std::unique_ptr<Store> store = Store::create(options_on(files), {maker.server(), "web-1", 1}).value();
  fill(*store, maker, 5);
  const Result<MergedRun> run = merge(files, *store, 1, 3);
  REQUIRE(run.ok());
  MergedRun other = *run;
  other.info.last_digest[0] ^= std::byte{1};
  CHECK(store->adopt_run(other).error().kind() == ErrorKind::kRefused);
  other = *run;
  other.info.last_number = 6;
  CHECK(store->adopt_run(other).error().kind() == ErrorKind::kRefused);
  REQUIRE(store->adopt_run(*run).ok());
  REQUIRE(store->remove_superseded().ok());
  store = nullptr;
  REQUIRE(files.remove("/store/runs/" + run->name).ok());
  std::string object;
  const auto opened =
      Store::open(options_on(files), OpenMode::kReadWrite, [&](const Damage& damage) { object = damage.object; });
  REQUIRE(opened.ok());
  CHECK((*opened)->read_only());
  CHECK(object == run->name);
  CHECK((*opened)->position().seq == run->info.segment.first_seq - 1);
}

TEST_CASE("the smallest size class of which enough stand side by side is merged first, the oldest of it") {
  const auto files_of = [](std::initializer_list<std::uint64_t> sizes) {
    std::vector<JournalSegment> segments;
    for (const std::uint64_t bytes : sizes) {
      JournalSegment segment;
      segment.end_bytes = bytes;
      segment.info.first_seq = segments.size() + 1;
      segments.push_back(segment);
    }
    return segments;
  };
  MergePolicy policy{100, 3, 3000};
  const auto chosen = [&](std::initializer_list<std::uint64_t> sizes, Seq left_out = 0) {
    const auto choice = choose_merge(files_of(sizes), policy,
                                     [&](const JournalSegment& segment) { return segment.info.first_seq == left_out; });
    return choice ? std::pair(choice->first, choice->count) : std::pair<std::size_t, std::size_t>(99, 0);
  };
  const std::pair<std::size_t, std::size_t> none(99, 0);
  CHECK(chosen({}) == none);
  CHECK(chosen({100, 100, 100}) == none);  // the last one is open
  CHECK(chosen({100, 100, 100, 5}) == std::pair<std::size_t, std::size_t>(0, 3));
  CHECK(chosen({300, 300, 300, 90, 90, 90, 5}) == std::pair<std::size_t, std::size_t>(3, 3));
  CHECK(chosen({300, 300, 300, 90, 90, 5}) == std::pair<std::size_t, std::size_t>(0, 3));
  CHECK(chosen({300, 90, 300, 90, 300, 5}) == none);
  CHECK(chosen({90, 90, 90, 90, 90, 90, 5}) == std::pair<std::size_t, std::size_t>(0, 3));
  CHECK(chosen({90, 90, 90, 90, 5}, 2) == none);
  CHECK(chosen({90, 90, 90, 90, 5}, 1) == std::pair<std::size_t, std::size_t>(1, 3));
  CHECK(chosen({1100, 1100, 1100, 5}) == none);  // the run would be too large
}

}  // namespace
}  // namespace understudy
