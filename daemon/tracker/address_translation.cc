// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/address_translation.h"

#include <bpf/libbpf.h>
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <span>
#include <utility>

#include <linux/types.h>

#include "daemon/tracker/bpf_object.h"
#include "daemon/tracker/direct_read.h"
#include "daemon/tracker/kernel_symbols.h"
#include "kmod-shim/bpf/calibrate_abi.h"
#include "kmod-shim/bpf/layout.h"
#include "kmod-shim/bpf/objects.h"

namespace understudy {

namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint64_t kBaseAlignment = std::uint64_t{1} << 30;  // KASLR moves the regions in steps of a PUD
constexpr int kProofReads = 4;

// The values of kernels without CONFIG_RANDOMIZE_MEMORY: 4-level and 5-level paging.
constexpr TranslationBases kFixedBases[] = {
    {0xffffea0000000000, 0xffff888000000000},
    {0xffd4000000000000, 0xff11000000000000},
};

std::uint64_t align_down(std::uint64_t value) { return value / kBaseAlignment * kBaseAlignment; }

std::string hex(std::uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof(text), "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

// Memory ends here, by /proc/zoneinfo (holes and hot-plug areas included); 0 = unknown.
std::uint64_t physical_end_bytes() {
  std::ifstream zones("/proc/zoneinfo");
  std::string word;
  std::uint64_t spanned = 0;
  std::uint64_t end = 0;
  while (zones >> word) {
    if (word == "spanned") zones >> spanned;
    if (word == "start_pfn:") {
      std::uint64_t start = 0;
      zones >> start;
      if (spanned > 0) end = std::max(end, (start + spanned) * kPageBytes);
      spanned = 0;
    }
  }
  return end;
}

// The loaded calibration program and its shared block.
class Calibrator {
 public:
  static Result<Calibrator> start(const std::string& disk_path, std::uint32_t device,
                                  std::uint32_t logical_block_bytes) {
    ASSIGN_OR_RETURN(DirectReader reader, DirectReader::open(disk_path, logical_block_bytes));
    ASSIGN_OR_RETURN(const KernelTypes types, read_kernel_types());
    std::size_t size = 0;
    const auto* bytes = static_cast<const std::byte*>(understudy_calibrate_object(&size));
    const auto prepare = [&](BpfObject& object) {
      understudy_constants constants{};
      constants.queue_argument = types.queue_argument;
      return object.set_constants(std::as_bytes(std::span(&constants, 1)));
    };
    ASSIGN_OR_RETURN(BpfObject object, BpfObject::load("understudy_calibrate", {bytes, size}, prepare));
    ASSIGN_OR_RETURN(const int map, object.map_fd(".data.calibrate"));
    ASSIGN_OR_RETURN(MappedMemory memory, MappedMemory::map(map, mapped_array_bytes(sizeof(understudy_calibrate), 1),
                                                            PROT_READ | PROT_WRITE));
    ASSIGN_OR_RETURN(UniqueFd link, object.attach("find_bases"));
    Calibrator calibrator(std::move(object), std::move(memory), std::move(link), std::move(reader));
    calibrator.shared().dev = device;
    calibrator.shared().vmemmap_symbol = kernel_symbols().vmemmap_base;
    calibrator.shared().direct_map_symbol = kernel_symbols().page_offset_base;
    calibrator.shared().pid = static_cast<std::uint32_t>(::getpid());
    return calibrator;
  }

  volatile understudy_calibrate& shared() { return *reinterpret_cast<volatile understudy_calibrate*>(memory_.data()); }
  DirectReader& reader() { return reader_; }

  // One read; afterwards shared() describes its bio.
  Status observe(const Cookie& cookie, std::size_t page) {
    const std::uint64_t before = shared().seen;
    RETURN_IF_ERROR(reader_.read(cookie, page));
    if (shared().seen == before)
      return Error(ErrorKind::kUnsupported, "a direct read of the disk was not seen by the tracepoint block_bio_queue");
    return ok_status();
  }

  bool translated(const Cookie& cookie) {
    Cookie seen;
    for (std::size_t i = 0; i < seen.size(); ++i) seen[i] = static_cast<std::byte>(shared().translated[i]);
    return shared().translated_error == 0 && seen == cookie;
  }

  // The proof: random bytes of several reads from two pages come out right. Empty = proved, else what went wrong.
  std::string disprove(const TranslationBases& bases) {
    shared().vmemmap_base = bases.vmemmap_base;
    shared().direct_map_base = bases.direct_map_base;
    std::string failure;
    for (int i = 0; i < kProofReads && failure.empty(); ++i) {
      const Cookie cookie = random_cookie();
      if (Status seen = observe(cookie, static_cast<std::size_t>(i % 2)); !seen.ok())
        failure = seen.error().message();
      else if (!translated(cookie))
        failure =
            "bases " + hex(bases.vmemmap_base) + " and " + hex(bases.direct_map_base) + " do not lead to the page";
    }
    shared().vmemmap_base = 0;
    return failure;
  }

  // The bytes at a kernel address are the cookie of the page, which stands there nowhere else.
  Result<bool> stands_at(std::uint64_t address, const Cookie& cookie, std::size_t page) {
    shared().raw_address = address;
    Status seen = observe(cookie, page);
    shared().raw_address = 0;
    RETURN_IF_ERROR(std::move(seen));
    Cookie found;
    for (std::size_t i = 0; i < found.size(); ++i) found[i] = static_cast<std::byte>(shared().raw[i]);
    return shared().raw_error == 0 && found == cookie;
  }

 private:
  Calibrator(BpfObject object, MappedMemory memory, UniqueFd link, DirectReader reader)
      : object_(std::move(object)), memory_(std::move(memory)), link_(std::move(link)), reader_(std::move(reader)) {}

  BpfObject object_;
  MappedMemory memory_;
  UniqueFd link_;
  DirectReader reader_;
};

Result<TranslationBases> calibrate(Calibrator& calibrator) {
  Cookie cookie = random_cookie();
  RETURN_IF_ERROR(calibrator.observe(cookie, 0));
  ASSIGN_OR_RETURN(const std::uint64_t frame, calibrator.reader().frame(0));
  const std::uint64_t page_struct_bytes = calibrator.shared().page_struct_bytes;
  // The segment may name an earlier page of the same folio and a larger offset.
  const std::uint64_t physical = frame * kPageBytes;
  const std::uint64_t page_frame = (physical - calibrator.shared().offset) / kPageBytes;
  TranslationBases bases;
  bases.vmemmap_base = calibrator.shared().page - page_frame * page_struct_bytes;
  if (bases.vmemmap_base % kBaseAlignment != 0)
    return Error(ErrorKind::kUnsupported, "page structures start at " + hex(bases.vmemmap_base) +
                                              ", which is no multiple of 1 GiB: this is not the flat layout");
  // The disk's structure is a slab object, so it lies in the direct map, less than all memory above its start.
  const std::uint64_t object = calibrator.shared().disk;
  const std::uint64_t memory_end = physical_end_bytes();
  if (memory_end == 0) return Error(ErrorKind::kUnsupported, "/proc/zoneinfo does not say where memory ends");
  // Upwards: no address behind the true one is ever touched.
  for (std::uint64_t base = align_down(object - std::min(object, memory_end)); base <= object; base += kBaseAlignment) {
    cookie = random_cookie();
    ASSIGN_OR_RETURN(const bool found, calibrator.stands_at(base + physical, cookie, 0));
    if (!found) continue;
    bases.direct_map_base = base;
    return bases;
  }
  return Error(ErrorKind::kUnsupported, "no 1 GiB step below " + hex(object) + " is the start of the direct map");
}

std::vector<TranslationBases> kcore_bases() {
  std::ifstream file("/proc/kcore", std::ios::binary);
  std::string beginning(64 * 1024, '\0');
  file.read(beginning.data(), static_cast<std::streamsize>(beginning.size()));
  beginning.resize(static_cast<std::size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  return bases_of_kcore(beginning);
}

struct Way {
  std::string name;
  std::vector<TranslationBases> bases;
  std::string problem;  // why there are none
};

// What the ways that need no search offer. The calibrator has observed one read already.
std::vector<Way> offered(Calibrator& calibrator, const TranslationWays& ways) {
  std::vector<Way> result;
  if (ways.symbols) {
    const TranslationBases bases{calibrator.shared().symbol_vmemmap_base, calibrator.shared().symbol_direct_map_base};
    Way way{"symbols", {}, "vmemmap_base and page_offset_base are not among the kernel's symbols"};
    if (bases.vmemmap_base != 0 && bases.direct_map_base != 0) way.bases.push_back(bases);
    result.push_back(std::move(way));
  }
  if (ways.kcore) result.push_back({"kcore", kcore_bases(), "/proc/kcore is not there or tells nothing"});
  if (ways.fixed) result.push_back({"fixed", {std::begin(kFixedBases), std::end(kFixedBases)}, ""});
  return result;
}

}  // namespace

std::vector<TranslationBases> bases_of_kcore(std::string_view kcore) {
  Elf64_Ehdr header;
  if (kcore.size() < sizeof(header)) return {};
  std::memcpy(&header, kcore.data(), sizeof(header));
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_phentsize != sizeof(Elf64_Phdr)) return {};
  // Segments of memory carry their physical address: all have the same distance to it. What is left of the large ones
  // that start on 1 GiB or hold the array of page structures may be vmemmap.
  std::map<std::uint64_t, std::uint64_t> distances;  // direct map base -> bytes that speak for it
  std::vector<Elf64_Phdr> others;
  for (std::uint64_t i = 0; i < header.e_phnum; ++i) {
    const std::uint64_t at = header.e_phoff + i * sizeof(Elf64_Phdr);
    if (at > kcore.size() || kcore.size() - at < sizeof(Elf64_Phdr)) break;
    Elf64_Phdr segment;
    std::memcpy(&segment, kcore.data() + at, sizeof(segment));
    if (segment.p_type != PT_LOAD) continue;
    const std::uint64_t distance = segment.p_vaddr - segment.p_paddr;
    if (segment.p_paddr != ~std::uint64_t{0} && distance % kBaseAlignment == 0 && segment.p_vaddr > segment.p_paddr)
      distances[distance] += segment.p_memsz;
    else
      others.push_back(segment);
  }
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranked;
  for (const auto& [distance, bytes] : distances) ranked.emplace_back(bytes, distance);
  std::sort(ranked.rbegin(), ranked.rend());
  std::vector<TranslationBases> result;
  for (const auto& [bytes, direct_map_base] : ranked)
    for (const Elf64_Phdr& other : others)
      if (other.p_vaddr > direct_map_base) {
        const TranslationBases bases{align_down(other.p_vaddr), direct_map_base};
        if (std::find(result.begin(), result.end(), bases) == result.end()) result.push_back(bases);
      }
  return result;
}

Result<AddressTranslation> find_address_translation(const std::string& disk_path, std::uint32_t device,
                                                    std::uint32_t logical_block_bytes, const TranslationWays& ways) {
#if !defined(__x86_64__)
  (void)disk_path, (void)device, (void)logical_block_bytes, (void)ways;
  return Error(ErrorKind::kUnsupported, "address translation is known for x86-64 only");
#else
  auto started = Calibrator::start(disk_path, device, logical_block_bytes);
  if (!started) return std::move(started).error().with_context("find address translation");
  Calibrator calibrator = std::move(started).value();
  if (Status seen = calibrator.observe(random_cookie(), 0); !seen.ok())
    return std::move(seen).error().with_context("find address translation on '" + disk_path + "'");

  AddressTranslation result;
  result.page_struct_bytes = static_cast<std::uint32_t>(calibrator.shared().page_struct_bytes);
  for (const Way& way : offered(calibrator, ways)) {
    std::string problem = way.problem;
    for (const TranslationBases& bases : way.bases) {
      problem = calibrator.disprove(bases);
      if (!problem.empty()) continue;
      result.vmemmap_base = bases.vmemmap_base;
      result.direct_map_base = bases.direct_map_base;
      result.method = way.name;
      return result;
    }
    result.tried.push_back(way.name + ": " + problem);
  }
  if (ways.calibration) {
    auto bases = calibrate(calibrator);
    const std::string problem = bases.ok() ? calibrator.disprove(bases.value()) : bases.error().message();
    if (problem.empty()) {
      result.vmemmap_base = bases->vmemmap_base;
      result.direct_map_base = bases->direct_map_base;
      result.method = "calibration";
      return result;
    }
    result.tried.push_back("calibration: " + problem);
  }
  std::string message = "find address translation: no way to the bytes of a page passed the proof";
  for (const std::string& tried : result.tried) message += "; " + tried;
  return Error(ErrorKind::kUnsupported, message);
#endif
}

}  // namespace understudy
