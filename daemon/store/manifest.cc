// SPDX-License-Identifier: Apache-2.0
#include "daemon/store/manifest.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string_view>

#include "daemon/base/checksum.h"
#include "daemon/base/limits.h"
#include "daemon/base/text.h"
#include "daemon/store/file_system.h"
#include "daemon/store/store_paths.h"

namespace understudy {
namespace {

constexpr std::string_view kFirstLine = "understudy-store";
constexpr std::string_view kChecksumKey = "checksum ";

Error corrupt(std::string message) { return Error(ErrorKind::kCorrupt, "manifest: " + std::move(message)); }

std::string hex64(std::uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(value));
  return text;
}

using Fields = std::map<std::string, std::string, std::less<>>;

// "key value" lines between the first and the checksum line.
Result<Fields> split_lines(std::string_view text) {
  Fields fields;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return corrupt("a line has no end");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos || space == 0) return corrupt("line '" + printable(line) + "' has no value");
    if (!fields.emplace(line.substr(0, space), line.substr(space + 1)).second)
      return corrupt("'" + printable(line.substr(0, space)) + "' stands twice");
  }
  return fields;
}

Result<std::uint64_t> take_number(const Fields& fields, std::string_view key) {
  const auto it = fields.find(key);
  if (it == fields.end()) return corrupt("'" + std::string(key) + "' is missing");
  const std::optional<std::uint64_t> value = parse_unsigned(it->second);
  if (!value) return corrupt("'" + std::string(key) + "' is not a number");
  return *value;
}

Result<Uuid> take_uuid(const Fields& fields, std::string_view key) {
  const auto it = fields.find(key);
  if (it == fields.end()) return corrupt("'" + std::string(key) + "' is missing");
  Result<Uuid> uuid = Uuid::parse(it->second);
  if (!uuid.ok()) return corrupt("'" + std::string(key) + "' is not a UUID");
  return uuid;
}

// Checks version and flag words before anything that a newer version may have changed.
Status check_version(const Fields& fields, Manifest& manifest) {
  ASSIGN_OR_RETURN(const std::uint64_t version, take_number(fields, "version"));
  if (version != kManifestVersion)
    return Error(ErrorKind::kUnsupported, "manifest: store format version " + std::to_string(version) +
                                              " is newer than version " + std::to_string(kManifestVersion) +
                                              " of this program; update it");
  ASSIGN_OR_RETURN(const std::uint64_t compatible, take_number(fields, "compatible-flags"));
  ASSIGN_OR_RETURN(const std::uint64_t incompatible, take_number(fields, "incompatible-flags"));
  if ((incompatible & ~std::uint64_t{kManifestIncompatibleKnown}) != 0)
    return Error(ErrorKind::kUnsupported, "manifest: unknown incompatible flags " + std::to_string(incompatible) +
                                              "; a newer program made this store, update this one");
  manifest.compatible_flags = static_cast<std::uint32_t>(compatible);
  manifest.incompatible_flags = static_cast<std::uint32_t>(incompatible);
  return ok_status();
}

std::string run_key(Seq first_seq) {
  char key[32];
  std::snprintf(key, sizeof(key), "run-%020llu", static_cast<unsigned long long>(first_seq));
  return key;
}

std::optional<Sha256Digest> parse_digest(std::string_view hex) {
  Sha256Digest digest;
  if (hex.size() != 2 * digest.size()) return std::nullopt;
  for (std::size_t i = 0; i < hex.size(); ++i) {
    const char c = hex[i];
    const int value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (value < 0) return std::nullopt;
    digest[i / 2] = i % 2 == 0 ? static_cast<std::byte>(value << 4) : digest[i / 2] | static_cast<std::byte>(value);
  }
  return digest;
}

// Runs stand in the order of their keys, which is that of their records.
Result<std::vector<ManifestRun>> take_runs(const Fields& fields) {
  std::vector<ManifestRun> runs;
  for (const auto& [key, value] : fields) {
    if (!key.starts_with("run-")) continue;
    const std::string_view text(value);
    const std::size_t first = text.find(' ');
    const std::size_t second = first == std::string_view::npos ? first : text.find(' ', first + 1);
    if (second == std::string_view::npos) return corrupt("'" + printable(key) + "' is no run");
    const std::optional<Seq> first_seq = parse_unsigned(std::string_view(key).substr(4));
    const std::optional<Seq> last_seq = parse_unsigned(text.substr(0, first));
    const std::optional<std::uint64_t> bytes = parse_unsigned(text.substr(first + 1, second - first - 1));
    const std::optional<Sha256Digest> digest = parse_digest(text.substr(second + 1));
    if (!first_seq || !last_seq || !bytes || !digest || *first_seq == 0 || *last_seq < *first_seq ||
        key != run_key(*first_seq) || (!runs.empty() && runs.back().last_seq >= *first_seq))
      return corrupt("'" + printable(key) + "' is no run that can follow");
    runs.push_back({*first_seq, *last_seq, *bytes, *digest});
  }
  return runs;
}

}  // namespace

