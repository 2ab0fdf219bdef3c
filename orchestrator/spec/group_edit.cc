// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/spec/group_edit.h"

#include <algorithm>
#include <cctype>
#include <memory>

#include "daemon/base/text.h"
#include "daemon/base/yaml_tree.h"

namespace understudy {

namespace {

using Kind = ConfigNode::Kind;
using Tree = std::unique_ptr<ConfigNode>;
using Path = std::vector<std::string>;

constexpr std::string_view kServers = "servers";

Result<Tree> parse(const std::string& text, const std::string& file) {
  std::vector<ConfigMistake> mistakes;
  Tree tree = parse_yaml(text, 0, mistakes);
  if (mistakes.empty() && tree->kind == Kind::kMap) return tree;
  const ConfigPosition at = mistakes.empty() ? ConfigPosition() : mistakes[0].position;
  return Error(ErrorKind::kInvalidArgument, file + ":" + std::to_string(at.line) + ":" + std::to_string(at.column) +
                                                ": " + (mistakes.empty() ? "it is no map" : mistakes[0].message));
}

bool same(const ConfigNode& a, const ConfigNode& b) {
  if (a.kind != b.kind || a.entries.size() != b.entries.size() || a.items.size() != b.items.size()) return false;
  if (a.kind == Kind::kScalar && (a.scalar != b.scalar || a.quoted != b.quoted)) return false;
  for (std::size_t i = 0; i < a.items.size(); ++i) {
    if (!same(*a.items[i], *b.items[i])) return false;
  }
  // Where in its map a new key stands means nothing.
  for (const ConfigNode::Entry& entry : a.entries) {
    const auto other = std::find_if(b.entries.begin(), b.entries.end(),
                                    [&](const ConfigNode::Entry& candidate) { return candidate.key == entry.key; });
    if (other == b.entries.end() || !same(*entry.value, *other->value)) return false;
  }
  return true;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

bool says_nothing(const std::string& line) {
  const std::size_t first = line.find_first_not_of(" \t\r");
  return first == std::string::npos || line[first] == '#';
}

// A text with its tree. Lines and columns of positions count from 1.
class Editor {
 public:
  static Result<Editor> open(const std::string& text, const std::string& file) {
    ASSIGN_OR_RETURN(Tree tree, parse(text, file));
    return Editor(split(text), std::move(tree), file);
  }

  ConfigNode& root() { return *tree_; }

  Result<ConfigNode*> server(const std::string& name) {
    std::vector<std::string> known;
    for (ConfigNode* item : servers()) {
      ConfigNode::Entry* entry = item->find("name");
      const std::string found = entry == nullptr ? "" : entry->value->scalar;
      if (found == name) return item;
      known.push_back(found);
    }
    const auto near = nearest_word(name, known);
    return Error(ErrorKind::kNotFound,
                 "no server " + quote(name) + " in " + file_ + (near ? "; did you mean '" + *near + "'?" : ""));
  }

  std::vector<ConfigNode*> servers() {
    std::vector<ConfigNode*> all;
    ConfigNode::Entry* list = tree_->find(kServers);
    if (list == nullptr) return all;
    for (const auto& item : list->value->items) all.push_back(item.get());
    return all;
  }

  // The line behind the last one of `node`, an item of the list of servers or the root (nullptr).
  std::size_t end_of(const ConfigNode* item) const {
    std::size_t end = lines_.size();
    const auto list = std::find_if(tree_->entries.begin(), tree_->entries.end(),
                                   [](const ConfigNode::Entry& entry) { return entry.key == kServers; });
    if (item != nullptr) {
      for (const ConfigNode::Entry& entry : tree_->entries) {
        if (entry.position.line > list->position.line) end = std::min(end, index_of(entry.position));
      }
      for (const auto& other : list->value->items) {
        if (other->position.line > item->position.line) end = std::min(end, index_of(other->position));
      }
    }
    while (end > 0 && says_nothing(lines_[end - 1])) --end;
    return end;
  }

  // Sets what stands at `path` below `map`, whose block ends before line `end`.
  Status set(ConfigNode& map, std::size_t end, const Path& path, const YamlText& value) {
    ConfigNode::Entry* entry = map.find(path[0]);
    if (entry == nullptr) return insert(map, end, path, value);
    if (path.size() > 1 && entry->value->kind == Kind::kMap) {
      const Path below(path.begin() + 1, path.end());
      return set(*entry->value, end_of_block(map, *entry, end), below, value);
    }
    if (path.size() > 1) return cannot(entry->position, "'" + entry->key + "' is no map");
    return replace_scalar(*entry, value);
  }

  Status remove(ConfigNode& map, std::size_t end, const std::string& key) {
    ConfigNode::Entry* entry = map.find(key);
    if (entry == nullptr) return ok_status();
    const std::string& line = lines_.at(index_of(entry->position));
    if (is_flow(map) || line.find_first_not_of(' ') + 1 != static_cast<std::size_t>(entry->position.column)) {
      return cannot(entry->position, "'" + key + "' does not stand on lines of its own");
    }
    cut(index_of(entry->position), end_of_block(map, *entry, end));
    return ok_status();
  }

  Status add_item(const std::vector<std::pair<std::string, YamlText>>& entries) {
    const ConfigNode::Entry* list = tree_->find(kServers);
    std::size_t at = end_of(nullptr);
    std::size_t indentation = 2;
    if (list == nullptr) {
      lines_.insert(lines_.begin() + static_cast<std::ptrdiff_t>(at++), "servers:");
    } else if (!list->value->items.empty()) {
      const ConfigNode& last = *list->value->items.back();
      const std::string& line = lines_.at(index_of(last.position));
      const std::size_t dash = line.find('-');
      if (line.find_first_not_of(' ') != dash || is_flow_list(*list)) {
        return cannot(last.position, "the list of servers is not written one below the other");
      }
      indentation = dash;
      at = end_of(&last);
    } else {
      std::string& line = lines_.at(index_of(list->position));
      const std::size_t brackets = line.find(" []");
      if (brackets != std::string::npos) line.erase(brackets, 3);
      while (!line.empty() && line.back() == ' ') line.pop_back();
      at = index_of(list->position) + 1;
    }
    std::vector<std::string> made;
    for (const auto& [key, value] : entries) {
      made.push_back(std::string(indentation, ' ') + (made.empty() ? "- " : "  ") + key + ": " + value);
    }
    lines_.insert(lines_.begin() + static_cast<std::ptrdiff_t>(at), made.begin(), made.end());
    return ok_status();
  }

  Status remove_item(const ConfigNode& item) {
    const ConfigNode::Entry* list = tree_->find(kServers);
    const std::string& line = lines_.at(index_of(item.position));
    if (line.find_first_not_of(' ') != line.find('-') || is_flow_list(*list)) {
      return cannot(item.position, "the server does not stand on lines of its own");
    }
    const std::size_t begin = index_of(item.position);
    const std::size_t end = end_of(&item);
    if (list->value->items.size() == 1) {
      std::string& head = lines_.at(index_of(list->position));
      head.insert(head.find(':', static_cast<std::size_t>(list->position.column)) + 1, " []");
    }
    cut(begin, end);
    return ok_status();
  }

  std::string text() const { return joined(lines_); }

 private:
  Editor(std::vector<std::string> lines, Tree tree, std::string file)
      : lines_(std::move(lines)), tree_(std::move(tree)), file_(std::move(file)) {}

  static std::size_t index_of(const ConfigPosition& position) { return static_cast<std::size_t>(position.line - 1); }

  Error cannot(const ConfigPosition& at, const std::string& why) const {
    return Error(ErrorKind::kInvalidArgument, file_ + ":" + std::to_string(at.line) + ":" + std::to_string(at.column) +
                                                  ": " + why + "; edit the file by hand");
  }

  char at(const ConfigPosition& position) const {
    const std::string& line = lines_.at(index_of(position));
    const auto column = static_cast<std::size_t>(position.column - 1);
    return column < line.size() ? line[column] : '\0';
  }
  bool is_flow(const ConfigNode& map) const { return at(map.position) == '{'; }
  bool is_flow_list(const ConfigNode::Entry& list) const { return at(list.value->position) == '['; }

  // The line behind the block of an entry of a map that is written one key below the other.
  std::size_t end_of_block(const ConfigNode& map, const ConfigNode::Entry& entry, std::size_t end) const {
    for (const ConfigNode::Entry& other : map.entries) {
      if (other.position.line > entry.position.line) end = std::min(end, index_of(other.position));
    }
    while (end > index_of(entry.position) + 1 && says_nothing(lines_[end - 1])) --end;
    return end;
  }

  void cut(std::size_t begin, std::size_t end) {
    lines_.erase(lines_.begin() + static_cast<std::ptrdiff_t>(begin),
                 lines_.begin() + static_cast<std::ptrdiff_t>(end));
  }

  Status insert(const ConfigNode& map, std::size_t end, const Path& path, const YamlText& value) {
    std::string made = path.back() + ": " + value;
    for (std::size_t i = path.size() - 1; i-- > 0;) made = path[i] + ": {" + made + "}";
    if (map.kind == Kind::kMap && is_flow(map)) {
      std::string& line = lines_.at(index_of(map.position));
      line.insert(static_cast<std::size_t>(map.position.column), made + (map.entries.empty() ? "" : ", "));
      return ok_status();
    }
    if (map.entries.empty()) return cannot(map.position, "there is an empty map");
    const std::string indentation(static_cast<std::size_t>(map.entries[0].position.column - 1), ' ');
    lines_.insert(lines_.begin() + static_cast<std::ptrdiff_t>(end), indentation + made);
    return ok_status();
  }

  Status replace_scalar(const ConfigNode::Entry& entry, const YamlText& value) {
    const ConfigNode& old = *entry.value;
    std::string& line = lines_.at(index_of(old.position));
    const auto begin = static_cast<std::size_t>(old.position.column - 1);
    std::string written = old.scalar;
    if (old.kind == Kind::kScalar && old.quoted) {
      const char mark = begin < line.size() ? line[begin] : '\0';
      written = mark + old.scalar + mark;
    }
    if (old.kind != Kind::kScalar || written.empty() || line.compare(begin, written.size(), written) != 0) {
      return cannot(entry.position, "the value of '" + entry.key + "' is not a plain one on its line");
    }
    line.replace(begin, written.size(), value);
    return ok_status();
  }

  std::vector<std::string> lines_;
  Tree tree_;
  std::string file_;
};

// What a value means, as a node.
Result<Tree> node_of(const YamlText& value) {
  ASSIGN_OR_RETURN(Tree tree, parse("x: " + value + "\n", "value"));
  return std::move(tree->entries[0].value);
}

void change_entry(ConfigNode& map, const Path& path, std::size_t depth, Tree value) {
  map.kind = Kind::kMap;
  ConfigNode::Entry* entry = map.find(path[depth]);
  if (entry == nullptr) {
    ConfigNode::Entry made;
    made.key = path[depth];
    made.value = std::make_unique<ConfigNode>();
    map.entries.push_back(std::move(made));
    entry = &map.entries.back();
  }
  if (depth + 1 < path.size()) return change_entry(*entry->value, path, depth + 1, std::move(value));
  entry->value = std::move(value);
}

// The new text, when it says what `expected` says.
Result<std::string> proved(const std::string& text, const std::string& file, const ConfigNode& expected) {
  const auto now = parse(text, file);
  if (now.ok() && same(**now, expected)) return text;
  return Error(ErrorKind::kInvalidArgument,
               file + ": it is written in a way that cannot be edited safely; edit the file by hand");
}

Result<std::string> set_key(const std::string& text, const std::string& file, const std::string& server,
                            const Path& path, const YamlText& value) {
  ASSIGN_OR_RETURN(Editor editor, Editor::open(text, file));
  ASSIGN_OR_RETURN(Editor expected, Editor::open(text, file));
  ConfigNode* map = &editor.root();
  ConfigNode* goal = &expected.root();
  std::size_t end = editor.end_of(nullptr);
  if (!server.empty()) {
    ASSIGN_OR_RETURN(map, editor.server(server));
    ASSIGN_OR_RETURN(goal, expected.server(server));
    end = editor.end_of(map);
  }
  ASSIGN_OR_RETURN(Tree wanted, node_of(value));
  change_entry(*goal, path, 0, std::move(wanted));
  RETURN_IF_ERROR(editor.set(*map, end, path, value));
  return proved(editor.text(), file, expected.root());
}

}  // namespace

YamlText yaml_text(std::string_view scalar) {
  const bool plain = !scalar.empty() && std::all_of(scalar.begin(), scalar.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '/' || c == '+';
  });
  const bool word = plain && std::any_of(scalar.begin(), scalar.end(), [](unsigned char c) { return std::isalpha(c); });
  const bool special = scalar == "true" || scalar == "false" || scalar == "null" || scalar == "yes" || scalar == "no";
  if (word && !special && scalar.front() != '-') return std::string(scalar);
  std::string quoted = "'";
  for (const char c : scalar) quoted += c == '\'' ? std::string("''") : std::string(1, c);
  return quoted + "'";
}

Result<std::string> set_group_key(const std::string& text, const std::string& file, const Path& path,
                                  const YamlText& value) {
  return set_key(text, file, "", path, value);
}

Result<std::string> set_server_key(const std::string& text, const std::string& file, const std::string& server,
                                   const Path& path, const YamlText& value) {
  return set_key(text, file, server, path, value);
}

Result<std::string> remove_server_key(const std::string& text, const std::string& file, const std::string& server,
                                      const std::string& key) {
  ASSIGN_OR_RETURN(Editor editor, Editor::open(text, file));
  ASSIGN_OR_RETURN(Editor expected, Editor::open(text, file));
  ASSIGN_OR_RETURN(ConfigNode * map, editor.server(server));
  ASSIGN_OR_RETURN(ConfigNode * goal, expected.server(server));
  std::erase_if(goal->entries, [&](const ConfigNode::Entry& entry) { return entry.key == key; });
  RETURN_IF_ERROR(editor.remove(*map, editor.end_of(map), key));
  return proved(editor.text(), file, expected.root());
}

Result<std::string> add_server(const std::string& text, const std::string& file,
                               const std::vector<std::pair<std::string, YamlText>>& entries) {
  ASSIGN_OR_RETURN(Editor editor, Editor::open(text, file));
  ASSIGN_OR_RETURN(Editor expected, Editor::open(text, file));
  auto item = std::make_unique<ConfigNode>();
  for (const auto& [key, value] : entries) {
    ASSIGN_OR_RETURN(Tree node, node_of(value));
    change_entry(*item, {key}, 0, std::move(node));
  }
  ConfigNode& root = expected.root();
  if (root.find(kServers) == nullptr) {
    change_entry(root, {std::string(kServers)}, 0, std::make_unique<ConfigNode>());
  }
  root.find(kServers)->value->kind = Kind::kList;
  root.find(kServers)->value->items.push_back(std::move(item));
  RETURN_IF_ERROR(editor.add_item(entries));
  return proved(editor.text(), file, root);
}

Result<std::string> remove_server(const std::string& text, const std::string& file, const std::string& server) {
  ASSIGN_OR_RETURN(Editor editor, Editor::open(text, file));
  ASSIGN_OR_RETURN(Editor expected, Editor::open(text, file));
  ASSIGN_OR_RETURN(const ConfigNode* item, editor.server(server));
  ASSIGN_OR_RETURN(const ConfigNode* goal, expected.server(server));
  auto& items = expected.root().find(kServers)->value->items;
  std::erase_if(items, [&](const Tree& other) { return other.get() == goal; });
  RETURN_IF_ERROR(editor.remove_item(*item));
  return proved(editor.text(), file, expected.root());
}

Result<std::string> read_group_key(const std::string& text, const std::string& file, const std::string& server,
                                   const Path& path) {
  ASSIGN_OR_RETURN(Editor editor, Editor::open(text, file));
  ConfigNode* map = &editor.root();
  if (!server.empty()) {
    ASSIGN_OR_RETURN(map, editor.server(server));
  }
  for (const std::string& key : path) {
    ConfigNode::Entry* entry = map->find(key);
    if (entry == nullptr) return std::string();
    map = entry->value.get();
  }
  return map->scalar;
}

Result<std::vector<std::string>> group_keys(const std::string& text, const std::string& file) {
  ASSIGN_OR_RETURN(const Tree tree, parse(text, file));
  std::vector<std::string> keys;
  for (const ConfigNode::Entry& entry : tree->entries) keys.push_back(entry.key);
  return keys;
}

Result<std::vector<std::string>> group_servers(const std::string& text, const std::string& file) {
  ASSIGN_OR_RETURN(Editor editor, Editor::open(text, file));
  std::vector<std::string> names;
  for (ConfigNode* item : editor.servers()) {
    ConfigNode::Entry* entry = item->find("name");
    names.push_back(entry == nullptr ? "" : entry->value->scalar);
  }
  return names;
}

}  // namespace understudy
