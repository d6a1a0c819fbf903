// SPDX-License-Identifier: GPL-2.0-only
/* For the tests: says in which bucket the recorder counts a time. */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include "bucket.h"

char LICENSE[] SEC("license") = "GPL";

__u64 ns;

SEC("tc")
int bucket(struct __sk_buff *skb)
{
	return bucket_of(ns);
}
