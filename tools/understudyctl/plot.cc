// SPDX-License-Identifier: Apache-2.0
#include "tools/understudyctl/plot.h"

#include <algorithm>
#include <optional>

#include "daemon/base/text.h"

namespace understudy {
namespace {

constexpr std::size_t kRows = 8;
constexpr std::size_t kEighths = 8;  // of a row that a block character can fill
constexpr std::size_t kLabelColumns = 14;
constexpr std::uint64_t kPlotHeight = 160;  // SVG, without the frame
constexpr std::uint64_t kLeft = 90;
constexpr std::uint64_t kTop = 40;
constexpr const char* kBlocks[kEighths + 1] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};

std::uint64_t bytes_of(const ChangeBucket& bucket) {
  return bucket.written_bytes + bucket.zeroed_bytes + bucket.copied_bytes;
}

std::uint64_t peak_of(const ChangeRate& rate) {
  std::uint64_t peak = 0;
  for (const ChangeBucket& bucket : rate.buckets) peak = std::max(peak, bytes_of(bucket));
  return peak;
}

std::string per_second(std::uint64_t bytes, std::uint64_t bucket_ns) {
  return format_bytes(static_cast<std::uint64_t>(static_cast<double>(bytes) * 1e9 / static_cast<double>(bucket_ns))) +
         "/s";
}

std::uint64_t end_of(const ChangeRate& rate) { return rate.buckets.back().begin_ns + rate.bucket_ns; }

// The bucket of a time; nullopt = not in the picture.
std::optional<std::size_t> column_of(const ChangeRate& rate, std::uint64_t time_ns) {
  const std::uint64_t from = rate.buckets.front().begin_ns;
  if (time_ns < from || time_ns >= end_of(rate)) return std::nullopt;
  return (time_ns - from) / rate.bucket_ns;
}

// First and last bucket that a gap touches.
std::optional<std::pair<std::size_t, std::size_t>> columns_of(const ChangeRate& rate, const Gap& gap) {
  const std::uint64_t from = rate.buckets.front().begin_ns;
  const std::uint64_t last = gap.last_seq == 0 ? end_of(rate) - 1 : gap.last_time_ns;
  if (last < from || gap.first_time_ns >= end_of(rate)) return std::nullopt;
  return std::pair(*column_of(rate, std::max(gap.first_time_ns, from)),
                   *column_of(rate, std::min(last, end_of(rate) - 1)));
}

std::string title_of(const std::string& server, const ChangeRate& rate) {
  std::uint64_t total = 0;
  for (const ChangeBucket& bucket : rate.buckets) total += bytes_of(bucket);
  return "change rate of " + printable(server) + ", " + format_time_local(rate.buckets.front().begin_ns) + " to " +
         format_time_local(end_of(rate)) + ", " + format_bytes(total);
}

std::string label(std::string text) {
  text.resize(std::max(text.size(), kLabelColumns), ' ');
  return text;
}

std::string marker_row(const std::string& name, std::string columns) {
  while (columns.ends_with(' ')) columns.pop_back();
  return columns.empty() ? "" : label(name) + " " + columns + "\n";
}

std::string escape_xml(const std::string& text) {
  std::string out;
  for (const char c : printable(text)) {
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

std::string attribute(const char* name, std::uint64_t value) {
  return std::string(" ") + name + "=\"" + std::to_string(value) + "\"";
}

std::string rectangle(std::uint64_t x, std::uint64_t y, std::uint64_t width, std::uint64_t height, const char* style,
                      const std::string& title) {
  return "<rect" + attribute("x", x) + attribute("y", y) + attribute("width", width) + attribute("height", height) +
         " fill=\"" + style + "\"><title>" + escape_xml(title) + "</title></rect>\n";
}

std::string words(std::uint64_t x, std::uint64_t y, const char* anchor, const std::string& text) {
  return "<text" + attribute("x", x) + attribute("y", y) + " text-anchor=\"" + anchor + "\">" + escape_xml(text) +
         "</text>\n";
}

std::string gap_title(const Gap& gap) {
  return "gap (" + std::string(gap_reason_name(gap.reason)) + ") from " + format_time_local(gap.first_time_ns) +
         (gap.last_seq == 0 ? std::string(", open") : " to " + format_time_local(gap.last_time_ns));
}

}  // namespace

std::string plot_text(const std::string& server, const ChangeRate& rate, const Timeline& timeline) {
  const std::uint64_t peak = peak_of(rate);
  std::string out = title_of(server, rate) + "\n";
  for (std::size_t row = kRows; row-- > 0;) {
    std::string line = label(row + 1 == kRows ? per_second(peak, rate.bucket_ns) : "") + "|";
    std::string bars;
    for (const ChangeBucket& bucket : rate.buckets) {
      // What is not nothing is shown.
      const std::uint64_t bytes = bytes_of(bucket);
      const std::size_t height =
          peak == 0 || bytes == 0
              ? 0
              : std::max<std::size_t>(1, static_cast<std::size_t>(static_cast<double>(bytes) /
                                                                  static_cast<double>(peak) * kRows * kEighths));
      bars += kBlocks[std::min(kEighths, height > row * kEighths ? height - row * kEighths : 0)];
    }
    while (bars.ends_with(' ')) bars.pop_back();
    out += line + bars + "\n";
  }
  out += label("0") + "+" + std::string(rate.buckets.size(), '-') + "\n";
  std::string gaps(rate.buckets.size(), ' ');
  std::string marks(rate.buckets.size(), ' ');
  for (const Gap& gap : timeline.gaps)
    if (const auto columns = columns_of(rate, gap))
      std::fill(gaps.begin() + static_cast<std::ptrdiff_t>(columns->first),
                gaps.begin() + static_cast<std::ptrdiff_t>(columns->second) + 1, 'x');
  for (const NamedPoint& mark : timeline.marks)
    if (const auto column = column_of(rate, mark.time_ns)) marks[*column] = '^';
  return out + marker_row("gaps", std::move(gaps)) + marker_row("marks", std::move(marks));
}

std::string plot_svg(const std::string& server, const ChangeRate& rate, const Timeline& timeline) {
  const std::uint64_t peak = peak_of(rate);
  const std::uint64_t width = rate.buckets.size();
  const std::uint64_t bottom = kTop + kPlotHeight;
  std::string out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"" +
                    attribute("width", kLeft + width + 20) + attribute("height", bottom + 40) +
                    " font-family=\"sans-serif\" font-size=\"11\">\n<title>" + escape_xml(title_of(server, rate)) +
                    "</title>\n";
  out += words(kLeft, kTop - 20, "start", title_of(server, rate));
  out += words(kLeft - 6, kTop + 10, "end", per_second(peak, rate.bucket_ns)) + words(kLeft - 6, bottom, "end", "0");
  out += words(kLeft, bottom + 16, "start", format_time_local(rate.buckets.front().begin_ns));
  out += words(kLeft + width, bottom + 16, "end", format_time_local(end_of(rate)));
  for (const Gap& gap : timeline.gaps)
    if (const auto columns = columns_of(rate, gap))
      out += rectangle(kLeft + columns->first, kTop, columns->second - columns->first + 1, kPlotHeight, "#f4c7c3",
                       gap_title(gap));
  for (std::size_t i = 0; i < rate.buckets.size(); ++i) {
    const std::uint64_t bytes = bytes_of(rate.buckets[i]);
    if (bytes == 0) continue;
    const std::uint64_t height = std::max<std::uint64_t>(
        1, static_cast<std::uint64_t>(static_cast<double>(bytes) / static_cast<double>(peak) * kPlotHeight));
    out += rectangle(kLeft + i, bottom - height, 1, height, "#3367d6",
                     format_time_local(rate.buckets[i].begin_ns) + ": " + per_second(bytes, rate.bucket_ns));
  }
  for (const NamedPoint& mark : timeline.marks)
    if (const auto column = column_of(rate, mark.time_ns))
      out += rectangle(kLeft + *column, kTop, 1, kPlotHeight + 6, "#188038",
                       "@" + mark.mark.name + ", " + format_time_local(mark.time_ns));
  return out + rectangle(kLeft, bottom, width, 1, "#000000", "time") + "</svg>\n";
}

}  // namespace understudy
