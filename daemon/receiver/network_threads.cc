// SPDX-License-Identifier: Apache-2.0
#include "daemon/receiver/network_threads.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

namespace understudy {

NetworkThreads::NetworkThreads(unsigned thread_count)
    : context_(std::make_unique<boost::asio::io_context>(static_cast<int>(thread_count))) {
  for (unsigned i = 0; i < thread_count; ++i) {
    threads_.emplace_back([this] {
      const auto work = boost::asio::make_work_guard(*context_);
      context_->run();
    });
  }
}

NetworkThreads::~NetworkThreads() { stop(); }

void NetworkThreads::stop() {
  context_->stop();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

}  // namespace understudy
