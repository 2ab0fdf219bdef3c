// SPDX-License-Identifier: GPL-2.0-only
/*
 * Capture of every write to the watched disks, at the moment it is submitted. README.md beside this file says how the
 * programs play together and why no write can be missed unseen.
 *
 * Built twice: with bpf_loop() for kernels since 5.17, with bounded loops for those before.
 */
#include "complete.h"
#include "walk.h"

char _license[] SEC("license") = "GPL";

/* A read is ours when the self-test's process makes it. */
static __always_inline int is_self_test(void)
{
	__u32 pid = *(volatile __u32 *)&control.self_test_pid;

	return pid && bpf_get_current_pid_tgid() >> 32 == pid;
}

/* First on block_bio_queue: notes which bio the capturing program has to report. */
SEC("tp_btf/block_bio_queue")
int note(unsigned long long *ctx)
{
	struct bio *bio = queued_bio(ctx);
	__u32 opf = bio->bi_opf;
	__u32 probe = !(opf & 1);
	struct note *note;
	__u32 copy_mode;
	int slot;

	if (probe && !is_self_test())
		return 0;
	slot = find_slot(whole_disk_dev(bio));
	if (slot < 0 || !table.disks[slot & (UNDERSTUDY_DISKS_MAX - 1)].active)
		return 0;

	if (probe)
		__sync_fetch_and_add(&control.self_test_seen, 1);
	note = &notes[this_cpu()];
	if (note->state == NOTE_CAPTURING) {
		/* We interrupted the capturing program: the kernel will not start it again for this bio. */
		struct note skipped = {
			.bio = (__u64)bio,
			.sector = bio->bi_iter.bi_sector,
			.bytes = bio->bi_iter.bi_size,
			.disk = slot,
			.probe = probe,
		};

		lose(&skipped, skipped.bytes >> UNDERSTUDY_SECTOR_SHIFT, &control.lost_skipped);
		return 0;
	}
	if (note->state == NOTE_NOTED)
		lose(note, note->bytes >> UNDERSTUDY_SECTOR_SHIFT, &control.lost_skipped);
	note->bio = (__u64)bio;
	note->bytes = bio->bi_iter.bi_size;
	/* An empty flush has no place. Device mapper targets map its sector 0 all the same: to below 0, for dm-linear. */
	note->sector = note->bytes ? bio->bi_iter.bi_sector : 0;
	note->opf = opf;
	note->disk = slot;
	note->probe = probe;
	note->state = NOTE_NOTED;

	/* Before any ring reservation, so that whoever reads the in-flight map after the ring's head misses nothing. */
	copy_mode = *(volatile __u32 *)&control.copy_mode;
	if ((copy_mode == UNDERSTUDY_COPY_SETTLING || copy_mode == UNDERSTUDY_COPY_SETTLED) && !probe)
		track(note->bio, slot, note->sector, note->bytes >> UNDERSTUDY_SECTOR_SHIFT, 0);
	return 0;
}

/* A record without data; 0 = no room. */
static __always_inline int put_empty(struct walk *walk, __u64 sectors)
{
	struct understudy_capture_record *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);

	if (!record)
		return 0;
	walk->left = 0;
	fill_header(record, walk, 0);
	record->sectors = sectors;
	bpf_ringbuf_submit(record, submit_flags(0));
	return 1;
}

