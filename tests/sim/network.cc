// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/network.h"

#include <algorithm>

namespace understudy::sim {
namespace {
Side other(Side side) { return side == kAgentSide ? kReceiverSide : kAgentSide; }
}  // namespace

std::size_t Connection::write(Side side, std::span<const std::byte> bytes) {
  Half& half = ends_[other(side)];
  if (half.finished) return bytes.size();  // into the void, as into a socket whose peer is gone
  const std::size_t held = half.on_the_way.size() + half.arrived.size();
  const std::size_t room = held < weather_.capacity_bytes ? weather_.capacity_bytes - held : 0;
  const std::size_t taken = std::min(bytes.size(), room);
  half.on_the_way.insert(half.on_the_way.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
  if (taken < bytes.size()) half.write_blocked = true;
  move(other(side));
  return taken;
}

std::size_t Connection::read(Side side, std::span<std::byte> out) {
  Half& half = ends_[side];
  const std::size_t got = std::min(out.size(), half.arrived.size());
  std::copy_n(half.arrived.begin(), got, out.begin());
  half.arrived.erase(half.arrived.begin(), half.arrived.begin() + static_cast<std::ptrdiff_t>(got));
  if (got > 0 && half.write_blocked) {
    half.write_blocked = false;
    world_.scheduler.after(world_.below(100) * kMicrosecond, [self = shared_from_this(), side] {
      if (Endpoint* writer = self->ends_[other(side)].endpoint) writer->may_write();
    });
  }
  return got;
}

void Connection::close(Side side) {
  ends_[side].endpoint = nullptr;
  ends_[side].on_the_way.clear();
  ends_[side].arrived.clear();
  ends_[other(side)].finished = true;
  move(other(side));
}

void Connection::cut(std::uint64_t agent_delay_ns, std::uint64_t receiver_delay_ns, bool lose_tail) {
  Half& up = ends_[kReceiverSide];
  if (lose_tail && !up.on_the_way.empty()) up.on_the_way.resize(world_.below(up.on_the_way.size() + 1));
  ends_[kAgentSide].on_the_way.clear();
  finish(kAgentSide, agent_delay_ns);
  up.held_until = world_.scheduler.now() + receiver_delay_ns;
  finish(kReceiverSide, receiver_delay_ns);
}

void Connection::finish(Side reader, std::uint64_t delay_ns) {
  ends_[reader].finished = true;
  world_.scheduler.after(delay_ns, [self = shared_from_this(), reader] { self->move(reader); });
}

// Makes something arrive later, if there is anything.
void Connection::move(Side reader) {
  Half& half = ends_[reader];
  if (half.moving || (half.on_the_way.empty() && !half.finished)) return;
  half.moving = true;
  Scheduler::Time when = world_.scheduler.now() + 1 + world_.below(weather_.latency_ns_max);
  when = std::max(when, half.held_until);
  if (!world_.calm) when = std::max(when, weather_.stalled_until);
  world_.scheduler.at(when, [self = shared_from_this(), reader] { self->arrive(reader); });
}

void Connection::arrive(Side reader) {
  Half& half = ends_[reader];
  half.moving = false;
  if (dead_) return;
  if (world_.scheduler.now() < half.held_until) return move(reader);
  if (!half.on_the_way.empty()) {
    const std::size_t piece = std::min<std::size_t>(half.on_the_way.size(), 1 + world_.below(weather_.piece_bytes_max));
    const auto end = half.on_the_way.begin() + static_cast<std::ptrdiff_t>(piece);
    if (half.endpoint != nullptr) half.arrived.insert(half.arrived.end(), half.on_the_way.begin(), end);
    half.on_the_way.erase(half.on_the_way.begin(), end);
    if (half.endpoint != nullptr) half.endpoint->bytes_arrived();
  }
  if (half.on_the_way.empty() && half.finished) {
    if (!half.end_told && half.endpoint != nullptr) {
      half.end_told = true;
      half.endpoint->ended();
    }
    return;
  }
  move(reader);
}

}  // namespace understudy::sim
