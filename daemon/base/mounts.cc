// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/mounts.h"

#include <cerrno>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "daemon/base/text.h"

namespace understudy {
namespace {

constexpr std::uint64_t kMajorMax = 1u << 12;
constexpr std::uint64_t kMinorMax = 1u << 20;

std::optional<std::uint32_t> device_number(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto high = parse_unsigned(text.substr(0, colon));
  const auto low = parse_unsigned(text.substr(colon + 1));
  if (!high || !low || *high >= kMajorMax || *low >= kMinorMax) return std::nullopt;
  return static_cast<std::uint32_t>(*high << 20 | *low);
}

// mountinfo writes blanks, tabs, newlines and backslashes as \ooo.
std::string unescaped(std::string_view text) {
  const auto octal = [&](std::size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '7'; };
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && octal(i + 1) && octal(i + 2) && octal(i + 3)) {
      result += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

bool is_read_only(const std::string& options) {
  std::istringstream stream(options);
  for (std::string option; std::getline(stream, option, ',');) {
    if (option == "ro") return true;
  }
  return false;
}

}  // namespace

std::uint32_t parse_device_number(std::string_view text) { return device_number(text).value_or(0); }

std::vector<MountPoint> parse_mounts(std::string_view text) {
  std::vector<MountPoint> mounts;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    std::istringstream fields(line);
    std::string id, parent, device, root, directory, options, word, type, source, super_options;
    if (!(fields >> id >> parent >> device >> root >> directory >> options)) continue;
    while (fields >> word && word != "-") continue;
    if (!(fields >> type >> source >> super_options)) continue;
    const auto number = device_number(device);
    if (!number) continue;
    mounts.push_back({*number, unescaped(root), unescaped(directory), std::move(type), unescaped(source),
                      is_read_only(options), is_read_only(super_options)});
  }
  return mounts;
}

Result<std::vector<MountPoint>> read_mounts(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) return Error(ErrorKind::kIo, "read '" + path + "': it cannot be read");
  return parse_mounts(text.str());
}

}  // namespace understudy
