// SPDX-License-Identifier: Apache-2.0
// What an orchestrator may say, in pieces of any size: messages or an error, and of what they order, orders that
// survive being kept.
#include <algorithm>
#include <cstdint>
#include <span>

#include "daemon/agent/agent_orders.h"
#include "daemon/base/check.h"
#include "daemon/node/enroll.h"
#include "daemon/node/node_frame.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace understudy;
  const auto bytes = std::as_bytes(std::span(data, size));
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (const auto token = EnrolmentToken::parse(text); token.ok()) CHECK(text.starts_with(token->to_text()));
  NodeFrameReader reader(64u << 10);
  const std::size_t step = size == 0 ? 1 : data[0] % 7 + 1;
  for (std::size_t at = 0; at < size; at += step) {
    reader.add(bytes.subspan(at, std::min(step, size - at)));
    while (true) {
      const auto message = reader.next();
      if (!message.ok()) return 0;
      if (!*message) break;
      CHECK((*message)->is_object());
      const auto orders = parse_agent_orders(**message);
      if (!orders.ok()) continue;
      const auto again = parse_agent_orders(agent_orders_json(*orders));
      CHECK(again.ok() && *again == *orders);
    }
  }
  return 0;
}
