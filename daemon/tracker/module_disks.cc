// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/module_disks.h"

#include <bit>
#include <utility>

namespace understudy {

namespace {

constexpr std::uint64_t kSectorBytes = 1 << UNDERSTUDY_SECTOR_SHIFT;

// "<server> <slot> <device> <offset>" -> "<device> <offset>".
std::optional<std::string> without_slot(const std::string& arguments) {
  std::size_t at = 0;
  for (int word = 0; word < 2; ++word) {
    at = arguments.find(' ', at);
    if (at == std::string::npos) return std::nullopt;
    ++at;
  }
  return arguments.substr(at);
}

}  // namespace

Result<std::vector<DmLine>> linear_lines(const DmTable& table) {
  std::vector<DmLine> lines = table.lines;
  for (DmLine& line : lines) {
    if (line.type == "linear") continue;
    const auto rest = line.type == UNDERSTUDY_MODULE_TARGET ? without_slot(line.arguments) : std::nullopt;
    if (!rest.has_value())
      return Error(ErrorKind::kUnsupported, "device-mapper device '" + table.name + "' has a target '" + line.type +
                                                "': the module captures devices whose table is all 'linear'");
    line.type = "linear";
    line.arguments = *rest;
  }
  if (lines.empty())
    return Error(ErrorKind::kUnsupported, "device-mapper device '" + table.name + "' has no table in use");
  return lines;
}

Result<std::vector<DmLine>> captured_lines(const DmTable& table, const std::string& server, std::uint32_t slot) {
  ASSIGN_OR_RETURN(std::vector<DmLine> lines, linear_lines(table));
  for (DmLine& line : lines) {
    line.type = UNDERSTUDY_MODULE_TARGET;
    line.arguments = server + " " + std::to_string(slot) + " " + line.arguments;
  }
  return lines;
}

Status attach_disk(const std::string& path, std::uint32_t device, const std::string& server, std::uint32_t slot) {
  ASSIGN_OR_RETURN(const DmTable table, read_dm_table(device));
  ASSIGN_OR_RETURN(const std::vector<DmLine> lines, captured_lines(table, server, slot));
  if (lines == table.lines) return ok_status();
  if (Status replaced = replace_dm_table(device, table, lines); !replaced.ok())
    return std::move(replaced).error().with_context("attach capture to disk '" + path + "'");
  return ok_status();
}

Status detach_disk(std::uint32_t device) {
  const auto table = read_dm_table(device);
  if (!table.ok()) return table.error().kind() == ErrorKind::kNotFound ? ok_status() : Status(Error(table.error()));
  ASSIGN_OR_RETURN(const std::vector<DmLine> lines, linear_lines(table.value()));
  if (lines == table->lines) return ok_status();
  return replace_dm_table(device, table.value(), lines);
}

understudy_module_disk module_disk(const DiskInfo& info, std::uint32_t slot, std::uint32_t granule_bytes) {
  understudy_module_disk disk{};
  disk.slot = slot;
  disk.dev = info.device;
  disk.sectors = info.size_bytes / kSectorBytes;
  disk.granule_shift = static_cast<__u32>(std::countr_zero(granule_bytes / kSectorBytes));
  disk.identity = info.sequence;
  return disk;
}

Result<std::vector<understudy_module_disk>> all_disks(const ModuleDevice& module) {
  std::vector<understudy_module_disk> disks;
  for (std::uint32_t slot = 0; slot < UNDERSTUDY_DISKS_MAX; ++slot) {
    ASSIGN_OR_RETURN(const auto disk, module.disk(slot));
    if (!disk.has_value()) break;  // slots are given in order
    disks.push_back(*disk);
  }
  return disks;
}

Status end_module_capture(ModuleDevice& module) {
  ASSIGN_OR_RETURN(const std::vector<understudy_module_disk> disks, all_disks(module));
  for (const understudy_module_disk& disk : disks) {
    RETURN_IF_ERROR(module.release_disk(disk.slot));
    if (disk.targets != 0) RETURN_IF_ERROR(detach_disk(disk.dev));
  }
  return module.destroy();
}

}  // namespace understudy
