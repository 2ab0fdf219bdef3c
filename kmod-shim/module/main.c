// SPDX-License-Identifier: GPL-2.0-only
#include <linux/module.h>

#include "understudy.h"

static int __init us_init(void)
{
	int err = us_device_register();

	if (err)
		return err;
	err = us_target_register();
	if (err < 0)
		us_device_unregister();
	return err;
}

/* Not while there is a capture: each has a reference to the module. */
static void __exit us_exit(void)
{
	us_target_unregister();
	us_device_unregister();
}

module_init(us_init);
module_exit(us_exit);

MODULE_DESCRIPTION("Understudy: capture of block writes, in order, for replication");
MODULE_AUTHOR("The Understudy authors");
MODULE_LICENSE("GPL");
MODULE_VERSION("1");
