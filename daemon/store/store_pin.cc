// SPDX-License-Identifier: Apache-2.0
#include "daemon/store/store_pin.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "daemon/base/uuid.h"
#include "daemon/store/store_paths.h"

namespace understudy {
namespace {

constexpr std::string_view kSuffix = ".pin";
constexpr std::string_view kNewSuffix = ".new";
constexpr int kTriesMax = 16;

// nullopt for anything that is no pin.
std::optional<PinInfo> parse_pin_name(std::string_view name) {
  if (!name.ends_with(kSuffix)) return std::nullopt;
  const std::size_t first = name.find('-');
  const std::size_t second = first == std::string_view::npos ? first : name.find('-', first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  const std::optional<std::uint64_t> layout = parse_unsigned(name.substr(0, first));
  const std::optional<Seq> seq = parse_unsigned(name.substr(first + 1, second - first - 1));
  if (!layout || !seq) return std::nullopt;
  return PinInfo{*layout, *seq};
}

std::string pin_name(std::uint64_t layout, Seq seq, const std::string& unique) {
  return std::to_string(layout) + "-" + std::to_string(seq) + "-" + unique + std::string(kSuffix);
}

}  // namespace

Result<std::shared_ptr<StorePin>> StorePin::take(FileSystem& file_system, const std::string& store_directory) {
  std::shared_ptr<StorePin> pin(new StorePin(file_system, pins_path(store_directory)));
  // Locked before it has the name under which others look for it; somebody may take a new file for a dead one's, and
  // remove it, before it is locked.
  for (int i = 0; i < kTriesMax; ++i) {
    pin->unique_ = Uuid::random().to_string();
    const std::string made = pin->directory_ + "/" + pin->unique_ + std::string(kNewSuffix);
    Result<std::unique_ptr<FileLock>> lock = file_system.lock(made);
    if (!lock.ok() && lock.error().kind() != ErrorKind::kBusy) return std::move(lock).error();
    if (!lock.ok()) continue;
    pin->path_ = pin->directory_ + "/" + pin_name(0, ~Seq{0}, pin->unique_);
    pin->lock_ = std::move(*lock);
    const Status renamed = file_system.rename(made, pin->path_);
    if (renamed.ok()) return pin;
    pin->path_ = made;
    if (renamed.error().kind() != ErrorKind::kNotFound) return renamed.error();
  }
  return Error(ErrorKind::kBusy, "pin '" + store_directory + "': another process removes new pins");
}

StorePin::~StorePin() {
  if (lock_ != nullptr) (void)file_system_.remove(path_).ok();
}

Status StorePin::narrow(std::uint64_t layout, Seq seq) {
  const std::string path = directory_ + "/" + pin_name(layout, seq, unique_);
  RETURN_IF_ERROR(file_system_.rename(path_, path));
  path_ = path;
  return ok_status();
}

Result<std::vector<PinInfo>> read_pins(FileSystem& file_system, const std::string& store_directory) {
  const std::string directory = pins_path(store_directory);
  // A pin may be renamed once while it is looked for (narrow()), and so be missed under both names or be taken for a
  // dead one under the old one. So the look is repeated until two in a row find the same names and nobody dead.
  std::vector<std::string> last;
  for (int i = 0; i < kTriesMax; ++i) {
    ASSIGN_OR_RETURN(std::vector<std::string> names, file_system.list(directory));
    std::sort(names.begin(), names.end());
    std::vector<PinInfo> pins;
    bool dead = false;
    for (const std::string& name : names) {
      const std::optional<PinInfo> pin = parse_pin_name(name);
      if (!pin && !name.ends_with(kNewSuffix)) continue;
      const std::string path = directory + "/" + name;
      // Whoever can lock it knows that its holder is dead.
      const Result<std::unique_ptr<FileLock>> lock = file_system.lock(path);
      if (lock.ok()) {
        dead = true;
        (void)file_system.remove(path).ok();
      } else if (lock.error().kind() != ErrorKind::kBusy && lock.error().kind() != ErrorKind::kPermission) {
        return lock.error();  // what can't even be looked at counts as held
      } else if (pin) {
        pins.push_back(*pin);
      }
    }
    if (!dead && i > 0 && names == last) return pins;
    last = std::move(names);
  }
  return Error(ErrorKind::kBusy, "read pins of '" + store_directory + "': they keep changing");
}

}  // namespace understudy
