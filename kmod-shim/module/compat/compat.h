/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where kernels differ. The module is written for today's names; what an older kernel calls otherwise is decided here
 * by what compat/probe.sh found to compile (compat_config.h), never by version numbers.
 */
#ifndef UNDERSTUDY_COMPAT_H
#define UNDERSTUDY_COMPAT_H

#include "compat_config.h"

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/device-mapper.h>
#include <linux/highmem.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/string.h>
#include <linux/types.h>
#ifdef US_HAVE_SCHED_MM_HEADER
#include <linux/sched/mm.h>
#else
#include <linux/sched.h>
#endif

/* --- memory order --- */
#ifndef READ_ONCE
#define READ_ONCE(x) ACCESS_ONCE(x)
#define WRITE_ONCE(x, value) (ACCESS_ONCE(x) = (value))
#endif
#ifdef smp_load_acquire
#define us_load_acquire(pointer) smp_load_acquire(pointer)
#define us_store_release(pointer, value) smp_store_release(pointer, value)
#else
#define us_load_acquire(pointer) ({ typeof(*(pointer)) us_value = READ_ONCE(*(pointer)); smp_mb(); us_value; })
#define us_store_release(pointer, value) do { smp_mb(); WRITE_ONCE(*(pointer), value); } while (0)
#endif

/* --- bios --- */
#ifdef US_HAVE_BIO_ITER
#define us_bio_sector(bio) ((bio)->bi_iter.bi_sector)
#define us_bio_bytes(bio) ((bio)->bi_iter.bi_size)
#define US_SEGMENT_DECLARE(segment, iterator) struct bio_vec segment; struct bvec_iter iterator
#define US_SEGMENT(segment) (segment)
#else
#define us_bio_sector(bio) ((bio)->bi_sector)
#define us_bio_bytes(bio) ((bio)->bi_size)
#define US_SEGMENT_DECLARE(segment, iterator) struct bio_vec *segment; int iterator
#define US_SEGMENT(segment) (*(segment))
#endif
#define us_for_each_segment(segment, bio, iterator) bio_for_each_segment(segment, bio, iterator)

/* The pages a bio came with. */
struct us_bio_pages {
	struct bio_vec *vec;
#ifndef US_HAVE_BIO_ITER
	unsigned short index;
	unsigned short count;
#endif
};

/* Gives the bio `count` other pages of the same bytes. It must have its own again before it ends. */
static inline void us_bio_take_pages(struct bio *bio, struct us_bio_pages *own, struct bio_vec *vec, u32 count)
{
	own->vec = bio->bi_io_vec;
	bio->bi_io_vec = vec;
#ifdef US_HAVE_BIO_ITER
	bio->bi_iter.bi_idx = 0;
	bio->bi_iter.bi_bvec_done = 0;
#else
	own->index = bio->bi_idx;
	own->count = bio->bi_vcnt;
	bio->bi_idx = 0;
	bio->bi_vcnt = count;
	bio->bi_flags &= ~(1UL << BIO_SEG_VALID); /* the segments have to be counted anew */
#endif
}

static inline void us_bio_give_back(struct bio *bio, const struct us_bio_pages *own)
{
	bio->bi_io_vec = own->vec;
#ifndef US_HAVE_BIO_ITER
	bio->bi_idx = own->index;
	bio->bi_vcnt = own->count;
#endif
}

/* Before bios were split below, whoever made them kept to the queue's limit: so must we, who may need one more page. */
#ifdef US_HAVE_BIO_ITER
#define us_too_few_segments(queue) false
#else
#define us_too_few_segments(queue) (queue_max_segments(queue) < US_PIECE_PAGES)
#endif

#ifdef US_HAVE_BIO_OP
#define us_bio_is(bio, flag) (((bio)->bi_opf & REQ_##flag) != 0)
#define us_bio_operation(bio) us_operation_of(bio_op(bio))
#define us_operation_of(op)                                                                            \
	((op) == REQ_OP_WRITE ? US_WRITE :                                                             \
	 !op_is_write(op) && (op) != REQ_OP_FLUSH ? US_READ :                                          \
	 (op) == REQ_OP_DISCARD || (op) == REQ_OP_SECURE_ERASE ? US_DISCARD :                          \
	 (op) == REQ_OP_WRITE_ZEROES ? US_ZEROES : US_UNKNOWN)
#else
#define US_FLAG_PREFLUSH REQ_FLUSH
#define US_FLAG_FUA REQ_FUA
#define US_FLAG_META REQ_META
#define us_bio_is(bio, flag) (((bio)->bi_rw & US_FLAG_##flag) != 0)
#define us_bio_operation(bio)                                                                          \
	(!((bio)->bi_rw & REQ_WRITE) ? US_READ :                                                       \
	 (bio)->bi_rw & REQ_DISCARD ? US_DISCARD :                                                     \
	 (bio)->bi_rw & REQ_WRITE_SAME ? US_UNKNOWN : US_WRITE)
