// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "daemon/tracker/tracker.h"

namespace understudy {

// A tracker under which the world does not stand still: before each answer that can change, `meanwhile` is called, in
// which the test lets other CPUs write.
class InterruptedTracker final : public Tracker {
 public:
  explicit InterruptedTracker(std::unique_ptr<Tracker> inner) : inner_(std::move(inner)) {}

  std::string_view rung() const override { return inner_->rung(); }
  Uuid capture_id() const override { return inner_->capture_id(); }
  Status renew_capture_id() override { return inner_->renew_capture_id(); }
  const std::vector<TrackedDisk>& disks() const override { return inner_->disks(); }
  std::optional<CaptureEvent> next() override {
    interrupt();
    return inner_->next();
  }
  std::uint64_t tail() const override { return inner_->tail(); }
  std::uint64_t cursor() const override { return inner_->cursor(); }
  std::uint64_t head() const override {
    interrupt();
    return inner_->head();
  }
  std::uint64_t ring_bytes() const override { return inner_->ring_bytes(); }
  Status seek(std::uint64_t position) override { return inner_->seek(position); }
  void release(std::uint64_t position) override { inner_->release(position); }
  void keep_acknowledged(std::uint64_t seq) override { inner_->keep_acknowledged(seq); }
  std::uint64_t acknowledged() const override { return inner_->acknowledged(); }
  void wait(std::chrono::nanoseconds timeout) override { inner_->wait(timeout); }
  void wake() override { inner_->wake(); }
  Losses losses() const override {
    interrupt();
    return inner_->losses();
  }
  DirtyMap& dirty() override {
    interrupt();
    return inner_->dirty();
  }
  Result<bool> set_copy_mode(bool on) override {
    interrupt();
    return inner_->set_copy_mode(on);
  }
  Result<std::vector<InFlightWrite>> in_flight() override {
    interrupt();
    return inner_->in_flight();
  }
  Status detach() override { return inner_->detach(); }

  std::function<void()> meanwhile;

 private:
  void interrupt() const {
    if (meanwhile) meanwhile();
  }
  std::unique_ptr<Tracker> inner_;
};

}  // namespace understudy
