/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The slot of a probe. A server gives one to each request that arrives, as far as its peer may be
 * served and has a share left.
 */
#pragma once

const volatile __u32 only_netns = 0; /* 0: every namespace of this kernel */
const volatile __u16 host_index = 0; /* server: 1, or what the user set */

struct pt_losses losses;

/* Server: when the last request came that gets stamps, as exactly as this, ns: it stays armed. */
__u64 last_request_ns;
enum { REQUEST_EVERY_NS = 100000000 };

/* Whether this server's client is on this kernel. */
static __always_inline bool is_local(const struct packet *p)
{
	return p->version && was_sent_here(p->session, p->sequence);
}

/*
 * Whether the device's stamps are wanted. Between two ends on one kernel lie namespaces that are
 * neither's: the server's are those of its own.
 */
static __always_inline bool is_wanted(struct sk_buff *skb, const struct packet *p)
{
	__u32 netns = netns_of(skb);

	if (only_netns && netns != only_netns)
		return false;
	return !server || netns == own_netns || !is_local(p);
}

/* Client: whose session this is. */
static __always_inline struct pt_target *target_of(__u32 session)
{
	__u32 at = session & target_mask;
	struct pt_target *target = bpf_map_lookup_elem(&targets, &at);

	return target && target->session == session ? target : 0;
}

static __always_inline __u32 index_of(const struct packet *p)
{
	const struct pt_target *target;

	if (server)
		return pt_find_slot(pt_hash(p->peer, p->session), p->session, p->sequence, p->peer);
	target = target_of(p->session);
	return target ? target->first + (p->sequence & target->mask) : PT_NONE;
}

/* The slot of a probe; NULL if it was reused since. */
static __always_inline struct pt_stamp_slot *any_slot_of(const struct packet *p)
{
	__u32 index = index_of(p);
	struct pt_stamp_slot *rec = bpf_map_lookup_elem(&slots, &index);

	if (!server && rec && (rec->sequence != p->sequence || rec->session != p->session))
		return 0;
	return rec;
}

/* The slot for a stamp; NULL if the probe takes no stamps any more. */
static __always_inline struct pt_stamp_slot *slot_of(const struct packet *p)
{
	struct pt_stamp_slot *rec = any_slot_of(p);

	return rec && rec->state & PT_REC_LIVE ? rec : 0;
}

static __always_inline __u64 cookie_in(const struct packet *p, __u64 epoch)
{
	__u64 peer[2];

	__builtin_memcpy(peer, p->peer, sizeof(peer));
	return keyed_hash(peer[0], peer[1], (__u64)p->session << 32 | (__u32)epoch);
}

/*
 * Whether the source of a request has returned a cookie, the newest or the one before: then it is
 * no forged address, and gets what this server sends on top of the kernel's reply.
 */
static __always_inline bool is_proven(const struct packet *p, __u64 epoch, __u64 newest)
{
	if (!p->version || !p->cookie)
		return false;
	return p->cookie == newest || p->cookie == cookie_in(p, epoch - 1);
}

static __always_inline void notify(const struct packet *p, enum pt_pending_kind what)
{
	struct pt_pending *o = bpf_ringbuf_reserve(&pending, sizeof(*o), 0);

	if (!o) {
		__sync_fetch_and_add(&losses.pending_overflow, 1);
		return;
	}
	o->slot = index_of(p);
	o->session = p->session;
	o->sequence = p->sequence;
	o->what = what;
	bpf_ringbuf_submit(o, 0);
}

/* What a tag covers; the message begins where the headers say. */
static __always_inline bool read_tagged(struct pt_tagged *t, struct sk_buff *skb,
					const struct packet *p)
{
	const struct view v = { .tail = skb->head + skb->tail, .skb = skb };
	const unsigned char *from = (void *)(p->end - p->length + TAGGED_FROM);

	if (p->length >= TAGGED_FROM + sizeof(*t))
		return copy(t, sizeof(*t), &v, from);
	t->entry[0] = t->entry[1] = t->entry[2] = 0;
	return copy(t, sizeof(*t) - sizeof(t->entry), &v, from);
}

/*
 * A request that arrives, and what is found out of it: what its peer may know, and what the reply
 * is to carry besides stamps. In memory: take_slot() is a global function, which the verifier
 * follows once, and gets no pointers.
 */
struct arrival {
	struct packet p;
	struct pt_tagged tagged;
	bool has_tag;
	bool is_here; /* in the served namespace */
	__u16 state; /* 0: this server has nothing to do with it */
	__u64 cookie;
	__be64 tag; /* 0: none */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct arrival);
} arrivals SEC(".maps");

static __always_inline struct arrival *this_arrival(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&arrivals, &zero);
}

static __always_inline void refuse(const struct arrival *a, enum pt_refusal cause)
{
	__u64 peer[2];

	if (!a->is_here)
		return;
	__sync_fetch_and_add(&refused[cause], 1);
	__builtin_memcpy(peer, a->p.peer, sizeof(peer));
	if (count_refused(peer[0], peer[1], a->p.session, cause))
		notify(&a->p, PT_PENDING_OTHER_KEY);
}

