# SPDX-License-Identifier: Apache-2.0
"""The ground every integration test stands on: a case with a directory, processes and clean-up.

A test file defines one function taking a Case and ends in `harness.main(function)`. Whatever a case makes (processes,
loop devices, mounts, pins) is registered with defer() the moment it exists and undone in reverse order, also when the
test fails or is told to stop. Nothing waits by sleeping: wait_until() polls a condition with a deadline.

Environment: UNDERSTUDY_BUILD (set by meson) is where the programs are; KEEP=1 keeps the case's directory; CI=true turns
a skipped test into a failure. Exit status: 0 passed, 1 failed, 77 skipped.
"""

import contextlib
import ctypes
import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

SKIP_STATUS = 77
PREFIX = "understudy-case-"
BAD_LINE = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b|terminate called|AddressSanitizer|runtime error|invariant broken")
_PR_SET_PDEATHSIG = 1


class Failure(Exception):
    """What the test found wrong, in one sentence."""


class Skip(Exception):
    """What the machine lacks."""


def check(condition, message):
    if not condition:
        raise Failure(message)


def build_dir():
    directory = os.environ.get("UNDERSTUDY_BUILD")
    if not directory:
        raise Failure("UNDERSTUDY_BUILD is not set: run through meson test, or set it to a build directory")
    return Path(directory)


def program(relative):
    path = build_dir() / relative
    check(path.exists(), f"'{path}' is not built")
    return str(path)


def wall_ns():
    return time.time_ns()


