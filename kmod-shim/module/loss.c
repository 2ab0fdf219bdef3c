// SPDX-License-Identifier: GPL-2.0-only
/*
 * What becomes of a write that does not become a record: its extent goes to the dirty map first, then the counters
 * move. User space that sees a counter finds the extent.
 */
#include <linux/atomic.h>
#include <linux/string.h>

#include "understudy.h"

/* In any context. Every byte is stored at once, so user space's compare-and-swap on it wins or loses, never both. */
void us_mark_dirty(struct us_disk *disk, u64 sector, u64 sectors)
{
	u64 first, last;

	if (!sectors || sector >= disk->sectors)
		return;
	sectors = min(sectors, disk->sectors - sector);
	first = sector >> disk->granule_shift;
	last = (sector + sectors - 1) >> disk->granule_shift;
	memset(disk->states + first, UNDERSTUDY_GRANULE_DIRTY, last - first + 1);
}

/* The counters lie in memory that user space can write: nothing in the kernel rests on them. */
void us_count(__u64 *counter, u64 count)
{
	atomic64_add(count, (atomic64_t *)counter);
}

void us_count_loss(struct us_server *server, __u64 *counter)
{
	smp_wmb(); /* the marks before the figures */
	us_count(counter, 1);
	smp_wmb();
	us_count(&server->control->common.loss_count, 1);
}
