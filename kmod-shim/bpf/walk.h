/* SPDX-License-Identifier: GPL-2.0-only */
/* From the pages of a bio into records of the ring. */
#ifndef UNDERSTUDY_WALK_H
#define UNDERSTUDY_WALK_H

#include "loss.h"

/* The page's address in the direct map; a segment is physically contiguous, so this holds for all of it. */
static __always_inline __u64 address_of(__u64 page)
{
	__u64 frame = page - constants.vmemmap_base;

	if (constants.page_struct_shift)
		frame >>= constants.page_struct_shift;
	else
		frame /= constants.page_struct_bytes;
	return (frame << 12) + constants.direct_map_base;
}

/* Goes to the next segment: address and piece. */
static __always_inline long next_segment(struct walk *walk)
{
	struct segment segment;

	/* Reloaded, so that it is a number to the verifier and no longer the pointer capture_noted() stored: kernels
	 * before 6.2 refuse to calculate with that. */
	if (read_segment(&segment, *(volatile __u64 *)&walk->bvecs, walk->index))
		return -1;
	walk->index++;
	walk->address = address_of(segment.page) + segment.offset;
	walk->piece = segment.bytes;
	return 0;
}

/*
 * Bounds `value` by `max`, on the very register that is used next: the compiler must not test one copy and pass
 * another, or the verifier does not see the bound. It never changes anything here, the callers have made sure.
 */
#define BOUND(value, max)                                                                              \
	asm volatile("if %[v] <= %[m] goto +1; %[v] = %[m]" : [v] "+r"(value) : [m] "i"(max))

#define RECORD_TYPE(name, size)                                                                        \
	struct name {                                                                                  \
		struct understudy_capture_record head;                                                 \
		__u8 data[size];                                                                       \
	}
RECORD_TYPE(record_large, UNDERSTUDY_RECORD_LARGE);
RECORD_TYPE(record_medium, UNDERSTUDY_RECORD_MEDIUM);
RECORD_TYPE(record_small, UNDERSTUDY_RECORD_SMALL);
RECORD_TYPE(record_sector, UNDERSTUDY_RECORD_SECTOR);

static __always_inline void fill_header(struct understudy_capture_record *head, struct walk *walk, __u64 bytes)
{
	__u8 flags = walk->flags | walk->first_flags;

	walk->first_flags = 0;
	if (bytes == walk->left)
		flags |= walk->last_flags;
	head->kind = walk->kind;
	head->flags = flags;
	head->disk = walk->disk;
	head->data_bytes = bytes;
	head->sector = walk->sector;
	head->sectors = bytes >> UNDERSTUDY_SECTOR_SHIFT;
	head->time_ns = walk->time_ns;
	head->loss_count = *(volatile __u64 *)&control.loss_count;
	head->bio = walk->bio;
}

/*
 * Flags for bpf_ringbuf_submit(): never a wake-up, but one when the consumer went to sleep. The atomic add is the full
 * barrier between "the record is reserved" (seen by a consumer that looks before it sleeps) and "is it asleep?".
 */
static __always_inline __u64 submit_flags(__u64 bytes)
{
	__sync_fetch_and_add(&control.captured_bytes, bytes);
	if (!*(volatile __u32 *)&control.consumer_asleep)
		return BPF_RB_NO_WAKEUP;
	*(volatile __u32 *)&control.consumer_asleep = 0;
	return BPF_RB_FORCE_WAKEUP;
}

#if UNDERSTUDY_BPF_LOOP

struct fill {
	__u8 *data;
	struct walk *walk;
};

/* At most so many pieces go into one record: 256 segments of a bio, each cut by the ladder below a few times. */
#define PIECES_MAX 4096

/*
 * One step of filling `data` of `size` bytes from segments that do not lie one behind the other. The verifier cannot
 * relate offset and length, only bound each: so lengths come down a ladder, at most half of what is left (all of it at
 * offset 0), and a page at a page's offset still goes in one step.
 */
#define RUNG(size, step)                                                                               \
	if (offset <= (size) - (step)) {                                                               \
		BOUND(offset, (size) - (step));                                                        \
		BOUND(length, step);                                                                   \
		goto copy;                                                                             \
	}
