// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/spec/declared_state.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <tuple>

#include "daemon/base/atomic_file.h"
#include "daemon/base/limits.h"
#include "daemon/base/text.h"
#include "orchestrator/spec/group_reader.h"
#include "orchestrator/spec/group_rules.h"

namespace understudy {
namespace {

// Mistakes that are listed; further ones are counted.
constexpr std::size_t kMistakesMax = 500;

Status mistakes_status(const std::vector<std::string>& mistakes) {
  if (mistakes.empty()) return ok_status();
  std::string text;
  for (std::size_t i = 0; i < std::min(mistakes.size(), kMistakesMax); ++i) {
    text += (i == 0 ? "" : "\n") + mistakes[i];
  }
  if (mistakes.size() > kMistakesMax) {
    text += "\n... and " + std::to_string(mistakes.size() - kMistakesMax) + " more";
  }
  return Error(ErrorKind::kInvalidConfig, std::move(text));
}

bool is_group_id(const std::string& id) {
  return !id.empty() && id.size() <= 64 && id.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                                "0123456789._-") == std::string::npos;
}

void add_file(DeclaredSource& source, const std::string& path) {
  auto text = read_file(path, kConfigFileBytesMax);
  if (!text.ok() && source.problem.empty()) source.problem = path + ":1:1: " + text.error().message();
  source.files.emplace_back(path, text.ok() ? std::move(text).value() : std::string());
}

// Names in a directory that are not hidden, sorted; a missing one is empty.
Result<std::vector<std::string>> names_in(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with('.')) names.push_back(name);
  }
  if (error) return Error::from_errno(error.value(), "read directory " + quote(directory));
  std::sort(names.begin(), names.end());
  return names;
}

// Rules between the groups. Each look-up remembers who came first, so that the message can name it.
class CrossCheck {
 public:
  CrossCheck(const DeclaredOptions& options, std::vector<std::string>& mistakes)
      : options_(options), mistakes_(mistakes) {}

  void add(const GroupSpec& group) {
    unique(names_, group.name, group.where, "the name of another group");
    for (const SiteSpec* site : {&group.production, &group.recovery}) add_vpc(group.region, site->vpc);
    for (const ServerSpec& server : group.servers) add_server(group, server);
  }

 private:
  template <typename Key>
  bool unique(std::map<Key, std::string>& seen, const Key& key, const std::string& where, const std::string& what) {
    const auto [found, added] = seen.emplace(key, where);
    if (!added) mistakes_.push_back(where + ": " + quote(text_of(key)) + " is " + what + ", at " + found->second);
    return added;
  }
  static const std::string& text_of(const std::string& key) { return key; }
  static const std::string& text_of(const std::tuple<std::string, std::string, std::string>& key) {
    return std::get<2>(key);
  }

  void add_vpc(const std::string& region, const VpcSpec& vpc) {
    const auto [found, added] = vpcs_.emplace(std::pair(region, vpc.name), &vpc);
    if (added || found->second->subnets == vpc.subnets || vpc.name.empty()) return;
    mistakes_.push_back(vpc.where + ": VPC " + quote(vpc.name) + " has other subnets at " + found->second->where +
                        "; give the same list in both places");
  }

  void add_server(const GroupSpec& group, const ServerSpec& server) {
    if (server.name.empty()) return;
    const auto [found, added] = servers_.emplace(server.name, std::pair(group.id, server.where));
    if (!added) {
      if (found->second.first == group.id) return;  // said already
      mistakes_.push_back(server.where + ": server " + quote(server.name) + " is in group " +
                          quote(found->second.first) + ", too, at " + found->second.second +
                          "; a server can be in one group only");
      return;
    }
    if (!server.address.empty()) {
      unique(addresses_, {group.region, group.production.vpc.name, server.address}, server.where,
             "the address of another server");
    }
    const HostSpec& host = server.failover.host;
    if (!host.name.empty()) {
      unique(hosts_, {group.region, group.recovery.zone, host.name}, server.where,
             "the name of another server's host after a failover");
    }
    if (host.address != "dhcp") {
      unique(host_addresses_, {group.region, group.recovery.vpc.name, host.address}, server.where,
             "the address of another server's host after a failover");
    }
    const auto quota = options_.quotas.find(group.region);
    const std::uint32_t clients_max = quota == options_.quotas.end() ? kQuotaDefault : quota->second;
    if (++clients_[group.region] == clients_max + 1) {
      mistakes_.push_back(server.where + ": server " + quote(server.name) + " would be client number " +
                          std::to_string(clients_max + 1) + " of region " + quote(group.region) + "; its quota is " +
                          std::to_string(clients_max) + " (orchestrator.yaml: quotas, up to " +
                          std::to_string(kQuota.max) + ")");
    }
  }

  using Scoped = std::tuple<std::string, std::string, std::string>;
  const DeclaredOptions& options_;
  std::vector<std::string>& mistakes_;
  std::map<std::string, std::string> names_;
  std::map<std::pair<std::string, std::string>, const VpcSpec*> vpcs_;
  std::map<std::string, std::pair<std::string, std::string>> servers_;
  std::map<Scoped, std::string> addresses_;
  std::map<Scoped, std::string> hosts_;
  std::map<Scoped, std::string> host_addresses_;
  std::map<std::string, std::uint32_t> clients_;
};

