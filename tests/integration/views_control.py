# SPDX-License-Identifier: Apache-2.0
"""understudyctl view, mount and diff with a registry of the case's own."""

import json
from pathlib import Path

from daemons import CONTROL
from harness import check, program


class Views:
    def __init__(self, case, protected):
        self.case = case
        self.protected = protected
        self.directory = case.directory / "views"
        case.defer(self.close_all)

    def word(self, point):
        return f"{self.protected.server}@{point}"

    def receiver(self):
        return ["--config", self.protected.receiver.config_path]

    def control(self, *words, status=0):
        return self.case.run(program(CONTROL), *words, "--views", self.directory, status=status)

    def open(self, point, *words):
        return json.loads(self.control("view", "open", self.word(point), "--json", *self.receiver(), *words).stdout)

    def refused(self, point, *words):
        done = self.control("view", "open", self.word(point), *self.receiver(), *words, status=None)
        check(done.returncode != 0, f"a view of '{point}' was not refused")
        self.case.say(f"'{point}': {done.stderr.strip()}")
        return done.stderr

    def mount(self, point, directory, *words):
        done = self.control("mount", self.word(point), directory, "--json", *self.receiver(), *words)
        return json.loads(done.stdout)

    def list(self):
        return json.loads(self.control("view", "list", "--json").stdout)

    def processes(self):
        """[(pid, name)] of what serves views of this registry."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            name = Path(words[0].decode(errors="replace")).name
            if name.startswith("nbd") and str(self.directory).encode() in b" ".join(words):
                found.append((int(path.parent.name), name))
        return found

    def close_all(self):
        for view in self.list():
            self.control("view", "close", view["view"], "--force")
