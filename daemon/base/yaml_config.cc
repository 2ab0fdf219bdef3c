// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/yaml_config.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <optional>
#include <system_error>
#include <tuple>

#include "daemon/base/atomic_file.h"
#include "daemon/base/limits.h"
#include "daemon/base/text.h"
#include "daemon/base/yaml_tree.h"

namespace understudy {

struct ConfigReader::State {
  std::vector<std::string> files;
  std::unique_ptr<ConfigNode> root;
  std::vector<ConfigMistake> mistakes;
  int next_rank = 0;

  void add_file(const std::string& name, std::string_view text) {
    const int file = static_cast<int>(files.size());
    files.push_back(name);
    auto tree = parse_yaml(text, file, mistakes);
    if (!root)
      root = std::move(tree);
    else
      merge_yaml(*root, *tree);
  }
  void mistake(const ConfigPosition& position, std::string message) {
    mistakes.push_back({position, std::move(message)});
  }
};

namespace {

std::string full_key(const ConfigNode& map, std::string_view key) {
  return map.path.empty() ? std::string(key) : map.path + "." + std::string(key);
}

std::string_view kind_word(const ConfigNode& node) {
  switch (node.kind) {
    case ConfigNode::Kind::kNull: return "without a value";
    case ConfigNode::Kind::kScalar: return "a single value";
    case ConfigNode::Kind::kList: return "a list";
    case ConfigNode::Kind::kMap: return "a map";
  }
  return "unknown";
}

// How one kind of number is written, read and shown.
struct NumberForm {
  std::string_view description;
  std::optional<std::uint64_t> (*parse)(std::string_view);
  std::string (*format)(std::uint64_t);
};

std::string format_integer(std::uint64_t value) { return std::to_string(value); }

constexpr NumberForm kIntegerForm{"an integer", parse_unsigned, format_integer};
std::optional<std::uint64_t> parse_rate(std::string_view text) {
  if (!text.ends_with("/s")) return std::nullopt;
  return parse_bytes(text.substr(0, text.size() - 2));
}
std::string format_rate_exact(std::uint64_t bytes) { return format_bytes_exact(bytes) + "/s"; }

std::optional<std::uint64_t> parse_time_of_day(std::string_view text) {
  const auto digit = [&](std::size_t i) { return static_cast<std::uint64_t>(text[i] - '0'); };
  if (text.size() != 5 || text[2] != ':') return std::nullopt;
  for (const std::size_t i : {0u, 1u, 3u, 4u}) {
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
  }
  const std::uint64_t minute = digit(3) * 10 + digit(4);
  if (minute >= 60) return std::nullopt;
  return (digit(0) * 10 + digit(1)) * 60 + minute;
}
std::string format_time_of_day(std::uint64_t minutes) {
  const std::string hour = std::to_string(minutes / 60);
  const std::string minute = std::to_string(minutes % 60);
  return (hour.size() < 2 ? "0" : "") + hour + (minute.size() < 2 ? ":0" : ":") + minute;
}
constexpr ConfigRange kTimesOfDay{0, 24 * 60};

constexpr NumberForm kRateForm{"an integer with optional KiB, MiB, GiB or TiB, and /s", parse_rate, format_rate_exact};
constexpr NumberForm kTimeOfDayForm{"a time HH:MM in quotes", parse_time_of_day, format_time_of_day};
constexpr NumberForm kBytesForm{"an integer with optional KiB, MiB, GiB or TiB", parse_bytes, format_bytes_exact};
constexpr NumberForm kDurationForm{"an integer with ns, us, ms, s, min, h or d", parse_duration_ns,
                                   format_duration_exact_ns};

std::string range_text(const NumberForm& form, const ConfigRange& range) {
  if (range.max == UINT64_MAX) return "at least " + form.format(range.min);
  return form.format(range.min) + " to " + form.format(range.max);
}

bool is_name(std::string_view text) {
  const auto letter_or_digit = [](unsigned char c) { return c < 0x80 && std::isalnum(c) != 0; };
  if (text.empty() || text.size() > 64 || !letter_or_digit(static_cast<unsigned char>(text.front()))) return false;
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return letter_or_digit(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
  });
}

constexpr std::string_view kNameRule =
    "not a name; use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit";

std::string absolute_path(const std::string& text, const std::string& file) {
  if (text.empty() || text.front() == '/') return text;
  std::error_code ignored;
  const auto directory = std::filesystem::absolute(parent_directory(file), ignored);
  return (directory / text).lexically_normal().string();
}

}  // namespace

