// SPDX-License-Identifier: GPL-2.0-only
/*
 * Servers and their disks: what is kept from CREATE to DESTROY, whoever is there to look at it.
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include "understudy.h"

DEFINE_MUTEX(us_registry_mutex);
static LIST_HEAD(us_servers);

static void us_disk_free(struct us_disk *disk)
{
	if (!disk)
		return;
	vfree(disk->states);
	kfree(disk);
}

static void us_server_free(struct kref *ref)
{
	struct us_server *server = container_of(ref, struct us_server, ref);
	int slot;

	for (slot = 0; slot < UNDERSTUDY_DISKS_MAX; slot++)
		us_disk_free(server->disks[slot]);
	us_ring_free(&server->ring);
	vfree(server->shared);
	kfree(server);
}

void us_server_put(struct us_server *server)
{
	kref_put(&server->ref, us_server_free);
}

/* A ring that would take half of the machine's memory is a mistake. */
static bool us_memory_fits(u64 bytes)
{
	struct sysinfo info;

	si_meminfo(&info);
	return bytes >> PAGE_SHIFT <= info.totalram / 2;
}

struct us_server *us_server_create(const char *name, u64 ring_bytes)
{
	struct us_server *server;
	int err = -ENOMEM;

	if (us_server_find(name))
		return ERR_PTR(-EEXIST);
	if (!us_memory_fits(ring_bytes))
		return ERR_PTR(-ENOMEM);
	server = kzalloc(sizeof(*server), GFP_KERNEL);
	if (!server)
		return ERR_PTR(-ENOMEM);
	kref_init(&server->ref);
	strscpy(server->name, name, sizeof(server->name));
	init_waitqueue_head(&server->readers);
	spin_lock_init(&server->lock);
	spin_lock_init(&server->state_lock);
	INIT_LIST_HEAD(&server->in_flight);
	INIT_LIST_HEAD(&server->holding);
	server->shared = vmalloc_user(3 * PAGE_SIZE);
	if (!server->shared)
		goto out;
	server->control = (struct understudy_module_control *)(server->shared + 2 * PAGE_SIZE);
	server->control->common.abi_version = UNDERSTUDY_CAPTURE_ABI_VERSION;
	err = us_ring_make(&server->ring, ring_bytes, server->shared, server->shared + PAGE_SIZE);
	if (err)
		goto out;
	/* As long as there is a capture the module stays. */
	if (!try_module_get(THIS_MODULE)) {
		err = -ENODEV;
		goto out;
	}
	list_add_tail(&server->node, &us_servers);
	return server;
out:
	us_server_put(server);
	return ERR_PTR(err);
}

struct us_server *us_server_find(const char *name)
{
	struct us_server *server;

	list_for_each_entry(server, &us_servers, node)
		if (!strcmp(server->name, name))
			return server;
	return NULL;
}

struct us_disk *us_disk_find(u32 dev)
{
	struct us_server *server;
	int slot;

	list_for_each_entry(server, &us_servers, node)
		for (slot = 0; slot < UNDERSTUDY_DISKS_MAX; slot++)
			if (server->disks[slot] && server->disks[slot]->dev == dev && !server->disks[slot]->retired)
				return server->disks[slot];
	return NULL;
}

/* The registry's part of it goes; files and mappings may still have theirs. */
int us_server_destroy(struct us_server *server)
{
	int slot;

	if (server->destroyed)
		return -ENOENT;
	for (slot = 0; slot < UNDERSTUDY_DISKS_MAX; slot++)
		if (server->disks[slot] && READ_ONCE(server->disks[slot]->targets))
			return -EBUSY;
	server->destroyed = true;
	list_del(&server->node);
	us_server_put(server);
	module_put(THIS_MODULE);
	return 0;
}

int us_disk_set(struct us_server *server, const struct understudy_module_disk *wanted)
{
	struct us_disk *disk;
	u64 granules;

	if (wanted->slot >= UNDERSTUDY_DISKS_MAX || wanted->granule_shift < UNDERSTUDY_GRANULE_SHIFT_MIN ||
	    wanted->granule_shift > UNDERSTUDY_GRANULE_SHIFT_MAX || !wanted->sectors ||
	    wanted->sectors > U64_MAX >> UNDERSTUDY_SECTOR_SHIFT)
		return -EINVAL;
	if (!wanted->dev)
		return -ENODEV;
	if (server->disks[wanted->slot])
		return -EEXIST;
	if (us_disk_find(wanted->dev))
		return -EBUSY;
	granules = ((wanted->sectors - 1) >> wanted->granule_shift) + 1;
	if (granules > UNDERSTUDY_MMAP_DIRTY_STRIDE || !us_memory_fits(granules))
		return -ENOMEM;
	disk = kzalloc(sizeof(*disk), GFP_KERNEL);
	if (!disk)
		return -ENOMEM;
	disk->map_bytes = PAGE_ALIGN(granules);
	disk->states = vmalloc_user(disk->map_bytes);
	if (!disk->states) {
		kfree(disk);
		return -ENOMEM;
	}
	disk->server = server;
	disk->slot = wanted->slot;
	disk->dev = wanted->dev;
	disk->sectors = wanted->sectors;
	disk->granule_shift = wanted->granule_shift;
	disk->identity = wanted->identity;
	disk->granules = granules;
	us_store_release(&server->disks[disk->slot], disk); /* us_mmap() looks without the mutex */
	return 0;
}

/*
 * The next ones are called by device-mapper, also while a device is suspended: they must not wait for anybody who may
 * wait for its I/O, so they take the state lock only.
 */

/* A table in use has a target of this disk, of so many sectors. Before its first bio. */
void us_disk_live(struct us_disk *disk, u64 sectors)
{
	struct us_server *server = disk->server;
	bool missed;

	spin_lock(&server->state_lock);
	disk->live_sectors += sectors;
	missed = disk->gap && disk->live_sectors >= disk->sectors;
	spin_unlock(&server->state_lock);
	if (!missed)
		return;
	/* What passed while nobody looked is in no record. */
	us_mark_dirty(disk, 0, disk->sectors);
	us_count_loss(server, &server->control->common.lost_skipped);
	spin_lock(&server->state_lock);
	disk->gap = false;
	spin_unlock(&server->state_lock);
}

/* Suspended; all its bios have completed. */
void us_disk_not_live(struct us_disk *disk, u64 sectors)
{
	spin_lock(&disk->server->state_lock);
	disk->live_sectors -= sectors;
	spin_unlock(&disk->server->state_lock);
}

/* A target is gone. If it was in use, another one may have taken its place; else nobody sees the disk's writes. */
void us_disk_ended(struct us_disk *disk, bool was_live)
{
	struct us_server *server = disk->server;
	bool unasked;

	spin_lock(&server->state_lock);
	disk->targets--;
	unasked = was_live && !disk->retired && disk->live_sectors < disk->sectors;
	if (unasked)
		disk->gap = true;
	spin_unlock(&server->state_lock);
	if (!unasked)
		return;
	us_mark_dirty(disk, 0, disk->sectors);
	us_count(&server->control->ended_unasked, 1);
	us_count_loss(server, &server->control->common.lost_skipped);
}

/* From now on its tables may go without that being a loss. */
void us_disk_retire(struct us_disk *disk)
{
	spin_lock(&disk->server->state_lock);
	disk->retired = true;
	disk->gap = false;
	spin_unlock(&disk->server->state_lock);
}