def lock_directory(directory):
    """Held as long as the case lives, so that what a killed run left behind can be told from one that is running."""
    lock = open(directory / "lock", "wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def kill_users_of(directory):
    """Processes that were started with a path inside (a server that changed its user is not killed with its parent)."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if os.fsencode(directory) in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)


def sweep_leftovers():
    """Undoes what cases left that were killed outright: processes that outlived them, mounts, loops, directories."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        lock = lock_directory(directory) if (directory / "lock").exists() else None
        if lock is None:
            continue
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        backing = {}
        for path in Path("/sys/block").glob("loop*/loop/backing_file"):
            with contextlib.suppress(OSError):
                backing[path.parent.parent.name] = path.read_text().strip()
        for pins in directory.glob("*-bpffs/understudy"):
            shutil.rmtree(pins, ignore_errors=True)
        inside = f"{directory}/"
        kill_users_of(inside)
        for device in (name for name, file in backing.items() if file.startswith(inside)):
            for mount in reversed([line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]):
                if mount[0].startswith(f"/dev/{device}"):
                    subprocess.run(["umount", mount[1]], check=False)
            subprocess.run(["losetup", "--detach", f"/dev/{device}"], check=False)
        for mount in reversed(mounts):
            if mount.startswith(inside) and os.path.ismount(mount):
                subprocess.run(["umount", "-l", mount], check=False)
        lock.close()
        shutil.rmtree(directory, ignore_errors=True)


def _die_with_parent():
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A child in a session of its own, its output in a file."""

    def __init__(self, case, name, command, env=None, cwd=None):
        self.case = case
        self.name = name
        self.command = [str(part) for part in command]
        self.log_path = case.directory / f"{name}.log"
        self.log = open(self.log_path, "ab")
        self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                      start_new_session=True, preexec_fn=_die_with_parent, env=env, cwd=cwd)
        case.defer(self._cleanup)

    @property
    def pid(self):
        return self.child.pid

    def running(self):
        return self.child.poll() is None

    def output(self):
        return self.log_path.read_text(errors="replace")

    def signal(self, number):
        if self.running():
            os.kill(self.pid, number)

    def kill(self):
        """kill -9 and reap; returns the wall time just after the process was gone."""
        self.signal(signal.SIGKILL)
        self.child.wait()
        return wall_ns()

    def wait(self, timeout=60):
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not end within {timeout} s; its log ends:\n{tail(self.log_path)}") from None

    def stop(self, timeout=60):
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def _cleanup(self):
        if self.running():
            self.signal(signal.SIGCONT)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.child.wait()
        self.log.close()


def tail(path, lines=25):
    text = Path(path).read_text(errors="replace") if Path(path).exists() else ""
    return "\n".join("    " + line for line in text.splitlines()[-lines:])


class Case:
    def __init__(self, name):
        self.name = name
        self.started = time.monotonic()
        self.deferred = []
        self.logs = []  # (path, [regular expressions of WARNING and ERROR lines that the test provokes])
        sweep_leftovers()
        self.directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{name}-"))
        self.lock = lock_directory(self.directory)
        self.kmsg = self._open_kmsg()

    # --- what a test does ---

    def say(self, text):
        print(f"[{time.monotonic() - self.started:7.2f}] {text}", flush=True)

    def defer(self, function, *arguments):
        """Registers clean-up; runs in reverse order at the end, come what may."""
        self.deferred.append((function, arguments))

    def run(self, *command, status=0, input=None, timeout=300, env=None):
        """Runs to its end; `status` is the expected exit status, None = any. Returns the CompletedProcess."""
        command = [str(part) for part in command]
        try:
            done = subprocess.run(command, input=input, capture_output=True, text=True, errors="replace",
                                  timeout=timeout, env=env)
        except subprocess.TimeoutExpired:
            raise Failure(f"'{' '.join(command)}' did not end within {timeout} s") from None
        if status is not None and done.returncode != status:
            raise Failure(f"'{' '.join(command)}' ended with {done.returncode}, expected {status}:\n"
                          f"{done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done

    def spawn(self, name, *command, env=None, cwd=None):
        return Process(self, name, command, env, cwd)

    def wait_until(self, what, condition, timeout=60, interval=0.02, alive=()):
        """Polls until condition() is true and returns its value; fails naming `what`, or when one of `alive` ends."""
        deadline = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            for process in alive:
                check(process.running(), f"{process.name} ended with {process.child.returncode} while waiting until "
                                         f"{what}; its log ends:\n{tail(process.log_path)}")
            if time.monotonic() > deadline:
                raise Failure(f"waited {timeout} s in vain until {what}" + "".join(
                    f"\n  log of {p.name} ends:\n{tail(p.log_path)}" for p in alive))
            time.sleep(interval)

    def watch_log(self, path, allowed=()):
        """The case fails for a WARNING or worse in this log that no expression in `allowed` matches."""
        self.logs.append((Path(path), allowed))

    def tmpfs(self, name, size="75%"):
        """A directory in memory, for images."""
        path = self.directory / name
        path.mkdir()
        self.run("mount", "-t", "tmpfs", "-o", f"size={size}", "understudy-test", path)
        self.defer(self.run, "umount", "-l", path)
        return path

    # --- the frame around it ---

    @staticmethod
    def _open_kmsg():
        try:
            descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
            os.lseek(descriptor, 0, os.SEEK_END)
            return descriptor
        except OSError:
            return None

    def _kernel_complaints(self):
        complaints = []
        while self.kmsg is not None and select.select([self.kmsg], [], [], 0)[0]:
            try:
                line = os.read(self.kmsg, 8192).decode(errors="replace").split(";", 1)[-1]
            except BrokenPipeError:  # overtaken by the ring of messages
                continue
            except BlockingIOError:
                break
            if re.match(r"(WARNING:|BUG:|Oops|kernel BUG|general protection fault|INFO: task .* blocked)", line):
                complaints.append(line.strip())
        return complaints

    def _unlisted_log_lines(self):
        lines = []
        for path, allowed in self.logs:
            for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
                if BAD_LINE.search(line) and not any(re.search(expression, line) for expression in allowed):
                    lines.append(f"{path.name}: {line}")
        return lines

    def verify_quiet(self):
        lines = self._unlisted_log_lines()
        check(not lines, "unexpected warnings or errors in logs:\n  " + "\n  ".join(lines[:20]))
        complaints = self._kernel_complaints()
        check(not complaints, "the kernel complained:\n  " + "\n  ".join(complaints[:20]))

    def clean_up(self):
        problems = []
        while self.deferred:
            function, arguments = self.deferred.pop()
            try:
                function(*arguments)
            except Exception as error:  # noqa: BLE001: the rest must still be undone
                problems.append(f"{error}")
        if self.kmsg is not None:
            os.close(self.kmsg)
        self.lock.close()
        if os.environ.get("KEEP"):
            (self.directory / "lock").unlink()  # not to be swept up
            self.say(f"kept {self.directory}")
        elif not problems:  # else the next case sweeps up what could not be undone now
            shutil.rmtree(self.directory, ignore_errors=True)
        return problems


def requirements():
    if os.geteuid() != 0:
        raise Skip("needs root")
    if not Path("/sys/kernel/btf/vmlinux").exists():
        raise Skip("the kernel has no BTF")
    if not Path("/dev/loop-control").exists():
        raise Skip("no loop devices")


def _interrupt(number, _frame):
    raise Failure(f"stopped by {signal.Signals(number).name}")


def main(test, needs=requirements):
    """Runs one test function and exits. What it returns is printed last, when everything went well."""
    name = Path(sys.argv[0]).stem
    closing = None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _interrupt)
    case = None
    status = 1
    try:
        needs()
        case = Case(name)
        closing = test(case)
        case.verify_quiet()
        case.say("passed")
        status = 0
    except Skip as reason:
        print(f"skipped: {reason}", flush=True)
        status = 1 if os.environ.get("CI") == "true" else SKIP_STATUS
    except Failure as failure:
        print(f"FAILED: {failure}", flush=True)
    except Exception:  # noqa: BLE001: a bug of the test itself
        traceback.print_exc()
    finally:
        # A second signal must not interrupt the clean-up.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if case is not None:
            if status == 1:
                for path, _ in case.logs:
                    print(f"--- {path.name} ends:\n{tail(path, 40)}", flush=True)
            problems = case.clean_up()
            for problem in problems:
                print(f"FAILED: clean-up: {problem}", flush=True)
            status = 1 if problems else status
    if status == 0 and closing:
        print(closing, flush=True)
    sys.exit(status)
