// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/probe.h"

#include <bpf/libbpf.h>
#include <sys/utsname.h>

#include <cstdio>
#include <string_view>
#include <utility>

#include "daemon/base/exit_code.h"
#include "daemon/tracker/address_translation.h"
#include "daemon/tracker/bpf_object.h"
#include "daemon/tracker/direct_read.h"
#include "daemon/tracker/disk_inspect.h"
#include "daemon/tracker/kernel_side.h"
#include "daemon/tracker/kernel_symbols.h"
#include "daemon/tracker/module_device.h"
#include "daemon/tracker/module_tracker.h"
#include "kmod-shim/bpf/layout.h"

namespace understudy {

namespace {

std::string size_text(std::uint64_t bytes) {
  char text[32];
  constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
  constexpr double kMiB = 1024.0 * 1024.0;
  if (static_cast<double>(bytes) >= kGiB)
    std::snprintf(text, sizeof(text), "%.1f GiB", static_cast<double>(bytes) / kGiB);
  else
    std::snprintf(text, sizeof(text), "%.1f MiB", static_cast<double>(bytes) / kMiB);
  return text;
}

std::string hex(std::uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof(text), "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

ProbeCheck check(std::string name, bool ok, std::string detail, bool required = true) {
  return {std::move(name), ok, required, std::move(detail)};
}

ProbeCheck check_types(KernelTypes& types, bool& counts_misses) {
  auto read = read_kernel_types();
  if (!read) return check("btf", false, read.error().message());
  types = read.value();
  counts_misses = types.counts_recursion_misses;
  return check("btf", true,
               "/sys/kernel/btf/vmlinux describes block_bio_queue (bio is argument " +
                   std::to_string(types.queue_argument) + ")");
}

ProbeCheck check_map(std::string name, bpf_map_type type, const char* since) {
  const int found = libbpf_probe_bpf_map_type(type, nullptr);
  if (found == 1) return check(std::move(name), true, "the kernel has it");
  return check(std::move(name), false,
               found == 0 ? std::string("the kernel has none (it came with ") + since + ")"
                          : "could not be tried: may this process use bpf(2)?");
}

ProbeCheck check_bpf_loop() {
  const bool found = libbpf_probe_bpf_helper(BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_FUNC_loop, nullptr) == 1;
  return check("bpf-loop", found,
               found ? "writes of any length are captured whole"
                     : "bounded loops are used: what a write has beyond 600 pieces goes to the dirty map",
               false);
}

ProbeCheck check_bpffs(const std::string& bpffs) {
  auto root = pin_root(bpffs);
  if (!root) return check("bpffs", false, root.error().message());
  return check("bpffs", true, "capture can be pinned below " + root.value());
}

// A disk that can be read for the proof: the first usable one asked about, else one of our own in memory.
struct ProofDisk {
  std::string path;
  std::uint32_t device = 0;
  std::uint32_t logical_block_bytes = 512;
};

ProbeCheck check_translation(const Result<ProofDisk>& disk, AddressTranslation& translation) {
  constexpr const char* kName = "address-translation";
  if (!disk.ok()) return check(kName, false, "no disk to prove it on: " + disk.error().message());
  auto found = find_address_translation(disk->path, disk->device, disk->logical_block_bytes);
  if (!found) return check(kName, false, found.error().message());
  translation = std::move(found).value();
  return check(kName, true,
               "by " + translation.method + ", proved by cookies read through it on " + disk->path + ": vmemmap " +
                   hex(translation.vmemmap_base) + ", direct map " + hex(translation.direct_map_base) +
                   ", struct page " + std::to_string(translation.page_struct_bytes) + " bytes");
}

// Loads the very programs, into a set that is removed at once, and attaches them; no disk is watched.
ProbeCheck check_programs(const std::string& bpffs, const KernelTypes& types, const AddressTranslation& translation) {
  constexpr const char* kName = "programs";
  auto root = pin_root(bpffs);
  if (!root) return check(kName, false, "not tried: " + root.error().message());
  auto lock = lock_directory(root.value(), "'" + root.value() + "'", 10'000);
  if (!lock) return check(kName, false, "not tried: " + lock.error().message());
  const std::string directory = root.value() + "/probe+new";
  if (Status removed = remove_pins(directory); !removed.ok()) return check(kName, false, removed.error().message());
  understudy_constants constants{};
  constants.vmemmap_base = translation.vmemmap_base;
  constants.direct_map_base = translation.direct_map_base;
  constants.page_struct_bytes = translation.page_struct_bytes;
  constants.queue_argument = types.queue_argument;
  constants.bio_chain_endio = kernel_symbols().bio_chain_endio;
  constexpr KernelSideSizes kSmall{1024 * 1024, 1, 64};
  auto side = KernelSide::create(directory, kSmall, constants, true);
  const Status removed = remove_pins(directory);
  if (!side) return check(kName, false, side.error().message());
  if (!removed.ok()) return check(kName, false, removed.error().message());
  return check(kName, true, "load, pass the verifier and attach to block_bio_queue and block_bio_complete");
}

void settle_rung(ProbeRung& rung) {
  for (const ProbeCheck& done : rung.checks)
    if (done.required && !done.ok && rung.usable) {
      rung.usable = false;
      rung.reason = done.name + ": " + done.detail;
    }
  if (rung.usable) rung.reason = "every check passed";
}

ProbeRung probe_bpf(const ProbeOptions& options, const Result<ProofDisk>& proof_disk) {
  ProbeRung rung{"bpf", true, "", {}};
  KernelTypes types;
  AddressTranslation translation;
  bool counts_misses = false;
  rung.checks.push_back(check_types(types, counts_misses));
  rung.checks.push_back(check_map("ring-buffer", BPF_MAP_TYPE_RINGBUF, "Linux 5.8"));
  rung.checks.push_back(check_bpf_loop());
  rung.checks.push_back(check("recursion-misses", counts_misses,
                              counts_misses ? "skipped runs of the first program are counted by the kernel"
                                            : "not counted: kernels before 5.12, which skip none of these programs",
                              false));
  rung.checks.push_back(check_bpffs(options.bpffs));
  if (rung.checks.front().ok) {
    rung.checks.push_back(check_translation(proof_disk, translation));
    if (rung.checks.back().ok) rung.checks.push_back(check_programs(options.bpffs, types, translation));
  }
  settle_rung(rung);
  return rung;
}

// Nothing is attached: whether the device has the target, and whether each disk's table could be replaced.
ProbeRung probe_module(const ProbeReport& report, const std::vector<DiskInfo>& disks) {
  ProbeRung rung{"module", true, "", {}};
  const auto module = ModuleDevice::open();
  rung.checks.push_back(check("module", module.ok(),
                              module.ok() ? "loaded, ABI version " + std::to_string(UNDERSTUDY_MODULE_ABI_VERSION) +
                                                "." + std::to_string(UNDERSTUDY_CAPTURE_ABI_VERSION)
                                          : module.error().message()));
  for (const DiskInfo& disk : disks) {
    const Status attachable = can_attach_by_table(disk.path, disk.device);
    rung.checks.push_back(
        check("table of " + disk.path, attachable.ok(),
              attachable.ok() ? "all linear: can be captured while in use" : attachable.error().message()));
  }
  if (report.disks.size() != disks.size()) rung.checks.push_back(check("disks", false, "not all of them are usable"));
  settle_rung(rung);
  return rung;
}

ProbeRung probe_scan() {
  return {"scan", false, "this agent has no scans without capture yet; they would keep no write order", {}};
}

std::vector<std::string> unseen_writes(const std::vector<ProbeDisk>& disks) {
  std::vector<std::string> unseen{
      "SCSI generic (SG_IO) and NVMe passthrough commands: sent to the device past the block layer",
      "stores into files mapped with DAX on persistent memory: no block write is made",
      "writes made outside this kernel: to shared disks by other hosts, to volumes by their storage"};
  for (const ProbeDisk& disk : disks)
    if (!disk.usable) unseen.push_back("anything on '" + disk.path + "': " + disk.reason);
  return unseen;
}

std::string json_text(std::string_view text) {
  std::string result = "\"";
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    if (character == '"' || character == '\\') {
      result += '\\';
      result += character;
    } else if (byte < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof(escaped), "\\u%04x", byte);
      result += escaped;
    } else {
      result += character;
    }
  }
  return result + "\"";
}

const char* json_bool(bool value) { return value ? "true" : "false"; }

template <typename Range, typename Function>
std::string json_list(const Range& range, Function&& item) {
  std::string result = "[";
  for (const auto& element : range) {
    if (result.size() > 1) result += ",";
    result += item(element);
  }
  return result + "]";
}

}  // namespace

ProbeReport probe_host(const ProbeOptions& options) {
  ProbeReport report;
  utsname system{};
  if (::uname(&system) == 0) report.kernel = std::string(system.release) + " " + system.machine;

  Result<ProofDisk> proof_disk = Error(ErrorKind::kNotFound, "none");
  std::vector<DiskInfo> inspected;
  for (const std::string& path : options.disks) {
    auto info = inspect_disk(path);
    if (!info) {
      report.disks.push_back({path, false, info.error().message(), ""});
      continue;
    }
    std::string detail = info->name + ", " + size_text(info->size_bytes) + ", " +
                         std::to_string(info->logical_block_bytes) + "-byte blocks";
    for (const std::string& point : info->mount_points) detail += ", mounted on " + point;
    for (const std::string& holder : info->holders) detail += ", under " + holder;
    report.disks.push_back({path, true, "", detail});
    inspected.push_back(info.value());
    if (!proof_disk.ok()) proof_disk = ProofDisk{path, info->device, info->logical_block_bytes};
  }
  // Kept until the end of the probe: it goes away with its descriptor.
  Result<ScratchDisk> scratch = Error(ErrorKind::kNotFound, "not needed");
  if (!proof_disk.ok()) {
    scratch = ScratchDisk::make();
    proof_disk = scratch.ok() ? Result<ProofDisk>(ProofDisk{scratch->path(), scratch->device(), 512})
                              : Result<ProofDisk>(scratch.error());
  }
  report.rungs.push_back(probe_bpf(options, proof_disk));
  report.rungs.push_back(probe_module(report, inspected));
  report.rungs.push_back(probe_scan());
  for (const ProbeRung& rung : report.rungs)
    if (rung.usable && rung.name != "scan" && report.best.empty()) report.best = rung.name;
  report.unseen_writes = unseen_writes(report.disks);
  return report;
}

std::string probe_text(const ProbeReport& report) {
  std::string text = "kernel " + report.kernel + "\n";
  for (const ProbeRung& rung : report.rungs) {
    text += "rung " + rung.name + ": " + (rung.usable ? "usable" : "not usable") + ": " + rung.reason + "\n";
    for (const ProbeCheck& done : rung.checks)
      text += "  " + done.name + ": " + (done.ok ? "yes" : done.required ? "NO" : "no") + ": " + done.detail + "\n";
  }
  for (const ProbeDisk& disk : report.disks)
    text += "disk " + disk.path + ": " + (disk.usable ? "usable: " + disk.detail : "not usable: " + disk.reason) + "\n";
  text += "never seen by capture:\n";
  for (const std::string& unseen : report.unseen_writes) text += "  " + unseen + "\n";
  text += report.best.empty() ? "this host cannot be protected with write order\n"
                              : "this host gets rung " + report.best + "\n";
  return text;
}

std::string probe_json(const ProbeReport& report) {
  const auto check_json = [](const ProbeCheck& done) {
    return "{\"name\":" + json_text(done.name) + ",\"ok\":" + json_bool(done.ok) +
           ",\"required\":" + json_bool(done.required) + ",\"detail\":" + json_text(done.detail) + "}";
  };
  const auto rung_json = [&](const ProbeRung& rung) {
    return "{\"name\":" + json_text(rung.name) + ",\"usable\":" + json_bool(rung.usable) +
           ",\"reason\":" + json_text(rung.reason) + ",\"checks\":" + json_list(rung.checks, check_json) + "}";
  };
  const auto disk_json = [](const ProbeDisk& disk) {
    return "{\"path\":" + json_text(disk.path) + ",\"usable\":" + json_bool(disk.usable) +
           ",\"reason\":" + json_text(disk.reason) + ",\"detail\":" + json_text(disk.detail) + "}";
  };
  return "{\"kernel\":" + json_text(report.kernel) + ",\"best\":" + json_text(report.best) +
         ",\"rungs\":" + json_list(report.rungs, rung_json) + ",\"disks\":" + json_list(report.disks, disk_json) +
         ",\"unseen_writes\":" + json_list(report.unseen_writes, json_text) + "}";
}

int run_probe(const ProbeOptions& options, bool json) {
  const ProbeReport report = probe_host(options);
  const std::string text = json ? probe_json(report) + "\n" : probe_text(report);
  std::fputs(text.c_str(), stdout);
  bool usable = !report.best.empty();
  for (const ProbeDisk& disk : report.disks) usable = usable && disk.usable;
  return usable ? kExitOk : kExitNotInstalled;
}

}  // namespace understudy
