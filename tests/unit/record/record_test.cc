// SPDX-License-Identifier: Apache-2.0
#include "daemon/record/record.h"

#include <string>

#include "daemon/base/checksum.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

std::vector<DiskGeometry> two_disks() {
  return {{0, Uuid::random(), "/dev/vda", 1ull << 40, 512}, {63, Uuid::random(), "data/größe", 4096, 4096}};
}

TEST_CASE("gap, mark and geometry come back as they were") {
  CHECK(decode_gap(encode_gap({GapReason::kReceiverBehind}))->reason == GapReason::kReceiverBehind);
  const MarkInfo mark = decode_mark(encode_mark({std::string(255, 'x'), Consistency::kApplication})).value();
  CHECK(mark.name == std::string(255, 'x'));
  CHECK(mark.consistency == Consistency::kApplication);
  CHECK(mark.reason.empty());
  const MarkInfo less = decode_mark(encode_mark({"m", Consistency::kCrash, "hook 'x' failed"})).value();
  CHECK(less.name == "m");
  CHECK(less.consistency == Consistency::kCrash);
  CHECK(less.reason == "hook 'x' failed");
  const std::vector<DiskGeometry> disks = two_disks();
  CHECK(decode_geometry(encode_geometry(disks)).value() == disks);
  CHECK(decode_geometry(encode_geometry({})).value().empty());
}

TEST_CASE("any text becomes a reason that can be stored") {
  CHECK(mark_reason("") == "");
  CHECK(mark_reason("a\nb\x1b[2J") == "a b\\x1b[2J");
  const std::string long_text = mark_reason(std::string(999, 'x') + "\u00e4" + std::string(5000, 'y'));
  CHECK(long_text.size() <= 1000);
  CHECK(long_text.ends_with(" ..."));
  for (std::size_t n = 990; n < 1005; ++n) {
    const std::string cut = mark_reason(std::string(n, 'x') + "\u00e4\u20ac\U0001f600 and more");
    CHECK(decode_mark(encode_mark({"m", Consistency::kCrash, cut}))->reason == cut);
  }
}

TEST_CASE("payloads that are cut, longer or not of a known value are refused") {
  const std::vector<std::byte> gap = encode_gap({});
  const std::vector<std::byte> mark = encode_mark({"name"});
  const std::vector<std::byte> geometry = encode_geometry(two_disks());
  const auto with = [](std::vector<std::byte> payload, std::size_t at, unsigned value) {
    payload[at] = static_cast<std::byte>(value);
    return payload;
  };
  for (std::size_t n = 0; n < gap.size(); ++n) CHECK(!decode_gap(std::span(gap).first(n)).ok());
  for (std::size_t n = 0; n < mark.size(); ++n) CHECK(!decode_mark(std::span(mark).first(n)).ok());
  for (std::size_t n = 0; n < geometry.size(); ++n) CHECK(!decode_geometry(std::span(geometry).first(n)).ok());
  std::vector<std::byte> longer = geometry;
  longer.push_back(std::byte{0});
  CHECK(!decode_geometry(longer).ok());
  CHECK(!decode_gap(with(gap, 0, 0)).ok());
  CHECK(decode_gap(with(gap, 0, kGapReasonMax))->reason == GapReason::kCollapsed);
  CHECK(!decode_gap(with(gap, 0, kGapReasonMax + 1)).ok());
  CHECK(!decode_gap(with(gap, 3, 1)).ok());
  CHECK(!decode_mark(with(mark, 0, 3)).ok());
  CHECK(!decode_mark(with(mark, 8, 0xff)).ok());  // no UTF-8
  CHECK(!decode_mark(with(mark, 8, '\n')).ok());
  const std::vector<std::byte> reasoned = encode_mark({"name", Consistency::kCrash, "why"});
  for (std::size_t n = 0; n < reasoned.size(); ++n) CHECK(!decode_mark(std::span(reasoned).first(n)).ok());
  CHECK(!decode_mark(with(reasoned, 0, 2)).ok());  // application-consistent with a reason why not
  CHECK(!decode_mark(with(reasoned, 2, 4)).ok());
  CHECK(!decode_mark(with(reasoned, 4, 1)).ok());   // reserved
  CHECK(!decode_mark(with(reasoned, 12, 7)).ok());  // a control character in the reason
  CHECK(!decode_geometry(with(geometry, 0, 65)).ok());  // too many
  CHECK(!decode_geometry(with(geometry, 8, 64)).ok());  // slot out of range
  CHECK(!decode_geometry(with(geometry, 8, 63)).ok());  // slot twice
  CHECK(!decode_geometry(with(geometry, 12, 1)).ok());  // block size is no power of two
  CHECK(!decode_geometry(with(geometry, 23, 0x80)).ok());
}

TEST_CASE("names are UTF-8 without control characters") {
  for (const char* good : {"a", "web-1", "größe", "日本", "\xf0\x9f\x92\xbe"}) {
    CAPTURE(good);
    CHECK(is_valid_name(good));
  }
  for (const char* bad : {"", "a\nb", "\x7f", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe4\xbd", "\x80"}) {
    CAPTURE(bad);
    CHECK(!is_valid_name(bad));
  }
  CHECK(!is_valid_name(std::string(256, 'a')));
  CHECK(!is_valid_name(std::string_view("a\0b", 3)));
}

TEST_CASE("checksums and identities are the published ones") {
  // https://github.com/Cyan4973/xxHash: XXH3_64bits of nothing; FIPS 180-4: SHA-256 of "abc".
  CHECK(xxh3_64({}) == 0x2d06800538d394c2ull);
  const std::string text = "abc";
  Sha256 digest;
  digest.update(std::as_bytes(std::span(text)).first(1));
  digest.update(std::as_bytes(std::span(text)).subspan(1));
  CHECK(to_hex(digest.digest()) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(to_hex(digest.digest()) == to_hex(digest.digest()));
  const Uuid uuid = Uuid::random();
  CHECK(Uuid::parse(uuid.to_string()).value() == uuid);
  CHECK(uuid.to_string()[14] == '4');
  CHECK(Uuid::parse("00112233-4455-6677-8899-AABBCCDDEEFF").value().to_string() ==
        "00112233-4455-6677-8899-aabbccddeeff");
  for (const char* bad : {"", "00112233-4455-6677-8899-aabbccddeef", "00112233-4455-6677-8899-aabbccddeeffa",
                          "00112233x4455-6677-8899-aabbccddeeff", "0011223g-4455-6677-8899-aabbccddeeff"})
    CHECK(!Uuid::parse(bad).ok());
}

}  // namespace
}  // namespace understudy
