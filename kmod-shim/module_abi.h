/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * What only the kernel module and user space share, beside capture_abi.h: /dev/understudy, its ioctls and mappings.
 * Same rules: host byte order, no implicit padding, reserved fields are zero (anything else is EINVAL).
 *
 * A server's capture lives in the module until DESTROY; a file is bound to it by CREATE or OPEN, one file at a time,
 * until it is closed. Opening the device needs CAP_SYS_ADMIN.
 *
 * The includer provides __u8 .. __u64 and, for the ioctl numbers, <linux/ioctl.h>.
 */
#ifndef UNDERSTUDY_MODULE_ABI_H
#define UNDERSTUDY_MODULE_ABI_H

#include "capture_abi.h"

/* Bumped on any change below. An agent refuses a module of another version, naming both. */
#define UNDERSTUDY_MODULE_ABI_VERSION 1

/* The device's path, and the dm target's name. */
#define UNDERSTUDY_MODULE_DEVICE "/dev/understudy"
#define UNDERSTUDY_MODULE_TARGET "understudy"

#define UNDERSTUDY_SERVER_BYTES_MAX 199
#define UNDERSTUDY_MODULE_RING_BYTES_MIN (1ULL << 20)
#define UNDERSTUDY_MODULE_RING_BYTES_MAX (1ULL << 31)
/* Granules of 4 KiB to 16 MiB, as log2 of sectors. */
#define UNDERSTUDY_GRANULE_SHIFT_MIN 3
#define UNDERSTUDY_GRANULE_SHIFT_MAX 15

struct understudy_module_version {
	__u32 capture_abi; /* UNDERSTUDY_CAPTURE_ABI_VERSION */
	__u32 module_abi;  /* UNDERSTUDY_MODULE_ABI_VERSION */
};

/* CREATE: makes a server's capture (EEXIST if there is one). OPEN: binds to it (ENOENT; EBUSY when another file is). */
struct understudy_module_server {
	char name[UNDERSTUDY_SERVER_BYTES_MAX + 1]; /* zero-terminated; printable, no blanks, no '/' */
	__u64 ring_bytes;                           /* CREATE: a power of two; OPEN: out */
};

/* SET_DISK: takes a free slot (EEXIST otherwise) and makes its dirty map, all clean. GET_DISK: by slot; ENOENT. */
struct understudy_module_disk {
	__u32 slot;
	__u32 dev;            /* kernel dev_t (major << 20 | minor) of the device-mapper device; ENODEV when 0 */
	__u64 sectors;
	__u32 granule_shift;  /* log2 of the granule in sectors */
	__u32 retired;        /* out: RELEASE_DISK was called */
	__u64 identity;       /* kept for user space: the disk's diskseq, 0 = not known */
	__u64 live_sectors;   /* out: of `sectors`, how many are captured by targets in live tables */
	__u32 targets;        /* out: targets that name this slot, in live and in loaded tables */
	__u32 degraded;       /* out: message "degrade": every write is lost until "resume" */
	__u64 reserved[2];
};

/* One write under way. */
struct understudy_module_in_flight {
	__u64 sector;
	__u64 sectors;
	__u16 disk;
	__u16 lost;      /* 1 = its data is not in the ring */
	__u32 reserved;
};

/*
 * IN_FLIGHT: every write that was submitted and has not completed. `count` is how many there are; those that fit into
 * `capacity` were stored. A disk that has a live target no more counts as one lost write over all of it.
 */
struct understudy_module_in_flight_list {
	__u64 buffer;    /* address of struct understudy_module_in_flight[capacity] */
	__u32 capacity;
	__u32 count;     /* out */
};
#define UNDERSTUDY_IN_FLIGHT_CAPACITY_MAX (1U << 20)

/* FIND_DISK: which server captures the disk `dev`; ENOENT when none. */
struct understudy_module_find {
	char name[UNDERSTUDY_SERVER_BYTES_MAX + 1];
	__u32 dev;
	__u32 slot;      /* out */
};

#define UNDERSTUDY_IOC_VERSION _IOR('U', 0x40, struct understudy_module_version)
#define UNDERSTUDY_IOC_CREATE _IOWR('U', 0x41, struct understudy_module_server)
#define UNDERSTUDY_IOC_OPEN _IOWR('U', 0x42, struct understudy_module_server)
#define UNDERSTUDY_IOC_SET_DISK _IOWR('U', 0x43, struct understudy_module_disk)
#define UNDERSTUDY_IOC_GET_DISK _IOWR('U', 0x44, struct understudy_module_disk)
/* Argument: the slot. Its tables may be replaced from now on without that being a loss; the slot is not used again. */
#define UNDERSTUDY_IOC_RELEASE_DISK _IO('U', 0x45)
#define UNDERSTUDY_IOC_IN_FLIGHT _IOWR('U', 0x46, struct understudy_module_in_flight_list)
/* Ends the capture: EBUSY while any target names it. Memory goes with the last mapping. */
#define UNDERSTUDY_IOC_DESTROY _IO('U', 0x47)
#define UNDERSTUDY_IOC_FIND_DISK _IOWR('U', 0x48, struct understudy_module_find)

/*
 * Mappings of a bound file, all shared. The ring lies at 0 as the kernel's BPF ring buffers do: a page with the
 * consumer's position (writable), a page with the producer's, the data twice (both read-only). A record begins with
 * its length (4 bytes; bit 31 = being written, bit 30 = to be passed over) and 4 bytes of nothing, then
 * struct understudy_capture_record and its data; padded to 8 bytes.
 */
#define UNDERSTUDY_MMAP_RING 0ULL
#define UNDERSTUDY_MMAP_CONTROL (1ULL << 40) /* struct understudy_module_control, writable */
#define UNDERSTUDY_MMAP_DIRTY (1ULL << 41)   /* + slot * stride: a byte per granule, writable */
#define UNDERSTUDY_MMAP_DIRTY_STRIDE (1ULL << 34)

#define UNDERSTUDY_RING_BUSY (1U << 31)
#define UNDERSTUDY_RING_DISCARD (1U << 30)
#define UNDERSTUDY_RING_HEADER_BYTES 8

struct understudy_module_control {
	struct understudy_control common;
	__u64 ended_unasked;  /* how often a disk lost its live targets without RELEASE_DISK */
	__u64 failed_writes;  /* captured writes that the disk answered with an error: counted in lost_untracked as well */
	__u64 reserved[6];
};

UNDERSTUDY_ABI_ASSERT(sizeof(struct understudy_module_server) == 208);
UNDERSTUDY_ABI_ASSERT(sizeof(struct understudy_module_disk) == 64);
UNDERSTUDY_ABI_ASSERT(sizeof(struct understudy_module_in_flight) == 24);
UNDERSTUDY_ABI_ASSERT(sizeof(struct understudy_module_in_flight_list) == 16);
UNDERSTUDY_ABI_ASSERT(sizeof(struct understudy_module_find) == 208);
UNDERSTUDY_ABI_ASSERT(sizeof(struct understudy_module_control) == 208);

#endif /* UNDERSTUDY_MODULE_ABI_H */
