// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <thread>
#include <vector>

namespace boost::asio {
class io_context;
}

namespace understudy {

// The threads that receive: one event loop shared by a few. Everything of one session runs on one of them at a time.
class NetworkThreads {
 public:
  explicit NetworkThreads(unsigned thread_count);
  // stop().
  ~NetworkThreads();

  boost::asio::io_context& context() { return *context_; }
  // Ends the threads after what they are doing. What is queued is dropped with the object.
  void stop();

 private:
  std::unique_ptr<boost::asio::io_context> context_;
  std::vector<std::thread> threads_;
};

}  // namespace understudy
