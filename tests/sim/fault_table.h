// SPDX-License-Identifier: Apache-2.0
// The faults of the simulation as a table: how often each happens and how long it lasts. A seed takes a random part of
// the rows, so that some runs have one fault and others nearly all.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace understudy::sim {

enum class Fault : std::uint8_t {
  kCut, kLateTail, kBlackHole, kDelay, kSlowNetwork, kFlippedBit,
  kAgentKill, kAgentStop, kSourceCrash,
  kReceiverKill, kPowerCut, kReceiverStop, kSlowReceiver, kFullDisk, kFailedSync, kOlderCopy,
  kWallJump, kWallStep,
  kRingOverflow, kSkippedWrite, kUnreadableWrite, kMissedProgram, kUnsettled, kDiskError,
};

struct FaultRow {
  Fault fault;
  std::string_view name;
  double per_second;         // of simulated time, while the row is chosen
  std::uint32_t chosen;      // percent of the seeds that have it
  std::uint32_t ms_min;      // how long it lasts, where it lasts
  std::uint32_t ms_max;
};

// clang-format off
inline constexpr std::array kFaultTable = {
  //        fault                    name              /s   seeds   lasts ms
  FaultRow{Fault::kCut,             "cut",             2.0,   50,     0,    50},  // both ends learn of it then
  FaultRow{Fault::kLateTail,        "late-tail",       1.0,   40,    20,  1500},  // of what was sent
  FaultRow{Fault::kBlackHole,       "black-hole",      0.1,   15,     0,     0},  // until a side misses signs of life
  FaultRow{Fault::kDelay,           "delay",           1.0,   40,    10,  1500},
  FaultRow{Fault::kSlowNetwork,     "slow-network",    0.5,   30,    50,   800},  // tiny pieces, partial writes
  FaultRow{Fault::kFlippedBit,      "flipped-bit",     0.7,   30,     0,     0},  // in a batch, behind TLS
  FaultRow{Fault::kAgentKill,       "agent-kill",      0.7,   50,     0,   300},  // at an await point
  FaultRow{Fault::kAgentStop,       "agent-stop",      0.2,   20,     0,   300},  // SIGTERM
  FaultRow{Fault::kSourceCrash,     "source-crash",    0.15,  20,     0,   500},  // the capture is gone with it
  FaultRow{Fault::kReceiverKill,    "receiver-kill",   0.6,   40,     0,     0},  // at a call to its disk
  FaultRow{Fault::kPowerCut,        "power-cut",       0.6,   40,     0,     0},  // unsynced writes are lost
  FaultRow{Fault::kReceiverStop,    "receiver-stop",   0.2,   20,     0,     0},  // SIGTERM
  FaultRow{Fault::kSlowReceiver,    "slow-receiver",   0.5,   30,    50,  1000},
  FaultRow{Fault::kFullDisk,        "full-disk",       0.4,   25,    50,  1800},
  FaultRow{Fault::kFailedSync,      "failed-sync",     0.2,   20,     0,     0},  // EIO; then a restart
  FaultRow{Fault::kOlderCopy,       "older-copy",      0.1,   15,     0,     0},  // replaces the store
  FaultRow{Fault::kWallJump,        "wall-jump",       0.3,   25,     0,     0},  // up to two hours either way
  FaultRow{Fault::kWallStep,        "wall-step",       1.0,   25,     0,     0},  // NTP: up to 20 ms either way
  FaultRow{Fault::kRingOverflow,    "ring-overflow",   0.6,   40,    20,   600},  // the ring is too small that long
  FaultRow{Fault::kSkippedWrite,    "skipped-write",   0.7,   35,     0,     0},  // recursion: a loss
  FaultRow{Fault::kUnreadableWrite, "unreadable",      0.4,   25,     0,     0},  // pages: a loss
  FaultRow{Fault::kMissedProgram,   "missed-program",  0.1,   20,     0,     0},  // a loss without a trace
  FaultRow{Fault::kUnsettled,       "unsettled",       0.5,   25,     0,     0},  // copy mode, at first
  FaultRow{Fault::kDiskError,       "disk-error",      0.4,   25,    10,   500},  // EIO when the source's disk is read
};
// clang-format on

}  // namespace understudy::sim
