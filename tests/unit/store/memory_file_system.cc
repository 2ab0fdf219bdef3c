// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/store/memory_file_system.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "daemon/base/check.h"

namespace understudy {
namespace {

std::string normal(std::string path) {
  if (const std::size_t up = path.find("/.."); up != std::string::npos) path = path.substr(0, path.rfind('/', up - 1));
  return path;
}

std::string parent(const std::string& path) { return path.substr(0, path.rfind('/')); }

void put(std::vector<std::byte>& content, std::uint64_t offset, std::span<const std::byte> data) {
  if (content.size() < offset + data.size()) content.resize(offset + data.size());
  if (!data.empty()) std::memcpy(content.data() + offset, data.data(), data.size());
}

}  // namespace

struct MemoryFileSystem::Node {
  struct Change {
    bool is_truncate = false;
    std::uint64_t offset = 0;  // or the new size
    std::vector<std::byte> data;
  };
  std::vector<std::byte> content;
  std::vector<std::byte> durable;
  std::vector<Change> unsynced;
};

class MemoryFile final : public File {
 public:
  MemoryFile(MemoryFileSystem& file_system, std::shared_ptr<MemoryFileSystem::Node> node, std::string path)
      : file_system_(file_system), node_(std::move(node)), path_(std::move(path)) {}

  Result<std::size_t> read(std::uint64_t offset, std::span<std::byte> out) const override {
    const std::lock_guard lock(file_system_.mutex_);
    if (offset >= node_->content.size()) return std::size_t{0};
    const std::size_t got = std::min<std::uint64_t>(out.size(), node_->content.size() - offset);
    if (got > 0) std::memcpy(out.data(), node_->content.data() + offset, got);
    return got;
  }
  Status write(std::uint64_t offset, std::span<const std::byte> data) override {
    const std::lock_guard lock(file_system_.mutex_);
    RETURN_IF_ERROR(file_system_.check(FileOperation::Kind::kWrite, path_));
    return file_system_.grow_checked(*node_, offset, data);
  }
  Status sync() override {
    const std::lock_guard lock(file_system_.mutex_);
    RETURN_IF_ERROR(file_system_.check(FileOperation::Kind::kSync, path_));
    for (const MemoryFileSystem::Node::Change& change : node_->unsynced) {
      if (change.is_truncate) {
        node_->durable.resize(change.offset);
      } else {
        put(node_->durable, change.offset, change.data);
      }
    }
    node_->unsynced.clear();
    return ok_status();
  }
  Status truncate(std::uint64_t size) override {
    const std::lock_guard lock(file_system_.mutex_);
    RETURN_IF_ERROR(file_system_.check(FileOperation::Kind::kTruncate, path_));
    node_->content.resize(size);
    node_->unsynced.push_back({true, size, {}});
    return ok_status();
  }
  Result<std::uint64_t> size() const override {
    const std::lock_guard lock(file_system_.mutex_);
    return std::uint64_t{node_->content.size()};
  }
  Result<std::uint64_t> allocated_bytes() const override { return size(); }
  Status write_zeros(std::uint64_t offset, std::uint64_t length) override {
    const std::lock_guard lock(file_system_.mutex_);
    RETURN_IF_ERROR(file_system_.check(FileOperation::Kind::kZeros, path_));
    return file_system_.grow_checked(*node_, offset, std::vector<std::byte>(length));
  }

 private:
  MemoryFileSystem& file_system_;
  std::shared_ptr<MemoryFileSystem::Node> node_;
  std::string path_;
};

class MemoryLock final : public FileLock {
 public:
  MemoryLock(MemoryFileSystem& file_system, std::shared_ptr<MemoryFileSystem::Node> node)
      : file_system_(file_system), node_(std::move(node)) {}
  ~MemoryLock() override {
    const std::lock_guard lock(file_system_.mutex_);
    file_system_.locks_.erase(node_.get());
  }

 private:
  MemoryFileSystem& file_system_;
  std::shared_ptr<MemoryFileSystem::Node> node_;
};

MemoryFileSystem::MemoryFileSystem() = default;
MemoryFileSystem::~MemoryFileSystem() = default;

Status MemoryFileSystem::check(FileOperation::Kind kind, const std::string& path) {
  if (!power_) return Error(ErrorKind::kIo, "the power is off", EIO);
  const FileOperation operation{kind, path, operations_++};
  if (fault_)
    if (std::optional<Error> error = fault_(operation)) return *error;
  if (!power_) return Error(ErrorKind::kIo, "the power is off", EIO);
  return ok_status();
}

std::uint64_t MemoryFileSystem::used_bytes() const {
  std::uint64_t used = 0;
  for (const auto& [path, node] : names_) used += node->content.size();
  return used;
}

Status MemoryFileSystem::grow_checked(Node& node, std::uint64_t offset, std::span<const std::byte> data) {
  const std::uint64_t end = offset + data.size();
  const std::uint64_t growth = end > node.content.size() ? end - node.content.size() : 0;
  const std::uint64_t used = used_bytes();
  const std::uint64_t room = space_bytes_ > used ? space_bytes_ - used : 0;
  const std::uint64_t kept =
      growth <= room ? data.size() : data.size() - std::min<std::uint64_t>(data.size(), growth - room);
  put(node.content, offset, data.first(kept));
  node.unsynced.push_back(
      {false, offset, std::vector<std::byte>(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(kept))});
  if (kept < data.size()) return Error::from_errno(ENOSPC, "write");
  return ok_status();
}

Result<std::unique_ptr<File>> MemoryFileSystem::open(const std::string& path, FileMode mode) {
  const std::lock_guard lock(mutex_);
  auto it = names_.find(path);
  if (mode == FileMode::kCreate) {
    RETURN_IF_ERROR(check(FileOperation::Kind::kCreate, path));
    if (it != names_.end()) return Error::from_errno(EEXIST, "create '" + path + "'");
    if (!directories_.contains(parent(path))) return Error::from_errno(ENOENT, "create '" + path + "'");
    it = names_.emplace(path, std::make_shared<Node>()).first;
  } else if (it == names_.end()) {
    return Error::from_errno(ENOENT, "open '" + path + "'");
  }
  return std::unique_ptr<File>(std::make_unique<MemoryFile>(*this, it->second, path));
}

Status MemoryFileSystem::rename(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(check(FileOperation::Kind::kRename, to));
  auto it = names_.find(from);
  if (it == names_.end()) return Error::from_errno(ENOENT, "rename '" + from + "'");
  names_[to] = it->second;
  names_.erase(from);
  return ok_status();
}

Status MemoryFileSystem::remove(const std::string& path) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(check(FileOperation::Kind::kRemove, path));
  return names_.erase(path) == 1 ? ok_status() : Status(Error::from_errno(ENOENT, "remove '" + path + "'"));
}

