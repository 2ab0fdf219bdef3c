// SPDX-License-Identifier: Apache-2.0
#include "tools/understudyctl/caller.h"

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>

namespace understudy {

std::string calling_user() {
  if (const char* sudo = std::getenv("SUDO_USER"); sudo != nullptr && *sudo != '\0') return sudo;
  const passwd* entry = ::getpwuid(::getuid());
  return entry == nullptr ? std::to_string(::getuid()) : entry->pw_name;
}

}  // namespace understudy
