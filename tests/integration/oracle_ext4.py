#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every point of a busy ext4 server with two disks is an exact prefix of what was written, with a sound file system."""

import file_system_oracle
import harness

harness.main(lambda case: file_system_oracle.run(case, "ext4"))
