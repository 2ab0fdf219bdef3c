// SPDX-License-Identifier: Apache-2.0
// Other programs: started, waited for, and found again by the files they were given on their command line. What belongs
// to a view is found in /proc, not by noted process numbers: those go stale when anything is killed in between.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

// Runs argv[0] (by PATH) to its end with stdin and stdout from and to nowhere; what it says goes to `log_path`.
// kUnsupported = it is not installed; otherwise an Error with the last line it said.
Status run_program(const std::vector<std::string>& argv, const std::string& log_path);
// The same, but shares our terminal: for programs that show progress.
Status run_program_here(const std::vector<std::string>& argv);
// Starts it in a session of its own and returns at once.
Result<pid_t> start_program(const std::vector<std::string>& argv, const std::string& log_path);
// True when the child that start_program() made has ended (and is reaped).
bool has_ended(pid_t child);

// Processes with an argument that is `directory` or lies (or names a file) inside it. Ourselves excepted.
std::vector<pid_t> processes_with_files_in(const std::string& directory);
// Ends them: SIGTERM, and SIGKILL for those that are still there after a while. A process number that was taken over by
// another program meanwhile is left alone (pidfd_open(2)).
Status end_processes_with_files_in(const std::string& directory);

// The last line of a log, "" when there is none. "nbdkit: error: x" becomes "x".
std::string last_line_said(const std::string& log_path);

}  // namespace understudy
