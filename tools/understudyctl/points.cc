// SPDX-License-Identifier: Apache-2.0
// points: what can be recovered, as understudy-restore lists it, or how much was written when.
#include <cstdio>

#include "daemon/base/text.h"
#include "tools/restore/commands.h"
#include "tools/understudyctl/commands.h"
#include "tools/understudyctl/plot.h"
#include "tools/understudyctl/server_point.h"

namespace understudy {
namespace {

// A word with a '/' in it (or --store) is a store's directory, anything else a server's name.
Result<StorePlace> place_of(const ControlOptions& options) {
  const std::string& word = options.words[0];
  if (options.store.empty() && (word.find('/') != std::string::npos || word == ".")) return StorePlace{"", word, ""};
  return find_store(options, word);
}

Status plot(const ControlOptions& options, const RestoreOptions& list) {
  if (options.plot != "text" && options.plot != "svg")
    return Error(ErrorKind::kInvalidArgument, "--plot=" + options.plot + ": wanted --plot=text or --plot=svg");
  ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, open_store_to_read(list));
  ASSIGN_OR_RETURN(const Timeline timeline, read_timeline(*store));
  if (timeline.ranges.empty())
    return Error(ErrorKind::kNotFound, "there is nothing to plot: no point can be recovered yet");
  const bool as_text = options.plot == "text";
  ASSIGN_OR_RETURN(const ChangeRate rate,
                   read_change_rate(*store, timeline.ranges.front().first_time_ns, timeline.last_time_ns + 1,
                                    as_text ? kPlotColumns : kPlotPixels));
  const std::string server = store->identity().server_name;
  const std::string picture = as_text ? plot_text(server, rate, timeline) : plot_svg(server, rate, timeline);
  std::fwrite(picture.data(), 1, picture.size(), stdout);
  return ok_status();
}

}  // namespace

Status run_points(const ControlOptions& options) {
  ASSIGN_OR_RETURN(const StorePlace place, place_of(options));
  RestoreOptions list;
  list.store = place.directory;
  list.base_directory = place.base_directory;
  list.json = options.json;
  return options.plot.empty() ? run_list(list) : plot(options, list);
}

}  // namespace understudy
