/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * What calibrate.bpf.c and daemon/tracker/address_translation.cc share. User space fills in the first half and reads
 * one block of `dev` with O_DIRECT into a page of its own; the program sees that bio while the page still holds what
 * user space put there, and fills in the second half.
 */
#ifndef UNDERSTUDY_CALIBRATE_ABI_H
#define UNDERSTUDY_CALIBRATE_ABI_H

#define UNDERSTUDY_COOKIE_BYTES 64

struct understudy_calibrate {
	__u32 dev;              /* kernel dev_t of the disk that is read */
	__u32 pid;              /* of the reading process; 0 = look at nothing */
	__u64 vmemmap_base;     /* to try: 0 = do not translate */
	__u64 direct_map_base;
	__u64 raw_address;      /* to read as it is: 0 = nothing */
	__u64 vmemmap_symbol;   /* addresses of the kernel's own variables; 0 = not known */
	__u64 direct_map_symbol;

	__u64 seen;             /* matching bios so far */
	__u64 page;             /* struct page * of the first segment */
	__u64 offset;           /* bv_offset of the first segment */
	__u64 disk;             /* address of a slab object (the gendisk): lies in the direct map */
	__u64 page_struct_bytes;
	__u64 symbol_vmemmap_base;    /* what those variables say; 0 = not known */
	__u64 symbol_direct_map_base;
	__s64 translated_error;
	__s64 raw_error;
	__u8 translated[UNDERSTUDY_COOKIE_BYTES]; /* the page's first bytes, read through the two bases */
	__u8 raw[UNDERSTUDY_COOKIE_BYTES];        /* what stands at raw_address */
};

#endif /* UNDERSTUDY_CALIBRATE_ABI_H */
