// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/understudy: how user space makes, finds, maps and ends captures. Whatever it says is checked here; nothing that
 * it can write into shared memory is trusted anywhere.
 */
#include <linux/capability.h>
#include <linux/ctype.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "understudy.h"

struct us_file {
	struct us_server *server; /* NULL until CREATE or OPEN; set once, under the registry mutex */
};

static int us_open(struct inode *inode, struct file *file)
{
	struct us_file *handle;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	handle = kzalloc(sizeof(*handle), GFP_KERNEL);
	if (!handle)
		return -ENOMEM;
	file->private_data = handle;
	return 0;
}

static int us_release(struct inode *inode, struct file *file)
{
	struct us_file *handle = file->private_data;

	if (handle->server) {
		mutex_lock(&us_registry_mutex);
		handle->server->bound = false;
		mutex_unlock(&us_registry_mutex);
		us_server_put(handle->server);
	}
	kfree(handle);
	return 0;
}

static int us_bind(struct us_file *handle, struct us_server *server)
{
	if (server->bound)
		return -EBUSY;
	server->bound = true;
	kref_get(&server->ref);
	us_store_release(&handle->server, server);
	return 0;
}

static bool us_name_is_valid(const char *name, size_t size)
{
	size_t length = strnlen(name, size), i;

	if (!length || length > UNDERSTUDY_SERVER_BYTES_MAX)
		return false;
	for (i = 0; i < length; i++)
		if (!isgraph(name[i]) || name[i] == '/')
			return false;
	return true;
}

/* What an ioctl brings and takes back. Copied in before and out after the registry mutex is held. */
union us_argument {
	struct understudy_module_version version;
	struct understudy_module_server server;
	struct understudy_module_disk disk;
	struct understudy_module_in_flight_list in_flight;
	struct understudy_module_find find;
};

struct us_call {
	struct us_file *handle;
	union us_argument *argument;
	unsigned long number;                        /* the argument of commands that bring a number */
	struct understudy_module_in_flight *writes;  /* IN_FLIGHT: what is to be copied out, freed by us_ioctl() */
};

static long us_version(struct us_call *call)
{
	call->argument->version.capture_abi = UNDERSTUDY_CAPTURE_ABI_VERSION;
	call->argument->version.module_abi = UNDERSTUDY_MODULE_ABI_VERSION;
	return 0;
}

static long us_create(struct us_call *call)
{
	struct understudy_module_server *wanted = &call->argument->server;
	struct us_server *server;

	if (call->handle->server || !us_name_is_valid(wanted->name, sizeof(wanted->name)) ||
	    wanted->ring_bytes < UNDERSTUDY_MODULE_RING_BYTES_MIN ||
	    wanted->ring_bytes > UNDERSTUDY_MODULE_RING_BYTES_MAX ||
	    (wanted->ring_bytes & (wanted->ring_bytes - 1)))
		return -EINVAL;
	server = us_server_create(wanted->name, wanted->ring_bytes);
	if (IS_ERR(server))
		return PTR_ERR(server);
	return us_bind(call->handle, server);
}

static long us_open_server(struct us_call *call)
{
	struct understudy_module_server *wanted = &call->argument->server;
	struct us_server *server;

	if (call->handle->server || !us_name_is_valid(wanted->name, sizeof(wanted->name)))
		return -EINVAL;
	server = us_server_find(wanted->name);
	if (!server)
		return -ENOENT;
	wanted->ring_bytes = server->ring.bytes;
	return us_bind(call->handle, server);
}

static long us_set_disk(struct us_call *call)
{
	const struct understudy_module_disk *wanted = &call->argument->disk;

	if (wanted->retired || wanted->live_sectors || wanted->targets || wanted->degraded || wanted->reserved[0] ||
	    wanted->reserved[1])
		return -EINVAL;
	return us_disk_set(call->handle->server, wanted);
}

static struct us_disk *us_disk_of_slot(struct us_server *server, unsigned long slot)
{
	return slot < UNDERSTUDY_DISKS_MAX ? us_load_acquire(&server->disks[slot]) : NULL;
}

static long us_get_disk(struct us_call *call)
{
	struct understudy_module_disk *answer = &call->argument->disk;
	struct us_disk *disk = us_disk_of_slot(call->handle->server, answer->slot);

	if (!disk)
		return -ENOENT;
	memset(answer, 0, sizeof(*answer));
	answer->slot = disk->slot;
	answer->dev = disk->dev;
	answer->sectors = disk->sectors;
	answer->granule_shift = disk->granule_shift;
	answer->identity = disk->identity;
	spin_lock(&disk->server->state_lock);
	answer->retired = disk->retired;
	answer->live_sectors = disk->live_sectors;
	answer->targets = disk->targets;
	spin_unlock(&disk->server->state_lock);
	answer->degraded = READ_ONCE(disk->degraded);
	return 0;
}

