// SPDX-License-Identifier: Apache-2.0
// MANIFEST of any content; what is accepted must come back from writing and reading it again.
#include <cstdint>
#include <string>

#include "daemon/base/checksum.h"
#include "daemon/store/manifest.h"

namespace understudy {
namespace {

void decode(std::string_view text) {
  const Result<Manifest> manifest = decode_manifest(std::as_bytes(std::span(text)));
  if (!manifest.ok()) return;
  const std::string again = encode_manifest(*manifest);
  const Manifest second = decode_manifest(std::as_bytes(std::span(again))).value();
  CHECK(second.identity.server_name == manifest->identity.server_name);
  CHECK(second.base_directory == manifest->base_directory);
  CHECK_EQ(second.durable_seq, manifest->durable_seq);
}

}  // namespace
}  // namespace understudy

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace understudy;
  std::string text(reinterpret_cast<const char*>(data), size);
  decode(text);
  const std::size_t checksum_at = text.rfind("\nchecksum ");
  if (checksum_at == std::string::npos) return 0;
  text.resize(checksum_at + 1);
  char line[40];
  std::snprintf(line, sizeof(line), "checksum %016llx\n",
                static_cast<unsigned long long>(xxh3_64(std::as_bytes(std::span(text)))));
  decode(text + line);
  return 0;
}