// What all accessors share.
struct ConfigMap::Access {
  ConfigReader::State& state;
  ConfigNode& node;
  std::string_view key;

  Access(const ConfigMap& map, std::string_view name) : state(*map.reader_->state_), node(*map.node_), key(name) {
    if (std::find(node.asked.begin(), node.asked.end(), key) == node.asked.end()) node.asked.emplace_back(key);
  }

  // The entry with a value, or nullptr when it is absent.
  ConfigNode::Entry* find() {
    ConfigNode::Entry* entry = node.find(key);
    if (entry == nullptr || entry->by_default) return nullptr;
    entry->rank = std::min(entry->rank, state.next_rank++);
    return entry;
  }

  // The scalar of the key: nullptr when it is absent (a mistake when required) or no scalar (always a mistake).
  const ConfigNode* scalar(bool required) {
    ConfigNode::Entry* entry = find();
    if (entry == nullptr) {
      if (required) missing();
      return nullptr;
    }
    if (entry->value->kind != ConfigNode::Kind::kScalar) {
      state.mistake(entry->value->position,
                    quote(full_key(node, key)) + " is " + std::string(kind_word(*entry->value)) + "; give one value");
      return nullptr;
    }
    return entry->value.get();
  }

  void missing() { state.mistake(node.position, "missing required key " + quote(full_key(node, key))); }

  void wrong(const ConfigNode& value, const std::string& problem) {
    state.mistake(value.position, quote(full_key(node, key)) + " is " + quote(value.scalar) + ", " + problem);
  }

  ConfigNode& add_default(ConfigNode::Kind kind, std::string text) {
    ConfigNode::Entry* entry = node.find(key);
    if (entry == nullptr) {
      auto value = std::make_unique<ConfigNode>();
      value->kind = kind;
      value->position = node.position;
      value->path = full_key(node, key);
      value->scalar = std::move(text);
      node.entries.push_back({std::string(key), node.position, std::move(value), true, state.next_rank++});
      entry = &node.entries.back();
    }
    return *entry->value;
  }

  std::uint64_t number(const NumberForm& form, const std::uint64_t* fallback, const ConfigRange& range) {
    const ConfigNode* value = scalar(fallback == nullptr);
    const std::uint64_t otherwise = fallback == nullptr ? range.min : *fallback;
    if (value == nullptr) {
      if (fallback != nullptr) add_default(ConfigNode::Kind::kScalar, form.format(*fallback));
      return otherwise;
    }
    const auto parsed = form.parse(value->scalar);
    if (!parsed) {
      wrong(*value, "not " + std::string(form.description) + "; allowed: " + range_text(form, range));
      return otherwise;
    }
    if (*parsed < range.min || *parsed > range.max) {
      wrong(*value, "out of range; allowed: " + range_text(form, range));
      return otherwise;
    }
    return *parsed;
  }

  std::string string(const std::string_view* fallback) {
    const ConfigNode* value = scalar(fallback == nullptr);
    if (value == nullptr) {
      if (fallback == nullptr) return {};
      add_default(ConfigNode::Kind::kScalar, std::string(*fallback));
      return std::string(*fallback);
    }
    if (value->scalar.empty() && fallback == nullptr) wrong(*value, "empty; give a value");
    return value->scalar;
  }

  std::string name(const std::string_view* fallback) {
    std::string text = string(fallback);
    const ConfigNode::Entry* entry = find();
    if (entry != nullptr && entry->value->kind == ConfigNode::Kind::kScalar && !text.empty() && !is_name(text)) {
      wrong(*entry->value, std::string(kNameRule));
    }
    return text;
  }

