# SPDX-License-Identifier: Apache-2.0
"""Debian packages unpacked beside the system, never installed into it.

The guest's kernel and its headers, and tools that must not run on the host (lvm2's udev rules would activate volume
groups on the loop devices of other tests), are fetched with `apt-get download` and unpacked with dpkg-deb into a cache
directory: $UNDERSTUDY_CACHE, else /var/cache/understudy. What is there already in the wanted version is used again, and
without a network any cached version will do. Several tests may call this at the same time.
"""
import fcntl
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

KERNEL_META_PACKAGE = 'linux-image-cloud-amd64'


class PackageError(Exception):
    """A package could not be had; the text says which and why."""


def cache_directory() -> Path:
    path = Path(os.environ.get('UNDERSTUDY_CACHE') or '/var/cache/understudy') / 'packages'
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def _locked(cache: Path):
    with open(cache / 'lock', 'w', encoding='ascii') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _apt_field(package: str, field: str) -> str | None:
    """A field of the version apt would install; None when apt does not know the package."""
    shown = subprocess.run(['apt-cache', 'show', '--no-all-versions', package], capture_output=True, text=True)
    for line in shown.stdout.splitlines():
        if line.startswith(field + ': '):
            return line.split(': ', 1)[1].strip()
    return None


def _newest_cached(cache: Path, package: str) -> Path | None:
    found = sorted(cache.glob(f'{package}_*'), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def _fetch(cache: Path, package: str, version: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache, prefix='.fetch-') as temporary:
        fetched = subprocess.run(['apt-get', '-q', 'download', f'{package}={version}'], cwd=temporary,
                                 capture_output=True, text=True)
        archives = list(Path(temporary).glob('*.deb'))
        if fetched.returncode != 0 or len(archives) != 1:
            raise PackageError(f"cannot download package '{package}' version {version}: {fetched.stderr.strip()}")
        root = Path(temporary) / 'root'
        subprocess.run(['dpkg-deb', '-x', archives[0], root], check=True)
        root.rename(target)


def unpacked(package: str) -> Path:
    """The directory `package` is unpacked in, as if that were the root directory."""
    cache = cache_directory()
    with _locked(cache):
        version = _apt_field(package, 'Version')
        if version is None:
            old = _newest_cached(cache, package)
            if old is None:
                raise PackageError(f"apt does not know package '{package}' and none is cached in '{cache}': "
                                   'run apt-get update')
            return old
        target = cache / f"{package}_{version.replace(':', '%3a')}"
        if not target.is_dir():
            try:
                _fetch(cache, package, version, target)
            except PackageError:
                old = _newest_cached(cache, package)
                if old is None:
                    raise
                return old
        return target


class Kernel:
    """A kernel image and its modules: `image`, `release`, `modules` (the directory with modules.dep)."""

    def __init__(self) -> None:
        cache = cache_directory()
        depends = _apt_field(KERNEL_META_PACKAGE, 'Depends')
        if depends is not None:
            package = depends.split(',')[0].split('(')[0].strip()
        else:
            cached = _newest_cached(cache, 'linux-image-*')
            if cached is None:
                raise PackageError(f"apt does not know package '{KERNEL_META_PACKAGE}': run apt-get update")
            package = cached.name.split('_')[0]
        root = unpacked(package)
        self.image = next((root / 'boot').glob('vmlinuz-*'))
        self.release = self.image.name.removeprefix('vmlinuz-')
        self.modules = root / 'lib/modules' / self.release
        with _locked(cache):
            if not (self.modules / 'modules.dep').exists():
                _make_dependencies(root, self.release)


def _headers_packages(release: str) -> list[str]:
    """The packages that together are the build directory of the kernel."""
    package = f'linux-headers-{release}'
    depends = _apt_field(package, 'Depends')
    if depends is None:
        cached = [path.name.split('_')[0] for pattern in ('linux-headers-*-common_*', 'linux-kbuild-*')
                  for path in cache_directory().glob(pattern)]
        return [package, *cached]
    names = [item.split('(')[0].strip() for item in depends.split(',')]
    return [package, *[name for name in names if name.startswith(('linux-headers-', 'linux-kbuild-'))]]


def kernel_headers(release: str) -> Path:
    """The directory to build modules for this kernel of Debian's in, as /lib/modules/RELEASE/build would be. Debian
    splits it over packages that find each other by absolute paths: they are put together, and the paths made right."""
    roots = [unpacked(package) for package in _headers_packages(release)]
    cache = cache_directory()
    target = cache / f'{roots[0].name}+merged'
    build = target / f'usr/src/linux-headers-{release}'
    with _locked(cache):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=cache, prefix='.merge-') as temporary:
                merged = Path(temporary) / 'root'
                for root in roots:
                    shutil.copytree(root, merged, symlinks=True, dirs_exist_ok=True)
                makefile = merged / build.relative_to(target) / 'Makefile'
                makefile.write_text(makefile.read_text().replace('/usr/src/', f'{target}/usr/src/'))
                merged.rename(target)
    return build


def _make_dependencies(root: Path, release: str) -> None:
    depmod = shutil.which('depmod') or '/sbin/depmod'
    made = subprocess.run([depmod, '-b', root, release], capture_output=True, text=True)
    if made.returncode != 0 or not (root / 'lib/modules' / release / 'modules.dep').exists():
        raise PackageError(f'depmod failed for kernel {release}: {made.stderr.strip()}')
