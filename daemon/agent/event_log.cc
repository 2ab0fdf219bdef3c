// SPDX-License-Identifier: Apache-2.0
#include "daemon/agent/event_log.h"

#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"

namespace understudy {
namespace {

MessageId message_id(ReplicatorEvent::Kind kind) {
  switch (kind) {
    case ReplicatorEvent::Kind::kLinkUp: return kMessageLinkUp;
    case ReplicatorEvent::Kind::kLinkDown: return kMessageLinkDown;
    case ReplicatorEvent::Kind::kLinkRefused: return kMessageLinkRefused;
    case ReplicatorEvent::Kind::kLinkNotice: return kMessageLinkNotice;
    case ReplicatorEvent::Kind::kCopyStarted: return kMessageCopyStarted;
    case ReplicatorEvent::Kind::kCopyFinished: return kMessageCopyFinished;
    case ReplicatorEvent::Kind::kGapOpened: return kMessageGapOpened;
    case ReplicatorEvent::Kind::kGapHealed: return kMessageGapHealed;
    case ReplicatorEvent::Kind::kCaptureUnprovable: return kMessageCaptureUnprovable;
    case ReplicatorEvent::Kind::kDiskChanged: return kMessageDiskChanged;
    case ReplicatorEvent::Kind::kDiskReadFailed: return kMessageDiskReadFailed;
    case ReplicatorEvent::Kind::kRefused: return kMessageLinkRefused;
    case ReplicatorEvent::Kind::kDigestScan: return kMessageDigestScan;
    case ReplicatorEvent::Kind::kDigestDifference: return kMessageDigestDifference;
    case ReplicatorEvent::Kind::kInternal: return kMessageCaptureFailed;
    case ReplicatorEvent::Kind::kState: return kMessageReplicationState;
    case ReplicatorEvent::Kind::kError: return kMessageReplicationError;
  }
  return kMessageCaptureFailed;
}

LogLevel log_level_of(ReplicatorEvent::Severity severity) {
  switch (severity) {
    case ReplicatorEvent::Severity::kInfo: return LogLevel::kInfo;
    case ReplicatorEvent::Severity::kWarning: return LogLevel::kWarning;
    case ReplicatorEvent::Severity::kError: break;
  }
  return LogLevel::kError;
}

}  // namespace

void log_replicator_event(const ReplicatorEvent& event, const std::string& server) {
  if (event.kind == ReplicatorEvent::Kind::kError) {
    log_message(log_level_of(event.severity), message_id(event.kind), event.text,
                {{"UNDERSTUDY_SERVER", server},
                 {"UNDERSTUDY_REASON", std::string(error_reason_entry(event.reason).name)}});
    return;
  }
  log_message(log_level_of(event.severity), message_id(event.kind), event.text, {{"UNDERSTUDY_SERVER", server}});
}

}  // namespace understudy
