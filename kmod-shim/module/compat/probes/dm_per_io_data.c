// SPDX-License-Identifier: GPL-2.0-only
#include <linux/device-mapper.h>
void probe(struct dm_target *ti);
void probe(struct dm_target *ti) { ti->per_io_data_size = 1; }
