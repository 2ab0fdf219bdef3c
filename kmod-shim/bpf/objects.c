// SPDX-License-Identifier: Apache-2.0
#include "kmod-shim/bpf/objects.h"

#include <linux/types.h>

#include "kmod-shim/bpf/calibrate_abi.h"
#include "kmod-shim/bpf/layout.h"

/* After the types of the programs' global variables, which the skeletons mention. */
#include "calibrate.skel.h"
#include "capture_bounded.skel.h"
#include "capture_loop.skel.h"

const void *understudy_capture_loop_object(size_t *size) { return capture_loop__elf_bytes(size); }
const void *understudy_capture_bounded_object(size_t *size) { return capture_bounded__elf_bytes(size); }
const void *understudy_calibrate_object(size_t *size) { return calibrate__elf_bytes(size); }
