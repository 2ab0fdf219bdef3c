#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# build.sh HEADERS OUT [COPY]: builds understudy.ko for the kernel whose build directory is HEADERS (as
# /lib/modules/RELEASE/build is), in the directory OUT, which is made. The source directory stays as it is. Quiet, but
# for warnings and errors. COPY, if named, gets the module.
set -eu
if [ $# -ne 2 ] && [ $# -ne 3 ]; then
	echo "usage: build.sh HEADERS OUT [COPY]" >&2
	exit 2
fi
headers=$1
source=$(cd "$(dirname "$0")" && pwd)
if [ ! -e "$headers/Makefile" ]; then
	echo "build.sh: '$headers' is no build directory of a kernel: it has no Makefile" >&2
	exit 5
fi
mkdir -p "$2/compat/probes"
out=$(cd "$2" && pwd)
# Only what changed, so that a second build has nothing to do.
update() {
	for file; do
		cmp -s "$file" "$out/$to/${file##*/}" || cp "$file" "$out/$to/"
	done
}
to=. update "$source"/*.c "$source"/*.h "$source/Kbuild" "$source/../capture_abi.h" "$source/../module_abi.h"
to=compat update "$source"/compat/probe.sh "$source"/compat/*.h
to=compat/probes update "$source"/compat/probes/*.c
# What a build around this one says to its make and linker is not meant for the kernel's.
unset MAKEFLAGS MFLAGS MAKELEVEL CFLAGS LDFLAGS CPPFLAGS || true
# Type information for BPF would want a vmlinux, which headers lack, and says so each time.
make -s -C "$headers" M="$out" CONFIG_DEBUG_INFO_BTF_MODULES= modules
[ $# -eq 2 ] || cp "$out/understudy.ko" "$3"
