// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cctype>
#include <sstream>

#include "daemon/base/limits.h"
#include "daemon/base/text.h"

namespace understudy {

namespace {

// Thrown through yaml-cpp to end parsing at a mistake after which nothing sensible follows.
struct StopParsing {};

// Builds the tree from yaml-cpp's events: unlike its Node, they have the position of every key and show duplicates.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(int file, std::vector<ConfigMistake>& mistakes) : file_(file), mistakes_(mistakes) {}

  std::unique_ptr<ConfigNode> take_root() { return std::move(root_); }
  ConfigPosition position(const YAML::Mark& mark) const {
    return mark.is_null() ? ConfigPosition{file_, 1, 1} : ConfigPosition{file_, mark.line + 1, mark.column + 1};
  }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    add(make(ConfigNode::Kind::kNull, mark));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { stop(mark, "aliases (*name) are not allowed"); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_anchor(mark, anchor);
    auto node = make(ConfigNode::Kind::kScalar, mark);
    node->scalar = value;
    node->quoted = tag == "!";
    if (!node->quoted && (value == "~" || value == "null")) node->kind = ConfigNode::Kind::kNull;
    add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(ConfigNode::Kind::kList, mark, anchor);
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(ConfigNode::Kind::kMap, mark, anchor);
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  // A list or map that is being filled. In a map, keys and values come in turn.
  struct Open {
    ConfigNode* node = nullptr;
    bool has_key = false;
    bool drop_value = false;  // of a duplicate key
    std::string key;
    ConfigPosition key_position;
  };

  [[noreturn]] void stop(const YAML::Mark& mark, std::string message) {
    mistakes_.push_back({position(mark), std::move(message)});
    throw StopParsing();
  }
  void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) stop(mark, "anchors (&name) are not allowed");
  }
  std::unique_ptr<ConfigNode> make(ConfigNode::Kind kind, const YAML::Mark& mark) {
    if (++count_ > kConfigNodesMax) stop(mark, "more than " + std::to_string(kConfigNodesMax) + " entries");
    auto node = std::make_unique<ConfigNode>();
    node->kind = kind;
    node->position = position(mark);
    return node;
  }
  void open(ConfigNode::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    refuse_anchor(mark, anchor);
    if (open_.size() >= static_cast<std::size_t>(kConfigDepthMax)) {
      stop(mark, "nested more than " + std::to_string(kConfigDepthMax) + " deep");
    }
    if (!open_.empty() && open_.back().node->kind == ConfigNode::Kind::kMap && !open_.back().has_key) {
      stop(mark, "a key must be a plain word");
    }
    ConfigNode* node = add(make(kind, mark));
    open_.push_back(Open{node, false, false, {}, {}});
  }
  ConfigNode* add(std::unique_ptr<ConfigNode> node) {
    ConfigNode* added = node.get();
    if (open_.empty()) {
      root_ = std::move(node);
      return added;
    }
    Open& parent = open_.back();
    if (parent.node->kind == ConfigNode::Kind::kList) {
      parent.node->items.push_back(std::move(node));
    } else if (!parent.has_key) {
      take_key(parent, *node);
      return nullptr;
    } else {
      parent.has_key = false;
      // Nothing stands where "nothing" was given, so its place is that of the key.
      if (node->kind == ConfigNode::Kind::kNull) node->position = parent.key_position;
      if (parent.drop_value) {
        dropped_.push_back(std::move(node));  // kept: what follows may still fill it
      } else {
        parent.node->entries.push_back({parent.key, parent.key_position, std::move(node)});
      }
    }
    return added;
  }
  void take_key(Open& parent, const ConfigNode& key) {
    parent.has_key = true;
    parent.key = key.scalar;
    parent.key_position = key.position;
    const ConfigNode::Entry* earlier = parent.node->find(key.scalar);
    parent.drop_value = earlier != nullptr;
    if (earlier != nullptr) {
      mistakes_.push_back({key.position, "duplicate key '" + printable(key.scalar) + "': already set in line " +
                                             std::to_string(earlier->position.line) + "; remove one of the two"});
    }
  }

  int file_;
  std::vector<ConfigMistake>& mistakes_;
  std::unique_ptr<ConfigNode> root_;
  std::vector<std::unique_ptr<ConfigNode>> dropped_;
  std::vector<Open> open_;
  std::size_t count_ = 0;
};

bool plain_in_yaml(const std::string& text) {
  if (text.empty() || text == "true" || text == "false" || text == "null" || text == "~") return false;
  if (text.front() == '-' || text.front() == ' ' || text.back() == ' ') return false;
  return std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '/' || c == '.' || c == '_' || c == '-' || c == ' ' || c == '+';
  });
}

