// SPDX-License-Identifier: Apache-2.0
// The agent's link over the simulated network: the production session state machine, frames and batch encoding, without
// TLS and threads. A batch is encoded some time after it was sent, as an encoder thread would: memory of the ring that
// was given back too early shows as a wrong checksum.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "daemon/replicate/link.h"
#include "daemon/wire/frame_reader.h"
#include "daemon/wire/session.h"
#include "tests/sim/network.h"

namespace understudy::sim {

// Where links call: null = nobody listens there.
using Dial = std::function<std::shared_ptr<Connection>()>;

class SimLink final : public Link, private Endpoint {
 public:
  SimLink(World& world, const Clock& clock, Hello hello, Dial dial);
  // The process is gone: the network ends the connection.
  ~SimLink() override;

  // --- Link ---
  void set_waker(std::function<void()> waker) override { waker_ = std::move(waker); }
  std::optional<LinkEvent> poll() override;
  void send(std::unique_ptr<OutgoingBatch> batch) override;
  void ask_digest(const DigestQuestion& question) override;
  LinkStatistics statistics() const override;

  // Payload that was given to send() and is still where the agent keeps it.
  std::uint64_t unencoded_bytes() const;

  // --- faults ---
  void flip_bit_in_next_batch() { flip_next_ = true; }
  const std::shared_ptr<Connection>& connection() const { return connection_; }
  // What the agent was told, by WELCOME or ACK, in its present session.
  Seq acknowledged() const { return acknowledged_; }

  // Before each batch is given to the link, and when its figures are asked for.
  std::function<void()> meanwhile;
  // A session began behind this seq.
  std::function<void(Seq)> on_up;

 private:
  // --- Endpoint ---
  void bytes_arrived() override;
  void may_write() override { pump(); }
  void ended() override;

  template <typename Function>
  void later(std::uint64_t delay_ns, Function function);
  void attempt();
  void tick();
  void take(std::size_t bytes);
  void step(SessionEvent event);
  void perform(std::vector<SessionAction> actions);
  void session_up(Welcome welcome);
  void encode_next();
  void pump();
  void fail(Error error, bool refused);
  void push(LinkEvent event);

  World& world_;
  const Clock& clock_;
  const Hello hello_;
  const Dial dial_;
  std::shared_ptr<SimLink*> alive_;  // events hold it weakly
  std::function<void()> waker_;
  std::deque<LinkEvent> events_;
  bool up_polled_ = false;           // the user knows of the session that is up

  std::uint64_t attempt_ = 0;
  std::shared_ptr<Connection> connection_;
  std::optional<ClientSession> session_;
  FrameReader reader_;
  std::vector<std::byte> payload_;
  std::vector<std::byte> control_;
  std::deque<std::unique_ptr<OutgoingBatch>> queue_;
  bool encoding_ = false;
  struct Encoded {
    std::vector<std::byte> frame;
    Seq last_seq = 0;
    std::uint64_t raw_bytes = 0;
    std::size_t done = 0;
    bool begun = false;
  };
  std::deque<Encoded> encoded_;
  std::deque<DigestQuestion> questions_;
  Seq written_seq_ = 0;  // of the last batch that was begun
  std::uint64_t retry_ns_ = 50 * kMillisecond;
  bool flip_next_ = false;
  Seq acknowledged_ = 0;
  bool sent_since_tick_ = false;
  LinkStatistics statistics_;
};

}  // namespace understudy::sim
