// SPDX-License-Identifier: GPL-2.0-only
#include <linux/string.h>
long probe(char *target, const char *source);
long probe(char *target, const char *source) { return strscpy(target, source, 8); }
