// SPDX-License-Identifier: Apache-2.0
// The parsed form of configuration files behind yaml_config.h: a tree in which every key and value knows where it
// stands.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace understudy {

struct ConfigPosition {
  int file = 0;  // index into the list of files
  int line = 1;  // both from 1
  int column = 1;
};

struct ConfigNode {
  enum class Kind : std::uint8_t { kNull, kScalar, kList, kMap };
  struct Entry {
    std::string key;
    ConfigPosition position;  // of the key
    std::unique_ptr<ConfigNode> value;
    bool by_default = false;  // not in any file: made by the accessor that asked
    int rank = 1 << 20;       // order of asking, for printing; last what nobody asked for
  };

  Kind kind = Kind::kNull;
  ConfigPosition position;
  std::string path;  // "capture.ring_bytes", for messages
  std::string scalar;
  bool quoted = false;                             // a scalar in quotes
  std::vector<Entry> entries;                      // of a map
  std::vector<std::string> asked;                  // keys of a map that accessors asked for, there or not
  std::vector<std::unique_ptr<ConfigNode>> items;  // of a list

  Entry* find(std::string_view key);
};

struct ConfigMistake {
  ConfigPosition position;
  std::string message;
};

// Parses one document. Mistakes (syntax, duplicate keys, anchors, too deep, several documents) are added to `mistakes`;
// the result is what could be read, an empty map at the least.
std::unique_ptr<ConfigNode> parse_yaml(std::string_view text, int file, std::vector<ConfigMistake>& mistakes);

// Moves what `over` says into `under`: maps key by key, the rest is replaced. Both are maps.
void merge_yaml(ConfigNode& under, ConfigNode& over);

// Sets ConfigNode::path throughout.
void name_yaml_paths(ConfigNode& node, const std::string& path);

// The tree as YAML text, keys in order of their rank, defaults marked with a comment.
std::string print_yaml(const ConfigNode& node);

}  // namespace understudy
