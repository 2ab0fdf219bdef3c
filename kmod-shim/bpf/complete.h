/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Completions of writes that are in the in-flight map.
 *
 * Drivers with request queues report a completed request (block_rq_complete), with its bios still as they were; the
 * kernel then reports none of these bios one by one. Drivers without report the bio (block_bio_complete). A bio that
 * was split for its queue completes in parts: its last part is the bio itself, the others are clones of it that have
 * bio_chain_endio() as their end and the bio as its argument. So parts are counted, up to the bio's length.
 *
 * Completions come in interrupts too, and the kernel skips a program that is already running on this CPU. Hence three
 * copies, each with its own count: of three, at least one is idle in each of process, softirq and hardirq context.
 * The copy that has seen all parts first takes the bio out.
 */
#ifndef UNDERSTUDY_COMPLETE_H
#define UNDERSTUDY_COMPLETE_H

#include "loss.h"

#if UNDERSTUDY_BPF_LOOP
#define REQUEST_BIOS_MAX 4096
#else
#define REQUEST_BIOS_MAX 128
#endif
#define CHAIN_MAX 3

static __always_inline int nothing_in_flight(__u32 copy_mode)
{
	return !copy_mode && !*(volatile __u64 *)&control.in_flight_lost;
}

static __always_inline void take_out(__u64 bio, struct understudy_in_flight *value)
{
	__u32 lost = value->lost;

	/* What was read of a lost write's extent before now may be stale. Dirty first: whoever finds no lost write in
	 * flight finds the granule. */
	if (lost)
		mark_dirty(value->disk, value->sector, value->sectors);
	if (!bpf_map_delete_elem(&in_flight, &bio) && lost)
		__sync_fetch_and_add(&control.in_flight_lost, -1);
}

/* Another part of a bio has completed. 0 = neither it nor what it was split from is in the map. */
__noinline int part_completed(__u64 bio, __u64 sectors, __u32 copy)
{
	struct understudy_in_flight *value;
	__u64 end, parent;
	__u16 flags;
	__u32 *left;

	for (int level = 0; level < CHAIN_MAX; level++) {
		value = bpf_map_lookup_elem(&in_flight, &bio);
		if (value) {
			/* Atomic: parts complete on several CPUs. Two may see 0 then, and one succeeds in deleting. */
			left = &value->left[copy & (UNDERSTUDY_COMPLETION_COUNTS - 1)];
			__sync_fetch_and_add(left, -(__u32)sectors);
			if (!*(volatile __u32 *)left)
				take_out(bio, value);
			return 1;
		}
		/*
		 * Only a clone is a part of something else. Bios that their submitter chained look the same but for that;
		 * such a one had its own place in the map, and another copy of this program may have taken it out just now.
		 */
		if (bpf_core_read(&flags, sizeof(flags), &((struct bio *)bio)->bi_flags) || !(flags & 1u << BIO_CLONED))
			return 0;
		if (bpf_core_read(&end, sizeof(end), &((struct bio *)bio)->bi_end_io) ||
		    bpf_core_read(&parent, sizeof(parent), &((struct bio *)bio)->bi_private))
			return 0;
		/* With the symbols hidden, the argument is tried once all the same: it is only a key to look for. */
		if (constants.bio_chain_endio ? end != constants.bio_chain_endio : level > 0)
			return 0;
		bio = parent;
	}
	return 0;
}

/* The slot of a bio that is only an address, or -1. */
static __always_inline int slot_of(__u64 address)
{
	struct bio *bio = (struct bio *)address;
	int major, minor, slot;

	if (bpf_core_field_exists(bio->bi_bdev)) {
		major = BPF_CORE_READ(bio, bi_bdev, bd_disk, major);
		minor = BPF_CORE_READ(bio, bi_bdev, bd_disk, first_minor);
	} else {
		major = BPF_CORE_READ((struct bio___with_disk *)bio, bi_disk, major);
		minor = BPF_CORE_READ((struct bio___with_disk *)bio, bi_disk, first_minor);
	}
	slot = find_slot((__u32)major << 20 | (__u32)minor);
	if (slot < 0 || !table.disks[slot & (UNDERSTUDY_DISKS_MAX - 1)].active)
		return -1;
	return slot;
}

