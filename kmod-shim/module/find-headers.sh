#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Prints the build directory of a kernel that modules can be compiled for here: the running one's, else the newest that
# is installed. Nothing when there is none.
if [ -e "/lib/modules/$(uname -r)/build/Makefile" ]; then
	echo "/lib/modules/$(uname -r)/build"
	exit 0
fi
for makefile in $(ls -t /lib/modules/*/build/Makefile 2>/dev/null); do
	dirname "$makefile"
	exit 0
done