#define RUNGS_512(size)                                                                                \
	RUNG(size, 512) RUNG(size, 256) RUNG(size, 128) RUNG(size, 64) RUNG(size, 32)                  \
	RUNG(size, 16) RUNG(size, 8) RUNG(size, 4) RUNG(size, 2) RUNG(size, 1)
#define RUNGS_4096(size) RUNG(size, 4096) RUNG(size, 2048) RUNG(size, 1024) RUNGS_512(size)
#define RUNGS_16384(size) RUNG(size, 16384) RUNG(size, 8192) RUNGS_4096(size)
#define RUNGS_65536(size) RUNG(size, 65536) RUNG(size, 32768) RUNGS_16384(size)

#define DEFINE_FILL(name, size, rungs)                                                                 \
	static long name(__u32 i, struct fill *fill)                                                   \
	{                                                                                              \
		struct walk *walk = fill->walk;                                                        \
		__u64 offset = walk->filled, length;                                                   \
                                                                                                       \
		if (offset >= walk->goal)                                                              \
			return 1;                                                                      \
		if (!walk->piece && next_segment(walk)) {                                              \
			walk->failed = WALK_UNREADABLE;                                                \
			return 1;                                                                      \
		}                                                                                      \
		length = walk->goal - offset;                                                          \
		if (length > walk->piece)                                                              \
			length = walk->piece;                                                          \
		rungs(size)                                                                            \
		walk->failed = WALK_TOO_LONG;                                                          \
		return 1;                                                                              \
copy:                                                                                                  \
		if (bpf_probe_read_kernel(fill->data + offset, length, (const void *)walk->address)) { \
			walk->failed = WALK_UNREADABLE;                                                \
			return 1;                                                                      \
		}                                                                                      \
		walk->address += length;                                                               \
		walk->piece -= length;                                                                 \
		walk->filled = offset + length;                                                        \
		return 0;                                                                              \
	}
DEFINE_FILL(fill_large, UNDERSTUDY_RECORD_LARGE, RUNGS_65536)
DEFINE_FILL(fill_medium, UNDERSTUDY_RECORD_MEDIUM, RUNGS_16384)
DEFINE_FILL(fill_small, UNDERSTUDY_RECORD_SMALL, RUNGS_4096)
DEFINE_FILL(fill_sector, UNDERSTUDY_RECORD_SECTOR, RUNGS_512)

/* One record of `size`, or of what is left of the bio if that is less. */
#define DEFINE_PUT(name, size, type, fill_step)                                                        \
	static __noinline int name(struct walk *walk)                                                  \
	{                                                                                              \
		struct fill fill;                                                                      \
		struct type *record;                                                                   \
		__u64 goal;                                                                            \
                                                                                                       \
		if (!walk)                                                                             \
			return 0;                                                                      \
		record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);                               \
		if (!record) {                                                                         \
			walk->failed = WALK_RING_FULL;                                                 \
			return 0;                                                                      \
		}                                                                                      \
		goal = walk->left < (size) ? walk->left : (size);                                      \
		fill_header(&record->head, walk, goal);                                                \
		if (!walk->piece && next_segment(walk)) {                                              \
			walk->failed = WALK_UNREADABLE;                                                \
		} else if (goal == (size) && walk->piece >= (size)) {                                  \
			if (bpf_probe_read_kernel(record->data, size, (const void *)walk->address))    \
				walk->failed = WALK_UNREADABLE;                                        \
			walk->address += (size);                                                       \
			walk->piece -= (size);                                                         \
		} else {                                                                               \
			fill.data = record->data;                                                      \
			fill.walk = walk;                                                              \
			walk->filled = 0;                                                              \
			walk->goal = goal;                                                             \
			bpf_loop(PIECES_MAX, fill_step, &fill, 0);                                     \
			if (!walk->failed && walk->filled != goal)                                     \
				walk->failed = WALK_TOO_LONG;                                          \
		}                                                                                      \
		if (walk->failed) {                                                                    \
			bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);                                 \
			return 0;                                                                      \
		}                                                                                      \
		walk->sector += goal >> UNDERSTUDY_SECTOR_SHIFT;                                       \
		walk->left -= goal;                                                                    \
		bpf_ringbuf_submit(record, submit_flags(goal));                                        \
		return 0;                                                                              \
	}
