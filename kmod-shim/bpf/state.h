/* SPDX-License-Identifier: GPL-2.0-only */
/* The maps of a capture. Those that user space touches are pinned and mapped into it; the rest lives per CPU. */
#ifndef UNDERSTUDY_STATE_H
#define UNDERSTUDY_STATE_H

#include "bio.h"

struct understudy_control control SEC(".data.control") = {};
struct understudy_disk_table table SEC(".data.table") = {};

/* All sizes of these maps are set before loading. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct dirty_page {
	__u8 state[UNDERSTUDY_DIRTY_PAGE_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dirty_page);
} dirty SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct understudy_in_flight);
} in_flight SEC(".maps");

/* A machine with more CPUs than this is refused. */
struct note notes[UNDERSTUDY_CPUS_MAX] = {};
struct walk walks[UNDERSTUDY_CPUS_MAX] = {};

static __always_inline __u32 this_cpu(void)
{
	return bpf_get_smp_processor_id() & (UNDERSTUDY_CPUS_MAX - 1);
}

/* The slot of the disk a bio goes to, or -1. Most calls on a host with unwatched disks end here: keep it short. */
static __always_inline int find_slot(__u32 dev)
{
	__u32 place = (dev * table.multiplier) >> 24;
	__u32 key;

#pragma unroll
	for (int i = 0; i < UNDERSTUDY_DISK_KEY_TRIES; i++) {
		key = table.keys[(place + i) & (UNDERSTUDY_DISK_KEYS - 1)];
		if (key == dev)
			return table.slots[(place + i) & (UNDERSTUDY_DISK_KEYS - 1)] & (UNDERSTUDY_DISKS_MAX - 1);
		if (!key)
			return -1;
	}
	return -1;
}

/* Loops that a kernel before 5.17 has no helper for: capture_bounded.bpf.c is this program with bounded ones. */
#ifndef UNDERSTUDY_BPF_LOOP
#error "UNDERSTUDY_BPF_LOOP must be 0 or 1"
#endif

#endif /* UNDERSTUDY_STATE_H */
