/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * What the kernel side of capture (BPF programs or the module) and user space agree on: the records in the ring, the
 * dirty map, the control block and the loss counters. One file for all three languages: BPF C, kernel C and C++.
 * Everything is host byte order: it never leaves the machine. No implicit padding; sizes are pinned at the end.
 *
 * The includer provides the __u8 .. __u64 types (<linux/types.h>, or vmlinux.h in BPF).
 */
#ifndef UNDERSTUDY_CAPTURE_ABI_H
#define UNDERSTUDY_CAPTURE_ABI_H

/*
 * Bumped on any change below, but for fields of user space alone that take the place of a reserved zero.
 * An agent refuses a kernel side of another version, naming both.
 */
#define UNDERSTUDY_CAPTURE_ABI_VERSION 1

/* Disks of one server in one ring. A slot number is the disk's index in the control tables. */
#define UNDERSTUDY_DISKS_MAX 64

/* Sectors are 512 bytes everywhere in the block layer, whatever the logical block size. */
#define UNDERSTUDY_SECTOR_SHIFT 9

enum understudy_capture_kind {
	UNDERSTUDY_CAPTURE_WRITE = 1,   /* data follows the header */
	UNDERSTUDY_CAPTURE_ZERO = 2,    /* write-zeroes, discard, secure erase: no data */
	UNDERSTUDY_CAPTURE_BARRIER = 3, /* an empty flush: everything completed before is durable after */
	UNDERSTUDY_CAPTURE_PROBE = 4,   /* the self-test: what the buffer of its own READ held; never part of the stream */
};

/*
 * Flags of a record. A flush that comes with data sits on the first record of its bio (it acts before the data),
 * FUA on the last one (it acts after the data).
 */
#define UNDERSTUDY_CAPTURE_PREFLUSH (1u << 0)
#define UNDERSTUDY_CAPTURE_FUA (1u << 1)
#define UNDERSTUDY_CAPTURE_DISCARD (1u << 2) /* ZERO came from a discard or secure erase, not from write-zeroes */
#define UNDERSTUDY_CAPTURE_META (1u << 3)    /* the file system called it metadata */

/*
 * One record of the ring. A bio becomes one or more records, in order; each is a write of its own for the stream,
 * because a power cut may tear a bio at any sector. Records stand in the order in which bios were submitted.
 */
struct understudy_capture_record {
	__u8 kind;         /* enum understudy_capture_kind */
	__u8 flags;        /* UNDERSTUDY_CAPTURE_* */
	__u16 disk;        /* slot */
	__u32 data_bytes;  /* bytes of data behind this header; 0 unless WRITE. May be less than the ring record holds */
	__u64 sector;      /* first sector, of the whole disk (partitions resolved) */
	__u64 sectors;     /* how many */
	__u64 time_ns;     /* CLOCK_BOOTTIME at submission */
	__u64 loss_count;  /* understudy_control.loss_count when the record was made */
	__u64 bio;         /* identity of the bio, for debugging only */
};

/*
 * State of a granule in the dirty map, one byte each. The kernel only ever stores DIRTY; user space moves
 * DIRTY -> CLAIMED -> CLEAN by compare-and-swap, so a write that is lost while the granule is being re-read makes it
 * DIRTY again and no clean is stored over it. After an agent died, CLAIMED counts as DIRTY.
 */
enum understudy_granule_state {
	UNDERSTUDY_GRANULE_CLEAN = 0,
	UNDERSTUDY_GRANULE_DIRTY = 1,
	UNDERSTUDY_GRANULE_CLAIMED = 2,
};

/* Granules live in fixed pages of this many bytes (one BPF array element each). A power of two. */
#define UNDERSTUDY_DIRTY_PAGE_BYTES 4096

/*
 * A disk the kernel side watches. slot = index. Written by user space only, before `active` is set; all_dirty by both.
 */
