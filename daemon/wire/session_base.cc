// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "daemon/base/text.h"
#include "daemon/wire/session.h"

namespace understudy {

bool SessionBase::take_traffic(const SessionEvent& event, std::uint64_t now_ns) {
  if (std::holds_alternative<BytesSent>(event)) {
    sent_ns_ = now_ns;
    return true;
  }
  const bool only_bytes = std::holds_alternative<BytesReceived>(event);
  if (only_bytes || std::holds_alternative<PeerConnected>(event) || std::holds_alternative<FrameReceived>(event)) {
    received_ns_ = now_ns;
  }
  return only_bytes;
}

void SessionBase::keep_alive(const ClockTick& tick, std::uint64_t now_ns, const char* peer,
                             std::vector<SessionAction>& actions) {
  if (!tick.reading) received_ns_ = now_ns;
  if (now_ns - received_ns_ >= kWireSilenceNsMax) {
    close(Error(ErrorKind::kTimeout,
                std::string("no sign of life from ") + peer + " for " + format_duration_ns(kWireSilenceNsMax)),
          false, actions);
  } else if (now_ns - sent_ns_ >= kWirePingIntervalNs && !tick.output_pending) {
    sent_ns_ = now_ns;
    actions.emplace_back(SendMessage{Ping{++ping_token_}});
  }
}

void SessionBase::refuse(RefuseCode code, std::string text, std::vector<SessionAction>& actions) {
  actions.emplace_back(SendMessage{Refuse{code, text}});
  close(Error(ErrorKind::kRefused, std::move(text)), true, actions);
}

void SessionBase::say_bad_data(const Error& error, std::vector<SessionAction>& actions) {
  actions.emplace_back(SendMessage{Bye{ByeCode::kBadData, error.message()}});
  close(error, false, actions);
}

void SessionBase::stop(StopSession stop, bool say_so, std::vector<SessionAction>& actions) {
  if (say_so) actions.emplace_back(SendMessage{Bye{stop.code, stop.text}});
  close(Error(ErrorKind::kClosed, std::move(stop.text)), false, actions);
}

void SessionBase::close(Error error, bool refused, std::vector<SessionAction>& actions) {
  closed_ = true;
  actions.emplace_back(CloseSession{std::move(error), refused});
}

Error SessionBase::unexpected_message(const Message& message) {
  return Error(ErrorKind::kCorrupt, "unexpected " + std::string(frame_type_name(type_of(message))) + " frame");
}

}  // namespace understudy