static void us_note_in_flight(struct us_call *call, const struct us_disk *disk, u64 sector, u64 sectors, bool lost)
{
	struct understudy_module_in_flight_list *list = &call->argument->in_flight;

	if (list->count < list->capacity) {
		struct understudy_module_in_flight *write = &call->writes[list->count];

		write->sector = sector;
		write->sectors = sectors;
		write->disk = disk->slot;
		write->lost = lost;
	}
	list->count++;
}

static long us_in_flight(struct us_call *call)
{
	struct understudy_module_in_flight_list *list = &call->argument->in_flight;
	struct us_server *server = call->handle->server;
	struct us_io *io;
	unsigned long irq;
	int slot;

	if (!list->capacity || list->capacity > UNDERSTUDY_IN_FLIGHT_CAPACITY_MAX)
		return -EINVAL;
	call->writes = vzalloc((size_t)list->capacity * sizeof(*call->writes));
	if (!call->writes)
		return -ENOMEM;
	list->count = 0;
	for (slot = 0; slot < UNDERSTUDY_DISKS_MAX; slot++) {
		struct us_disk *disk = server->disks[slot];

		if (disk && READ_ONCE(disk->gap))
			us_note_in_flight(call, disk, 0, disk->sectors, true);
	}
	spin_lock_irqsave(&server->lock, irq);
	list_for_each_entry(io, &server->in_flight, in_flight)
		us_note_in_flight(call, io->disk, io->sector, io->sectors, io->lost);
	spin_unlock_irqrestore(&server->lock, irq);
	return 0;
}

static long us_release_disk(struct us_call *call)
{
	struct us_disk *disk = us_disk_of_slot(call->handle->server, call->number);

	if (!disk)
		return -ENOENT;
	us_disk_retire(disk);
	return 0;
}

static long us_destroy(struct us_call *call)
{
	return us_server_destroy(call->handle->server);
}

static long us_find_disk(struct us_call *call)
{
	struct understudy_module_find *find = &call->argument->find;
	struct us_disk *disk = us_disk_find(find->dev);

	if (!disk)
		return -ENOENT;
	memset(find->name, 0, sizeof(find->name));
	strscpy(find->name, disk->server->name, sizeof(find->name));
	find->slot = disk->slot;
	return 0;
}

static const struct us_command {
	unsigned int number;
	bool needs_server;
	long (*run)(struct us_call *call);
} us_commands[] = {
	{ UNDERSTUDY_IOC_VERSION, false, us_version },
	{ UNDERSTUDY_IOC_CREATE, false, us_create },
	{ UNDERSTUDY_IOC_OPEN, false, us_open_server },
	{ UNDERSTUDY_IOC_FIND_DISK, false, us_find_disk },
	{ UNDERSTUDY_IOC_SET_DISK, true, us_set_disk },
	{ UNDERSTUDY_IOC_GET_DISK, true, us_get_disk },
	{ UNDERSTUDY_IOC_RELEASE_DISK, true, us_release_disk },
	{ UNDERSTUDY_IOC_IN_FLIGHT, true, us_in_flight },
	{ UNDERSTUDY_IOC_DESTROY, true, us_destroy },
};

static long us_run(const struct us_command *command, struct us_call *call)
{
	unsigned int noio;
	long ret;

	if (mutex_lock_interruptible(&us_registry_mutex))
		return -ERESTARTSYS;
	/* Memory must not be waited for by writing it to a device that waits, suspended, for this mutex. */
	noio = memalloc_noio_save();
	ret = command->needs_server && !call->handle->server ? -ENOTCONN : command->run(call);
	memalloc_noio_restore(noio);
	mutex_unlock(&us_registry_mutex);
	return ret;
}

static long us_copy_writes(const struct us_call *call)
{
	const struct understudy_module_in_flight_list *list = &call->argument->in_flight;
	size_t stored = min(list->count, list->capacity);

	return copy_to_user((void __user *)(unsigned long)list->buffer, call->writes, stored * sizeof(*call->writes)) ?
		       -EFAULT : 0;
}

