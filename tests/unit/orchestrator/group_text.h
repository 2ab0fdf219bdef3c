// SPDX-License-Identifier: Apache-2.0
// Group files for tests: one that is right, and ways to make it wrong.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "orchestrator/spec/declared_state.h"

namespace understudy {

// Sites a and b with `servers` behind them.
inline std::string group_text(std::string_view servers, std::string_view more = "") {
  std::string text =
      "production:\n"
      "  name: site-a\n"
      "  region: east\n"
      "  zone: z1\n"
      "  vpc: {name: net-a, subnets: [10.1.0.0/24]}\n"
      "  subnet: 10.1.0.0/24\n"
      "recovery:\n"
      "  name: site-b\n"
      "  zone: z2\n"
      "  vpc: {name: net-b, subnets: [10.2.0.0/24]}\n"
      "  subnet: 10.2.0.0/24\n";
  text += more;
  if (!servers.empty()) text += "servers:\n" + std::string(servers);
  return text;
}

inline std::string server_text(const std::string& name, int address, const std::string& more = "") {
  std::string text = "  - name: " + name + "\n    address: 10.1.0." + std::to_string(address) +
                     "\n    os: {family: debian, version: \"12\"}\n    flavor: {vcpus: 2, memory: 4GiB}\n"
                     "    disks: [/dev/vda]\n";
  if (!more.empty()) text += "    " + more + "\n";
  return text;
}

inline DeclaredSource source_of(const std::string& id, std::string text) {
  return DeclaredSource{id, {{id + ".yaml", std::move(text)}}, ""};
}

// What is wrong with the texts, or "" and `state` is set.
inline std::string mistakes_in(const std::vector<DeclaredSource>& sources, DeclaredState* state = nullptr,
                               const DeclaredOptions& options = {}) {
  auto parsed = parse_declared_state(sources, options);
  if (!parsed.ok()) return parsed.error().message();
  if (state != nullptr) *state = std::move(parsed).value();
  return "";
}

}  // namespace understudy
