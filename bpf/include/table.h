/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The table of slots, one for each probe in flight, and the sessions of a server. Memory is
 * bounded, and user space reads both in place.
 *
 * A client has a range of slots for each target, direct-mapped by the sequence number. A server
 * shares its slots among sources that may be its enemies. They are sets of eight, and so are the
 * sessions: a look-up reads the one cache line of a set (struct pt_set), and a newcomer displaces
 * the least valuable of eight. Which set is decided by a hash with a secret key, so nobody can aim
 * at the slots of another.
 */
#pragma once

/* Sizes are set before loading; powers of two. */
const volatile __u32 target_mask = 0; /* client */
const volatile __u32 set_bits = 0; /* server: number of sets of slots, as a power of two */
enum { PT_SESSION_SETS = 2048 };
const volatile __u64 hash_key[8] = {}; /* server: random, of this run */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct pt_stamp_slot);
} slots SEC(".maps");

/* Client only: whom it probes, by the low bits of the session. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pt_target);
} targets SEC(".maps");

/* Server only. Mapped, so that they begin with a page and each fills a cache line. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pt_set);
} slot_sets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, PT_SESSION_SETS *PT_WAYS);
	__type(key, __u32);
	__type(value, struct pt_session);
} sessions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, PT_SESSION_SETS);
	__type(key, __u32);
	__type(value, struct pt_session_set);
} session_sets SEC(".maps");

/* What user space is to look at (struct pt_pending). */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} pending SEC(".maps");

/* No slot, no session: an index that no map has. */
enum { PT_NONE = 0xffffffffu };

/*
 * Multilinear hashing (Carter and Wegman): without the key, two sessions share a value with a
 * probability of 2^-32, whoever chooses them.
 */
static __always_inline __u32 pt_hash(const __be32 *peer, __u32 session)
{
	return (hash_key[0] + hash_key[1] * peer[0] + hash_key[2] * peer[1] +
		hash_key[3] * peer[2] + hash_key[4] * peer[3] + hash_key[5] * session) >>
	       32;
}

/* The source of a session in eight bits: an IPv4 address, or an IPv6 network of 64 bits. */
static __always_inline __u8 pt_source(const __be32 *peer)
{
	__u32 low = peer[0] ? peer[1] : peer[3];

	return (hash_key[6] * peer[0] + hash_key[7] * low) >> 56;
}

/*
 * Probes of a session follow one another through all sets. The first slots of all sets lie side by
 * side, then the second ones: so the slots of a session usually do, too, which caches like.
 */
static __always_inline __u32 pt_set_at(__u32 hash, __u32 sequence)
{
	return (hash + sequence) & ((1u << set_bits) - 1);
}

static __always_inline __u32 pt_slot_at(__u32 set, __u32 place)
{
	return place << set_bits | set;
}

static __always_inline __u32 pt_tag(__u32 hash, __u32 sequence)
{
	__u32 tag = hash ^ sequence * 2654435769u;

	return tag ? tag : 1;
}

/* Times of a set, which wrap: they say which of eight was used last. */
static __always_inline __u16 pt_slot_time(__u64 ns)
{
	return ns >> PT_SLOT_TIME;
}

static __always_inline __u16 pt_session_time(__u64 ns)
{
	return ns >> PT_SESSION_TIME;
}

/*
 * The functions that follow are global: the verifier goes through each of them once, however often
 * it is called. Therefore they take numbers and return an index.
 */

static __always_inline bool pt_same_peer(const __be32 *a, const __be32 *b)
{
	return a[3] == b[3] && a[2] == b[2] && a[1] == b[1] && a[0] == b[0];
}

/* The slot of a server that has this tag. */
static __always_inline __u32 pt_tagged_slot(__u32 hash, __u32 sequence)
{
	__u32 at = pt_set_at(hash, sequence), tag = pt_tag(hash, sequence), i;
	struct pt_set *set = bpf_map_lookup_elem(&slot_sets, &at);

	if (!set)
		return PT_NONE;
#pragma unroll
	for (i = 0; i < PT_WAYS; i++)
		if (set->tag[i] == tag)
			return pt_slot_at(at, i);
	return PT_NONE;
}

/* The slot of a server's probe: session and sequence number, and the peer's address in two halves.
 */
__noinline __u32 pt_find_probe(__u32 hash, __u64 probe, __u64 peer01, __u64 peer23)
{
	const __u32 session = probe >> 32, sequence = probe;
	__u32 index = pt_tagged_slot(hash, sequence);
	struct pt_stamp_slot *rec = bpf_map_lookup_elem(&slots, &index);
	const __u64 peer[2] = { peer01, peer23 };

	if (!rec || rec->sequence != sequence || rec->session != session ||
	    !pt_same_peer(rec->peer, (const __be32 *)peer))
		return PT_NONE;
	return index;
}

