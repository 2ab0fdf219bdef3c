/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What becomes of a write that does not become records: its extent goes to the dirty map, the bio to the in-flight map
 * as lost, and then, in this order, the loss counters move. User space that sees a counter finds the extent.
 */
#ifndef UNDERSTUDY_LOSS_H
#define UNDERSTUDY_LOSS_H

#include "state.h"

/*
 * Functions of numbers only are global, not static: the verifier then looks at them once, and not again in every place
 * and every turn of a loop that calls them.
 */

static __always_inline void mark_granule(__u64 granule)
{
	__u32 page = granule / UNDERSTUDY_DIRTY_PAGE_BYTES;
	struct dirty_page *states = bpf_map_lookup_elem(&dirty, &page);

	if (states)
		*(volatile __u8 *)&states->state[granule & (UNDERSTUDY_DIRTY_PAGE_BYTES - 1)] =
			UNDERSTUDY_GRANULE_DIRTY;
}

#if UNDERSTUDY_BPF_LOOP
static long mark_step(__u32 i, __u64 *first)
{
	mark_granule(*first + i);
	return 0;
}
#endif

__noinline int mark_dirty(__u32 slot, __u64 sector, __u64 sectors)
{
	struct understudy_disk *disk = &table.disks[slot & (UNDERSTUDY_DISKS_MAX - 1)];
	__u32 shift = disk->granule_shift & 63;
	__u64 first, last, count;

	if (!sectors || !disk->sectors)
		return 0;
	first = sector >> shift;
	last = (sector + sectors - 1) >> shift;
	/* A disk that grew has no granules behind its old end, and the next disk's must not be touched. */
	if (last > (disk->sectors - 1) >> shift || last < first) {
		*(volatile __u32 *)&disk->all_dirty = 1;
		return 0;
	}
	count = last - first + 1;
	first += disk->dirty_first;
#if UNDERSTUDY_BPF_LOOP
	if (count > UNDERSTUDY_MARK_MAX) {
		*(volatile __u32 *)&disk->all_dirty = 1;
		return 0;
	}
	bpf_loop(count, mark_step, &first, 0);
#else
	if (count > UNDERSTUDY_MARK_MAX_BOUNDED) {
		*(volatile __u32 *)&disk->all_dirty = 1;
		return 0;
	}
	for (__u32 i = 0; i < UNDERSTUDY_MARK_MAX_BOUNDED; i++) {
		if (i >= count)
			break;
		mark_granule(first + i);
	}
#endif
	return 0;
}

static __always_inline void count_loss(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
	__sync_fetch_and_add(&control.loss_count, 1);
}

/* Notes a bio in the in-flight map; one that finds no place is dirty, and known by the counters. */
static __noinline int track(__u64 bio, __u32 slot, __u64 sector, __u64 sectors, __u32 lost)
{
	struct understudy_in_flight value = {
		.sector = sector,
		.sectors = sectors,
		.left = {sectors, sectors, sectors},
		.disk = slot,
		.lost = lost,
		.stamp = bpf_ktime_get_ns() >> 10,
	};

	if (lost)
		__sync_fetch_and_add(&control.in_flight_lost, 1);
	if (!bpf_map_update_elem(&in_flight, &bio, &value, BPF_ANY))
		return 0;
	if (lost)
		__sync_fetch_and_add(&control.in_flight_lost, -1);
	mark_dirty(slot, sector, sectors);
	count_loss(&control.lost_untracked);
	return 0;
}

/* The last `rest` sectors of a bio of `sectors` are not in the ring. */
static __noinline int lose(struct note *note, __u64 rest, __u64 *counter)
{
	__u64 sectors = note->bytes >> UNDERSTUDY_SECTOR_SHIFT;

	if (!note || !counter || note->probe || !rest)
		return 0;
	mark_dirty(note->disk, note->sector + (sectors - rest), rest);
	track(note->bio, note->disk, note->sector, sectors, 1);
	count_loss(counter);
	return 0;
}

#endif /* UNDERSTUDY_LOSS_H */
