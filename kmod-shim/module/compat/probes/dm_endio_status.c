// SPDX-License-Identifier: GPL-2.0-only
#include <linux/device-mapper.h>
static int end_io(struct dm_target *ti, struct bio *bio, blk_status_t *error) { return DM_ENDIO_DONE; }
struct target_type probe = { .end_io = end_io };
