/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The table of slots, one for each probe in flight, and the sessions of a server: direct-mapped
 * arrays. So a look-up is one index and one comparison, memory is bounded, and user space reads
 * the slots in place.
 */
#pragma once

/* Sizes are set before loading; both are powers of two. */
const volatile __u32 record_mask = 1023;
const volatile __u32 session_mask = 16383;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct pt_stamp_slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct pt_session);
} sessions SEC(".maps");

/* What user space is to look at (struct pt_pending). */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} pending SEC(".maps");

/*
 * Knuth's multiplicative hash: sessions of one peer, and peers of one subnet, spread. An address
 * differs from its neighbour's in the highest bits of a little-endian word, which a product keeps
 * there: they are folded down before and after.
 */
static __always_inline __u32 pt_hash(const __be32 *peer, __u32 session)
{
	__u32 h = peer[0] ^ peer[1] ^ peer[2] ^ peer[3];

	h ^= session;
	h = (h ^ h >> 16) * 2654435769u;
	return h ^ h >> 16;
}

static __always_inline __u32 pt_index(__u32 hash, __u32 sequence)
{
	return (hash + sequence) & record_mask;
}

static __always_inline struct pt_stamp_slot *pt_slot(__u32 hash, __u32 sequence)
{
	__u32 index = pt_index(hash, sequence);

	return bpf_map_lookup_elem(&slots, &index);
}

static __always_inline struct pt_session *pt_session_of(__u32 hash)
{
	__u32 index = hash & session_mask;

	return bpf_map_lookup_elem(&sessions, &index);
}

/*
 * Whether the served namespace makes, or made, the reply: ICMP has the request, and a device there
 * queues the reply before any device of this kernel receives it. A router receives it first.
 * Addresses may be translated on the way, so they say nothing.
 */
static __always_inline bool pt_is_own_reply(const struct pt_stamp_slot *rec)
{
	if (rec->used[PT_REPLY])
		return rec->stamp[PT_REPLY][0].point == bpf_htons(PT_R_TX_DEVQUEUE);
	return rec->state & PT_REC_DELIVERED;
}

static __always_inline bool pt_same_peer(const __be32 *a, const __be32 *b)
{
	return a[3] == b[3] && a[2] == b[2] && a[1] == b[1] && a[0] == b[0];
}

static __always_inline bool pt_is_session(const struct pt_session *s, __u32 session,
					  const __be32 *peer)
{
	return s->session == session && pt_same_peer(s->peer, peer);
}

/* Takes the entry for this session; true if that displaced another one. */
static __always_inline bool pt_claim_session(struct pt_session *s, __u32 session,
					     const __be32 *peer)
{
	bool other = s->session;

	if (pt_is_session(s, session, peer))
		return false;
	s->session = session;
	__builtin_memcpy(s->peer, peer, sizeof(s->peer));
	s->head = s->tail = s->own = 0;
	s->named = 0;
	return other;
}

struct pt_where {
	__u32 netns, ifindex;
	__u16 host;
	__u16 flags; /* enum pt_stamp_flag */
};

static __always_inline void pt_fill(struct pt_stamp *s, enum pt_point point, __u64 now,
				    const struct pt_where *at)
{
	s->time_ns = bpf_cpu_to_be64(now);
	s->netns = bpf_htonl(at->netns);
	s->ifindex = bpf_htonl(at->ifindex);
	s->host = bpf_htons(at->host);
	s->point = bpf_htons(point);
	s->cpu = bpf_htons((bpf_get_smp_processor_id() & PT_STAMP_CPU) | at->flags);
	s->aux = 0;
}

/* Appends a stamp; false if the slot is full. */
static __always_inline bool pt_push(struct pt_stamp_slot *rec, enum pt_direction direction,
				    enum pt_point point, __u64 now, const struct pt_where *at)
{
	__u32 d = direction == PT_REPLY, n = rec->used[d];

	if (n >= PT_STAMPS)
		return false;
	/* For verifiers before 6.2: the indices themselves must carry their bounds, not copies. */
	barrier_var(n);
	barrier_var(d);
	pt_fill(&rec->stamp[d & 1][n & (PT_STAMPS - 1)], point, now, at);
	rec->used[d & 1] = n + 1;
	return true;
}
