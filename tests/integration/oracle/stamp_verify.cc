// SPDX-License-Identifier: Apache-2.0
// stamp-verify: proves that restored images are exactly a prefix of a stamping run (prefix_check.h says what that
// means).
//
//   stamp-verify --log FILE [--log FILE...] --image ID=PATH[@OFFSET_BYTES] [--image ...] [requirements]
//
// Requirements, all in wall-clock ns since 1970 (or "all"):
//   --completed-before NS   every write that completed before NS is present
//   --flushed-before NS     every write that a flush completed before NS covers is present
//   --not-after NS          no write submitted after NS is present
//   --kill NS               measure the loss back from here: only what completed before NS counts as missing
// Last line on stdout is one JSON object. Exit status: 0 proved, 1 contradiction (first line on stderr), 2 bad
// arguments.
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/integration/oracle/prefix_check.h"
#include "tests/integration/oracle/stamp.h"

namespace {

using namespace understudy::oracle;

constexpr char kUsage[] =
    "usage: stamp-verify --log FILE... --image ID=PATH[@OFFSET]... [--completed-before NS|all] [--flushed-before "
    "NS|all]\n"
    "       [--not-after NS] [--kill NS]\n";

struct ImageOption {
  std::uint32_t id = 0;
  std::string path;
  std::uint64_t offset_bytes = 0;
};

struct VerifyOptions {
  std::vector<std::string> logs;
  std::vector<ImageOption> images;
  Requirements requirements;
};

std::uint64_t time_ns(const std::string& text) { return text == "all" ? kNever : std::stoull(text); }

ImageOption parse_image(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos) throw std::invalid_argument("'" + text + "' is not ID=PATH");
  const std::size_t at = text.rfind('@');
  ImageOption image;
  image.id = static_cast<std::uint32_t>(std::stoul(text.substr(0, equals)));
  image.path = text.substr(equals + 1, at == std::string::npos ? at : at - equals - 1);
  if (at != std::string::npos) image.offset_bytes = std::stoull(text.substr(at + 1));
  return image;
}

VerifyOptions parse(int argc, char** argv) {
  VerifyOptions options;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    if (i + 1 >= argc) throw std::invalid_argument("'" + name + "' lacks its value");
    const std::string value = argv[i + 1];
    if (name == "--log")
      options.logs.push_back(value);
    else if (name == "--image")
      options.images.push_back(parse_image(value));
    else if (name == "--completed-before")
      options.requirements.completed_before_ns = time_ns(value);
    else if (name == "--flushed-before")
      options.requirements.flushed_before_ns = time_ns(value);
    else if (name == "--not-after")
      options.requirements.not_after_ns = time_ns(value);
    else if (name == "--kill")
      options.requirements.kill_ns = time_ns(value);
    else
      throw std::invalid_argument("unknown option '" + name + "'");
  }
  if (options.logs.empty() || options.images.empty()) throw std::invalid_argument("--log and --image are needed");
  return options;
}

void print(const PrefixResult& cut, const Account& account) {
  std::printf(
      "{\"bytes_verified\":%llu,\"sectors_stamped\":%llu,\"operations_logged\":%llu,\"missing_completed\":%llu,"
      "\"missing_flushed\":%llu,\"newest_contained\":%llu,\"newest_contained_wall_ns\":%llu,"
      "\"oldest_missing_wall_ns\":%llu,\"newest_missing_wall_ns\":%llu,\"cut_low_boot_ns\":%llu,"
      "\"rpo_ms\":%.3f,\"rpo_flushed_ms\":%.3f}\n",
      static_cast<unsigned long long>(account.sectors_verified * kSectorBytes),
      static_cast<unsigned long long>(account.sectors_stamped),
      static_cast<unsigned long long>(account.operations_logged),
      static_cast<unsigned long long>(account.missing_completed),
      static_cast<unsigned long long>(account.missing_flushed),
      static_cast<unsigned long long>(account.newest_contained_number),
      static_cast<unsigned long long>(account.newest_contained_wall_ns),
      static_cast<unsigned long long>(account.oldest_missing_wall_ns),
      static_cast<unsigned long long>(account.newest_missing_wall_ns), static_cast<unsigned long long>(cut.cut_low_ns),
      account.rpo_ms, account.rpo_flushed_ms);
}

int verify(const VerifyOptions& options) {
  std::vector<LogContent> logs;
  for (const std::string& path : options.logs) logs.push_back(read_log(path));
  const History history(logs);
  std::vector<ImageContent> images;
  for (const ImageOption& image : options.images) {
    const auto target = history.target_index(image.id);
    if (!target) throw std::runtime_error("no log has a target " + std::to_string(image.id));
    images.push_back(read_image(history, *target, image.path, image.offset_bytes));
  }
  const PrefixResult cut = find_cut(history, images);
  if (!cut.is_prefix) {
    std::fprintf(stderr, "stamp-verify: %s\n", cut.contradiction.c_str());
    return 1;
  }
  const Account result = account(history, images, cut, options.requirements);
  for (const std::string& violation : result.violations) std::fprintf(stderr, "stamp-verify: %s\n", violation.c_str());
  print(cut, result);
  return result.violations.empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  VerifyOptions options;
  try {
    options = parse(argc, argv);
  } catch (const std::logic_error& error) {
    std::fprintf(stderr, "stamp-verify: %s\n%s", error.what(), kUsage);
    return 2;
  }
  try {
    return verify(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "stamp-verify: %s\n", error.what());
    return 1;
  }
}