DEFINE_PUT(put_large, UNDERSTUDY_RECORD_LARGE, record_large, fill_large)
DEFINE_PUT(put_medium, UNDERSTUDY_RECORD_MEDIUM, record_medium, fill_medium)
DEFINE_PUT(put_small, UNDERSTUDY_RECORD_SMALL, record_small, fill_small)
DEFINE_PUT(put_sector, UNDERSTUDY_RECORD_SECTOR, record_sector, fill_sector)

/* One record, of the size that wastes little of the ring. 0 = go on. */
static __always_inline long put_record(struct walk *walk)
{
	if (walk->left > UNDERSTUDY_RECORD_LARGE - UNDERSTUDY_RECORD_LARGE / 8)
		put_large(walk);
	else if (walk->left > UNDERSTUDY_RECORD_MEDIUM - UNDERSTUDY_RECORD_MEDIUM / 4)
		put_medium(walk);
	else if (walk->left > UNDERSTUDY_RECORD_SMALL / 2)
		put_small(walk);
	else
		put_sector(walk);
	return walk->failed || !walk->left;
}

static long put_step(__u32 i, struct walk **walk)
{
	return put_record(*walk);
}

/* A bio is at most 4 GiB by its bi_size; this is as many small records. */
#define RECORDS_MAX (1 << 20)

static __always_inline void put_data(struct walk *walk)
{
	if (put_record(walk))
		return;
	bpf_loop(RECORDS_MAX, put_step, &walk, 0);
	if (!walk->failed && walk->left)
		walk->failed = WALK_TOO_LONG;
}

#else /* bounded loops: one segment's piece a record, no packing, and an end after PIECES_MAX of them */

#define PIECES_MAX 600

#define PUT(size, type)                                                                                \
	do {                                                                                           \
		struct type *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);                  \
                                                                                                       \
		if (!record) {                                                                         \
			walk->failed = WALK_RING_FULL;                                                 \
			return;                                                                        \
		}                                                                                      \
		fill_header(&record->head, walk, size);                                                \
		if (bpf_probe_read_kernel(record->data, size, (const void *)walk->address)) {          \
			walk->failed = WALK_UNREADABLE;                                                \
			bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);                                 \
			return;                                                                        \
		}                                                                                      \
		walk->address += (size);                                                               \
		walk->piece -= (size);                                                                 \
		walk->sector += (size) >> UNDERSTUDY_SECTOR_SHIFT;                                     \
		walk->left -= (size);                                                                  \
		bpf_ringbuf_submit(record, submit_flags(size));                                        \
	} while (0)

static __always_inline void put_data(struct walk *walk)
{
	for (int i = 0; i < PIECES_MAX; i++) {
		if (!walk->left)
			return;
		if (!walk->piece && next_segment(walk)) {
			walk->failed = WALK_UNREADABLE;
			return;
		}
		if (walk->piece > walk->left)
			walk->piece = walk->left;
		if (walk->piece >= UNDERSTUDY_RECORD_LARGE)
			PUT(UNDERSTUDY_RECORD_LARGE, record_large);
		else if (walk->piece >= UNDERSTUDY_RECORD_MEDIUM)
			PUT(UNDERSTUDY_RECORD_MEDIUM, record_medium);
		else if (walk->piece >= UNDERSTUDY_RECORD_SMALL)
			PUT(UNDERSTUDY_RECORD_SMALL, record_small);
		else if (walk->piece >= UNDERSTUDY_RECORD_SECTOR)
			PUT(UNDERSTUDY_RECORD_SECTOR, record_sector);
		else {
			/* a sector that lies in two segments: the packing variant's business */
			walk->failed = WALK_TOO_LONG;
			return;
		}
	}
	if (walk->left)
		walk->failed = WALK_TOO_LONG;
}

#endif /* UNDERSTUDY_BPF_LOOP */

#endif /* UNDERSTUDY_WALK_H */
