// SPDX-License-Identifier: Apache-2.0
// Edits a group's file as a person would: the one value, key or server changes, and everything else stays as it stands,
// comments and order included. Pure: text in, text out.
//
// Every edit is proved: what the new text says, read as YAML, is what the old one says with just that change. What is
// written in a way that cannot be edited so is an error that says where, for a person to edit.
//
// All results: kNotFound = no such server; kInvalidArgument = this text cannot be edited so; `file` is for messages.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

// A value as it stands in YAML behind "key: ": what needs quotes has them (yaml_text()).
using YamlText = std::string;
YamlText yaml_text(std::string_view scalar);

// A key of the group itself; a map's member with two words in `path`. Made when it is not there.
Result<std::string> set_group_key(const std::string& text, const std::string& file,
                                  const std::vector<std::string>& path, const YamlText& value);
// The same of a server.
Result<std::string> set_server_key(const std::string& text, const std::string& file, const std::string& server,
                                   const std::vector<std::string>& path, const YamlText& value);
// Takes a key of a server out, with what is below it. Without that key, the text as it is.
Result<std::string> remove_server_key(const std::string& text, const std::string& file, const std::string& server,
                                      const std::string& key);
// Behind the other servers; `entries` in the order in which they are to stand, the name first.
Result<std::string> add_server(const std::string& text, const std::string& file,
                               const std::vector<std::pair<std::string, YamlText>>& entries);
Result<std::string> remove_server(const std::string& text, const std::string& file, const std::string& server);

// The scalar at a path of a group or, with a name, of a server; "" when there is none.
Result<std::string> read_group_key(const std::string& text, const std::string& file, const std::string& server,
                                   const std::vector<std::string>& path);
// The keys at the top of a file.
Result<std::vector<std::string>> group_keys(const std::string& text, const std::string& file);
// The names of its servers, in their order.
Result<std::vector<std::string>> group_servers(const std::string& text, const std::string& file);

}  // namespace understudy
