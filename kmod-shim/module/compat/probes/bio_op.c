// SPDX-License-Identifier: GPL-2.0-only
#include <linux/bio.h>
#include <linux/blkdev.h>
int probe(struct bio *bio);
int probe(struct bio *bio)
{
	return bio_op(bio) == REQ_OP_WRITE_ZEROES || bio_op(bio) == REQ_OP_SECURE_ERASE || op_is_write(bio_op(bio)) ||
	       (bio->bi_opf & REQ_PREFLUSH);
}
