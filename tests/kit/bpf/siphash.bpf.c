// SPDX-License-Identifier: GPL-2.0-only
/* SipHash as the kernel's programs compute it, of 0 to 4 words. */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include "siphash.h"

char LICENSE[] SEC("license") = "GPL";

__u64 key[2], words[4], hashes[5];

SEC("socket")
int siphash(void *ctx)
{
	const __u64 copy[] = { words[0], words[1], words[2], words[3] };

	hashes[0] = pt_siphash(key, copy, 0);
	hashes[1] = pt_siphash(key, copy, 1);
	hashes[2] = pt_siphash(key, copy, 2);
	hashes[3] = pt_siphash(key, copy, 3);
	hashes[4] = pt_siphash(key, copy, 4);
	return 0;
}