Status MemoryFileSystem::make_directory(const std::string& path) {
  const std::lock_guard lock(mutex_);
  directories_[path] = true;  // durable at once: losing whole directories is not what is tested here
  return ok_status();
}

Status MemoryFileSystem::sync_directory(const std::string& path) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(check(FileOperation::Kind::kSyncDirectory, path));
  const std::string directory = normal(path);
  std::erase_if(durable_names_, [&](const auto& entry) { return parent(entry.first) == directory; });
  for (const auto& [name, node] : names_)
    if (parent(name) == directory) durable_names_[name] = node;
  return ok_status();
}

Result<std::vector<std::string>> MemoryFileSystem::list(const std::string& path) {
  const std::lock_guard lock(mutex_);
  if (!directories_.contains(path)) return Error::from_errno(ENOENT, "list '" + path + "'");
  std::vector<std::string> found;
  for (const auto& [name, node] : names_)
    if (parent(name) == path) found.push_back(name.substr(path.size() + 1));
  for (const auto& [name, present] : directories_)
    if (name != path && parent(name) == path) found.push_back(name.substr(path.size() + 1));
  return found;
}

Result<std::unique_ptr<FileLock>> MemoryFileSystem::lock(const std::string& path) {
  const std::lock_guard lock(mutex_);
  // As flock(2): of the file, whatever its name is.
  if (!directories_.contains(parent(path))) return Error::from_errno(ENOENT, "lock '" + path + "'");
  std::shared_ptr<Node>& node = names_[path];
  if (node == nullptr) node = std::make_shared<Node>();
  if (!locks_.emplace(node.get(), true).second) return Error(ErrorKind::kBusy, "lock '" + path + "': held");
  return std::unique_ptr<FileLock>(std::make_unique<MemoryLock>(*this, node));
}

void MemoryFileSystem::restart(std::mt19937_64& random) {
  const auto chance = [&](unsigned percent) { return random() % 100 < percent; };
  // Names: each change since the last sync of its directory happened or not.
  std::map<std::string, std::shared_ptr<Node>> kept = durable_names_;
  for (const auto& [name, node] : names_)
    if (auto it = kept.find(name); (it == kept.end() || it->second != node) && chance(50)) kept[name] = node;
  for (const auto& [name, node] : durable_names_)
    if (!names_.contains(name) && chance(50)) kept.erase(name);
  for (const auto& [name, node] : kept) {
    std::vector<std::byte> content = node->durable;
    const unsigned keep_percent = random() % 3 == 0 ? 100 : static_cast<unsigned>(random() % 101);
    for (const Node::Change& change : node->unsynced) {
      if (!chance(keep_percent)) continue;
      if (change.is_truncate)
        content.resize(change.offset);
      else
        put(content, change.offset,
            std::span(change.data).first(chance(50) ? change.data.size() : random() % (change.data.size() + 1)));
    }
    node->content = content;
    node->durable = std::move(content);
    node->unsynced.clear();
  }
  names_ = kept;
  durable_names_ = std::move(kept);
  locks_.clear();
  fault_ = nullptr;
  power_ = true;
}

void MemoryFileSystem::restart_process() {
  locks_.clear();
  fault_ = nullptr;
  power_ = true;
}

std::unique_ptr<MemoryFileSystem> MemoryFileSystem::after_power_cut() const {
  auto left = std::make_unique<MemoryFileSystem>();
  for (const auto& [name, node] : durable_names_) {
    auto kept = std::make_shared<Node>();
    kept->content = node->durable;
    kept->durable = node->durable;
    left->names_[name] = kept;
    left->durable_names_[name] = kept;
  }
  left->directories_ = directories_;
  return left;
}

std::unique_ptr<MemoryFileSystem> MemoryFileSystem::clone() const {
  auto copy = std::make_unique<MemoryFileSystem>();
  std::map<const Node*, std::shared_ptr<Node>> nodes;
  const auto copy_of = [&](const std::shared_ptr<Node>& node) {
    std::shared_ptr<Node>& made = nodes[node.get()];
    if (made == nullptr) made = std::make_shared<Node>(*node);
    return made;
  };
  for (const auto& [name, node] : names_) copy->names_[name] = copy_of(node);
  for (const auto& [name, node] : durable_names_) copy->durable_names_[name] = copy_of(node);
  copy->directories_ = directories_;
  return copy;
}

std::vector<std::byte>& MemoryFileSystem::content(const std::string& path) {
  const auto it = names_.find(path);
  CHECK(it != names_.end());
  return it->second->content;
}

std::vector<std::string> MemoryFileSystem::paths() const {
  std::vector<std::string> found;
  for (const auto& [name, node] : names_) found.push_back(name);
  return found;
}

}  // namespace understudy