/* A peer with another key is told so, by the tag of its reply. */
static __always_inline void judge_tag(struct arrival *a)
{
	const __u32 first = keys.first;
	int key;

	if (!a->has_tag) {
		refuse(a, PT_REFUSED_UNTAGGED);
		return;
	}
	key = key_of(&a->tagged, first);
	if (key >= 0 && is_replay(a->p.peer, a->p.session, a->p.sequence)) {
		refuse(a, PT_REFUSED_REPLAYED);
		return;
	}
	a->state = key < 0 ? PT_REC_LIVE : PT_REC_LIVE | PT_REC_TRUSTED;
	if (key < 0) {
		refuse(a, PT_REFUSED_OTHER_KEY);
		key = first;
	}
	a->tag = reply_tag(&a->tagged, a->cookie, key);
}

static __always_inline void judge_request(struct arrival *a, __u64 now)
{
	const __u64 epoch = now >> PT_COOKIE_EPOCH;

	a->state = 0;
	a->tag = 0;
	if (!is_served(a->p.peer)) {
		refuse(a, PT_REFUSED_DENIED);
		return;
	}
	a->cookie = cookie_in(&a->p, epoch);
	if (open)
		a->state = PT_REC_LIVE | PT_REC_TRUSTED;
	else if (!keys.in_use)
		a->state = PT_REC_LIVE;
	else
		judge_tag(a);
	if (keys.in_use && !(a->state & PT_REC_TRUSTED))
		return;
	if (is_proven(&a->p, epoch, a->cookie))
		a->state |= PT_REC_PROVEN;
	/* An in-band stamping program clears this when it has written the stamps. */
	if (a->p.version == 0 || a->p.flags & (PT_FLAG_INBAND | PT_FLAG_RECORD))
		a->state |= PT_REC_PENDING;
}

/*
 * What the peer of the request that is in memory may know: its state. A global function, as
 * take_slot() is.
 */
__noinline __u32 judge(__u64 now)
{
	struct arrival *a = this_arrival();

	if (!a)
		return 0;
	judge_request(a, now);
	return a->state;
}

static __always_inline void begin_session(struct pt_session *s, const struct packet *p, __u64 now)
{
	if (s->session && s->proven)
		__sync_fetch_and_add(&losses.session_evicted, 1);
	__builtin_memset(s, 0, sizeof(*s));
	s->session = p->session;
	__builtin_memcpy(s->peer, p->peer, sizeof(s->peer));
	s->first_ns = now;
}

/* The entry of a request's session, perhaps a new one; PT_NONE if it gets none. */
static __always_inline __u32 session_at(const struct packet *p, __u32 hash, bool proven, __u64 now)
{
	__u32 index = pt_find_session(hash);
	__u32 source = (pt_source(p->peer) & ~PT_SOURCE_PROVEN) | (proven ? PT_SOURCE_PROVEN : 0);
	struct pt_session *s = bpf_map_lookup_elem(&sessions, &index);

	if (s && pt_is_session(s, p->session, p->peer)) {
		pt_touch_session(index, source, now);
		return index;
	}
	index = pt_take_session(hash, source, now);
	s = bpf_map_lookup_elem(&sessions, &index);
	if (s)
		begin_session(s, p, now);
	else
		__sync_fetch_and_add(&losses.no_session, 1);
	return index;
}

/* Counts a request; returns the rate of its session, requests a second, as a power of two. */
static __always_inline __u32 count_request(struct pt_session *s, const struct packet *p,
					   bool proven, __u64 now)
{
	const __u32 at = now >> 30, silent = at - s->recent_at;

	s->last_ns = now;
	s->flags = p->flags;
	s->version = p->version;
	s->proven |= proven;
	s->requests++;
	s->recent = (silent < 32 ? s->recent >> (silent & 31) : 0) + 1;
	s->recent_at = at;
	return pt_rate(s->recent);
}

/* Counts what is lost of a probe: its late stamps, or all of them. */
static __always_inline void count_lost(const struct pt_stamp_slot *rec)
{
	if (!(rec->state & PT_REC_OUT))
		__sync_fetch_and_add(&losses.evicted, 1);
	else if (rec->state & PT_REC_PROVEN)
		__sync_fetch_and_add(&losses.evicted_late, 1);
	else
		__sync_fetch_and_add(&losses.evicted_stranger, 1);
}

/* The slot is taken: counts what it still owed. */
static __always_inline void count_owed(const struct pt_stamp_slot *rec, struct pt_session *s)
{
	if (rec->state & PT_REC_SETTLED)
		return;
	if (s)
		s->lost++;
	count_lost(rec);
}

/*
 * The slot is another probe's from now on: the session of the last one can no longer tell a probe
 * that never arrived from one whose slot is gone.
 */
