// SPDX-License-Identifier: Apache-2.0
// The change rate of a server over time, with its gaps and marks, as a picture. Pure but for TZ.
#pragma once

#include <string>

#include "daemon/view/change_rate.h"
#include "daemon/view/view.h"

namespace understudy {

inline constexpr std::size_t kPlotColumns = 72;  // buckets of a plot in text
inline constexpr std::size_t kPlotPixels = 720;  // of one in SVG

// Lines of at most 100 columns: bars of bytes a second, a row of gaps ('x') and of marks ('^').
std::string plot_text(const std::string& server, const ChangeRate& rate, const Timeline& timeline);
// A whole SVG 1.1 document; names and times of gaps and marks are titles of their shapes.
std::string plot_svg(const std::string& server, const ChangeRate& rate, const Timeline& timeline);

}  // namespace understudy
