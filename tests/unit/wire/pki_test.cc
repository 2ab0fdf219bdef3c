// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/pki.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "daemon/base/atomic_file.h"
#include "daemon/base/clock.h"
#include "daemon/wire/tls_context.h"
#include "tests/unit/temporary_directory.h"

using namespace understudy;

namespace {

unsigned mode_of(const std::string& path) {
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 07777;
}

constexpr std::uint64_t kDayNs = 86'400ull * 1'000'000'000ull;

}  // namespace

TEST_CASE("an authority is made once, with its key for its owner only") {
  TemporaryDirectory directory;
  const std::string pki = directory.file("pki");
  REQUIRE(pki_init(pki).ok());
  CHECK(mode_of(pki) == 0700);
  CHECK(mode_of(pki_authority_key_path(pki)) == 0600);
  const std::string before = *read_file(pki_authority_key_path(pki), 1 << 16);
  const Status again = pki_init(pki);
  REQUIRE_FALSE(again.ok());
  CHECK(again.error().kind() == ErrorKind::kAlreadyExists);
  CHECK(*read_file(pki_authority_key_path(pki), 1 << 16) == before);
  auto info = pki_show(pki_authority_certificate_path(pki));
  REQUIRE(info.ok());
  CHECK(info->is_authority);
  CHECK(info->identity.empty());
  const std::uint64_t now = system_clock().wall_ns();
  CHECK(info->not_after_ns > now + 3649 * kDayNs);
  CHECK(info->not_after_ns < now + 3651 * kDayNs);
}

TEST_CASE("a certificate says role and name, and can be used") {
  TemporaryDirectory directory;
  const std::string pki = directory.file("pki");
  const std::string out = directory.file("out");
  REQUIRE(pki_init(pki).ok());
  REQUIRE(pki_issue(pki, WireRole::kAgent, "web-1", out, 30).ok());
  CHECK(mode_of(pki_key_path(out, "web-1")) == 0600);
  auto info = pki_show(pki_certificate_path(out, "web-1"));
  REQUIRE(info.ok());
  CHECK_FALSE(info->is_authority);
  CHECK(info->identity == "understudy:agent:web-1");
  CHECK(info->subject == "CN=web-1");
  CHECK(info->sha256.size() == 64);
  const std::uint64_t now = system_clock().wall_ns();
  CHECK(info->not_before_ns < now);
  CHECK(info->not_after_ns > now + 29 * kDayNs);
  CHECK(info->not_after_ns < now + 31 * kDayNs);
  CHECK(*read_file(pki_authority_certificate_path(out), 1 << 16) ==
        *read_file(pki_authority_certificate_path(pki), 1 << 16));
  auto context = TlsContext::load(
      {pki_authority_certificate_path(out), pki_certificate_path(out, "web-1"), pki_key_path(out, "web-1")},
      TlsSide::kClient);
  REQUIRE(context.ok());
  REQUIRE((*context)->own_identity().ok());
  CHECK((*context)->own_identity()->to_text() == "agent 'web-1'");
}

TEST_CASE("issuing never overwrites, and names what is wrong") {
  TemporaryDirectory directory;
  const std::string pki = directory.file("pki");
  const auto without = pki_issue(pki, WireRole::kAgent, "web-1", directory.path());
  REQUIRE_FALSE(without.ok());
  CHECK(without.error().kind() == ErrorKind::kNotFound);
  CHECK(without.error().message().find("pki init") != std::string::npos);
  REQUIRE(pki_init(pki).ok());
  REQUIRE(pki_issue(pki, WireRole::kAgent, "web-1", pki).ok());
  const auto again = pki_issue(pki, WireRole::kAgent, "web-1", pki);
  REQUIRE_FALSE(again.ok());
  CHECK(again.error().kind() == ErrorKind::kAlreadyExists);
  for (const char* name : {"", "a b", "../x", "ca", "-x", "a,b"}) {
    CAPTURE(name);
    const auto bad = pki_issue(pki, WireRole::kAgent, name, pki);
    REQUIRE_FALSE(bad.ok());
    CHECK(bad.error().kind() == ErrorKind::kInvalidArgument);
  }
  for (const int days : {0, -1, 3651, 100000}) {
    CAPTURE(days);
    const auto bad = pki_issue(pki, WireRole::kAgent, "web-2", pki, days);
    REQUIRE_FALSE(bad.ok());
    CHECK(bad.error().message().find("allowed are 1 to") != std::string::npos);
  }
  TemporaryDirectory other;
  REQUIRE(pki_init(other.file("pki")).ok());
  CHECK_FALSE(pki_issue(other.file("pki"), WireRole::kAgent, "web-3", pki).ok());
}

TEST_CASE("unusable files are named") {
  TemporaryDirectory directory;
  const std::string pki = directory.file("pki");
  REQUIRE(pki_init(pki).ok());
  REQUIRE(pki_issue(pki, WireRole::kReceiver, "dr-1", pki).ok());
  REQUIRE(pki_issue(pki, WireRole::kReceiver, "dr-2", pki).ok());
  const TlsFiles good{pki_authority_certificate_path(pki), pki_certificate_path(pki, "dr-1"),
                      pki_key_path(pki, "dr-1")};
  REQUIRE(TlsContext::load(good, TlsSide::kServer).ok());

  TlsFiles missing = good;
  missing.certificate = directory.file("none.crt");
  CHECK(TlsContext::load(missing, TlsSide::kServer).error().message().find("none.crt") != std::string::npos);
  TlsFiles mixed = good;
  mixed.key = pki_key_path(pki, "dr-2");
  CHECK(TlsContext::load(mixed, TlsSide::kServer).error().message().find("is not the key of") != std::string::npos);
  TlsFiles no_authority = good;
  no_authority.authority = good.certificate;
  CHECK(TlsContext::load(no_authority, TlsSide::kServer).error().message().find("authority") != std::string::npos);
  TlsFiles garbage = good;
  garbage.certificate = directory.file("garbage.crt");
  REQUIRE(write_file_atomically(garbage.certificate, "not a certificate").ok());
  CHECK(TlsContext::load(garbage, TlsSide::kServer).error().message().find("not a PEM certificate") !=
        std::string::npos);
  CHECK_FALSE(pki_show(garbage.certificate).ok());
  REQUIRE(::chmod(good.key.c_str(), 0644) == 0);
  CHECK(TlsContext::load(good, TlsSide::kServer).error().message().find("chmod 600") != std::string::npos);
}

TEST_CASE("identities of other forms are refused") {
  CHECK(parse_wire_identity("understudy:agent:web-1").ok());
  CHECK(parse_wire_identity("understudy:receiver:dr-1")->role == WireRole::kReceiver);
  for (const char* bad : {"", "understudy:", "understudy:agent", "understudy:agent:", "understudy:king:x",
                          "understudy:agent:a b", "http:agent:web", "understudy:agent:x:y"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_wire_identity(bad).ok());
  }
}
