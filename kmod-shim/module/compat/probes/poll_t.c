// SPDX-License-Identifier: GPL-2.0-only
#include <linux/poll.h>
__poll_t probe(void);
__poll_t probe(void) { return EPOLLIN; }