static __always_inline __u32 pt_find_slot(__u32 hash, __u32 session, __u32 sequence,
					  const __be32 *peer)
{
	__u64 half[2];

	__builtin_memcpy(half, peer, sizeof(half));
	return pt_find_probe(hash, (__u64)session << 32 | sequence, half[0], half[1]);
}

/*
 * How soon a slot of a set is displaced, from 0. The slots of a fast session go before those of a
 * slow one, as its next probe comes soon; those of which nothing is owed any more go as early as
 * those of a session that is eight times as fast; those of a stranger, whose address may be forged,
 * go after what was delivered to fast sessions and before all that is owed to others.
 */
static __always_inline __u8 pt_rank(__u32 rate, bool proven)
{
	return proven ? 2 * rate : PT_RANK_STRANGER + rate;
}

static __always_inline __u8 pt_rank_settled(__u8 rank)
{
	return rank + (rank < PT_RANK_STRANGER ? PT_RANK_SETTLED : PT_RANK_GONE);
}

/*
 * Numbers below 2^63, without branches: the verifier would follow each of eight comparisons both
 * ways.
 */
static __always_inline __u64 pt_less(__u64 a, __u64 b)
{
	__u64 d = a - b;

	barrier_var(d);
	return d >> 63;
}

static __always_inline __u64 pt_max(__u64 a, __u64 b)
{
	__u64 d = a - b;

	barrier_var(d);
	return b + (d & ~((__s64)d >> 63));
}

/* What is displaced first has the highest key: its priority, its age, and its place. */
enum { PT_KEY = 19, PT_KEY_AGE = 3 };

/* Of equals, each CPU begins with another place: two CPUs seldom take the same. */
static __always_inline __u32 pt_turn(void)
{
	return bpf_get_smp_processor_id() & (PT_WAYS - 1);
}

static __always_inline __u64 pt_key(__u64 priority, __u16 age, __u32 place, __u32 turn)
{
	return priority << PT_KEY | (__u64)age << PT_KEY_AGE | (place ^ turn);
}

/* Eight bytes, one of each place. */
union pt_places {
	__u64 all;
	__u8 of[PT_WAYS];
};

/*
 * The places of a set that are of this source, 0x80 in each, if it has half of the set: then it
 * displaces its own, so a host that opens thousands of sessions does not have the table. Else none.
 * The highest bit of a source says something else.
 */
static __always_inline union pt_places pt_own(const __u8 *sources, __u8 source)
{
	const __u64 low = 0x7f7f7f7f7f7f7f7full, ones = 0x0101010101010101ull;
	union pt_places own = { *(const __u64 *)sources ^ ones * source };

	own.all = ~((own.all & low) + low) & ~low;
	if ((own.all >> 7) * ones >> 56 < PT_WAYS / 2)
		own.all = 0;
	return own;
}

/*
 * The slot that a new probe is to take: `is_for` is its rank, and its source above that. PT_NONE: a
 * stranger displaces nothing that is owed to others.
 */
__noinline __u32 pt_choose_slot(__u32 at, __u32 is_for, __u64 now)
{
	struct pt_set *set = bpf_map_lookup_elem(&slot_sets, &at);
	__u64 key, idle, first = 0, first_own = 0;
	const __u32 turn = pt_turn();
	union pt_places own;
	__u16 age;
	__u32 i;

	if (!set)
		return PT_NONE;
	own = pt_own(set->source, is_for >> 8);
#pragma unroll
	for (i = 0; i < PT_WAYS; i++) {
		age = pt_slot_time(now) - set->time[i];
		idle = pt_less(PT_RANK_SETTLED - 1, set->rank[i]) & pt_less(PT_SLOT_IDLE, age);
		idle |= pt_less(set->tag[i], 1);
		key = pt_key(set->rank[i] | (PT_RANK_FREE & -idle), age, i, turn);
		first = pt_max(first, key);
		first_own = pt_max(first_own, key & -(__u64)(own.of[i] >> 7));
	}
	if (own.all && first >> PT_KEY < PT_RANK_FREE)
		first = first_own;
	if ((is_for & 0xff) >= PT_RANK_STRANGER && first >> PT_KEY < PT_RANK_STRANGER)
		return PT_NONE;
	return (first ^ turn) & (PT_WAYS - 1);
}

static __always_inline __u32 pt_take_slot(__u32 hash, __u32 sequence, __u32 is_for, __u64 now)
{
	__u32 at = pt_set_at(hash, sequence), i = pt_choose_slot(at, is_for, now);
	struct pt_set *set = bpf_map_lookup_elem(&slot_sets, &at);

	if (!set || i >= PT_WAYS)
		return PT_NONE;
	barrier_var(i);
	i &= PT_WAYS - 1;
	set->tag[i] = pt_tag(hash, sequence);
	set->time[i] = pt_slot_time(now);
	set->rank[i] = is_for;
	set->source[i] = is_for >> 8;
	return pt_slot_at(at, i);
}

