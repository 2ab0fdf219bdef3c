/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Layouts that only the BPF programs and daemon/tracker/ share, beside capture_abi.h. Same rules: no padding. */
#ifndef UNDERSTUDY_BPF_LAYOUT_H
#define UNDERSTUDY_BPF_LAYOUT_H

#include "../capture_abi.h"

/* Data sizes of ring records: a ring reservation has to be of constant size. */
#define UNDERSTUDY_RECORD_LARGE 65536
#define UNDERSTUDY_RECORD_MEDIUM 16384
#define UNDERSTUDY_RECORD_SMALL 4096
#define UNDERSTUDY_RECORD_SECTOR 512

/* Per-CPU state is an array of this size: a machine with more possible CPUs is refused. */
#define UNDERSTUDY_CPUS_MAX 1024

/* Open addressing: dev * multiplier >> 24 is the first place looked at, then the next ones. */
#define UNDERSTUDY_DISK_KEYS 256
#define UNDERSTUDY_DISK_KEY_TRIES 8

/* Extents of more granules than this set all_dirty. */
#define UNDERSTUDY_MARK_MAX 65536
#define UNDERSTUDY_MARK_MAX_BOUNDED 256

/* Found out by user space and written into the programs' read-only data before they are loaded. */
struct understudy_constants {
	__u64 vmemmap_base;        /* address of struct page number 0 */
	__u64 direct_map_base;     /* address of physical address 0 */
	__u32 page_struct_bytes;   /* sizeof(struct page) */
	__u32 page_struct_shift;   /* log2 of it, 0 if it is no power of two */
	__u32 queue_argument;      /* position of the bio among block_bio_queue's arguments: 0 since 5.11, before 1 */
	__u32 reserved;
	__u64 bio_chain_endio;     /* address of the kernel's function; 0 = hidden */
};
UNDERSTUDY_ABI_ASSERT(sizeof(struct understudy_constants) == 40);

/* The disks, and how a dev_t finds its slot. */
struct understudy_disk_table {
	struct understudy_disk disks[UNDERSTUDY_DISKS_MAX];
	__u32 keys[UNDERSTUDY_DISK_KEYS];  /* dev_t, 0 = free. Never freed, a disk without `active` is not watched */
	__u8 slots[UNDERSTUDY_DISK_KEYS];
	__u32 multiplier;
	__u32 reserved;
};
UNDERSTUDY_ABI_ASSERT(sizeof(struct understudy_disk_table) == 64 * 64 + 256 * 5 + 8);

/* What the first program on a CPU saw last. */
enum note_state {
	NOTE_EMPTY = 0,
	NOTE_NOTED = 1,     /* the capturing program has to come for it */
	NOTE_CAPTURING = 2, /* it has, and is at work */
};

struct note {
	__u64 bio;
	__u64 sector;
	__u32 bytes;
	__u32 opf;
	__u32 state;
	__u16 disk;
	__u16 probe;    /* a read of the self-test */
	__u64 reserved[4];
};

/* How far the capturing program has come in the bio's data. In memory, not in registers: this keeps it out of the
 * verifier's way, which would otherwise follow every value it can have. */
struct walk {
	__u64 bvecs;     /* address of the bio's vector */
	__u64 address;   /* of the next byte */
	__u64 piece;     /* bytes from there to the end of the segment */
	__u64 filled;    /* of the record being filled */
	__u64 goal;      /* bytes this record shall get */
	__u64 sector;    /* of the next record */
	__u64 left;      /* bytes of the bio not yet in records */
	__u64 bio;
	__u64 time_ns;
	__u32 index;     /* next segment */
	__u16 disk;
	__u8 kind;
	__u8 flags;      /* of every record */
	__u8 first_flags;
	__u8 last_flags;
	__u16 failed;    /* enum walk_failure */
	__u32 reserved[9];
};

enum walk_failure {
	WALK_OK = 0,
	WALK_RING_FULL,
	WALK_UNREADABLE,
	WALK_TOO_LONG,
};

#endif /* UNDERSTUDY_BPF_LAYOUT_H */