static __always_inline void capture_noted(struct bio *bio, struct note *note, struct walk *walk)
{
	__u32 opf = note->opf;
	__u32 op = opf & REQ_OP_MASK;
	__u64 sectors = note->bytes >> UNDERSTUDY_SECTOR_SHIFT;

	walk->bio = note->bio;
	walk->sector = note->sector;
	walk->left = note->bytes;
	walk->disk = note->disk;
	walk->failed = WALK_OK;
	walk->time_ns = bpf_ktime_get_boot_ns();
	walk->flags = 0;
	walk->first_flags = 0;
	walk->last_flags = 0;
	if (opf & (1u << bpf_core_enum_value(enum req_flag_bits, __REQ_META)))
		walk->flags = UNDERSTUDY_CAPTURE_META;
	if (opf & (1u << bpf_core_enum_value(enum req_flag_bits, __REQ_PREFLUSH)))
		walk->first_flags = UNDERSTUDY_CAPTURE_PREFLUSH;
	if (opf & (1u << bpf_core_enum_value(enum req_flag_bits, __REQ_FUA)))
		walk->last_flags = UNDERSTUDY_CAPTURE_FUA;

	if (op == REQ_OP_WRITE || note->probe) {
		if (!note->bytes) {
			walk->kind = UNDERSTUDY_CAPTURE_BARRIER;
			/* No room: no data was lost, points align to an earlier barrier. */
			put_empty(walk, 0);
			return;
		}
		walk->kind = note->probe ? UNDERSTUDY_CAPTURE_PROBE : UNDERSTUDY_CAPTURE_WRITE;
		walk->bvecs = (__u64)bio->bi_io_vec;
		walk->index = bio->bi_iter.bi_idx;
		walk->piece = 0;
		if (next_segment(walk)) {
			walk->failed = WALK_UNREADABLE;
		} else {
			walk->address += bio->bi_iter.bi_bvec_done;
			walk->piece -= bio->bi_iter.bi_bvec_done;
			put_data(walk);
		}
	} else if (op == REQ_OP_DISCARD || op == REQ_OP_SECURE_ERASE || op == REQ_OP_WRITE_ZEROES) {
		walk->kind = UNDERSTUDY_CAPTURE_ZERO;
		if (op != REQ_OP_WRITE_ZEROES)
			walk->flags |= UNDERSTUDY_CAPTURE_DISCARD;
		if (!put_empty(walk, sectors))
			walk->failed = WALK_RING_FULL;
	} else {
		/* An operation that changes the disk in a way we do not know: write-same, zone append and management. */
		walk->failed = WALK_UNREADABLE;
	}

	if (walk->failed == WALK_RING_FULL)
		lose(note, walk->left ? walk->left >> UNDERSTUDY_SECTOR_SHIFT : sectors, &control.lost_ring_full);
	else if (walk->failed == WALK_TOO_LONG)
		lose(note, walk->left >> UNDERSTUDY_SECTOR_SHIFT, &control.lost_too_long);
	else if (walk->failed)
		lose(note, walk->left >> UNDERSTUDY_SECTOR_SHIFT, &control.lost_unreadable);
	else
		__sync_fetch_and_add(&control.captured_bios, 1);
}

/* Second: reports the bio. Attached after the first one, so that it runs after it. */
SEC("tp_btf/block_bio_queue")
int capture(unsigned long long *ctx)
{
	struct bio *bio = queued_bio(ctx);
	__u32 cpu = this_cpu();
	struct note *note = &notes[cpu];

	/* Another bio there: this one is not watched, or an interrupt's note made it lost already. */
	if (note->state != NOTE_NOTED || note->bio != (__u64)bio)
		return 0;
	*(volatile __u32 *)&note->state = NOTE_CAPTURING;
	capture_noted(bio, note, &walks[cpu]);
	*(volatile __u32 *)&note->state = NOTE_EMPTY;
	return 0;
}

/* Third: whatever is still noted now was skipped. */
SEC("tp_btf/block_bio_queue")
int settle(unsigned long long *ctx)
{
	struct note *note = &notes[this_cpu()];

	if (note->state != NOTE_NOTED)
		return 0;
	lose(note, note->bytes >> UNDERSTUDY_SECTOR_SHIFT, &control.lost_skipped);
	note->state = NOTE_EMPTY;
	return 0;
}

/* Completions: see complete.h. The second and third copies are attached in copy mode only. */
SEC("tp_btf/block_rq_complete")
int complete_request(unsigned long long *ctx)
{
	return request_completed(ctx, 0);
}

SEC("tp_btf/block_rq_complete")
int complete_request_second(unsigned long long *ctx)
{
	return request_completed(ctx, 1);
}

SEC("tp_btf/block_rq_complete")
int complete_request_third(unsigned long long *ctx)
{
	return request_completed(ctx, 2);
}

SEC("tp_btf/block_bio_complete")
int complete_bio(unsigned long long *ctx)
{
	return bio_completed(ctx, 0);
}

SEC("tp_btf/block_bio_complete")
int complete_bio_second(unsigned long long *ctx)
{
	return bio_completed(ctx, 1);
}

SEC("tp_btf/block_bio_complete")
int complete_bio_third(unsigned long long *ctx)
{
	return bio_completed(ctx, 2);
}