bool same_place(const SiteSpec& a, const SiteSpec& b) {
  return a.name == b.name && a.zone == b.zone && a.vpc.name == b.vpc.name && a.subnet == b.subnet;
}

}  // namespace

const GroupSpec* DeclaredState::find_group(std::string_view id) const {
  for (const GroupSpec& group : groups) {
    if (group.id == id) return &group;
  }
  return nullptr;
}

const GroupSpec* DeclaredState::group_of(std::string_view server) const {
  for (const GroupSpec& group : groups) {
    if (group.find_server(server) != nullptr) return &group;
  }
  return nullptr;
}

Result<std::vector<DeclaredSource>> read_declared_sources(const std::string& directory) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, names_in(directory));
  const std::set<std::string> present(names.begin(), names.end());
  std::vector<DeclaredSource> sources;
  for (const std::string& name : names) {
    const std::string path = directory + "/" + name;
    DeclaredSource source;
    const std::size_t dot = name.rfind('.');
    source.id = name.substr(0, dot);
    const std::string suffix = dot == std::string::npos ? "" : name.substr(dot);
    if (suffix == ".yml") {
      source.problem = path + ":1:1: would not be read; call it " + quote(source.id + ".yaml");
    } else if (suffix == ".d" && source.id.ends_with(".yaml")) {
      if (present.count(source.id) != 0) continue;
      source.problem = path + ":1:1: holds drop-ins for " + quote(source.id) + ", which is not there";
    } else if (suffix != ".yaml") {
      continue;  // a README, an editor's copy
    } else if (!is_group_id(source.id)) {
      source.problem = path + ":1:1: the file's name is what the group is known by; use 1 to 64 letters, digits, '.', "
                              "'_' or '-', and .yaml";
    } else {
      add_file(source, path);
      const auto drop_ins = names_in(path + ".d");
      for (const std::string& drop_in : drop_ins.ok() ? *drop_ins : std::vector<std::string>()) {
        if (drop_in.ends_with(".yaml")) add_file(source, path + ".d/" + drop_in);
      }
    }
    sources.push_back(std::move(source));
  }
  return sources;
}

Result<DeclaredState> parse_declared_state(const std::vector<DeclaredSource>& sources, const DeclaredOptions& options) {
  DeclaredState state;
  std::vector<std::string> mistakes;
  for (const DeclaredSource& source : sources) {
    if (!source.problem.empty()) mistakes.push_back(source.problem);
    if (source.files.empty() || !source.problem.empty()) continue;
    const std::unique_ptr<ConfigReader> reader = ConfigReader::parse_merged(source.files);
    GroupReading reading = read_group(*reader, source.id);
    if (!reading.status.ok()) mistakes.push_back(reading.status.error().message());
    state.groups.push_back(std::move(reading.group));
    for (std::string& warning : reading.warnings) state.warnings.push_back(std::move(warning));
  }
  std::sort(state.groups.begin(), state.groups.end(),
            [](const GroupSpec& a, const GroupSpec& b) { return a.id < b.id; });
  CrossCheck check(options, mistakes);
  for (const GroupSpec& group : state.groups) check.add(group);
  RETURN_IF_ERROR(mistakes_status(mistakes));
  return state;
}

Status check_declared_change(const DeclaredState& before, const KnownServers& known, const DeclaredState& next) {
  std::vector<std::string> mistakes;
  std::map<std::string, std::vector<std::string>> still_in;  // group -> its servers
  for (const auto& [server, group] : known.group_of) still_in[group].push_back(server);
  for (const GroupSpec& group : next.groups) {
    std::vector<std::string> added;
    for (const ServerSpec& server : group.servers) {
      const auto owner = known.group_of.find(server.name);
      if (owner == known.group_of.end()) {
        const GroupSpec* old = before.find_group(group.id);
        if (old == nullptr || old->find_server(server.name) == nullptr) added.push_back(server.name);
      } else if (owner->second != group.id) {
        mistakes.push_back(server.where + ": server " + quote(server.name) + " is still in group " +
                           quote(owner->second) + "; remove it there and wait until it is de-registered");
      }
    }
    if (added.size() > kServersAddedMax) {
      mistakes.push_back(group.where + ": this change adds " + std::to_string(added.size()) + " servers to group " +
                         quote(group.id) + "; allowed are 1 to " + std::to_string(kServersAddedMax) +
                         " at a time: declare the rest afterwards");
    }
    const GroupSpec* old = before.find_group(group.id);
    if (old != nullptr && still_in.count(group.id) != 0 &&
        (old->region != group.region || !same_place(old->production, group.production) ||
         !same_place(old->recovery, group.recovery))) {
      mistakes.push_back(group.where + ": the sites of group " + quote(group.id) +
                         " cannot change while it has servers (" + quoted_list(still_in[group.id]) +
                         "); only its name, policy and servers can");
    }
  }
  for (const auto& [group, servers] : still_in) {
    if (next.find_group(group) != nullptr) continue;
    const GroupSpec* old = before.find_group(group);
    mistakes.push_back((old == nullptr ? group + ".yaml:1:1" : old->where) + ": group " + quote(group) +
                       " cannot be deleted: it still has " + quoted_list(servers) +
                       "; put the file back and remove the servers from it first");
  }
  return mistakes_status(mistakes);
}

}  // namespace understudy
