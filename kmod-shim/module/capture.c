// SPDX-License-Identifier: GPL-2.0-only
/*
 * From bios to records. The data is copied into the ring once, and the disk is written from that copy: whoever changes
 * his pages meanwhile (a buffer of O_DIRECT, a mapped file), journal and disk hold the same bytes. The ring keeps the
 * copy until the write has completed, also when user space releases it before.
 *
 * Nothing here allocates, sleeps, or changes what the application is told.
 */
#include <linux/bio.h>
#include <linux/device-mapper.h>
#include <linux/highmem.h>
#include <linux/ktime.h>

#include "understudy.h"

/* Under the lock, together with the reservation: who reads the list after the ring's head misses nothing. */
static void us_under_way(struct us_capture *capture, u64 sectors, bool lost)
{
	struct us_io *io = capture->io;
	struct us_server *server = capture->disk->server;

	io->disk = capture->disk;
	io->sector = capture->sector;
	io->sectors = sectors;
	io->lost = lost;
	io->holds = false;
	io->has_ring_pages = false;
	list_add_tail(&io->in_flight, &server->in_flight);
	if (lost)
		server->control->common.in_flight_lost++;
}

/* All of the bio is lost; it is known as under way already. */
static void us_lose(struct us_capture *capture, u64 sectors, __u64 *counter)
{
	us_mark_dirty(capture->disk, capture->sector, sectors);
	us_count_loss(capture->disk->server, counter);
}

struct us_kind {
	u8 kind;
	u8 flags;
	u64 sectors;
	u32 data_bytes;
};

static void us_fill_head(const struct us_capture *capture, const struct us_kind *kind, u64 now_ns, u64 loss_count,
			 u64 record)
{
	struct understudy_capture_record head = {
		.kind = kind->kind,
		.flags = kind->flags,
		.disk = capture->disk->slot,
		.data_bytes = kind->data_bytes,
		.sector = kind->kind == UNDERSTUDY_CAPTURE_BARRIER ? 0 : capture->sector,
		.sectors = kind->sectors,
		.time_ns = now_ns,
		.loss_count = loss_count,
		.bio = (u64)(unsigned long)capture->bio,
	};

	us_ring_write(&capture->disk->server->ring, record + UNDERSTUDY_RING_HEADER_BYTES, &head, sizeof(head));
}

/* A record; a write goes onto the list of those under way in the same moment. False = lost, the ring is full. */
static bool us_begin(struct us_capture *capture, const struct us_kind *kind, u64 *record)
{
	struct us_server *server = capture->disk->server;
	struct us_io *io = capture->io;
	bool is_change = kind->kind == UNDERSTUDY_CAPTURE_WRITE || kind->kind == UNDERSTUDY_CAPTURE_ZERO;
	bool is_data = kind->kind == UNDERSTUDY_CAPTURE_WRITE;
	unsigned long irq;
	u64 now_ns, loss_count;
	bool ok;

	spin_lock_irqsave(&server->lock, irq);
	now_ns = us_boot_ns(); /* under the lock: time stamps never go backwards in the ring */
	loss_count = READ_ONCE(server->control->common.loss_count);
	ok = us_ring_reserve(server, kind->data_bytes, is_data ? capture->align : 0, record);
	if (is_change)
		us_under_way(capture, kind->sectors, !ok);
	if (ok && is_data) {
		io->position = *record;
		io->holds = true;
		list_add_tail(&io->holding, &server->holding);
	}
	if (ok) {
		server->control->common.captured_bios++;
		server->control->common.captured_bytes += kind->data_bytes;
	}
	spin_unlock_irqrestore(&server->lock, irq);
	if (ok)
		us_fill_head(capture, kind, now_ns, loss_count, *record);
	return ok;
}

/* Message "degrade": writes pass, as lost. */
static bool us_degraded(struct us_capture *capture, u64 sectors)
{
	struct us_server *server = capture->disk->server;
	unsigned long irq;

	if (likely(!READ_ONCE(capture->disk->degraded)))
		return false;
	spin_lock_irqsave(&server->lock, irq);
	us_under_way(capture, sectors, true);
	spin_unlock_irqrestore(&server->lock, irq);
	us_lose(capture, sectors, &server->control->common.lost_skipped);
	return true;
}

static void us_copy_data(struct us_ring *ring, u64 position, struct bio *bio)
{
	US_SEGMENT_DECLARE(segment, iterator);

	us_for_each_segment(segment, bio, iterator) {
		u8 *bytes = us_map_page(US_SEGMENT(segment).bv_page);

		us_ring_write(ring, position, bytes + US_SEGMENT(segment).bv_offset, US_SEGMENT(segment).bv_len);
		us_unmap_page(bytes);
		position += US_SEGMENT(segment).bv_len;
	}
}

