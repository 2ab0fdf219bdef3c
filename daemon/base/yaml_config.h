// SPDX-License-Identifier: Apache-2.0
// Configuration files: YAML read with typed accessors that never stop at the first mistake. Every mistake is collected
// as "file:line:column: message"; finish() returns them all. Keys that nobody asked for are mistakes.
//
//   auto loaded = ConfigReader::load("/etc/understudy/agent.yaml");        // with agent.yaml.d/*.yaml merged over it
//   ConfigReader& reader = *loaded.value();
//   config.server = reader.root().name("server");                          // required
//   ConfigMap capture = reader.root().map("capture");                      // absent = all its defaults
//   config.ring_bytes = capture.bytes("ring_bytes", 256 << 20, {1 << 20, 64ull << 30});
//   for (ConfigItem& disk : reader.root().list("disks", {1, 64})) ...
//   RETURN_IF_ERROR(reader.finish());                                      // kInvalidConfig, one line a mistake
//
// An accessor without a fallback is for a required key. After a mistake it returns the fallback (or an empty value), so
// reading goes on; nothing that was read may be used before finish() was ok.
//
// Drop-ins: the files <file>.d/*.yaml are merged over the file in the order of their names. Maps are merged key by key,
// everything else is replaced. Mistakes and relative paths belong to the file in which they stand.
//
// Ownership: ConfigMap and ConfigItem are handles into their ConfigReader and must not outlive it. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

// Allowed values, both ends included: a number, a count, bytes or nanoseconds.
struct ConfigRange {
  std::uint64_t min = 0;
  std::uint64_t max = UINT64_MAX;
};

struct ConfigNode;  // yaml_tree.h
class ConfigItem;

class ConfigMap {
 public:
  bool has(std::string_view key);

  // Any text; empty only where the fallback is used.
  std::string text(std::string_view key);
  std::string text(std::string_view key, std::string_view fallback);
  // The name of something: 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit.
  std::string name(std::string_view key);
  std::string name(std::string_view key, std::string_view fallback);
  // A path; a relative one is taken from the directory of the file in which it stands. The fallback is absolute or
  // empty.
  std::string path(std::string_view key);
  std::string path(std::string_view key, std::string_view fallback);

  bool boolean(std::string_view key, bool fallback);  // true or false, nothing else

  std::uint64_t integer(std::string_view key, ConfigRange range);
  std::uint64_t integer(std::string_view key, std::uint64_t fallback, ConfigRange range);
  // An integer with optional KiB, MiB, GiB or TiB.
  std::uint64_t bytes(std::string_view key, ConfigRange range);
  std::uint64_t bytes(std::string_view key, std::uint64_t fallback, ConfigRange range);
  // An integer with ns, us, ms, s, min, h or d; in nanoseconds.
  std::uint64_t duration_ns(std::string_view key, ConfigRange range);
  std::uint64_t duration_ns(std::string_view key, std::uint64_t fallback, ConfigRange range);

  // Bytes a second: as bytes(), with /s behind it.
  std::uint64_t rate(std::string_view key, ConfigRange range);
  // A time of day, HH:MM from 00:00 to 24:00; in minutes.
  std::uint64_t time_of_day(std::string_view key);

  // One of the given words.
  template <typename Enum>
  Enum choice(std::string_view key, Enum fallback, const std::vector<std::pair<std::string_view, Enum>>& words) {
    std::vector<std::string_view> allowed;
    std::size_t fallback_index = words.size();
    for (const auto& [word, value] : words) {
      if (value == fallback) fallback_index = allowed.size();
      allowed.push_back(word);
    }
    CHECK_LT(fallback_index, words.size());
    return words[choice_index(key, fallback_index, allowed)].second;
  }

  // A map below this one; when absent, one in which every key is absent (required ones are then missed there).
  ConfigMap map(std::string_view key);
  // The items of a list; `count` is how many there may be. required = false: an absent list is an empty one.
  std::vector<ConfigItem> list(std::string_view key, ConfigRange count, bool required = true);

  // Adds a mistake at the value of `key` (at this map when it is absent), e.g. when two values do not go together.
  void mistake(std::string_view key, std::string_view message);
  // "file:line:column" of the value of `key` (of this map when it is absent), for mistakes that show when other files
  // were read, too.
  std::string where(std::string_view key);

 private:
  friend class ConfigReader;
  friend class ConfigItem;
  struct Access;
  ConfigMap(class ConfigReader& reader, ConfigNode& node) : reader_(&reader), node_(&node) {}
  std::size_t choice_index(std::string_view key, std::size_t fallback, const std::vector<std::string_view>& allowed);

  class ConfigReader* reader_;
  ConfigNode* node_;
};

// One item of a list: a scalar or a map.
class ConfigItem {
 public:
  bool is_map() const;
  ConfigMap map();     // a mistake when it is no map
  std::string text();  // a mistake when it is no scalar
  std::string path();  // as ConfigMap::path
  void mistake(std::string_view message);

 private:
  friend class ConfigMap;
  ConfigItem(class ConfigReader& reader, ConfigNode& node) : reader_(&reader), node_(&node) {}
  class ConfigReader* reader_;
  ConfigNode* node_;
};

class ConfigReader {
 public:
  // Reads `path` and its drop-ins. An error only when `path` itself cannot be read; mistakes in the text wait for
  // finish().
  static Result<std::unique_ptr<ConfigReader>> load(const std::string& path);
  // The same from memory, for tests; `file_name` stands in the messages.
  static std::unique_ptr<ConfigReader> parse(std::string_view text, const std::string& file_name);
  // From memory, (file name, text) of the file and its drop-ins in order of merging; at least one.
  static std::unique_ptr<ConfigReader> parse_merged(const std::vector<std::pair<std::string, std::string>>& files);
  ~ConfigReader();

  ConfigMap root();
  // All mistakes so far plus the keys nobody asked for. Called once, after everything was asked for.
  Status finish();
  // The merged result as YAML, defaults of what was asked for included and marked.
  std::string print() const;
  // Every key that was asked for, as "policy.retention" or "servers[0].name"; what a schema must know.
  std::vector<std::string> asked() const;
  // Files that were read, in order of merging.
  const std::vector<std::string>& files() const;

 private:
  friend class ConfigMap;
  friend class ConfigItem;
  friend struct ConfigMap::Access;
  struct State;
  ConfigReader();
  std::unique_ptr<State> state_;
};

}  // namespace understudy
