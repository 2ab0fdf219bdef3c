// SPDX-License-Identifier: Apache-2.0
#include "tools/restore/commands.h"
#include "tools/understudyctl/commands.h"

namespace understudy {

Status run_points(const ControlOptions& options) {
  RestoreOptions list;
  list.store = options.words[0];
  list.json = options.json;
  return run_list(list);
}

}  // namespace understudy
