// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ring: positions that only grow, records reserved in order under the server's lock and filled outside of it.
 * User space reads it in place and says by its consumer position what may be overwritten; what it says is only believed
 * within what it can have seen. Space that a device is still being written from is kept whatever it says.
 */
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include "understudy.h"

int us_ring_make(struct us_ring *ring, u64 bytes, u8 *consumer, u8 *producer)
{
	u64 count = bytes >> PAGE_SHIFT, i;

	ring->data = vmalloc_user(bytes);
	ring->pages = vmalloc(count * sizeof(*ring->pages));
	if (!ring->data || !ring->pages) {
		us_ring_free(ring);
		return -ENOMEM;
	}
	for (i = 0; i < count; i++) {
		ring->pages[i] = vmalloc_to_page(ring->data + (i << PAGE_SHIFT));
		cond_resched();
	}
	ring->bytes = bytes;
	ring->consumer = (u64 *)consumer;
	ring->producer = (u64 *)producer;
	return 0;
}

void us_ring_free(struct us_ring *ring)
{
	vfree(ring->pages);
	vfree(ring->data);
	ring->pages = NULL;
	ring->data = NULL;
}

void us_ring_write(struct us_ring *ring, u64 position, const void *bytes, u32 count)
{
	u64 offset = position & (ring->bytes - 1);
	u32 first = min_t(u64, count, ring->bytes - offset);

	memcpy(ring->data + offset, bytes, first);
	if (first < count)
		memcpy(ring->data, (const u8 *)bytes + first, count - first);
}

static u32 *us_ring_header(struct us_ring *ring, u64 position)
{
	return (u32 *)(ring->data + (position & (ring->bytes - 1)));
}

/* Bytes that may be written behind the head. */
static u64 us_ring_room(struct us_server *server)
{
	struct us_ring *ring = &server->ring;
	u64 consumer = us_load_acquire(ring->consumer);
	u64 keep;

	if (consumer > ring->tail && consumer <= ring->head)
		ring->tail = consumer;
	keep = ring->tail;
	if (!list_empty(&server->holding))
		keep = min(keep, list_first_entry(&server->holding, struct us_io, holding)->position);
	return ring->bytes - (ring->head - keep);
}

/*
 * Room for a record with `data_bytes` of data that begin at a multiple of `align` (0 = anywhere), under the lock.
 * *record is its position; it is being written until us_ring_commit(). False = the ring is full.
 */
bool us_ring_reserve(struct us_server *server, u32 data_bytes, u32 align, u64 *record)
{
	struct us_ring *ring = &server->ring;
	u32 length = sizeof(struct understudy_capture_record) + data_bytes;
	u64 at = ring->head;
	u32 filler = 0;

	if (align)
		filler = -(at + UNDERSTUDY_RING_HEADER_BYTES + sizeof(struct understudy_capture_record)) & (align - 1);
	if (filler + UNDERSTUDY_RING_HEADER_BYTES + ALIGN((u64)length, 8) > us_ring_room(server))
		return false;
	if (filler) {
		*us_ring_header(ring, at) = (filler - UNDERSTUDY_RING_HEADER_BYTES) | UNDERSTUDY_RING_DISCARD;
		at += filler;
	}
	*us_ring_header(ring, at) = length | UNDERSTUDY_RING_BUSY;
	*record = at;
	ring->head = at + UNDERSTUDY_RING_HEADER_BYTES + ALIGN((u64)length, 8);
	us_store_release(ring->producer, ring->head);
	return true;
}

/* The record is complete. Wakes the reader if it went to sleep; under load it polls and is never woken. */
void us_ring_commit(struct us_server *server, u64 record, u32 data_bytes)
{
	struct understudy_control *control = &server->control->common;
	u32 length = sizeof(struct understudy_capture_record) + data_bytes;

	us_store_release(us_ring_header(&server->ring, record), length);
	/* Pairs with the reader's barrier between "I sleep" and its last look at the producer's position. */
	smp_mb();
	if (READ_ONCE(control->consumer_asleep)) {
		WRITE_ONCE(control->consumer_asleep, 0);
		wake_up_interruptible_poll(&server->readers, US_POLL_IN);
	}
}

/* The pages of `bytes` at `position`, as segments of a bio. */
u32 us_ring_vec(const struct us_ring *ring, u64 position, u32 bytes, struct bio_vec *vec)
{
	u64 offset = position & (ring->bytes - 1);
	u32 count = 0;

	while (bytes) {
		u32 in_page = offset & (PAGE_SIZE - 1);
		u32 length = min_t(u32, bytes, PAGE_SIZE - in_page);

		vec[count].bv_page = ring->pages[offset >> PAGE_SHIFT];
		vec[count].bv_offset = in_page;
		vec[count].bv_len = length;
		count++;
		bytes -= length;
		offset = (offset + length) & (ring->bytes - 1);
	}
	return count;
}
