/* SPDX-License-Identifier: Apache-2.0 */
/* The compiled BPF objects, as bytes for bpf_object__open_mem(). They live as long as the program. */
#ifndef UNDERSTUDY_BPF_OBJECTS_H
#define UNDERSTUDY_BPF_OBJECTS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

const void *understudy_capture_loop_object(size_t *size);
const void *understudy_capture_bounded_object(size_t *size);
const void *understudy_calibrate_object(size_t *size);

#ifdef __cplusplus
}
#endif

#endif /* UNDERSTUDY_BPF_OBJECTS_H */
