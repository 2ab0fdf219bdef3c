/* SPDX-License-Identifier: GPL-2.0-only */
/* Finding the bio in a tracepoint's arguments and the whole disk in a bio, on every kernel since 5.8. */
#ifndef UNDERSTUDY_BIO_H
#define UNDERSTUDY_BIO_H

#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "kernel_types.h"
#include "layout.h"

/* Set before loading: constants for the verifier, which then does not even look at the branches they rule out. */
const volatile struct understudy_constants constants = {};

static __always_inline struct bio *queued_bio(unsigned long long *ctx)
{
	return constants.queue_argument ? (struct bio *)ctx[1] : (struct bio *)ctx[0];
}

/* block_bio_complete(queue, bio), unchanged since 5.8. */
static __always_inline struct bio *completed_bio(unsigned long long *ctx)
{
	return (struct bio *)ctx[1];
}

static __always_inline struct gendisk *disk_of(struct bio *bio)
{
	if (bpf_core_field_exists(bio->bi_bdev))
		return bio->bi_bdev->bd_disk;
	return ((struct bio___with_disk *)bio)->bi_disk;
}

/* dev_t of the whole disk, as the kernel has it inside: major << 20 | minor. Partitions share their disk's gendisk. */
static __always_inline __u32 whole_disk_dev(struct bio *bio)
{
	struct gendisk *disk = disk_of(bio);

	return ((__u32)disk->major << 20) | (__u32)disk->first_minor;
}

/* One element of a bio's vector, read from kernel memory: plain numbers, so that they can be calculated with. */
struct segment {
	__u64 page; /* struct page * */
	__u32 bytes;
	__u32 offset;
};

static __always_inline long read_segment(struct segment *segment, __u64 bvecs, __u32 index)
{
	char raw[32] = {};
	const __u32 size = bpf_core_type_size(struct bio_vec);
	long error;

	if (size > sizeof(raw))
		return -1;
	error = bpf_probe_read_kernel(raw, size, (const void *)(bvecs + (__u64)index * size));
	if (error)
		return error;
	segment->page = *(__u64 *)(raw + bpf_core_field_offset(struct bio_vec, bv_page));
	segment->bytes = *(__u32 *)(raw + bpf_core_field_offset(struct bio_vec, bv_len));
	segment->offset = *(__u32 *)(raw + bpf_core_field_offset(struct bio_vec, bv_offset));
	return 0;
}

#endif /* UNDERSTUDY_BIO_H */
