#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# probe.sh PROBES HEADER COMPILER FLAGS...: writes HEADER with US_HAVE_<NAME> for every PROBES/<name>.c that compiles
# against the kernel at hand. always.c has to, never.c must not; else the flags are wrong and every answer would be.
probes=$1
header=$2
compiler=$3
shift 3
# What the kernel's own build would only warn of must not pass for an answer; -w, in whose shadow it would, is dropped.
strict='-Wno-error -Werror=implicit-function-declaration -Werror=incompatible-pointer-types -Werror=int-conversion'
try() {
	$compiler "$@" $strict -c -o /dev/null "$source" 2>"$header.$name.log"
}
compile_all() {
	for source in "$probes"/*.c; do
		name=$(basename "$source" .c)
		(try "$@" && echo "#define US_HAVE_$(echo "$name" | tr a-z A-Z) 1" >"$header.$name.yes") &
	done
	wait
}
rm -f "$header".*
for flag; do
	shift
	[ "$flag" = -w ] || set -- "$@" "$flag"
done
compile_all "$@"
if [ ! -e "$header.always.yes" ]; then
	echo "understudy: even the empty probe does not compile against this kernel:" >&2
	cat "$header.always.log" >&2
	exit 1
fi
if [ -e "$header.never.yes" ]; then
	echo "understudy: the compiler takes what does not exist; is -w among its flags?" >&2
	exit 1
fi
{
	echo "/* Written by compat/probe.sh. */"
	cat "$header".*.yes
} >"$header.new"
rm -f "$header".*.yes "$header".*.log
mv "$header.new" "$header"
