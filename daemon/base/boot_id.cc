// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/boot_id.h"

#include "daemon/base/atomic_file.h"

namespace understudy {

Result<Uuid> read_boot_id(const std::string& path) {
  ASSIGN_OR_RETURN(std::string text, read_file(path, 256));
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  auto id = Uuid::parse(text);
  if (!id.ok()) return std::move(id).error().with_context("read boot id: '" + path + "'");
  return id;
}

}  // namespace understudy
