// SPDX-License-Identifier: Apache-2.0
#include "daemon/digest/digest_tree.h"

#include <algorithm>

namespace understudy {

void append_leaf_digests(std::span<const std::byte> data, std::vector<Digest>& out) {
  while (!data.empty()) {
    const std::size_t bytes = std::min<std::size_t>(data.size(), kDigestLeafBytes);
    out.push_back(xxh3_128(data.first(bytes)));
    data = data.subspan(bytes);
  }
}

Digest digest_of_zeros(std::uint64_t bytes) {
  if (bytes == kDigestLeafBytes) return kDigestOfZeroLeaf;
  return xxh3_128(std::vector<std::byte>(bytes));
}

Digest digest_of_digests(std::span<const Digest> digests) { return xxh3_128(std::as_bytes(digests)); }

}  // namespace understudy