/* Nothing is owed any more of the probe in this slot. */
__noinline __u32 pt_settle(__u32 index)
{
	__u32 at = index & ((1u << set_bits) - 1), i = index >> set_bits & (PT_WAYS - 1);
	struct pt_stamp_slot *rec = bpf_map_lookup_elem(&slots, &index);
	struct pt_set *set = bpf_map_lookup_elem(&slot_sets, &at);

	if (!rec || !set)
		return 0;
	rec->listed = 0;
	if (rec->state & PT_REC_OUT && !(rec->state & PT_REC_SETTLED)) {
		rec->state |= PT_REC_SETTLED;
		set->rank[i] = pt_rank_settled(set->rank[i]);
	}
	return 1;
}

/* The session that may be this one: the caller compares the session itself. */
__noinline __u32 pt_find_session(__u32 hash)
{
	__u32 at = hash % PT_SESSION_SETS, tag = pt_tag(hash, 0), i;
	struct pt_session_set *set = bpf_map_lookup_elem(&session_sets, &at);

	if (!set)
		return PT_NONE;
#pragma unroll
	for (i = 0; i < PT_WAYS; i++)
		if (set->tag[i] == tag)
			return at * PT_WAYS + i;
	return PT_NONE;
}

/*
 * The entry that a new session is to take: an empty or idle one, else that of the stranger who was
 * silent longest, else that of the session that was, but not for a stranger: PT_NONE. `source` says
 * who is proven (PT_SOURCE_PROVEN).
 */
__noinline __u32 pt_choose_session(__u32 at, __u32 source, __u64 now)
{
	struct pt_session_set *set = bpf_map_lookup_elem(&session_sets, &at);
	__u64 key, idle, last, first = 0, first_own = 0;
	const __u32 turn = pt_turn();
	union pt_places own;
	__u16 age;
	__u32 i;

	if (!set)
		return PT_NONE;
	own = pt_own(set->source, source);
#pragma unroll
	for (i = 0; i < PT_WAYS; i++) {
		age = pt_session_time(now) - set->time[i];
		idle = pt_less(PT_SESSION_IDLE, age) | pt_less(set->tag[i], 1);
		key = pt_less(set->source[i], PT_SOURCE_PROVEN) | idle << 1;
		key = pt_key(key, age, i, turn);
		first = pt_max(first, key);
		first_own = pt_max(first_own, key & -(__u64)(own.of[i] >> 7));
	}
	if (own.all && first >> PT_KEY < 2)
		first = first_own;
	if (!(source & PT_SOURCE_PROVEN) && !(first >> PT_KEY))
		return PT_NONE;
	last = now - ((first >> PT_KEY_AGE & 0xffff) << PT_SESSION_TIME);
	if (first >> PT_KEY < 2 && last > set->displaced_ns)
		set->displaced_ns = last;
	return (first ^ turn) & (PT_WAYS - 1);
}

static __always_inline __u32 pt_take_session(__u32 hash, __u32 source, __u64 now)
{
	__u32 at = hash % PT_SESSION_SETS, i = pt_choose_session(at, source, now);
	struct pt_session_set *set = bpf_map_lookup_elem(&session_sets, &at);

	if (!set || i >= PT_WAYS)
		return PT_NONE;
	barrier_var(i);
	i &= PT_WAYS - 1;
	set->tag[i] = pt_tag(hash, 0);
	set->time[i] = pt_session_time(now);
	set->source[i] = source;
	return at * PT_WAYS + i;
}

/* A number of requests as a power of two, up to PT_RANK_RATES. */
__noinline __u32 pt_rate(__u32 n)
{
	__u32 rate = 0, i;

#pragma unroll
	for (i = 1; i <= PT_RANK_RATES; i++)
		rate += !pt_less(n, 1u << i);
	return rate;
}

/* The session goes on; `source` as above. */
__noinline __u32 pt_touch_session(__u32 index, __u32 source, __u64 now)
{
	__u32 at = index / PT_WAYS, i = index % PT_WAYS;
	struct pt_session_set *set = bpf_map_lookup_elem(&session_sets, &at);

	if (!set)
		return 0;
	barrier_var(i);
	i &= PT_WAYS - 1;
	set->time[i] = pt_session_time(now);
	set->source[i] = source | (set->source[i] & PT_SOURCE_PROVEN);
	return 1;
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

static __always_inline bool pt_is_session(const struct pt_session *s, __u32 session,
					  const __be32 *peer)
{
	return s->session == session && pt_same_peer(s->peer, peer);
}

/* The session of a server's slot, if it still has an entry. */
static __always_inline struct pt_session *pt_session_of(const struct pt_stamp_slot *rec)
{
	struct pt_session *s = bpf_map_lookup_elem(&sessions, &rec->session_at);

	return s && pt_is_session(s, rec->session, rec->peer) ? s : 0;
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