void us_capture_write(struct us_capture *capture)
{
	struct us_server *server = capture->disk->server;
	struct bio *bio = capture->bio;
	u32 bytes = min_t(u32, us_bio_bytes(bio), US_PIECE_BYTES);
	struct us_kind kind = {
		.kind = UNDERSTUDY_CAPTURE_WRITE,
		.flags = capture->flags,
		.sectors = bytes >> UNDERSTUDY_SECTOR_SHIFT,
		.data_bytes = bytes,
	};
	u64 record, data;

	if (us_degraded(capture, us_bio_bytes(bio) >> UNDERSTUDY_SECTOR_SHIFT))
		return;
	/* The rest comes as a bio of its own. */
	if (bytes < us_bio_bytes(bio))
		us_accept_partial(bio, bytes >> UNDERSTUDY_SECTOR_SHIFT);
	if (!us_begin(capture, &kind, &record)) {
		us_lose(capture, kind.sectors, &server->control->common.lost_ring_full);
		return;
	}
	data = record + UNDERSTUDY_RING_HEADER_BYTES + sizeof(struct understudy_capture_record);
	us_copy_data(&server->ring, data, bio);
	us_ring_commit(server, record, bytes);
	us_bio_take_pages(bio, &capture->io->own, capture->io->vec,
			  us_ring_vec(&server->ring, data, bytes, capture->io->vec));
	capture->io->has_ring_pages = true;
}

void us_capture_zero(struct us_capture *capture, u64 sectors)
{
	struct us_server *server = capture->disk->server;
	struct us_kind kind = {
		.kind = UNDERSTUDY_CAPTURE_ZERO,
		.flags = capture->flags,
		.sectors = sectors,
	};
	u64 record;

	if (us_degraded(capture, sectors))
		return;
	if (us_begin(capture, &kind, &record))
		us_ring_commit(server, record, 0);
	else
		us_lose(capture, sectors, &server->control->common.lost_ring_full);
}

/* An operation that changes the disk in a way we do not know. */
void us_capture_unknown(struct us_capture *capture, u64 sectors)
{
	struct us_server *server = capture->disk->server;
	unsigned long irq;

	spin_lock_irqsave(&server->lock, irq);
	us_under_way(capture, sectors, true);
	spin_unlock_irqrestore(&server->lock, irq);
	us_lose(capture, sectors, &server->control->common.lost_unreadable);
}

/* No room: no data was lost, points align to an earlier barrier. */
void us_capture_barrier(struct us_capture *capture)
{
	struct us_kind kind = { .kind = UNDERSTUDY_CAPTURE_BARRIER, .flags = capture->flags };
	u64 record;

	if (us_begin(capture, &kind, &record))
		us_ring_commit(capture->disk->server, record, 0);
}

/* The self-test's read: what its buffer held before. */
void us_capture_probe(struct us_capture *capture)
{
	struct us_server *server = capture->disk->server;
	u32 bytes = us_bio_bytes(capture->bio);
	struct us_kind kind = {
		.kind = UNDERSTUDY_CAPTURE_PROBE,
		.sectors = bytes >> UNDERSTUDY_SECTOR_SHIFT,
		.data_bytes = bytes,
	};
	u64 record;

	us_count(&server->control->common.self_test_seen, 1);
	if (bytes > US_PIECE_BYTES || !us_begin(capture, &kind, &record))
		return;
	us_copy_data(&server->ring, record + UNDERSTUDY_RING_HEADER_BYTES + sizeof(struct understudy_capture_record),
		     capture->bio);
	us_ring_commit(server, record, bytes);
}

/* The device has answered; in any context. */
void us_completed(struct us_io *io, struct bio *bio, bool failed)
{
	struct us_disk *disk = io->disk;
	struct us_server *server = disk->server;
	unsigned long irq;

	if (io->has_ring_pages)
		us_bio_give_back(bio, &io->own);
	/* What was read of the extent since it was marked may be older than what the disk holds now. */
	if (io->lost || failed)
		us_mark_dirty(disk, io->sector, io->sectors);
	/* The journal has the write, the disk has it or has not: only reading tells. */
	if (failed && !io->lost) {
		us_count(&server->control->failed_writes, 1);
		us_count_loss(server, &server->control->common.lost_untracked);
	}
	smp_wmb();
	spin_lock_irqsave(&server->lock, irq);
	list_del(&io->in_flight);
	if (io->holds)
		list_del(&io->holding);
	if (io->lost)
		server->control->common.in_flight_lost--;
	spin_unlock_irqrestore(&server->lock, irq);
	io->disk = NULL;
}
