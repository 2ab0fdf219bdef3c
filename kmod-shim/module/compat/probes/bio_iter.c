// SPDX-License-Identifier: GPL-2.0-only
#include <linux/bio.h>
sector_t probe(struct bio *bio);
sector_t probe(struct bio *bio) { return bio->bi_iter.bi_sector + bio->bi_iter.bi_bvec_done; }