static long us_ioctl(struct file *file, unsigned int number, unsigned long argument)
{
	union us_argument bytes;
	struct us_call call = { .handle = file->private_data, .argument = &bytes, .number = argument };
	const struct us_command *command = NULL;
	void __user *pointer = (void __user *)argument;
	size_t i;
	long ret;

	for (i = 0; i < ARRAY_SIZE(us_commands); i++)
		if (us_commands[i].number == number)
			command = &us_commands[i];
	if (!command)
		return -ENOTTY;
	memset(&bytes, 0, sizeof(bytes));
	if ((_IOC_DIR(number) & _IOC_WRITE) && copy_from_user(&bytes, pointer, _IOC_SIZE(number)))
		return -EFAULT;
	ret = us_run(command, &call);
	if (!ret && call.writes)
		ret = us_copy_writes(&call);
	vfree(call.writes);
	if (!ret && (_IOC_DIR(number) & _IOC_READ) && copy_to_user(pointer, &bytes, _IOC_SIZE(number)))
		ret = -EFAULT;
	return ret;
}

static us_poll_t us_poll(struct file *file, poll_table *table)
{
	struct us_file *handle = file->private_data;
	struct us_server *server = us_load_acquire(&handle->server);

	if (!server)
		return US_POLL_ERROR;
	poll_wait(file, &server->readers, table);
	return us_load_acquire(server->ring.producer) != READ_ONCE(*server->ring.consumer) ? US_POLL_IN : 0;
}

/* `count` pages of vmalloc()ed memory at `memory`, to the area's page `at`. */
static int us_insert(struct vm_area_struct *area, unsigned long at, const void *memory, unsigned long count)
{
	unsigned long i;

	for (i = 0; i < count && at + i < us_vma_pages(area); i++) {
		int err = vm_insert_page(area, area->vm_start + ((at + i) << PAGE_SHIFT),
					 vmalloc_to_page((const u8 *)memory + (i << PAGE_SHIFT)));

		if (err)
			return err;
		cond_resched();
	}
	return 0;
}

static int us_map_ring(struct us_server *server, struct vm_area_struct *area)
{
	struct us_ring *ring = &server->ring;
	unsigned long pages = ring->bytes >> PAGE_SHIFT;
	unsigned long first = area->vm_pgoff;
	int err;

	if (first == 0)
		return us_vma_pages(area) == 1 ? us_insert(area, 0, ring->consumer, 1) : -EINVAL;
	if (first != 1 || us_vma_pages(area) > 1 + 2 * pages)
		return -EINVAL;
	if (area->vm_flags & VM_WRITE)
		return -EPERM;
	us_vm_flags_clear(area, VM_MAYWRITE);
	err = us_insert(area, 0, ring->producer, 1);
	if (!err)
		err = us_insert(area, 1, ring->data, pages);
	if (!err)
		err = us_insert(area, 1 + pages, ring->data, pages);
	return err;
}

static int us_map_dirty(struct us_server *server, struct vm_area_struct *area, u64 offset)
{
	struct us_disk *disk = us_disk_of_slot(server, offset / UNDERSTUDY_MMAP_DIRTY_STRIDE);

	if (!disk || offset % UNDERSTUDY_MMAP_DIRTY_STRIDE || (u64)us_vma_pages(area) << PAGE_SHIFT > disk->map_bytes)
		return -EINVAL;
	return us_insert(area, 0, disk->states, us_vma_pages(area));
}

static int us_map_area(struct us_server *server, struct vm_area_struct *area)
{
	u64 offset = (u64)area->vm_pgoff << PAGE_SHIFT;

	if (offset >= UNDERSTUDY_MMAP_DIRTY)
		return us_map_dirty(server, area, offset - UNDERSTUDY_MMAP_DIRTY);
	if (offset == UNDERSTUDY_MMAP_CONTROL)
		return us_vma_pages(area) == 1 ? us_insert(area, 0, server->control, 1) : -EINVAL;
	if (offset > UNDERSTUDY_MMAP_CONTROL)
		return -EINVAL;
	return us_map_ring(server, area);
}

/* Without the mutex: what a bound file can see of its server is set once and stays. */
static int us_mmap(struct file *file, struct vm_area_struct *area)
{
	struct us_file *handle = file->private_data;
	struct us_server *server = us_load_acquire(&handle->server);

	if (!server)
		return -ENOTCONN;
	if (!(area->vm_flags & VM_SHARED))
		return -EINVAL;
	us_vm_flags_set(area, VM_DONTEXPAND | VM_DONTDUMP);
	return us_map_area(server, area);
}

static const struct file_operations us_operations = {
	.owner = THIS_MODULE,
	.open = us_open,
	.release = us_release,
	.unlocked_ioctl = us_ioctl,
	.compat_ioctl = us_ioctl,
	.poll = us_poll,
	.mmap = us_mmap,
	.llseek = noop_llseek,
};

static struct miscdevice us_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "understudy",
	.mode = 0600,
	.fops = &us_operations,
};

int us_device_register(void)
{
	return misc_register(&us_device);
}

void us_device_unregister(void)
{
	misc_deregister(&us_device);
}
