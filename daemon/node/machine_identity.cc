// SPDX-License-Identifier: Apache-2.0
#include "daemon/node/machine_identity.h"

#include <algorithm>
#include <utility>

#include "daemon/base/atomic_file.h"

namespace understudy {

namespace {

constexpr std::size_t kFileBytesMax = 4096;

// Letters, digits and '-' only; placeholders of careless firmware are none.
std::string usable(std::string text) {
  text = text.substr(0, text.find('\n'));
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const bool plain = std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isalnum(c) || c == '-'; });
  const std::string digits = "0f-";
  const bool says_something =
      std::any_of(text.begin(), text.end(), [&](char c) { return digits.find(c) == std::string::npos; });
  return plain && says_something ? text : "";
}

}  // namespace

std::string machine_identity(const std::string& root) {
  for (const auto& [name, path] :
       {std::pair("dmi", "/sys/class/dmi/id/product_uuid"), std::pair("hypervisor", "/sys/hypervisor/uuid"),
        std::pair("machine-id", "/etc/machine-id")}) {
    const auto text = read_file(root + path, kFileBytesMax);
    if (!text.ok()) continue;
    if (const std::string id = usable(*text); !id.empty()) return std::string(name) + ":" + id;
  }
  return "unknown";
}

}  // namespace understudy
