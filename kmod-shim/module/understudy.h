/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of understudy.ko share. README.md beside this file says how it works.
 *
 * Locks, none taken inside another but for the mutex, which is outermost:
 *   us_registry_mutex     which servers and disks there are and who is bound. Whoever holds it waits for no I/O: memory
 *                         is allocated without, user space's memory is not touched
 *   us_server.state_lock  which targets a disk has; taken while a device is suspended
 *   us_server.lock        the ring's positions and the lists of writes under way; taken in the I/O path, in any context
 */
#ifndef UNDERSTUDY_MODULE_H
#define UNDERSTUDY_MODULE_H

#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>

#include "compat/compat.h"
#include "module_abi.h"

/* A record takes at most this much data; longer bios become several. One page more, as data may begin within one. */
#define US_PIECE_BYTES (128U << 10)
#define US_PIECE_PAGES (US_PIECE_BYTES / PAGE_SIZE + 1)

struct us_ring {
	u8 *data;
	struct page **pages; /* of data, for bios to be submitted from */
	u64 bytes;
	u64 *consumer;       /* shared: user space may write anything there at any time */
	u64 *producer;       /* shared, read-only to user space */
	u64 head;
	u64 tail;            /* the last believable consumer position */
};

struct us_server;

struct us_disk {
	struct us_server *server;
	u16 slot;
	u32 dev;
	u64 sectors;
	u32 granule_shift;
	u64 identity;
	u8 *states;          /* shared: the dirty map */
	u64 granules;
	u64 map_bytes;       /* of the map, whole pages */
	u64 live_sectors;    /* under the state lock, as all below; targets are added under the mutex as well */
	u32 targets;
	bool retired;        /* changed under the mutex as well */
	bool gap;            /* writes may have passed uncaptured since a live table went away */
	bool degraded;       /* no lock: written by messages, read in the I/O path */
};

struct us_server {
	struct kref ref;
	struct list_head node;
	char name[UNDERSTUDY_SERVER_BYTES_MAX + 1];
	bool bound;          /* a file is */
	bool destroyed;      /* no longer in the registry */
	struct us_disk *disks[UNDERSTUDY_DISKS_MAX];
	u8 *shared;          /* three pages: consumer, producer, control */
	struct understudy_module_control *control;
	wait_queue_head_t readers;
	spinlock_t state_lock;

	spinlock_t lock ____cacheline_aligned_in_smp;
	struct us_ring ring;
	struct list_head in_flight; /* every write under way, in the order of submission */
	struct list_head holding;   /* those the disk is written with from the ring: it is not overwritten before */
};

/* What a write under way carries with it: in the memory device-mapper has for each bio. */
struct us_io {
	struct us_disk *disk; /* NULL = not a write, nothing to do on completion */
	struct list_head in_flight;
	struct list_head holding;
	u64 sector;
	u64 sectors;
	u64 position;         /* where its records begin */
	bool lost;
	bool holds;
	bool has_ring_pages;
	struct us_bio_pages own;
	struct bio_vec vec[US_PIECE_PAGES];
};

/* server.c */
extern struct mutex us_registry_mutex;
struct us_server *us_server_create(const char *name, u64 ring_bytes);
struct us_server *us_server_find(const char *name);
struct us_disk *us_disk_find(u32 dev);
int us_server_destroy(struct us_server *server);
void us_server_put(struct us_server *server);
int us_disk_set(struct us_server *server, const struct understudy_module_disk *wanted);
void us_disk_live(struct us_disk *disk, u64 sectors);
void us_disk_not_live(struct us_disk *disk, u64 sectors);
void us_disk_ended(struct us_disk *disk, bool was_live);
void us_disk_retire(struct us_disk *disk);

/* ring.c */
int us_ring_make(struct us_ring *ring, u64 bytes, u8 *consumer, u8 *producer);
void us_ring_free(struct us_ring *ring);
bool us_ring_reserve(struct us_server *server, u32 data_bytes, u32 align, u64 *record);
void us_ring_write(struct us_ring *ring, u64 position, const void *bytes, u32 count);
void us_ring_commit(struct us_server *server, u64 record, u32 data_bytes);
u32 us_ring_vec(const struct us_ring *ring, u64 position, u32 bytes, struct bio_vec *vec);

/* loss.c */
void us_mark_dirty(struct us_disk *disk, u64 sector, u64 sectors);
void us_count(__u64 *counter, u64 count);
void us_count_loss(struct us_server *server, __u64 *counter);

/* capture.c */
enum us_operation { US_READ, US_WRITE, US_DISCARD, US_ZEROES, US_UNKNOWN };
struct us_capture {
	struct us_disk *disk;
	struct us_io *io;
	struct bio *bio;
	u64 sector;       /* of the whole disk */
	u32 align;        /* of the data in the ring, so that the device can be written from there */
	u32 flags;        /* UNDERSTUDY_CAPTURE_* */
};
void us_capture_write(struct us_capture *capture);
void us_capture_zero(struct us_capture *capture, u64 sectors);
void us_capture_unknown(struct us_capture *capture, u64 sectors);
void us_capture_barrier(struct us_capture *capture);
void us_capture_probe(struct us_capture *capture);
void us_completed(struct us_io *io, struct bio *bio, bool failed);

/* device.c, target.c */
int us_device_register(void);
void us_device_unregister(void);
int us_target_register(void);
void us_target_unregister(void);

#endif /* UNDERSTUDY_MODULE_H */
