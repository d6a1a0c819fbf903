/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Requests that a server refuses, by cause: their number in all, and by source for as many sources
 * as there is room for. Which set a source belongs to is decided by the secret of this run, so
 * nobody can aim at the place of another.
 */
#pragma once

/* At most one notification of another key in this time. */
enum { NOTIFY_EVERY_NS = 100000000 };

__u64 refused[PT_REFUSALS];
__u64 notified_ns; /* of another key, the last time */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, PT_REFUSED_SETS *PT_WAYS);
	__type(key, __u32);
	__type(value, struct pt_refused);
} refused_sources SEC(".maps");

/* The place of a source, or the one that it is to take: empty, or silent for the longest time. */
static __always_inline __u32 place_of_refused(const __be32 *peer)
{
	const __u32 set = pt_hash(peer, 0) % PT_REFUSED_SETS * PT_WAYS;
	__u32 i, at, oldest = set;
	struct pt_refused *source;
	__u64 oldest_ns = ~0ULL;

#pragma unroll
	for (i = 0; i < PT_WAYS; i++) {
		at = set + i;
		source = bpf_map_lookup_elem(&refused_sources, &at);
		if (!source)
			return PT_NONE;
		if (source->last_ns && pt_same_peer(source->peer, peer))
			return at;
		if (source->last_ns < oldest_ns) {
			oldest_ns = source->last_ns;
			oldest = at;
		}
	}
	return oldest;
}

/*
 * Counts a request. Returns whether user space is to be notified: its source has another key, which
 * was not said yet. A global function of numbers: the verifier follows it once.
 */
__noinline int count_refused(__u64 peer01, __u64 peer23, __u32 session, __u32 cause)
{
	const __u64 half[2] = { peer01, peer23 }, now = pt_now();
	const __be32 *peer = (const __be32 *)half;
	__u32 at = place_of_refused(peer);
	struct pt_refused *source = bpf_map_lookup_elem(&refused_sources, &at);

	if (!source || cause >= PT_REFUSALS)
		return 0;
	if (!source->last_ns || !pt_same_peer(source->peer, peer)) {
		__builtin_memset(source, 0, sizeof(*source));
		__builtin_memcpy(source->peer, peer, sizeof(source->peer));
		source->first_ns = now;
	}
	source->session = session;
	source->last_ns = now;
	barrier_var(cause);
	__sync_fetch_and_add(&source->count[cause & (PT_REFUSALS - 1)], 1);
	if (cause != PT_REFUSED_OTHER_KEY || source->notified ||
	    now - notified_ns < NOTIFY_EVERY_NS)
		return 0;
	source->notified = 1;
	notified_ns = now;
	return 1;
}
