// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device-mapper target `understudy`: dm-linear, with every write captured on its way down.
 *
 *     <start> <length> understudy <server> <slot> <device> <offset>
 *
 * Server and slot have been made by CREATE and SET_DISK; the slot must be that of the very device whose table this is.
 * A device may have several such lines. Messages: mark, degrade, resume.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/device-mapper.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "understudy.h"

#define DM_MSG_PREFIX "understudy"

struct us_target {
	struct us_disk *disk;
	struct dm_dev *dev;
	sector_t start;
	u32 align;
	bool live;
	bool was_live;
};

/* Data in the ring begins where the device below can be written from. */
static int us_alignment(struct block_device *bdev, u32 *align)
{
	struct request_queue *queue = bdev_get_queue(bdev);
	u32 mask = queue_dma_alignment(queue) | (bdev_logical_block_size(bdev) - 1) | 511;

	if (mask & (mask + 1) || mask >= PAGE_SIZE || us_too_few_segments(queue))
		return -EINVAL;
	*align = mask + 1;
	return 0;
}

/* The slot `argument` of `server`, if it is the one of the device that this table is for. */
static struct us_disk *us_target_disk(struct dm_target *ti, const char *server_name, const char *argument)
{
	struct us_server *server = us_server_find(server_name);
	struct us_disk *disk;
	unsigned int slot;

	if (!server) {
		ti->error = "no such server";
		return NULL;
	}
	if (kstrtouint(argument, 10, &slot) || slot >= UNDERSTUDY_DISKS_MAX || !server->disks[slot]) {
		ti->error = "no such slot";
		return NULL;
	}
	disk = server->disks[slot];
	if (disk->retired || disk->dev != disk_devt(dm_disk(dm_table_get_md(ti->table)))) {
		ti->error = "the slot is of another device";
		return NULL;
	}
	if (ti->begin + ti->len > disk->sectors) {
		ti->error = "the device is larger than its slot";
		return NULL;
	}
	return disk;
}

static int us_attach(struct dm_target *ti, struct us_target *target, char **argv)
{
	struct us_disk *disk;

	mutex_lock(&us_registry_mutex);
	disk = us_target_disk(ti, argv[0], argv[1]);
	if (disk) {
		kref_get(&disk->server->ref);
		spin_lock(&disk->server->state_lock);
		disk->targets++;
		spin_unlock(&disk->server->state_lock);
		target->disk = disk;
	}
	mutex_unlock(&us_registry_mutex);
	return disk ? 0 : -EINVAL;
}

static int us_open_below(struct dm_target *ti, struct us_target *target, char **argv)
{
	unsigned long long start;
	int err;

	if (kstrtoull(argv[3], 10, &start) || start != (sector_t)start) {
		ti->error = "invalid offset";
		return -EINVAL;
	}
	target->start = start;
	err = dm_get_device(ti, argv[2], dm_table_get_mode(ti->table), &target->dev);
	if (err) {
		ti->error = "device lookup failed";
		return err;
	}
	err = us_alignment(target->dev->bdev, &target->align);
	if (err) {
		ti->error = "the device wants its data aligned to more than a page, or in very few pieces";
		dm_put_device(ti, target->dev);
	}
	return err;
}

static int us_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct us_target *target;
	int err;

	if (argc != 4) {
		ti->error = "4 arguments are needed: server, slot, device, offset";
		return -EINVAL;
	}
	target = kzalloc(sizeof(*target), GFP_KERNEL);
	if (!target) {
		ti->error = "out of memory";
		return -ENOMEM;
	}
	err = us_limit_bios(ti, US_PIECE_BYTES >> UNDERSTUDY_SECTOR_SHIFT);
	if (!err)
		err = us_open_below(ti, target, argv);
	if (!err) {
		err = us_attach(ti, target, argv);
		if (err)
			dm_put_device(ti, target->dev);
	}
	if (err) {
		kfree(target);
		return err;
	}
	us_target_features(ti, sizeof(struct us_io));
	ti->private = target;
	return 0;
}

static void us_dtr(struct dm_target *ti)
{
	struct us_target *target = ti->private;
	struct us_server *server = target->disk->server;

	dm_put_device(ti, target->dev);
	us_disk_ended(target->disk, target->was_live);
	us_server_put(server);
	kfree(target);
}

static void us_resume(struct dm_target *ti)
{
	struct us_target *target = ti->private;

	if (target->live)
		return;
	target->live = target->was_live = true;
	us_disk_live(target->disk, ti->len);
}

static void us_postsuspend(struct dm_target *ti)
{
	struct us_target *target = ti->private;

	if (!target->live)
		return;
	target->live = false;
	us_disk_not_live(target->disk, ti->len);
}

