// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/kernel_side.h"

#include <doctest/doctest.h>
#include <elf.h>

#include <algorithm>
#include <cstring>

#include "daemon/tracker/address_translation.h"
#include "daemon/tracker/bpf_tracker.h"
#include "daemon/tracker/probe.h"

namespace understudy {
namespace {

TEST_CASE("server names become names that bpffs allows, and come back") {
  for (const std::string name : {"web-1", "db.example.com", "x y%z", "\xc3\xa9t\xc3\xa9", "a_b"}) {
    const auto pinned = pin_name(name);
    REQUIRE(pinned.ok());
    CHECK(pinned->find('.') == std::string::npos);
    CHECK(pinned->find('+') == std::string::npos);
    CHECK(server_of_pin_name(*pinned) == name);
  }
  for (const std::string& bad : {std::string(), std::string(65, 'x'), std::string("a/b"), std::string("a\nb")})
    CHECK(!pin_name(bad).ok());
}

TEST_CASE("options out of range are refused with the range") {
  const auto refusal = [](auto change) {
    BpfTrackerOptions options;
    options.server = "x";
    options.disks = {"/dev/null"};
    change(options);
    auto tracker = open_bpf_tracker(options);
    REQUIRE(!tracker.ok());
    CHECK(tracker.error().kind() == ErrorKind::kInvalidArgument);
    return tracker.error().message();
  };
  CHECK(refusal([](auto& o) { o.ring_bytes = 3 << 20; }).find("power of two from 1 MiB to 2 GiB") != std::string::npos);
  CHECK(refusal([](auto& o) { o.ring_bytes = 4096; }).find("ring_bytes 4096") != std::string::npos);
  CHECK(refusal([](auto& o) { o.granule_bytes = 512; }).find("from 4 KiB to 16 MiB") != std::string::npos);
  CHECK(refusal([](auto& o) { o.in_flight_max = 1; }).find("in_flight_max 1") != std::string::npos);
  CHECK(refusal([](auto& o) { o.disks.clear(); }).find("1 to 64 disks, not 0") != std::string::npos);
  CHECK(refusal([](auto& o) { o.server = "a/b"; }).find("'a/b'") != std::string::npos);
}

std::string kcore_of(const std::vector<Elf64_Phdr>& segments) {
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_phoff = sizeof(header);
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = static_cast<Elf64_Half>(segments.size());
  std::string file(reinterpret_cast<const char*>(&header), sizeof(header));
  file.append(reinterpret_cast<const char*>(segments.data()), segments.size() * sizeof(Elf64_Phdr));
  return file;
}

Elf64_Phdr segment(std::uint64_t address, std::uint64_t physical, std::uint64_t bytes) {
  Elf64_Phdr result{};
  result.p_type = PT_LOAD;
  result.p_vaddr = address;
  result.p_paddr = physical;
  result.p_memsz = bytes;
  return result;
}

TEST_CASE("the program headers of kcore tell the bases") {
  constexpr std::uint64_t kDirect = 0xffff9a8040000000;
  constexpr std::uint64_t kVmemmap = 0xffffd5dc00000000;
  const std::string file =
      kcore_of({segment(0xffffffff9c000000, 0x3e000000, 1 << 24), segment(0xffffb1f980000000, ~0ull, 1ull << 40),
                segment(kDirect + 0x1000, 0x1000, 0x9e000), segment(kVmemmap, ~0ull, 1 << 20),
                segment(kDirect + 0x100000, 0x100000, 1ull << 31)});
  const auto bases = bases_of_kcore(file);
  const TranslationBases right{kVmemmap, kDirect};
  CHECK(std::find(bases.begin(), bases.end(), right) != bases.end());
  for (const TranslationBases& base : bases) CHECK(base.direct_map_base == kDirect);
  CHECK(bases_of_kcore("").empty());
  CHECK(bases_of_kcore("not an ELF file, but long enough to hold one of its headers ...........").empty());
  CHECK(bases_of_kcore(file.substr(0, sizeof(Elf64_Ehdr) + 10)).empty());
}

TEST_CASE("a probe report names every rung, in text and JSON") {
  ProbeReport report;
  report.kernel = "6.1 x86_64";
  report.rungs = {{"bpf", false, "btf: \"none\"", {{"btf", false, true, "no\nBTF"}}}, {"scan", true, "always", {}}};
  report.disks = {{"/dev/sdb", false, "is read-only", ""}};
  report.unseen_writes = {"SG_IO"};
  const std::string text = probe_text(report);
  CHECK(text.find("rung bpf: not usable") != std::string::npos);
  CHECK(text.find("disk /dev/sdb: not usable: is read-only") != std::string::npos);
  CHECK(text.find("cannot be protected with write order") != std::string::npos);
  CHECK(probe_json(report) ==
        R"({"kernel":"6.1 x86_64","best":"","rungs":[{"name":"bpf","usable":false,"reason":"btf: \"none\"",)"
        R"("checks":[{"name":"btf","ok":false,"required":true,"detail":"no\u000aBTF"}]},{"name":"scan","usable":true,)"
        R"("reason":"always","checks":[]}],"disks":[{"path":"/dev/sdb","usable":false,"reason":"is read-only",)"
        R"("detail":""}],"unseen_writes":["SG_IO"]})");
}

}  // namespace
}  // namespace understudy