struct understudy_disk {
	__u32 dev;               /* kernel dev_t of the whole disk (major << 20 | minor); 0 = free slot */
	__u32 active;            /* 1 = capture */
	__u64 sectors;           /* size when attached */
	__u64 dirty_first;       /* index of its first granule in the dirty map; a multiple of the page size */
	__u32 granule_shift;     /* log2 of the granule in sectors */
	__u32 all_dirty;         /* kernel: 1 = an extent too long to mark by granules was lost; user: 2 while it folds
	                            this into the map, then 0. Anything but 0 means that every granule is DIRTY */
	__u64 identity;          /* user: the disk's diskseq, 0 where the kernel has none */
	__u64 reserved[3];
};

/* Copy mode: disks are being read for the stream, so writes in flight must be known. */
enum understudy_copy_mode {
	UNDERSTUDY_COPY_OFF = 0,      /* only lost writes are in the in-flight map */
	UNDERSTUDY_COPY_SETTLING = 1, /* every write is noted; writes submitted before may still be in flight */
	UNDERSTUDY_COPY_SETTLED = 2,  /* every write in flight is in the map; should an unknown one complete all the same,
	                                 its extent becomes dirty and the loss counters move */
	UNDERSTUDY_COPY_DRAINING = 3, /* no write is noted any more, completing ones still leave the map */
};

/*
 * One control block per ring. The kernel side writes the counters, user space the rest. Shared by mmap.
 * loss_count moves with every write that did not become records in full; its extent is DIRTY before loss_count moves.
 */
struct understudy_control {
	__u32 abi_version;
	__u32 copy_mode;         /* user: enum understudy_copy_mode */
	__u32 consumer_asleep;   /* user: 1 before it sleeps; the kernel side wakes it once and clears this */
	__u32 self_test_pid;     /* user: reads of watched disks by this process are reported as PROBE; 0 = none */
	__u64 capture_id_low;    /* user: random identity of this capture; new whenever completeness cannot be proved */
	__u64 capture_id_high;
	__u64 loss_count;        /* sum of the following, the figure stamped into records */
	__u64 lost_ring_full;    /* bios (or their rest) that found no room in the ring */
	__u64 lost_skipped;      /* bios whose capture program did not run */
	__u64 lost_unreadable;   /* bios with a page that could not be read, or of an unknown operation */
	__u64 lost_too_long;     /* bios with more segments than the kernel's verifier lets us walk */
	__u64 lost_untracked;    /* bios that could not be noted as in flight; unknown ones that completed when settled */
	__u64 old_completions;   /* writes that copy mode did not know of and that completed while settling */
	__u64 in_flight_lost;    /* lost bios that have not completed yet */
	__u64 captured_bios;
	__u64 captured_bytes;
	__u64 unprovable_base;   /* user: skipped runs of the first program when the capture id was taken */
	__u64 self_test_seen;    /* reads of the self-test that the first program noted */
	__u64 acknowledged_seq;  /* user: last record a receiver acknowledged; 0 = not known */
	__u64 reserved[1];       /* zero */
};

/* How many copies of the completing program there are (kmod-shim/bpf/README.md, "Completions"). */
#define UNDERSTUDY_COMPLETION_COPIES 3
#define UNDERSTUDY_COMPLETION_COUNTS 4 /* the next power of two */

/* Value of the in-flight map, keyed by the bio's address: every write in copy mode, else the lost ones. */
struct understudy_in_flight {
	__u64 sector;
	__u64 sectors;
	__u32 left[UNDERSTUDY_COMPLETION_COUNTS]; /* sectors not completed yet, as each copy has seen it */
	__u32 stamp;             /* time of the note (low bits): tells a bio from an older one at the same address */
	__u16 disk;
	__u16 lost;              /* 1 = its data, or a part of it, is not in the ring */
};

#ifdef __cplusplus
#define UNDERSTUDY_ABI_ASSERT(expression) static_assert(expression, #expression)
#else
#define UNDERSTUDY_ABI_ASSERT(expression) _Static_assert(expression, #expression)
#endif
UNDERSTUDY_ABI_ASSERT(sizeof(struct understudy_capture_record) == 48);
UNDERSTUDY_ABI_ASSERT(sizeof(struct understudy_disk) == 64);
UNDERSTUDY_ABI_ASSERT(sizeof(struct understudy_control) == 144);
UNDERSTUDY_ABI_ASSERT(sizeof(struct understudy_in_flight) == 40);

#endif /* UNDERSTUDY_CAPTURE_ABI_H */