bool is_in_run(const Manifest& manifest, Seq seq) {
  const auto behind = std::upper_bound(manifest.runs.begin(), manifest.runs.end(), seq,
                                       [](Seq wanted, const ManifestRun& run) { return wanted < run.first_seq; });
  return behind != manifest.runs.begin() && std::prev(behind)->last_seq >= seq;
}

std::string encode_manifest(const Manifest& manifest) {
  CHECK(is_valid_name(manifest.identity.server_name));
  std::string text(kFirstLine);
  text += "\n";
  const auto line = [&](std::string_view key, const std::string& value) {
    CHECK(value.find('\n') == std::string::npos);
    text.append(key).append(" ").append(value).append("\n");
  };
  line("version", std::to_string(kManifestVersion));
  line("compatible-flags", std::to_string(manifest.compatible_flags));
  line("incompatible-flags", std::to_string(manifest.incompatible_flags));
  line("store", manifest.store.to_string());
  line("server", manifest.identity.server.to_string());
  line("server-name", manifest.identity.server_name);
  line("epoch", std::to_string(manifest.identity.epoch));
  line("segment-bytes-max", std::to_string(manifest.segment_bytes_max));
  line("durable-seq", std::to_string(manifest.durable_seq));
  if (manifest.layout != 0) line("layout", std::to_string(manifest.layout));
  for (const ManifestRun& run : manifest.runs)
    line(run_key(run.first_seq),
         std::to_string(run.last_seq) + " " + std::to_string(run.file_bytes) + " " + to_hex(run.digest));
  if (!manifest.base_directory.empty()) line("base-directory", manifest.base_directory);
  line("checksum", hex64(xxh3_64(std::as_bytes(std::span(text)))));
  return text;
}

Result<Manifest> decode_manifest(std::span<const std::byte> bytes) {
  if (bytes.size() > kManifestBytesMax) return corrupt("longer than " + std::to_string(kManifestBytesMax) + " bytes");
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!text.starts_with(std::string(kFirstLine) + "\n")) return corrupt("does not begin with 'understudy-store'");
  const std::size_t checksum_at = text.rfind("\n" + std::string(kChecksumKey));
  if (checksum_at == std::string_view::npos) return corrupt("checksum line is missing");
  const std::string_view covered = text.substr(0, checksum_at + 1);
  const std::string expected = std::string(kChecksumKey) + hex64(xxh3_64(std::as_bytes(std::span(covered)))) + "\n";
  if (text.substr(checksum_at + 1) != expected) return corrupt("checksum does not match");

  ASSIGN_OR_RETURN(const Fields fields, split_lines(covered.substr(kFirstLine.size() + 1)));
  Manifest manifest;
  RETURN_IF_ERROR(check_version(fields, manifest));
  ASSIGN_OR_RETURN(manifest.store, take_uuid(fields, "store"));
  ASSIGN_OR_RETURN(manifest.identity.server, take_uuid(fields, "server"));
  ASSIGN_OR_RETURN(manifest.identity.epoch, take_number(fields, "epoch"));
  ASSIGN_OR_RETURN(manifest.segment_bytes_max, take_number(fields, "segment-bytes-max"));
  ASSIGN_OR_RETURN(manifest.durable_seq, take_number(fields, "durable-seq"));
  if (fields.contains("layout")) {
    ASSIGN_OR_RETURN(manifest.layout, take_number(fields, "layout"));
  }
  ASSIGN_OR_RETURN(manifest.runs, take_runs(fields));
  const auto name = fields.find("server-name");
  if (name == fields.end() || !is_valid_name(name->second)) return corrupt("'server-name' is missing or no valid name");
  manifest.identity.server_name = name->second;
  if (const auto base = fields.find("base-directory"); base != fields.end()) manifest.base_directory = base->second;
  return manifest;
}

Result<Manifest> read_manifest(FileSystem& file_system, const std::string& directory) {
  ASSIGN_OR_RETURN(const std::vector<std::byte> text,
                   read_whole_file(file_system, manifest_path(directory), kManifestBytesMax));
  Result<Manifest> manifest = decode_manifest(text);
  if (!manifest.ok()) return std::move(manifest).error().with_context("read '" + manifest_path(directory) + "'");
  return manifest;
}

Status write_manifest(FileSystem& file_system, const std::string& directory, const Manifest& manifest) {
  const std::string path = manifest_path(directory);
  const std::string temporary = path + ".new";
  (void)file_system.remove(temporary).ok();  // of an earlier crash
  {
    ASSIGN_OR_RETURN(const std::unique_ptr<File> file, file_system.open(temporary, FileMode::kCreate));
    const std::string text = encode_manifest(manifest);
    Status status = file->write(0, std::as_bytes(std::span(text)));
    if (status.ok()) status = file->sync();
    if (!status.ok()) {
      (void)file_system.remove(temporary).ok();
      return status;
    }
  }
  RETURN_IF_ERROR(file_system.rename(temporary, path));
  return file_system.sync_directory(directory);
}

}  // namespace understudy
