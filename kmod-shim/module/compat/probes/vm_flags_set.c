// SPDX-License-Identifier: GPL-2.0-only
#include <linux/mm.h>
void probe(struct vm_area_struct *area);
void probe(struct vm_area_struct *area) { vm_flags_set(area, VM_DONTEXPAND); }
