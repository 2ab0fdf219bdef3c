/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The few kernel types the programs look into, with only the fields they use. Offsets are relocated against the BTF of
 * the running kernel (CO-RE), so neither order nor size matters here, only names.
 * A generated vmlinux.h would be 100,000 lines for the same.
 *
 * Sources: include/linux/blk_types.h, bvec.h, blkdev.h of Linux 5.8 to 6.18.
 */
#ifndef UNDERSTUDY_KERNEL_TYPES_H
#define UNDERSTUDY_KERNEL_TYPES_H

#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct page;

struct bio_vec {
	struct page *bv_page;
	unsigned int bv_len;
	unsigned int bv_offset;
};

struct bvec_iter {
	__u64 bi_sector;
	unsigned int bi_size;
	unsigned int bi_idx;
	unsigned int bi_bvec_done;
};

struct gendisk {
	int major;
	int first_minor;
};

struct block_device {
	struct gendisk *bd_disk;
};

struct bio {
	struct block_device *bi_bdev;
	unsigned int bi_opf;
	unsigned short bi_flags;
	struct bvec_iter bi_iter;
	struct bio_vec *bi_io_vec;
	struct bio *bi_next;
	void *bi_end_io;
	void *bi_private;
};

struct request {
	unsigned int cmd_flags;
	struct bio *bio;
};

/* Before 5.12 a bio named its disk directly. */
struct bio___with_disk {
	struct gendisk *bi_disk;
};

/* For its size only. */
struct page {
	unsigned long flags;
};

/* Bit numbers in bi_opf; the values are relocated. */
enum req_flag_bits {
	__REQ_META = 12,
	__REQ_FUA = 17,
	__REQ_PREFLUSH = 18,
};

#pragma clang attribute pop

/* Bit of bi_flags: this bio is a clone. The same number since 5.1; its enum has no name to relocate by. */
#define BIO_CLONED 1

/* The low byte of bi_opf; these numbers are the same in every kernel since 4.10. An odd number changes the disk. */
#define REQ_OP_MASK 0xff
#define REQ_OP_WRITE 1
#define REQ_OP_DISCARD 3
#define REQ_OP_SECURE_ERASE 5
#define REQ_OP_WRITE_ZEROES 9

#endif /* UNDERSTUDY_KERNEL_TYPES_H */