  std::string path(const std::string_view* fallback) {
    std::string text = string(fallback);
    const ConfigNode::Entry* entry = find();
    if (entry == nullptr) return text;
    return absolute_path(text, state.files[static_cast<std::size_t>(entry->value->position.file)]);
  }
};

bool ConfigMap::has(std::string_view key) { return Access(*this, key).find() != nullptr; }

std::string ConfigMap::text(std::string_view key) { return Access(*this, key).string(nullptr); }
std::string ConfigMap::text(std::string_view key, std::string_view fallback) {
  return Access(*this, key).string(&fallback);
}
std::string ConfigMap::name(std::string_view key) { return Access(*this, key).name(nullptr); }
std::string ConfigMap::name(std::string_view key, std::string_view fallback) {
  return Access(*this, key).name(&fallback);
}
std::string ConfigMap::path(std::string_view key) { return Access(*this, key).path(nullptr); }
std::string ConfigMap::path(std::string_view key, std::string_view fallback) {
  return Access(*this, key).path(&fallback);
}

bool ConfigMap::boolean(std::string_view key, bool fallback) {
  return choice_index(key, fallback ? 1 : 0, {"false", "true"}) == 1;
}

std::uint64_t ConfigMap::integer(std::string_view key, ConfigRange range) {
  return Access(*this, key).number(kIntegerForm, nullptr, range);
}
std::uint64_t ConfigMap::integer(std::string_view key, std::uint64_t fallback, ConfigRange range) {
  return Access(*this, key).number(kIntegerForm, &fallback, range);
}
std::uint64_t ConfigMap::rate(std::string_view key, ConfigRange range) {
  return Access(*this, key).number(kRateForm, nullptr, range);
}
std::uint64_t ConfigMap::time_of_day(std::string_view key) {
  return Access(*this, key).number(kTimeOfDayForm, nullptr, kTimesOfDay);
}

std::uint64_t ConfigMap::bytes(std::string_view key, ConfigRange range) {
  return Access(*this, key).number(kBytesForm, nullptr, range);
}
std::uint64_t ConfigMap::bytes(std::string_view key, std::uint64_t fallback, ConfigRange range) {
  return Access(*this, key).number(kBytesForm, &fallback, range);
}
std::uint64_t ConfigMap::duration_ns(std::string_view key, ConfigRange range) {
  return Access(*this, key).number(kDurationForm, nullptr, range);
}
std::uint64_t ConfigMap::duration_ns(std::string_view key, std::uint64_t fallback, ConfigRange range) {
  return Access(*this, key).number(kDurationForm, &fallback, range);
}

std::size_t ConfigMap::choice_index(std::string_view key, std::size_t fallback,
                                    const std::vector<std::string_view>& allowed) {
  Access access(*this, key);
  const ConfigNode* value = access.scalar(/* required= */ false);
  if (value == nullptr) {
    access.add_default(ConfigNode::Kind::kScalar, std::string(allowed[fallback]));
    return fallback;
  }
  const auto found = std::find(allowed.begin(), allowed.end(), value->scalar);
  if (found != allowed.end()) return static_cast<std::size_t>(found - allowed.begin());
  std::string words;
  for (std::size_t i = 0; i < allowed.size(); ++i) {
    if (i != 0) words += i + 1 == allowed.size() ? " or " : ", ";
    words += allowed[i];
  }
  access.wrong(*value, "not allowed; use " + words);
  return fallback;
}

