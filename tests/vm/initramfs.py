# SPDX-License-Identifier: Apache-2.0
"""A root file system for one guest, made of busybox, kernel modules and the programs of one test.

Programs keep their host path's base name and land in /usr/bin; their shared libraries (by ldd) keep their full path.
The format is a gzipped cpio "newc" archive (Documentation/driver-api/early-userspace/buffer-format.rst).
"""
import gzip
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

# In the order they can be loaded in; each brings what modules.dep says it needs.
BASE_MODULES = ('virtio_ring', 'virtio', 'virtio_pci_modern_dev', 'virtio_pci_legacy_dev', 'virtio_pci', 'virtio_blk')
MODULE_SUFFIXES = {'.gz': ['gzip', '-dc'], '.xz': ['xz', '-dc'], '.zst': ['zstd', '-dcq']}


class Archive:
    """Collects files; parents of a path are made by themselves. Adding a path again replaces it."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[int, bytes, int]] = {}  # path -> mode, content, device

    def directory(self, path: str) -> None:
        self._add(path, stat.S_IFDIR | 0o755, b'')

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        self._add(path, stat.S_IFREG | mode, content)

    def symlink(self, path: str, target: str) -> None:
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def device(self, path: str, major: int, minor: int) -> None:
        self._add(path, stat.S_IFCHR | 0o600, b'', os.makedev(major, minor))

    def _add(self, path: str, mode: int, content: bytes, device: int = 0) -> None:
        path = path.strip('/')
        parent = os.path.dirname(path)
        if parent and parent not in self._entries:
            self.directory(parent)
        self._entries[path] = (mode, content, device)

    def write(self, target: Path) -> None:
        with gzip.open(target, 'wb', compresslevel=1) as out:
            for inode, (path, (mode, content, device)) in enumerate(self._entries.items(), start=1):
                out.write(_cpio_entry(path, inode, mode, content, device))
            out.write(_cpio_entry('TRAILER!!!', 0, 0, b'', 0))


def _cpio_entry(path: str, inode: int, mode: int, content: bytes, device: int) -> bytes:
    name = path.encode() + b'\0'
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, os.major(device), os.minor(device), len(name), 0)
    head = b'070701' + b''.join(b'%08X' % field for field in fields) + name
    return head + b'\0' * (-len(head) % 4) + content + b'\0' * (-len(content) % 4)


def module_order(modules: Path, wanted: list[str]) -> list[Path]:
    """The files to load, in order, so that every module comes after what it needs. Built-in ones are left out."""
    needs: dict[str, tuple[Path, list[str]]] = {}
    for line in (modules / 'modules.dep').read_text().splitlines():
        path, _, rest = line.partition(':')
        needs[_module_name(path)] = (modules / path, [_module_name(item) for item in rest.split()])
    builtin = {_module_name(line) for line in (modules / 'modules.builtin').read_text().split()}
    order: list[Path] = []

    def visit(name: str) -> None:
        if name in builtin:
            return
        if name not in needs:
            raise KeyError(f"the guest's kernel has no module '{name}'")
        path, dependencies = needs[name]
        for dependency in dependencies:
            visit(dependency)
        if path not in order:
            order.append(path)

    for name in wanted:
        visit(name.replace('-', '_'))
    return order


def _module_name(path: str) -> str:
    return os.path.basename(path).split('.ko')[0].replace('-', '_')


def _module_bytes(path: Path) -> bytes:
    command = MODULE_SUFFIXES.get(path.suffix)
    if command is None:
        return path.read_bytes()
    return subprocess.run(command + [str(path)], stdout=subprocess.PIPE, check=True).stdout


def shared_libraries(program: Path, library_path: str = '') -> list[tuple[str, Path]]:
    """(path in the guest, file) of everything the dynamic loader needs; empty for a static program."""
    environment = dict(os.environ, LC_ALL='C')
    if library_path:
        environment['LD_LIBRARY_PATH'] = library_path
    listed = subprocess.run(['ldd', str(program)], env=environment, capture_output=True, text=True)
    if listed.returncode != 0:
        return []  # "not a dynamic executable"
    found = []
    for line in listed.stdout.splitlines():
        words = line.split()
        if 'not found' in line:
            raise FileNotFoundError(f"'{program}' needs library '{words[0]}', which is not installed")
        if '=>' in words and words[2].startswith('/'):
            file = Path(words[2])
            from_package = library_path and words[2].startswith(tuple(library_path.split(':')))
            found.append((f'/usr/lib/x86_64-linux-gnu/{words[0]}' if from_package else words[2], file))
        elif words and words[0].startswith('/'):  # the loader itself
            found.append((words[0], Path(words[0])))
    return found


def stripped(program: Path) -> bytes:
    """The program without debug information, which would only fill the guest's memory."""
    content = program.read_bytes()
    if content[:4] != b'\x7fELF':
        return content
    with tempfile.NamedTemporaryFile(prefix='understudy-vm-strip-') as target:
        made = subprocess.run(['strip', '--strip-debug', '-o', target.name, str(program)], capture_output=True)
        return Path(target.name).read_bytes() if made.returncode == 0 else content


def find_program(name: str) -> Path:
    """A path as it is; a bare name is looked up in PATH and the administrator's directories."""
    if '/' in name:
        return Path(name)
    found = shutil.which(name, path=os.environ.get('PATH', '') + ':/usr/sbin:/sbin')
    if found is None:
        raise FileNotFoundError(f"program '{name}' is not installed")
    return Path(found)


def add_program(archive: Archive, program: Path, library_path: str = '') -> None:
    archive.file(f'/usr/bin/{program.name}', stripped(program), 0o755)
    for path, file in shared_libraries(program, library_path):
        archive.file(path, stripped(file), 0o755)


def add_modules(archive: Archive, modules: Path, wanted: list[str]) -> list[str]:
    """Puts modules in and returns their paths in the guest in the order to load them."""
    paths = []
    for file in module_order(modules, list(BASE_MODULES) + wanted):
        path = f'/lib/modules/{_module_name(str(file))}.ko'
        archive.file(path, _module_bytes(file))
        paths.append(path)
    return paths
