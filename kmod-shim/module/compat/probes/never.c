// SPDX-License-Identifier: GPL-2.0-only
/* Must not compile: a function nobody has, called without a declaration. */
#include <linux/module.h>
int probe(void);
int probe(void) { return understudy_function_that_no_kernel_has(); }
