// SPDX-License-Identifier: GPL-2.0-only
#include <linux/bio.h>
#include <linux/blkdev.h>
void probe(struct bio *bio, struct block_device *bdev);
void probe(struct bio *bio, struct block_device *bdev) { bio_set_dev(bio, bdev); }