ConfigMap ConfigMap::map(std::string_view key) {
  Access access(*this, key);
  ConfigNode::Entry* entry = access.find();
  if (entry == nullptr) return ConfigMap(*reader_, access.add_default(ConfigNode::Kind::kMap, {}));
  ConfigNode& value = *entry->value;
  if (value.kind != ConfigNode::Kind::kMap) {
    // "capture:" with nothing behind it is an empty map: all its keys commented out.
    if (value.kind != ConfigNode::Kind::kNull) {
      access.state.mistake(value.position, quote(full_key(*node_, key)) + " is " + std::string(kind_word(value)) +
                                               "; give 'key: value' lines");
    }
    value.kind = ConfigNode::Kind::kMap;
    value.items.clear();
  }
  return ConfigMap(*reader_, value);
}

std::vector<ConfigItem> ConfigMap::list(std::string_view key, ConfigRange count, bool required) {
  Access access(*this, key);
  ConfigNode::Entry* entry = access.find();
  std::vector<ConfigItem> items;
  if (entry == nullptr) {
    if (required)
      access.missing();
    else
      access.add_default(ConfigNode::Kind::kList, {});
    return items;
  }
  ConfigNode& value = *entry->value;
  if (value.kind != ConfigNode::Kind::kList) {
    access.state.mistake(value.position,
                         quote(full_key(*node_, key)) + " is " + std::string(kind_word(value)) + "; give a list");
    return items;
  }
  if (value.items.size() < count.min || value.items.size() > count.max) {
    access.state.mistake(value.position, quote(full_key(*node_, key)) + " has " + std::to_string(value.items.size()) +
                                             " items; allowed: " + range_text(kIntegerForm, count));
  }
  for (const auto& item : value.items) items.push_back(ConfigItem(*reader_, *item));
  return items;
}

void ConfigMap::mistake(std::string_view key, std::string_view message) {
  Access access(*this, key);
  const ConfigNode::Entry* entry = access.find();
  access.state.mistake(entry == nullptr ? node_->position : entry->value->position,
                       quote(full_key(*node_, key)) + ": " + std::string(message));
}

std::string ConfigMap::where(std::string_view key) {
  Access access(*this, key);
  const ConfigNode::Entry* entry = access.find();
  const ConfigPosition& position = entry == nullptr ? node_->position : entry->value->position;
  return access.state.files[static_cast<std::size_t>(position.file)] + ":" + std::to_string(position.line) + ":" +
         std::to_string(position.column);
}

bool ConfigItem::is_map() const { return node_->kind == ConfigNode::Kind::kMap; }

ConfigMap ConfigItem::map() {
  if (!is_map()) {
    mistake(std::string("is ") + std::string(kind_word(*node_)) + "; give 'key: value' lines");
    node_->kind = ConfigNode::Kind::kMap;
    node_->items.clear();
  }
  return ConfigMap(*reader_, *node_);
}

std::string ConfigItem::text() {
  if (node_->kind != ConfigNode::Kind::kScalar) {
    mistake(std::string("is ") + std::string(kind_word(*node_)) + "; give one value");
    return {};
  }
  if (node_->scalar.empty()) mistake("is empty; give a value");
  return node_->scalar;
}

std::string ConfigItem::path() {
  return absolute_path(text(), reader_->state_->files[static_cast<std::size_t>(node_->position.file)]);
}

void ConfigItem::mistake(std::string_view message) {
  reader_->state_->mistake(node_->position, quote(node_->path) + " " + std::string(message));
}

