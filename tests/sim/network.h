// SPDX-License-Identifier: Apache-2.0
// TCP as the programs see it: bytes of one connection arrive in order, in pieces of any size, after any time; those of
// two connections in any order. A connection ends at each side at its own time, with or without the tail of what was
// sent. What TLS adds (nobody changes bytes on the way) is taken as given; bits that flip behind it are a fault of
// the senders' memory (sim_link.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "tests/sim/world.h"

namespace understudy::sim {

enum Side : std::uint8_t { kAgentSide = 0, kReceiverSide = 1 };

// Who has one end of a connection. Called from events, never inside a call of the connection's.
class Endpoint {
 public:
  virtual ~Endpoint() = default;
  virtual void bytes_arrived() = 0;
  virtual void may_write() = 0;  // after write() took less than it was given
  virtual void ended() = 0;      // nothing more will arrive; all that did was read or may still be
};

struct NetworkWeather {
  std::uint64_t latency_ns_max = 2 * kMillisecond;
  std::size_t capacity_bytes = 64 << 10;  // what one direction holds before writes are partial
  std::size_t piece_bytes_max = 16 << 10;
  Scheduler::Time stalled_until = 0;  // nothing moves before
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(World& world, const NetworkWeather& weather) : world_(world), weather_(weather) {}

  void set_endpoint(Side side, Endpoint* endpoint) { ends_[side].endpoint = endpoint; }
  bool has_endpoint(Side side) const { return ends_[side].endpoint != nullptr; }

  // Takes a part of `bytes`, maybe nothing.
  std::size_t write(Side side, std::span<const std::byte> bytes);
  std::size_t read(Side side, std::span<std::byte> out);
  // The other side gets what was written, then the end. The endpoint hears nothing more.
  void close(Side side);

  // --- faults ---
  // Each side learns of it after its own delay; of what is on its way to the receiver a random part still arrives.
  void cut(std::uint64_t agent_delay_ns, std::uint64_t receiver_delay_ns, bool lose_tail);
  // Nothing arrives any more, and nobody is told.
  void black_hole() { dead_ = true; }

 private:
  struct Half {                          // a direction, by its reader
    Endpoint* endpoint = nullptr;
    std::deque<std::byte> on_the_way;
    std::vector<std::byte> arrived;
    bool finished = false;               // nothing more is written
    bool end_told = false;
    bool moving = false;
    bool write_blocked = false;          // the writer of this direction waits
    Scheduler::Time held_until = 0;      // nothing arrives before
  };
  void move(Side reader);
  void arrive(Side reader);
  void finish(Side reader, std::uint64_t delay_ns);

  World& world_;
  const NetworkWeather& weather_;
  std::array<Half, 2> ends_;
  bool dead_ = false;
};

}  // namespace understudy::sim
