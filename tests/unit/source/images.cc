// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/source/images.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

namespace understudy {
namespace {

namespace fs = std::filesystem;

void write_file(const fs::path& path, std::size_t bytes, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::string content(bytes, '\0');
  for (char& c : content) c = static_cast<char>(random());
  std::ofstream(path, std::ios::binary) << content;
}

std::uint64_t number_behind(const std::string& text, const std::string& label) {
  const std::size_t at = text.find(label);
  CHECK(at != std::string::npos);
  return std::stoull(text.substr(at + label.size()));
}

}  // namespace

std::string output_of(const std::string& command) {
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  CHECK(pipe != nullptr);
  std::string text;
  char buffer[4096];
  while (const std::size_t got = std::fread(buffer, 1, sizeof(buffer), pipe)) text.append(buffer, got);
  const int status = ::pclose(pipe);
  if (status != 0) check_failed("command succeeds", __FILE__, __LINE__, command + ": " + text);
  return text;
}

std::string make_tree(const std::string& directory) {
  const fs::path tree = fs::path(directory) / "tree";
  if (fs::exists(tree)) return tree;
  fs::create_directories(tree / "small");
  for (std::uint32_t i = 0; i < 300; ++i) write_file(tree / "small" / std::to_string(i), 500 + i * 61, i);
  for (std::uint32_t i = 0; i < 4; ++i) write_file(tree / ("large" + std::to_string(i)), (i + 1) * 700'000, 1000 + i);
  return tree;
}

std::string make_ext(const std::string& directory, const std::string& options, std::uint64_t size_bytes) {
  const std::string image = directory + "/ext.img";
  fs::remove(image);
  std::ofstream(image).close();
  fs::resize_file(image, size_bytes);
  output_of("PATH=$PATH:/sbin:/usr/sbin mke2fs -q -F " + options + " -d " + make_tree(directory) + " " + image);
  std::ofstream script(directory + "/script");
  for (int i = 0; i < 300; i += 3) script << "rm /small/" << i << "\n";
  script << "rm /large1\n";
  script.close();
  output_of("PATH=$PATH:/sbin:/usr/sbin debugfs -w -f " + directory + "/script " + image);
  return image;
}

std::string make_xfs(const std::string& directory, const std::string& options, std::uint64_t size_bytes) {
  const std::string image = directory + "/xfs.img";
  fs::remove(image);
  const std::string tree = make_tree(directory);
  std::ofstream prototype(directory + "/prototype");
  prototype << "/dev/null\n0 0\nd--755 0 0\n";
  for (int i = 0; i < 4; ++i) prototype << "large" << i << " ---644 0 0 " << tree << "/large" << i << "\n";
  prototype << "small d--755 0 0\n";
  for (int i = 0; i < 300; ++i) prototype << i << " ---644 0 0 " << tree << "/small/" << i << "\n";
  prototype << "$\n$\n";
  prototype.close();
  output_of("PATH=$PATH:/sbin:/usr/sbin mkfs.xfs -q -f -p " + directory + "/prototype " + options +
            " -d file,name=" + image + ",size=" + std::to_string(size_bytes));
  return image;
}

ExtentList free_by_dumpe2fs(const std::string& image) {
  const std::string text = output_of("PATH=$PATH:/sbin:/usr/sbin dumpe2fs " + image);
  const std::uint64_t block_bytes = number_behind(text, "\nBlock size:");
  // With clusters, dumpe2fs names the first block of the last free cluster as the end.
  const bool clusters = text.find("\nCluster size:") != std::string::npos;
  const std::uint64_t step_blocks = clusters ? number_behind(text, "\nCluster size:") / block_bytes : 1;
  const std::uint64_t end_block = number_behind(text, "\nBlock count:");
  std::vector<Extent> extents;
  std::istringstream lines(text);
  static const std::string kLabel = "  Free blocks: ";
  for (std::string line; std::getline(lines, line);) {
    if (line.compare(0, kLabel.size(), kLabel) != 0) continue;
    std::istringstream parts(line.substr(kLabel.size()));
    for (std::string part; std::getline(parts, part, ',');) {
      std::uint64_t first = 0;
      std::uint64_t last = 0;
      const int got = std::sscanf(part.c_str(), " %lu-%lu", &first, &last);
      if (got < 1) continue;
      if (got == 1) last = first;
      extents.push_back({first * block_bytes, (std::min(last + step_blocks, end_block) - first) * block_bytes});
    }
  }
  return normalized(extents);
}

ExtentList free_by_xfs_db(const std::string& image) {
  const std::string super =
      output_of("PATH=$PATH:/sbin:/usr/sbin xfs_db -r -c 'sb 0' -c 'p blocksize agblocks' " + image);
  const std::uint64_t block_bytes = number_behind(super, "blocksize = ");
  const std::uint64_t group_blocks = number_behind(super, "agblocks = ");
  std::vector<Extent> extents;
  std::istringstream lines(output_of("PATH=$PATH:/sbin:/usr/sbin xfs_db -r -c 'freesp -d' " + image));
  for (std::string line; std::getline(lines, line);) {
    std::uint64_t group = 0, block = 0, count = 0;
    char rest = 0;
    if (std::sscanf(line.c_str(), " %lu %lu %lu %c", &group, &block, &count, &rest) != 3) continue;
    extents.push_back({(group * group_blocks + block) * block_bytes, count * block_bytes});
  }
  return normalized(extents);
}

std::uint64_t blocks_in_xfs_free_lists(const std::string& image) {
  const std::string super = output_of("PATH=$PATH:/sbin:/usr/sbin xfs_db -r -c 'sb 0' -c 'p agcount' " + image);
  std::uint64_t blocks = 0;
  for (std::uint64_t group = 0; group < number_behind(super, "agcount = "); ++group) {
    blocks += number_behind(output_of("PATH=$PATH:/sbin:/usr/sbin xfs_db -r -c 'agf " + std::to_string(group) +
                                      "' -c 'p flcount' " + image),
                            "flcount = ");
  }
  return blocks;
}

Status MemoryVolume::read(std::uint64_t offset_bytes, std::span<std::byte> out) {
  if (offset_bytes > bytes_.size() || out.size() > bytes_.size() - offset_bytes) {
    return Error(ErrorKind::kInvalidArgument, "read behind the end");
  }
  std::memcpy(out.data(), bytes_.data() + offset_bytes, out.size());
  return ok_status();
}

std::vector<std::byte> bytes_of_file(const std::string& path) {
  std::vector<std::byte> bytes(fs::file_size(path));
  std::ifstream(path, std::ios::binary)
      .read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

}  // namespace understudy