std::string print_scalar(const ConfigNode& node) {
  if (node.kind == ConfigNode::Kind::kNull) return "~";
  const bool word = node.scalar == "true" || node.scalar == "false";
  if ((word && !node.quoted) || plain_in_yaml(node.scalar)) return node.scalar;
  std::string quoted = "\"";
  for (const char c : node.scalar) {
    if (const auto byte = static_cast<unsigned char>(c); byte < 0x20 || byte == 0x7f) {
      constexpr char kDigits[] = "0123456789abcdef";
      quoted += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
      continue;
    }
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

void print_node(const ConfigNode& node, const std::string& indent, bool after_dash, std::string& out);

// What follows "key:" or "-".
void print_value(const ConfigNode& value, const std::string& indent, bool by_default, std::string& out) {
  const bool block = (value.kind == ConfigNode::Kind::kMap && !value.entries.empty()) ||
                     (value.kind == ConfigNode::Kind::kList && !value.items.empty());
  if (block) {
    out += "\n";
    print_node(value, indent + "  ", /* after_dash= */ false, out);
    return;
  }
  if (value.kind == ConfigNode::Kind::kMap)
    out += " {}";
  else if (value.kind == ConfigNode::Kind::kList)
    out += " []";
  else
    out += " " + print_scalar(value);
  out += by_default ? "  # default\n" : "\n";
}

void print_node(const ConfigNode& node, const std::string& indent, bool after_dash, std::string& out) {
  if (node.kind == ConfigNode::Kind::kList) {
    for (const auto& item : node.items) {
      out += indent + "-";
      if (item->kind == ConfigNode::Kind::kMap && !item->entries.empty()) {
        print_node(*item, indent + "  ", /* after_dash= */ true, out);
      } else {
        print_value(*item, indent, /* by_default= */ false, out);
      }
    }
    return;
  }
  std::vector<const ConfigNode::Entry*> ordered;
  for (const auto& entry : node.entries) ordered.push_back(&entry);
  std::stable_sort(ordered.begin(), ordered.end(), [](const auto* a, const auto* b) { return a->rank < b->rank; });
  for (const auto* entry : ordered) {
    out += (after_dash ? " " : indent) + entry->key + ":";
    after_dash = false;
    print_value(*entry->value, indent, entry->by_default, out);
  }
}

}  // namespace

ConfigNode::Entry* ConfigNode::find(std::string_view key) {
  for (Entry& entry : entries) {
    if (entry.key == key) return &entry;
  }
  return nullptr;
}

std::unique_ptr<ConfigNode> parse_yaml(std::string_view text, int file, std::vector<ConfigMistake>& mistakes) {
  TreeBuilder builder(file, mistakes);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    std::vector<ConfigMistake> ignored;
    TreeBuilder second(file, ignored);
    if (parser.HandleNextDocument(second)) {
      mistakes.push_back({{file, 1, 1}, "more than one YAML document in the file; remove the '---' lines"});
    }
  } catch (const YAML::Exception& exception) {
    mistakes.push_back({builder.position(exception.mark), "not valid YAML: " + exception.msg});
  } catch (const StopParsing&) {
    // The mistake is recorded already.
  } catch (const std::exception& exception) {
    mistakes.push_back({{file, 1, 1}, std::string("not valid YAML: ") + exception.what()});
  }
  auto root = builder.take_root();
  if (root && root->kind == ConfigNode::Kind::kMap) return root;
  auto empty = std::make_unique<ConfigNode>();
  empty->kind = ConfigNode::Kind::kMap;
  empty->position.file = file;
  if (root && root->kind != ConfigNode::Kind::kNull) {
    mistakes.push_back({root->position, "the file must consist of 'key: value' lines"});
  }
  return empty;
}

void merge_yaml(ConfigNode& under, ConfigNode& over) {
  for (ConfigNode::Entry& entry : over.entries) {
    ConfigNode::Entry* existing = under.find(entry.key);
    if (existing == nullptr) {
      under.entries.push_back(std::move(entry));
    } else if (existing->value->kind == ConfigNode::Kind::kMap && entry.value->kind == ConfigNode::Kind::kMap) {
      merge_yaml(*existing->value, *entry.value);
    } else {
      existing->position = entry.position;
      existing->value = std::move(entry.value);
    }
  }
}

void name_yaml_paths(ConfigNode& node, const std::string& path) {
  node.path = path;
  for (ConfigNode::Entry& entry : node.entries) {
    name_yaml_paths(*entry.value, path.empty() ? entry.key : path + "." + entry.key);
  }
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    name_yaml_paths(*node.items[i], path + "[" + std::to_string(i) + "]");
  }
}

std::string print_yaml(const ConfigNode& node) {
  if (node.entries.empty()) return "{}\n";
  std::string out;
  print_node(node, "", /* after_dash= */ false, out);
  return out;
}

}  // namespace understudy
