// SPDX-License-Identifier: Apache-2.0
// stamp-writer: puts a load of stamped, logged writes on disks until it is told to stop.
//
//   stamp-writer --log FILE --target ID=PATH[,offset=BYTES][,length=BYTES] [--target ...] [options]
//
// Runs until SIGTERM or SIGINT (then flushes), a limit, or the first error of a target. Last line on stdout:
// "stamp-writer: operations=N bytes=N seconds=S". Exit status: 0 ended as asked, 1 could not start, 2 bad arguments,
// 3 a target failed (named on stderr; the log is whole and usable).
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "tests/integration/oracle/write_load.h"

namespace {

using understudy::oracle::LoadOptions;
using understudy::oracle::TargetOptions;

std::atomic<bool> stop_requested = false;

constexpr char kUsage[] =
    "usage: stamp-writer --log FILE --target ID=PATH[,offset=BYTES][,length=BYTES]... [--threads N] [--min-bytes N]\n"
    "       [--max-bytes N] [--sequential PERCENT] [--zero PERCENT] [--durable PERCENT] [--flush-every N] [--rate "
    "BYTES]\n"
    "       [--operations N] [--seconds S] [--seed N] [--log-slots N] [--fill] [--compressible]\n";

std::uint64_t number(const std::string& text) {
  std::size_t used = 0;
  const std::uint64_t value = std::stoull(text, &used);
  if (used != text.size()) throw std::invalid_argument("'" + text + "' is not a number");
  return value;
}

TargetOptions parse_target(const std::string& text) {
  TargetOptions target;
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos) throw std::invalid_argument("'" + text + "' is not ID=PATH");
  target.id = static_cast<std::uint32_t>(number(text.substr(0, equals)));
  std::size_t comma = text.find(',', equals);
  target.path = text.substr(equals + 1, comma == std::string::npos ? comma : comma - equals - 1);
  while (comma != std::string::npos) {
    const std::size_t next = text.find(',', comma + 1);
    const std::string part = text.substr(comma + 1, next == std::string::npos ? next : next - comma - 1);
    if (part.starts_with("offset="))
      target.offset_bytes = number(part.substr(7));
    else if (part.starts_with("length="))
      target.length_bytes = number(part.substr(7));
    else
      throw std::invalid_argument("'" + part + "' is neither offset= nor length=");
    comma = next;
  }
  return target;
}

// Applies one option; returns how many arguments it took.
int apply(const std::string& name, const char* value, LoadOptions* options) {
  if (name == "--fill") return options->fill = true, 1;
  if (name == "--compressible") return options->compressible = true, 1;
  if (value == nullptr) throw std::invalid_argument("'" + name + "' is unknown or lacks its value");
  if (name == "--log")
    options->log_path = value;
  else if (name == "--target")
    options->targets.push_back(parse_target(value));
  else if (name == "--threads")
    options->threads = static_cast<unsigned>(number(value));
  else if (name == "--min-bytes")
    options->write_bytes_min = number(value);
  else if (name == "--max-bytes")
    options->write_bytes_max = number(value);
  else if (name == "--sequential")
    options->sequential_percent = static_cast<unsigned>(number(value));
  else if (name == "--zero")
    options->zero_percent = static_cast<unsigned>(number(value));
  else if (name == "--durable")
    options->durable_percent = static_cast<unsigned>(number(value));
  else if (name == "--flush-every")
    options->flush_every = static_cast<unsigned>(number(value));
  else if (name == "--rate")
    options->rate_bytes_per_s = number(value);
  else if (name == "--operations")
    options->operations_max = number(value);
  else if (name == "--seconds")
    options->seconds_max = std::stod(value);
  else if (name == "--seed")
    options->seed = number(value);
  else if (name == "--log-slots")
    options->log_slots = number(value);
  else
    throw std::invalid_argument("unknown option '" + name + "'");
  return 2;
}

LoadOptions parse(int argc, char** argv) {
  LoadOptions options;
  for (int i = 1; i < argc;) i += apply(argv[i], i + 1 < argc ? argv[i + 1] : nullptr, &options);
  if (options.log_path.empty() || options.targets.empty()) throw std::invalid_argument("--log and --target are needed");
  if (options.threads < 1 || options.threads > 256) throw std::invalid_argument("--threads must be between 1 and 256");
  if (options.write_bytes_min < 512 || options.write_bytes_max > (64u << 20) || options.write_bytes_max % 512 != 0 ||
      options.write_bytes_max < options.write_bytes_min)
    throw std::invalid_argument("--min-bytes and --max-bytes must be between 512 and 64 MiB, in sectors of 512");
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  LoadOptions options;
  try {
    options = parse(argc, argv);
  } catch (const std::logic_error& error) {
    std::fprintf(stderr, "stamp-writer: %s\n%s", error.what(), kUsage);
    return 2;
  }
  struct sigaction action {};
  action.sa_handler = [](int) { stop_requested = true; };
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, nullptr);
  try {
    const auto summary = understudy::oracle::run_load(options, stop_requested);
    std::printf("stamp-writer: operations=%llu bytes=%llu seconds=%.3f\n",
                static_cast<unsigned long long>(summary.operations), static_cast<unsigned long long>(summary.bytes),
                summary.seconds);
    if (summary.first_error.empty()) return 0;
    std::fprintf(stderr, "stamp-writer: %s\n", summary.first_error.c_str());
    return 3;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "stamp-writer: %s\n", error.what());
    return 1;
  }
}