/*
 * A write that copy mode does not know of has completed: it was submitted before. While settling that is what is waited
 * for; later, whatever was read of it may be stale, so it has to be read again. sectors = 0: extent unknown.
 */
static __noinline int old_write_completed(__u64 bio, __u64 sector, __u64 sectors)
{
	__u32 copy_mode = *(volatile __u32 *)&control.copy_mode;
	int slot;

	if (copy_mode != UNDERSTUDY_COPY_SETTLING && copy_mode != UNDERSTUDY_COPY_SETTLED)
		return 0;
	slot = slot_of(bio);
	if (slot < 0)
		return 0;
	if (copy_mode == UNDERSTUDY_COPY_SETTLING) {
		__sync_fetch_and_add(&control.old_completions, 1);
		return 0;
	}
	if (sectors)
		mark_dirty(slot, sector, sectors);
	else
		*(volatile __u32 *)&table.disks[slot & (UNDERSTUDY_DISKS_MAX - 1)].all_dirty = 1;
	count_loss(&control.lost_untracked);
	return 0;
}

struct request_walk {
	__u64 bio;
	__u32 bytes;  /* completed and not yet given to a bio */
	__u32 copy;
};

/* One bio of the request; 1 = the last that has completed. */
static long request_step(__u32 i, struct request_walk *walk)
{
	struct bio *bio = (struct bio *)walk->bio;
	struct bvec_iter *iter = &bio->bi_iter;
	__u32 copy = walk->copy;
	__u64 sector = 0, next = 0;
	__u32 size = 0, part;

	if (!bio || copy >= UNDERSTUDY_COMPLETION_COPIES)
		return 1;
	if (bpf_core_read(&size, sizeof(size), &iter->bi_size) ||
	    bpf_core_read(&sector, sizeof(sector), &iter->bi_sector) ||
	    bpf_core_read(&next, sizeof(next), &bio->bi_next))
		return 1;
	part = size < walk->bytes ? size : walk->bytes;
	/* An empty part: a flush of its own, or the end of a flush sequence whose data was reported before. */
	if (!part_completed((__u64)bio, part >> UNDERSTUDY_SECTOR_SHIFT, copy) && !copy && part)
		old_write_completed((__u64)bio, sector, part >> UNDERSTUDY_SECTOR_SHIFT);
	walk->bytes -= part;
	if (part < size || !walk->bytes)
		return 1;
	walk->bio = next;
	return 0;
}

/* block_rq_complete(request, error, bytes), unchanged since 5.8; before the request's bios are ended. */
static __always_inline int request_completed(unsigned long long *ctx, __u32 copy)
{
	struct request *request = (struct request *)ctx[0];
	struct request_walk walk;

	if (nothing_in_flight(*(volatile __u32 *)&control.copy_mode) || !(request->cmd_flags & 1))
		return 0;
	/* By a helper, so that it is a number to the verifier, and not a pointer whose uses it restricts. */
	if (bpf_core_read(&walk.bio, sizeof(walk.bio), &request->bio))
		return 0;
	walk.bytes = (__u32)ctx[2];
	walk.copy = copy;
#if UNDERSTUDY_BPF_LOOP
	bpf_loop(REQUEST_BIOS_MAX, request_step, &walk, 0);
#else
	for (__u32 i = 0; i < REQUEST_BIOS_MAX; i++)
		if (request_step(i, &walk))
			break;
#endif
	return 0;
}

/* The whole of a bio has completed, whatever its parts. */
static __always_inline int bio_completed(unsigned long long *ctx, __u32 copy)
{
	struct understudy_in_flight *value;
	struct bio *bio;
	__u64 key;

	if (nothing_in_flight(*(volatile __u32 *)&control.copy_mode))
		return 0;
	bio = completed_bio(ctx);
	if (!(bio->bi_opf & 1))
		return 0;
	key = (__u64)bio;
	value = bpf_map_lookup_elem(&in_flight, &key);
	if (value)
		take_out(key, value);
	else if (!copy)
		old_write_completed(key, 0, 0);
	return 0;
}

#endif /* UNDERSTUDY_COMPLETE_H */
