/* SPDX-License-Identifier: GPL-2.0-only */
/* Layout shared by the program that lists tasks and user space. */
#pragma once

struct pt_task_ids {
	__u32 kernel; /* in the initial PID namespace, as programs see it */
	__u32 own; /* in the reader's */
};