#endif

#ifdef US_HAVE_BIO_SET_DEV
#define us_bio_set_device(bio, bdev) bio_set_dev(bio, bdev)
#else
#define us_bio_set_device(bio, bdev) ((bio)->bi_bdev = (bdev))
#endif

#ifdef US_HAVE_KMAP_LOCAL
#define us_map_page(page) kmap_local_page(page)
#define us_unmap_page(address) kunmap_local(address)
#else
#define us_map_page(page) kmap_atomic(page)
#define us_unmap_page(address) kunmap_atomic(address)
#endif

/* --- device-mapper --- */
#ifdef US_HAVE_DM_ENDIO_STATUS
#define us_error_t blk_status_t *
#define us_is_error(error) (*(error) != BLK_STS_OK)
#define us_end_io_result(error) DM_ENDIO_DONE
#else
#define us_error_t int
#define us_is_error(error) ((error) != 0)
#define us_end_io_result(error) (error)
#endif

#ifdef US_HAVE_DM_MESSAGE_RESULT
#define US_DEFINE_MESSAGE(name, words)                                                                 \
	static int name(struct dm_target *ti, unsigned int argc, char **argv, char *result, unsigned int maxlen) \
	{                                                                                              \
		return words(ti, argc, argv);                                                          \
	}
#else
#define US_DEFINE_MESSAGE(name, words)                                                                 \
	static int name(struct dm_target *ti, unsigned int argc, char **argv)                          \
	{                                                                                              \
		return words(ti, argc, argv);                                                          \
	}
#endif

/* Flushes, discards and the like come as often as to dm-linear: once. */
static inline void us_target_features(struct dm_target *ti, unsigned int io_bytes)
{
	ti->num_flush_bios = 1;
	ti->num_discard_bios = 1;
#ifdef US_HAVE_DM_SECURE_ERASE
	ti->num_secure_erase_bios = 1;
#endif
#ifdef US_HAVE_DM_WRITE_ZEROES
	ti->num_write_zeroes_bios = 1;
#endif
#ifdef US_HAVE_DM_PER_IO_DATA
	ti->per_io_data_size = io_bytes;
#else
	ti->per_bio_data_size = io_bytes;
#endif
}

/* Only so much of the bio now; the rest comes again. Where this is not to be had, no bio comes that is longer. */
#ifdef US_HAVE_DM_ACCEPT_PARTIAL_BIO
#define us_accept_partial(bio, sectors) dm_accept_partial_bio(bio, sectors)
#define us_limit_bios(ti, sectors) 0
#else
#define us_accept_partial(bio, sectors) do { } while (0)
#define us_limit_bios(ti, sectors) dm_set_target_max_io_len(ti, sectors)
#endif

/* map() never sleeps. */
#ifdef DM_TARGET_NOWAIT
#define US_TARGET_FEATURES DM_TARGET_NOWAIT
#else
#define US_TARGET_FEATURES 0
#endif

/* --- memory areas and polling --- */
#ifdef US_HAVE_VM_FLAGS_SET
#define us_vm_flags_set(area, flags) vm_flags_set(area, flags)
#define us_vm_flags_clear(area, flags) vm_flags_clear(area, flags)
#else
#define us_vm_flags_set(area, flags) ((area)->vm_flags |= (flags))
#define us_vm_flags_clear(area, flags) ((area)->vm_flags &= ~(flags))
#endif
#define us_vma_pages(area) (((area)->vm_end - (area)->vm_start) >> PAGE_SHIFT)

#ifdef US_HAVE_POLL_T
#define us_poll_t __poll_t
#define US_POLL_IN (EPOLLIN | EPOLLRDNORM)
#define US_POLL_ERROR EPOLLERR
#else
#define us_poll_t unsigned int
#define US_POLL_IN (POLLIN | POLLRDNORM)
#define US_POLL_ERROR POLLERR
#endif

/* --- time and text --- */
#ifdef US_HAVE_BOOTTIME_NS
#define us_boot_ns() ktime_get_boottime_ns()
#elif defined(US_HAVE_BOOT_NS)
#define us_boot_ns() ktime_get_boot_ns()
#else
#define us_boot_ns() ktime_to_ns(ktime_get_boottime())
#endif
#ifndef US_HAVE_STRSCPY
#define strscpy(target, source, bytes) strlcpy(target, source, bytes)
#endif
#ifndef U64_MAX
#define U64_MAX (~0ULL)
#endif

#endif /* UNDERSTUDY_COMPAT_H */
