// SPDX-License-Identifier: Apache-2.0
// Pins: how a reader in any process keeps the files of a store that it may still need.
//
// A pin is a file pins/<layout>-<seq>-<unique>.pin, locked (flock) as long as its holder lives, so that the pin of a
// dead process falls away by itself. It keeps every file that was part of the store in that layout (manifest.h) or a
// later one and begins at or before that seq.
//
// Why no reader can lose a file: it takes its pin (layout 0: everything) before it reads the MANIFEST; whoever deletes
// replaces the MANIFEST before it looks for pins. If the look misses the pin, the reader came later than the new
// MANIFEST, which does not name the file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/record/record.h"
#include "daemon/store/file_system.h"

namespace understudy {

// A pin held by this process. Thread-safe once narrowed.
class StorePin {
 public:
  // Keeps everything. Fails where the directory of pins can't be written.
  static Result<std::shared_ptr<StorePin>> take(FileSystem& file_system, const std::string& store_directory);
  ~StorePin();
  StorePin(const StorePin&) = delete;
  StorePin& operator=(const StorePin&) = delete;

  // From now on only what a reader needs that read the MANIFEST of `layout` and goes no further than `seq`.
  Status narrow(std::uint64_t layout, Seq seq);

 private:
  StorePin(FileSystem& file_system, std::string directory) : file_system_(file_system), directory_(directory) {}

  FileSystem& file_system_;
  const std::string directory_;
  std::string unique_;
  std::string path_;
  std::unique_ptr<FileLock> lock_;
};

struct PinInfo {
  std::uint64_t layout = 0;
  Seq seq = 0;

  // Whether it keeps a file that begins with `first_seq` and was a part of the store before `gone_in_layout`.
  bool keeps(Seq first_seq, std::uint64_t gone_in_layout) const { return layout < gone_in_layout && first_seq <= seq; }
};

// The pins of living processes; those of dead ones are removed.
Result<std::vector<PinInfo>> read_pins(FileSystem& file_system, const std::string& store_directory);

}  // namespace understudy