static void us_capture_bio(struct us_target *target, struct dm_target *ti, struct us_capture *capture)
{
	struct bio *bio = capture->bio;
	enum us_operation operation = us_bio_operation(bio);
	u64 sectors = us_bio_bytes(bio) >> UNDERSTUDY_SECTOR_SHIFT;

	if (us_bio_is(bio, PREFLUSH))
		capture->flags |= UNDERSTUDY_CAPTURE_PREFLUSH;
	if (us_bio_is(bio, FUA))
		capture->flags |= UNDERSTUDY_CAPTURE_FUA;
	if (us_bio_is(bio, META))
		capture->flags |= UNDERSTUDY_CAPTURE_META;
	if (!sectors) {
		/* Device-mapper sends a flush to every target; one record is enough, when the first one has it. */
		if (ti->begin == 0)
			us_capture_barrier(capture);
		return;
	}
	switch (operation) {
	case US_WRITE:
		us_capture_write(capture);
		break;
	case US_DISCARD:
		capture->flags |= UNDERSTUDY_CAPTURE_DISCARD;
		us_capture_zero(capture, sectors);
		break;
	case US_ZEROES:
		us_capture_zero(capture, sectors);
		break;
	default:
		us_capture_unknown(capture, sectors);
		break;
	}
}

static int us_map(struct dm_target *ti, struct bio *bio)
{
	struct us_target *target = ti->private;
	struct us_io *io = dm_per_bio_data(bio, sizeof(*io));
	struct us_server *server = target->disk->server;
	struct us_capture capture = {
		.disk = target->disk,
		.io = io,
		.bio = bio,
		.sector = us_bio_sector(bio),
		.align = target->align,
	};

	io->disk = NULL;
	if (us_bio_operation(bio) != US_READ) {
		us_capture_bio(target, ti, &capture);
	} else if (unlikely(READ_ONCE(server->control->common.self_test_pid))) {
		if (READ_ONCE(server->control->common.self_test_pid) == (u32)task_tgid_nr(current))
			us_capture_probe(&capture);
	}
	us_bio_set_device(bio, target->dev->bdev);
	us_bio_sector(bio) = target->start + (capture.sector - ti->begin);
	return DM_MAPIO_REMAPPED;
}

static int us_end_io(struct dm_target *ti, struct bio *bio, us_error_t error)
{
	struct us_io *io = dm_per_bio_data(bio, sizeof(*io));

	if (io->disk)
		us_completed(io, bio, us_is_error(error));
	return us_end_io_result(error);
}

static void us_status(struct dm_target *ti, status_type_t type, unsigned int flags, char *result, unsigned int maxlen)
{
	struct us_target *target = ti->private;
	struct us_disk *disk = target->disk;
	struct understudy_control *control = &disk->server->control->common;
	unsigned int sz = 0;

	switch (type) {
	case STATUSTYPE_INFO:
		DMEMIT("%s captured %llu lost %llu ring %llu/%llu", READ_ONCE(disk->degraded) ? "degraded" : "capturing",
		       (unsigned long long)READ_ONCE(control->captured_bios),
		       (unsigned long long)READ_ONCE(control->loss_count),
		       (unsigned long long)(READ_ONCE(disk->server->ring.head) - READ_ONCE(disk->server->ring.tail)),
		       (unsigned long long)disk->server->ring.bytes);
		break;
	case STATUSTYPE_TABLE:
		DMEMIT("%s %u %s %llu", disk->server->name, disk->slot, target->dev->name,
		       (unsigned long long)target->start);
		break;
	default:
		*result = '\0';
		break;
	}
}

/* A barrier's record, so that who reads the ring finds this moment in it. */
static void us_mark(struct us_target *target)
{
	struct us_capture capture = { .disk = target->disk };

	us_capture_barrier(&capture);
}

static int us_message_words(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct us_target *target = ti->private;

	if (argc != 1)
		return -EINVAL;
	if (!strcasecmp(argv[0], "mark"))
		us_mark(target);
	else if (!strcasecmp(argv[0], "degrade"))
		WRITE_ONCE(target->disk->degraded, true);
	else if (!strcasecmp(argv[0], "resume"))
		WRITE_ONCE(target->disk->degraded, false);
	else
		return -EINVAL;
	return 0;
}
US_DEFINE_MESSAGE(us_message, us_message_words)

static int us_iterate_devices(struct dm_target *ti, iterate_devices_callout_fn fn, void *data)
{
	struct us_target *target = ti->private;

	return fn(ti, target->dev, target->start, ti->len, data);
}

static struct target_type us_target_type = {
	.name = UNDERSTUDY_MODULE_TARGET,
	.version = { 1, 0, 0 },
	.features = US_TARGET_FEATURES,
	.module = THIS_MODULE,
	.ctr = us_ctr,
	.dtr = us_dtr,
	.map = us_map,
	.end_io = us_end_io,
	.resume = us_resume,
	.postsuspend = us_postsuspend,
	.status = us_status,
	.message = us_message,
	.iterate_devices = us_iterate_devices,
};

int us_target_register(void)
{
	return dm_register_target(&us_target_type);
}

void us_target_unregister(void)
{
	dm_unregister_target(&us_target_type);
}