namespace {

// Keys nobody asked for. Maps that nobody opened lie under such a key and are not looked into.
void find_unknown_keys(const ConfigNode& node, std::vector<ConfigMistake>& mistakes) {
  for (const ConfigNode::Entry& entry : node.entries) {
    if (std::find(node.asked.begin(), node.asked.end(), entry.key) != node.asked.end()) {
      find_unknown_keys(*entry.value, mistakes);
      continue;
    }
    std::string message = "unknown key " + quote(full_key(node, entry.key));
    if (const auto near = nearest_word(entry.key, node.asked))
      message += "; did you mean '" + *near + "'?";
    else if (!node.asked.empty())
      message += "; known here: " + quoted_list(node.asked);
    mistakes.push_back({entry.position, message});
  }
  for (const auto& item : node.items) {
    if (item->kind != ConfigNode::Kind::kMap || !item->asked.empty()) find_unknown_keys(*item, mistakes);
  }
}

void collect_asked(const ConfigNode& node, std::vector<std::string>& asked) {
  for (const std::string& key : node.asked) asked.push_back(full_key(node, key));
  for (const ConfigNode::Entry& entry : node.entries) collect_asked(*entry.value, asked);
  for (const auto& item : node.items) collect_asked(*item, asked);
}

// The drop-ins of a file, by name. A missing directory has none.
std::vector<std::string> drop_in_files(const std::string& path) {
  std::vector<std::string> found;
  std::error_code error;
  for (std::filesystem::directory_iterator it(path + ".d", error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (it->path().extension() == ".yaml" && name.front() != '.') found.push_back(it->path().string());
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

ConfigReader::ConfigReader() : state_(std::make_unique<State>()) {}
ConfigReader::~ConfigReader() = default;

Result<std::unique_ptr<ConfigReader>> ConfigReader::load(const std::string& path) {
  auto content = read_file(path, kConfigFileBytesMax);
  if (!content.ok()) {
    const Error& error = content.error();
    const ErrorKind kind = error.kind() == ErrorKind::kPermission ? error.kind() : ErrorKind::kInvalidConfig;
    return Error(kind, "read configuration: " + error.message(), error.error_number());
  }
  std::unique_ptr<ConfigReader> reader(new ConfigReader());
  State& state = *reader->state_;
  state.add_file(path, *content);
  for (const std::string& drop_in : drop_in_files(path)) {
    auto more = read_file(drop_in, kConfigFileBytesMax);
    state.add_file(drop_in, more.ok() ? *more : std::string());
    if (!more.ok()) state.mistake({static_cast<int>(state.files.size()) - 1, 1, 1}, more.error().message());
  }
  name_yaml_paths(*state.root, "");
  return reader;
}

std::unique_ptr<ConfigReader> ConfigReader::parse(std::string_view text, const std::string& file_name) {
  return parse_merged({{file_name, std::string(text)}});
}

std::unique_ptr<ConfigReader> ConfigReader::parse_merged(
    const std::vector<std::pair<std::string, std::string>>& files) {
  CHECK(!files.empty());
  std::unique_ptr<ConfigReader> reader(new ConfigReader());
  for (const auto& [name, text] : files) reader->state_->add_file(name, text);
  name_yaml_paths(*reader->state_->root, "");
  return reader;
}

std::vector<std::string> ConfigReader::asked() const {
  std::vector<std::string> asked;
  collect_asked(*state_->root, asked);
  return asked;
}

ConfigMap ConfigReader::root() { return ConfigMap(*this, *state_->root); }

Status ConfigReader::finish() {
  find_unknown_keys(*state_->root, state_->mistakes);
  std::vector<ConfigMistake>& mistakes = state_->mistakes;
  if (mistakes.empty()) return ok_status();
  std::stable_sort(mistakes.begin(), mistakes.end(), [](const ConfigMistake& a, const ConfigMistake& b) {
    const auto key = [](const ConfigPosition& p) { return std::tuple(p.file, p.line, p.column); };
    return key(a.position) < key(b.position);
  });
  std::string text;
  for (std::size_t i = 0; i < std::min(mistakes.size(), kConfigErrorsMax); ++i) {
    const ConfigPosition& position = mistakes[i].position;
    if (i != 0) text += '\n';
    text += state_->files[static_cast<std::size_t>(position.file)] + ":" + std::to_string(position.line) + ":" +
            std::to_string(position.column) + ": " + mistakes[i].message;
  }
  if (mistakes.size() > kConfigErrorsMax) {
    text += "\n... and " + std::to_string(mistakes.size() - kConfigErrorsMax) + " more";
  }
  return Error(ErrorKind::kInvalidConfig, std::move(text));
}

std::string ConfigReader::print() const { return print_yaml(*state_->root); }

const std::vector<std::string>& ConfigReader::files() const { return state_->files; }

}  // namespace understudy