static __always_inline void displace(const struct pt_stamp_slot *rec)
{
	struct pt_session *s;

	if (!rec->state)
		return;
	s = pt_session_of(rec);
	if (s && rec->sent_ns > s->displaced_ns)
		s->displaced_ns = rec->sent_ns;
	count_owed(rec, s);
}

/*
 * A request whose reply is under way is here again, by the network or by somebody else: its slot
 * becomes the newcomer's, unless that is refused or has fewer rights. Then the slot keeps what it
 * has, and takes no stamps of the newcomer's reply.
 */
static __always_inline __u32 repeat(const struct arrival *a)
{
	const __u16 rights = PT_REC_TRUSTED | PT_REC_PROVEN;
	__u32 index = index_of(&a->p);
	struct pt_stamp_slot *rec = bpf_map_lookup_elem(&slots, &index);

	if (!rec)
		return PT_NONE;
	if (!a->state || rec->state & rights & ~a->state) {
		if (rec->state & PT_REC_OUT)
			rec->state &= ~PT_REC_LIVE;
		return PT_NONE;
	}
	count_owed(rec, pt_session_of(rec));
	return index;
}

/* A slot for a new probe; PT_NONE if there is none for a stranger. */
static __always_inline __u32 new_slot(const struct packet *p, __u32 hash, bool proven, __u64 now)
{
	__u32 at = session_at(p, hash, proven, now), index;
	struct pt_session *s = bpf_map_lookup_elem(&sessions, &at);
	__u32 rate = s ? count_request(s, p, proven, now) : 0;
	struct pt_stamp_slot *rec;

	index = pt_take_slot(hash, p->sequence, pt_rank(rate, proven) | pt_source(p->peer) << 8,
			     now);
	rec = bpf_map_lookup_elem(&slots, &index);
	if (rec) {
		displace(rec);
		rec->session_at = at;
	} else {
		__sync_fetch_and_add(&losses.no_slot, 1);
		if (s) {
			s->refused++;
			s->displaced_ns = now;
		}
	}
	return rec ? index : PT_NONE;
}

/*
 * The index of the slot for the request that is in memory; PT_NONE if this server has nothing to do
 * with it, or no slot. `again`: there is one of an earlier request with its number.
 */
__noinline __u32 take_slot(__u32 again, __u64 now)
{
	struct arrival *a = this_arrival();
	struct pt_stamp_slot *rec;
	const struct packet *p;
	__u32 index;

	if (!a)
		return PT_NONE;
	p = &a->p;
	judge(now);
	if (again)
		index = repeat(a);
	else if (a->state)
		index = new_slot(p, pt_hash(p->peer, p->session), a->state & PT_REC_PROVEN, now);
	else
		return PT_NONE;
	if (a->state && now - last_request_ns >= REQUEST_EVERY_NS)
		last_request_ns = now;
	rec = bpf_map_lookup_elem(&slots, &index);
	if (!rec)
		return PT_NONE;
	rec->session = p->session;
	rec->sequence = p->sequence;
	__builtin_memcpy(rec->peer, p->peer, sizeof(rec->peer));
	__builtin_memcpy(rec->local, p->local, sizeof(rec->local));
	rec->used[PT_REQUEST] = rec->used[PT_REPLY] = 0;
	rec->sent_ns = now;
	rec->drop.ns = 0;
	rec->version = p->version;
	rec->family = p->family;
	rec->length = p->length;
	rec->id = p->id;
	rec->flow = p->flags >> PT_FLOW_SHIFT;
	rec->ttl = p->flags & PT_FLAG_TTL ? p->ttl : 0;
	rec->host = is_local(p) ? 0 : host_index;
	rec->listed = 0;
	rec->cookie = a->cookie;
	rec->tag = a->tag;
	rec->state = a->state;
	rec->origin = a->state & PT_REC_TRUSTED || !rec->host ? 0 : origin_of(p->peer, p->session);
	return index;
}

static __always_inline struct pt_stamp_slot *slot_for(struct sk_buff *skb, const struct packet *p,
						      bool again, __u64 now)
{
	struct arrival *a = this_arrival();
	__u32 index;

	if (!a)
		return 0;
	a->p = *p;
	a->is_here = skb->dev && netns_of(skb) == own_netns;
	a->has_tag = keys.in_use && p->version && p->flags & PT_FLAG_AUTH &&
		     read_tagged(&a->tagged, skb, p);
	index = take_slot(again, now);
	return bpf_map_lookup_elem(&slots, &index);
}

/*
 * The slot for a request that arrives at a device: that of an earlier device of this host, or a new
 * one, also for a duplicate of an answered request.
 */
static __always_inline struct pt_stamp_slot *arrival(struct sk_buff *skb, const struct packet *p,
						     __u64 now)
{
	struct pt_stamp_slot *rec;

	if (!server || p->direction == PT_REPLY)
		return slot_of(p);
	rec = any_slot_of(p);
	return rec && !rec->used[PT_REPLY] ? rec : slot_for(skb, p, rec, now);
}
