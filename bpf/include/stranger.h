/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a server tells whom. To a peer that may know everything its stamps are told as they are; to
 * a stranger, times from an origin of its session, and made-up numbers for the places in other
 * namespaces than the server's own: what happened where still differs, but says nothing else.
 */
#pragma once

const volatile __u64 secret[2] = {}; /* random, of this run */

/* Under the secret of this run. A global function of numbers: the verifier follows it once. */
__noinline __u64 keyed_hash(__u64 a, __u64 b, __u64 c)
{
	const __u64 words[] = { a, b, c };

	return pt_siphash(secret, words, 3);
}

const volatile __u32 own_netns = 0; /* the namespace that it serves */
const volatile bool open = false; /* everybody may know everything */
const volatile bool deny_others = false; /* serve only who is in `peers` */

/* Networks and addresses, IPv4 as ::ffff:a.b.c.d, and whether they are served. */
struct pt_network {
	__u32 prefix; /* length, bits */
	__be32 address[4];
};
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct pt_network);
	__type(value, __u32);
} peers SEC(".maps");

const volatile bool has_peers = false;

static __always_inline bool is_served(const __be32 *peer)
{
	struct pt_network one = { .prefix = 128 };
	const __u32 *served;

	if (!has_peers)
		return true;
	__builtin_memcpy(one.address, peer, sizeof(one.address));
	served = bpf_map_lookup_elem(&peers, &one);
	return served ? *served : !deny_others;
}

/* Numbers beyond the epochs of cookies: what else the secret of this run is used for. */
enum { FOR_ORIGIN = 0xffffffffu, FOR_PLACE = 0xfffffffeu };

/*
 * The origin of a session's times. Large against the time that a host has run, so that a sum says
 * nothing of that; 58 bits, so that sums and differences fit in 63.
 */
static __always_inline __u64 origin_of(const __be32 *peer, __u32 session)
{
	__u64 words[2];

	__builtin_memcpy(words, peer, sizeof(words));
	return keyed_hash(words[0], words[1], (__u64)session << 32 | FOR_ORIGIN) >> 6;
}

/*
 * Namespace and device as they are told, the namespace in the upper half. To a stranger those of
 * other namespaces are replaced: of one session the same by the same, and below any real inode. A
 * global function, as it is called for each stamp.
 */
__noinline __u64 told_place(__u64 origin, __u32 netns, __u32 ifindex, __u32 trusted)
{
	const __u64 in = (__u64)netns << 32;

	if (!netns || netns == own_netns || trusted)
		return in | ifindex;
	return (1 + (keyed_hash(origin, in, FOR_PLACE) & 0xffff)) << 32 |
	       (1 + (keyed_hash(origin, in | ifindex, FOR_PLACE) & 0xffff));
}
