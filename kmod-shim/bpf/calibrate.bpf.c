// SPDX-License-Identifier: GPL-2.0-only
/*
 * Finds out, and proves, where the kernel maps memory: the address of `struct page` number 0 (vmemmap) and of physical
 * address 0 (the direct map). Both are randomised at boot on most kernels. See README.md, "Address translation".
 */
#include "bio.h"

#include "calibrate_abi.h"

char _license[] SEC("license") = "GPL";

struct understudy_calibrate calibrate SEC(".data.calibrate") = {};

SEC("tp_btf/block_bio_queue")
int find_bases(unsigned long long *ctx)
{
	struct bio *bio;
	struct segment segment;

	if (!calibrate.pid || bpf_get_current_pid_tgid() >> 32 != calibrate.pid)
		return 0;
	bio = queued_bio(ctx);
	if (whole_disk_dev(bio) != calibrate.dev)
		return 0;
	if (!bio->bi_iter.bi_size || read_segment(&segment, (__u64)BPF_CORE_READ(bio, bi_io_vec), bio->bi_iter.bi_idx))
		return 0;

	calibrate.page = segment.page;
	calibrate.offset = segment.offset + bio->bi_iter.bi_bvec_done;
	calibrate.disk = (__u64)disk_of(bio);
	calibrate.page_struct_bytes = bpf_core_type_size(struct page);
	if (calibrate.vmemmap_symbol)
		bpf_probe_read_kernel(&calibrate.symbol_vmemmap_base, sizeof(__u64),
				      (const void *)calibrate.vmemmap_symbol);
	if (calibrate.direct_map_symbol)
		bpf_probe_read_kernel(&calibrate.symbol_direct_map_base, sizeof(__u64),
				      (const void *)calibrate.direct_map_symbol);
	if (calibrate.vmemmap_base && calibrate.page_struct_bytes) {
		__u64 frame = (calibrate.page - calibrate.vmemmap_base) / calibrate.page_struct_bytes;

		calibrate.translated_error =
			bpf_probe_read_kernel(calibrate.translated, UNDERSTUDY_COOKIE_BYTES,
					      (const void *)(calibrate.direct_map_base + (frame << 12) +
							     calibrate.offset));
	}
	if (calibrate.raw_address)
		calibrate.raw_error = bpf_probe_read_kernel(calibrate.raw, UNDERSTUDY_COOKIE_BYTES,
							    (const void *)calibrate.raw_address);
	calibrate.seen++;
	return 0;
}
