// SPDX-License-Identifier: Apache-2.0
// What happens, in order: hashed always (the same seed must give the same hash), printed on demand, and its end kept
// for whoever has to explain a failure.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <string>

namespace understudy::sim {

class Trace {
 public:
  explicit Trace(bool print) : print_(print) {}

  // `format` is a literal; each "{}" in it stands for one of the numbers.
  void note(std::uint64_t time_ns, const char* who, const char* format, std::uint64_t a = 0, std::uint64_t b = 0,
            std::uint64_t c = 0) {
    mix(time_ns);
    for (const char* at = format; *at != 0; ++at) mix(static_cast<unsigned char>(*at));
    mix(a);
    mix(b);
    mix(c);
    const Line line{time_ns, who, format, {a, b, c}};
    if (print_) {
      std::puts(text(line).c_str());
    } else {
      tail_.push_back(line);
      if (tail_.size() > kTailLines) tail_.pop_front();
    }
  }
  std::uint64_t hash() const { return hash_; }
  std::string tail() const {
    std::string all;
    for (const Line& line : tail_) all += text(line) + "\n";
    return all;
  }

 private:
  static constexpr std::size_t kTailLines = 80;
  struct Line {
    std::uint64_t time_ns;
    const char* who;
    const char* format;
    std::array<std::uint64_t, 3> values;
  };
  static std::string text(const Line& line) {
    char head[64];
    std::snprintf(head, sizeof(head), "%12.6f %-9s", static_cast<double>(line.time_ns) / 1e9, line.who);
    std::string out = head;
    std::size_t value = 0;
    for (const char* at = line.format; *at != 0; ++at) {
      if (at[0] == '{' && at[1] == '}' && value < line.values.size()) {
        out += std::to_string(line.values[value++]);
        ++at;
      } else {
        out += *at;
      }
    }
    return out;
  }
  void mix(std::uint64_t value) { hash_ = (hash_ ^ value) * 0x9e3779b97f4a7c15ull + (hash_ >> 29); }

  bool print_;
  std::uint64_t hash_ = 0x756e646572737475ull;
  std::deque<Line> tail_;
};

}  // namespace understudy::sim
