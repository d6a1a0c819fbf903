// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writes a server's stamps into the kernel's own echo reply, at tc egress (docs/wire.md).
 * No CO-RE in this object: it loads on a kernel without BTF.
 *
 * Stamps taken after this hook, in the queueing discipline and the driver, cannot travel in the
 * same reply. They travel in a later one, in the order in which the driver got the replies, which
 * may differ from that of the sequence numbers: `aux` says how many numbers back a stamp's probe
 * is.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "probe.h"
#include "clock.h"
#include "table.h"

char LICENSE[] SEC("license") = "GPL";

const volatile __u32 netns = 0;
const volatile bool send_names = false;
const volatile __u16 transit_host = 0; /* the number of this host where it is on the way */

struct pt_losses losses;
__u64 written; /* replies that were stamped */
__u64 started_ns = ~0ULL; /* from then on every request is seen */

enum { LATE_STEPS = 24 };

/* The first replies of a session have names; later ones after this time, as names may change. */
enum { NAMED_FIRST = 16 };
#define NAMES_EVERY_NS 5000000000ull

struct reply {
	struct pt_header icmp;
	__be32 peer[4];
	__u32 offset; /* of the ICMP header in the frame */
	__u32 session, sequence, room, ifindex;
	__u32 hash, slot; /* of the session; the index of the probe's slot */
	bool own; /* this host makes the reply, else it forwards it */
	__be16 host; /* then: of its stamps */
};

/*
 * The reply, and its new and old bytes. They are in memory, not in registers and on the stack, so
 * that the verifier does not follow every value of them through the loops; and the steps are global
 * functions, each of which it follows once, whatever was before.
 */
struct scratch {
	struct reply r;
	struct pt_stamp fresh[PT_STAMPS];
	struct pt_stamp old[PT_INBAND_MAX];
	__u32 count, next;
	__u32 late; /* index of the slot whose late stamps are being added */
	struct pt_place last;
	__be16 named_host; /* of the names: 0 for the server's */
	__u8 statuses[PT_WINDOW_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline struct scratch *this_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratches, &zero);
}

/* User space fills it; an empty name is one that it could not find. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct pt_place);
	__type(value, struct pt_name);
} names SEC(".maps");

static __always_inline bool find4(struct __sk_buff *skb, __u32 l3, struct reply *r)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)) || ip.protocol != IPPROTO_ICMP ||
	    (ip.frag_off & bpf_htons(IP_MF_OFFSET)))
		return false;
	r->offset = l3 + ip.ihl * 4;
	r->peer[0] = r->peer[1] = 0;
	r->peer[2] = bpf_htonl(0xffff);
	r->peer[3] = ip.daddr;
	return true;
}

static __always_inline bool find6(struct __sk_buff *skb, __u32 l3, struct reply *r)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)) || ip.nexthdr != IPPROTO_ICMPV6)
		return false;
	r->offset = l3 + sizeof(ip);
	__builtin_memcpy(r->peer, ip.daddr, 16);
	return true;
}

/* Most packets are not ICMP: without a helper, where the IP header is in the linear part. */
static __always_inline bool may_be_reply(struct __sk_buff *skb, __u32 l3)
{
	const __u8 *ip = (const __u8 *)(long)skb->data + l3;

	if (ip + sizeof(struct iphdr) > (const __u8 *)(long)skb->data_end)
		return true;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return ip[9] == IPPROTO_ICMP;
	return skb->protocol == bpf_htons(ETH_P_IPV6) && ip[6] == IPPROTO_ICMPV6;
}

/* Finds an echo reply of version 1 that asks for stamps, and its room for them. */
static __always_inline bool find(struct __sk_buff *skb, __u32 l3, struct reply *r)
{
	struct pt_header *h = &r->icmp;
	const __be16 asks = bpf_htons(PT_FLAG_INBAND | PT_FLAG_RECORD);
	__u32 capacity, end;
	__u8 type;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (!find4(skb, l3, r))
			return false;
		type = ICMP_ECHOREPLY;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (!find6(skb, l3, r))
			return false;
		type = ICMPV6_ECHO_REPLY;
	} else {
		return false;
	}
	if (bpf_skb_load_bytes(skb, r->offset, h, sizeof(*h)))
		return false;
	if (h->type != type || h->magic != bpf_htons(PT_MAGIC) || h->version != 1 ||
	    h->flags & bpf_htons(PT_FLAG_DONTADD) || !(h->flags & asks))
		return false;
	capacity = bpf_ntohs(h->capacity);
	end = r->offset + PT_V1_HEADER + capacity * sizeof(struct pt_stamp);
	r->room = 0;
	if (h->flags & bpf_htons(PT_FLAG_INBAND) && end <= skb->len && h->num < capacity)
		r->room = capacity - h->num;
	r->session = bpf_ntohl(h->session);
	r->sequence = bpf_ntohl(h->sequence);
	return true;
}

static __always_inline __u32 slot_index(const struct reply *r, __u32 sequence)
{
	return pt_find_slot(r->hash, r->session, sequence, r->peer);
}

static __always_inline struct pt_stamp_slot *slot_of(const struct reply *r)
{
	return bpf_map_lookup_elem(&slots, &r->slot);
}

static __always_inline struct pt_session *session_of(const struct reply *r)
{
	struct pt_stamp_slot *rec = slot_of(r);

	return rec ? pt_session_of(rec) : 0;
}

/* A stamp of a host on the way; false for what is only told of an end. */
static __always_inline bool in_transit(struct pt_stamp *stamp, __be16 host)
{
	stamp->host = host;
	switch (bpf_ntohs(stamp->point)) {
	case PT_R_RX_DEVRCV:
		stamp->point = bpf_htons(PT_M_RX_DEVECHO);
		return true;
	case PT_M_TX_QUEUEECHO:
	case PT_M_TX_DEVECHO:
	case PT_M_RX_DEVREPLY:
	case PT_M_TX_QUEUEREPLY:
	case PT_M_TX_DEVREPLY:
		return true;
	}
	return false;
}

static __always_inline bool append(struct scratch *s, const struct pt_stamp *stamp, __u32 room,
				   __u16 aux)
{
	__u32 n = s->count;

	if (n >= room || n >= PT_INBAND_MAX)
		return false;
	n &= PT_STAMPS - 1;
	s->fresh[n] = *stamp;
	s->fresh[n].aux = bpf_htons(aux);
	s->count = n + 1;
	return true;
}

/* False if there is no room. */
static __always_inline bool append_stamp(struct scratch *s, const struct pt_stamp *stamp, __u16 aux)
{
	struct pt_stamp passed = *stamp;

	if (!s->r.own && !in_transit(&passed, s->r.host))
		return true;
	return append(s, &passed, s->r.room, aux);
}

/* The stamps of this probe so far; of the reply's on the way none is complete. */
__noinline int gather_own(void)
{
	struct scratch *s = this_scratch();
	struct pt_stamp_slot *rec = s ? slot_of(&s->r) : 0;
	struct pt_where at = { .netns = netns };
	struct pt_stamp now;
	__u32 i;

	if (!rec)
		return 0;
	for (i = 0; i < PT_INBAND_MAX; i++) {
		if (i >= rec->used[PT_REQUEST])
			break;
		if (!append_stamp(s, &rec->stamp[PT_REQUEST][i], 0)) {
			__sync_fetch_and_add(&losses.no_room, 1);
			return 0;
		}
	}
	if (!s->r.own)
		return 0;
	at.ifindex = s->r.ifindex;
	at.host = rec->host;
	pt_fill(&now, PT_R_TX_DEVQUEUE, pt_now() + rec->origin, &at);
	append(s, &now, s->r.room, PT_AUX_PROVISIONAL);
	return 0;
}

/*
 * The late stamps of earlier replies: those of whole probes, as long as there is room. This reply
 * itself can be listed, by the device above this one; one that is queued again since it was listed
 * will be listed again.
 */
__noinline int gather_late(void)
{
	struct scratch *s = this_scratch();
	struct pt_session *ses = s ? session_of(&s->r) : 0;
	struct pt_stamp_slot *rec;
	__u32 i, seq, used, index;
	__s32 back;

	if (!ses)
		return 0;
	if (ses->head - ses->tail > PT_LATE)
		ses->tail = ses->head - PT_LATE;
	s->next = 0;
	for (i = 0; i < LATE_STEPS; i++) {
		if (ses->head == ses->tail)
			break;
		seq = ses->late[ses->tail & (PT_LATE - 1)];
		if (seq == s->r.sequence)
			break;
		if (!s->next)
			s->late = slot_index(&s->r, seq);
		index = s->late;
		rec = bpf_map_lookup_elem(&slots, &index);
		used = rec && rec->state & PT_REC_OUT ? rec->used[PT_REPLY] : 0;
		back = s->r.sequence - seq;
		if (s->next >= used || back > 0x7fff || back < -0x7fff) {
			ses->tail++;
			s->next = 0;
			pt_settle(index);
			continue;
		}
		if (!s->next && s->count + used > s->r.room)
			break;
		if (!append_stamp(s, &rec->stamp[PT_REPLY][s->next & (PT_STAMPS - 1)], back))
			break;
		s->next++;
	}
	return 0;
}

/*
 * Asks user space for the name of a place; place 0: whether the names that are known still hold. If
 * that is lost, a later reply asks again.
 */
static __always_inline void want_name(__u32 in_netns, __u32 ifindex)
{
	struct pt_pending wanted = { in_netns, ifindex, 0, PT_PENDING_NAME };

	bpf_ringbuf_output(&pending, &wanted, sizeof(wanted), 0);
}

static __always_inline bool names_due(struct pt_session *ses)
{
	__u64 now = pt_now();

	if (ses->named >= NAMED_FIRST) {
		if (now - ses->named_ns < NAMES_EVERY_NS)
			return false;
		want_name(0, 0);
	}
	ses->named_ns = now;
	ses->named++;
	return true;
}

/* Adds the name of a place if there is room for all of it. */
__noinline int add_name(__u32 room, __u32 in_netns, __u32 ifindex)
{
	struct pt_place place = { in_netns, ifindex };
	struct scratch *s = this_scratch();
	struct pt_name *name;
	__u32 i, n;

	if (!s || !in_netns)
		return 0;
	name = bpf_map_lookup_elem(&names, &place);
	if (!name) {
		want_name(in_netns, ifindex);
		return 0;
	}
	n = s->count;
	if (n + name->count > room)
		return 0;
	for (i = 0; i < PT_NAME_ENTRIES; i++) {
		if (i >= name->count || !append(s, &name->entry[i], room, 0))
			break;
	}
	if (name->count)
		s->fresh[n & (PT_STAMPS - 1)].host = s->named_host;
	return 0;
}

/* Adds the names of the place of a stamp in this packet, if it is another one than the last. */
__noinline int add_names(__u32 room, __u32 k)
{
	struct scratch *s = this_scratch();
	const struct pt_stamp *stamp;
	struct pt_place at;
	bool same;

	if (!s)
		return 0;
	stamp = &s->fresh[k & (PT_STAMPS - 1)];
	at.netns = bpf_ntohl(stamp->netns);
	at.ifindex = bpf_ntohl(stamp->ifindex);
	same = at.netns == s->last.netns;
	if (!same)
		add_name(room, at.netns, 0);
	if (at.ifindex && !(same && at.ifindex == s->last.ifindex))
		add_name(room, at.netns, at.ifindex);
	s->last = at;
	return 0;
}

/*
 * The names of the places of the stamps in this packet, in what room they leave. Each packet begins
 * with another stamp, so that each name has its turn.
 */
__noinline int gather_names(void)
{
	struct scratch *s = this_scratch();
	struct pt_session *ses = s ? session_of(&s->r) : 0;
	__u32 room, stamps, i;

	if (!ses)
		return 0;
	room = s->r.room < PT_INBAND_MAX ? s->r.room : PT_INBAND_MAX;
	stamps = s->count;
	/* A name takes two entries; without room for one its turn is later. */
	if (!stamps || stamps + 2 > room || !names_due(ses))
		return 0;
	s->last.netns = s->last.ifindex = 0;
	s->named_host = s->r.own ? 0 : s->r.host;
	for (i = 0; i < PT_INBAND_MAX; i++) {
		if (i >= stamps)
			break;
		add_names(room, (ses->named + i) % stamps);
	}
	return 0;
}

/* With which TTL the request arrived, if the client asks for it, as long as there is room. */
static __always_inline void gather_ttl(struct scratch *s, const struct pt_stamp_slot *rec)
{
	struct pt_stamp ttl = {};

	if (!rec->ttl)
		return;
	ttl.host = bpf_htons(rec->host);
	ttl.point = bpf_htons(PT_EXTENSION_TTL);
	ttl.cpu = bpf_htons(rec->ttl);
	append(s, &ttl, s->r.room, 0);
}

/* Replaces payload and checksum together, so that the checksum stays right (RFC 1624). */
static __always_inline bool put(struct __sk_buff *skb, struct scratch *s)
{
	const struct reply *r = &s->r;
	__u32 n = s->count, size = n * sizeof(struct pt_stamp);
	__u32 at = r->offset + PT_V1_HEADER + r->icmp.num * sizeof(struct pt_stamp);
	__u8 old_word[2] = { r->icmp.version, r->icmp.num }, new_word[2];
	__be16 from, to;
	__s64 diff;

	/* Two tests, so that the verifiers before 6.2 see both bounds on the very register. */
	if (size > sizeof(s->old))
		return false;
	barrier_var(size);
	if (size < sizeof(struct pt_stamp))
		return false;
	barrier_var(size);
	if (bpf_skb_load_bytes(skb, at, s->old, size))
		return false;
	diff = bpf_csum_diff((void *)s->old, size, 0, 0, 0);
	if (diff < 0)
		return false;
	diff = bpf_csum_diff(0, 0, (void *)s->fresh, size, diff);
	new_word[0] = old_word[0];
	new_word[1] = old_word[1] + n;
	__builtin_memcpy(&from, old_word, 2);
	__builtin_memcpy(&to, new_word, 2);
	if (bpf_skb_store_bytes(skb, at, s->fresh, size, 0))
		return false;
	bpf_l4_csum_replace(skb, r->offset + 2, 0, diff, 0);
	bpf_skb_store_bytes(skb, r->offset + 8, new_word, sizeof(new_word), 0);
	bpf_l4_csum_replace(skb, r->offset + 2, from, to, 2);
	return true;
}

/* Whether the reply was seen no more after the kernel dropped it: else a copy was dropped. */
static __always_inline bool is_reply_dropped(const struct pt_stamp_slot *rec)
{
	__u32 last = rec->used[PT_REPLY] - 1;

	if (!rec->drop.ns || rec->drop.direction != PT_REPLY)
		return false;
	return !rec->used[PT_REPLY] ||
	       bpf_be64_to_cpu(rec->stamp[PT_REPLY][last & (PT_STAMPS - 1)].time_ns) <=
		       rec->drop.ns;
}

/* What was seen of the probe in a slot; `none` if there is no slot. Global, as in table.h. */
__noinline __u32 status_of(__u32 index, __u32 none)
{
	struct pt_stamp_slot *rec = bpf_map_lookup_elem(&slots, &index);

	if (!rec)
		return none;
	if (is_reply_dropped(rec))
		return PT_STATUS_REPLY_DROPPED;
	if (rec->state & PT_REC_OUT)
		return PT_STATUS_LEFT;
	if (rec->used[PT_REPLY])
		return PT_STATUS_REPLIED;
	return rec->state & PT_REC_DELIVERED ? PT_STATUS_DELIVERED : PT_STATUS_ARRIVED;
}

/*
 * What is known of a probe without a slot that can have arrived at `since`, ns, at the earliest:
 * that it never did, unless the session has lost a slot, or a session of its set an entry, that was
 * in use at that time or later.
 */
static __always_inline enum pt_server_status status_without(const struct pt_session *s, __u32 hash,
							    __u64 since)
{
	__u32 at = hash % PT_SESSION_SETS;
	struct pt_session_set *set = bpf_map_lookup_elem(&session_sets, &at);

	if (!s || !set || s->displaced_ns > since)
		return PT_STATUS_FORGOTTEN;
	return s->first_ns > since && set->displaced_ns > since ? PT_STATUS_FORGOTTEN
								: PT_STATUS_UNSEEN;
}

/* How long every request has been seen, in the unit of an answer. */
static __always_inline __u16 running(__u64 now)
{
	__u64 units = now > started_ns ? (now - started_ns) / PT_RUNNING_NS : 0;

	return units < PT_RUNNING_MAX ? units : PT_RUNNING_MAX;
}

/*
 * Answers a client's question about its oldest unanswered probes, in place. The earliest possible
 * arrival is twice the age of the oldest ago: so the question itself may have travelled for as long
 * as that age.
 */
__noinline int answer(struct __sk_buff *skb, __u32 host)
{
	struct scratch *s = this_scratch();
	__u32 at, i, sequence, none;
	__u64 now = pt_now(), since = now;
	struct pt_stamp old, new;
	__s64 diff;

	if (!s)
		return 0;
	at = s->r.offset + PT_V1_HEADER;
	if (bpf_skb_load_bytes(skb, at, &old, sizeof(old)) ||
	    old.point != bpf_htons(PT_EXTENSION_WINDOW))
		return 0;
	if (bpf_be64_to_cpu(old.time_ns) < since / 2)
		since -= 2 * bpf_be64_to_cpu(old.time_ns);
	else
		since = 0;
	none = status_without(session_of(&s->r), s->r.hash, since);
	__builtin_memset(s->statuses, 0, sizeof(s->statuses));
	sequence = s->r.sequence - bpf_ntohs(old.aux);
	for (i = 0; i < PT_WINDOW; i++, sequence++) {
		if ((__s32)(s->r.sequence - sequence) <= 0)
			break;
		s->statuses[i / 2] |= status_of(slot_index(&s->r, sequence), none) << i % 2 * 4;
	}
	new = old;
	__builtin_memcpy(&new, s->statuses, sizeof(s->statuses));
	new.host = bpf_htons(host);
	new.cpu = bpf_htons(running(now));
	diff = bpf_csum_diff((void *)&old, sizeof(old), (void *)&new, sizeof(new), 0);
	if (diff < 0 || bpf_skb_store_bytes(skb, at, &new, sizeof(new), 0))
		return 0;
	bpf_l4_csum_replace(skb, s->r.offset + 2, 0, diff, 0);
	return 0;
}

/*
 * Replaces 8 bytes of a message, which begins at `icmp` in the frame. A global function: the
 * verifier follows it once.
 */
__noinline int replace(struct __sk_buff *skb, __u32 icmp, __u32 at, __u64 old, __u64 new)
{
	__s64 diff;

	/* Most often it is there already. */
	if (old == new)
		return 0;
	diff = bpf_csum_diff((void *)&old, sizeof(old), (void *)&new, sizeof(new), 0);
	if (diff < 0 || bpf_skb_store_bytes(skb, icmp + at, &new, sizeof(new), 0))
		return -1;
	return bpf_l4_csum_replace(skb, icmp + 2, 0, diff, 0);
}

/* The cookie that the client is to return in its next request; what is given, as a state. */
static __always_inline int give_cookie(struct __sk_buff *skb, __u32 icmp, __u64 old, __u64 new)
{
	const __u32 at = __builtin_offsetof(struct pt_header, cookie);

	return replace(skb, icmp, at, old, new) ? 0 : PT_REC_GIVEN;
}

/* The tag that shows that this server has the key, in the place of the request's; 0: none. */
__noinline int give_tag(struct __sk_buff *skb, __u32 icmp, __be64 new)
{
	__be64 old;

	if (!new || bpf_skb_load_bytes(skb, icmp + sizeof(struct pt_header), &old, sizeof(old)))
		return 0;
	return replace(skb, icmp, sizeof(struct pt_header), old, new);
}

/* What has been seen of the probe, what was seen later of earlier ones, and names. */
static __always_inline void write_stamps(struct __sk_buff *skb, struct scratch *s,
					 struct pt_stamp_slot *rec)
{
	struct pt_session *ses;

	s->r.host = bpf_htons(rec->host ? transit_host : PT_HOST_TRANSIT);
	s->count = 0;
	if (s->r.icmp.num && s->r.own)
		answer(skb, rec->host);
	gather_own();
	gather_late();
	if (s->r.own)
		gather_ttl(s, rec);
	if (send_names && rec->state & PT_REC_TRUSTED)
		gather_names();
	if (!put(skb, s))
		return;
	rec->state &= ~PT_REC_PENDING;
	written++;
	ses = pt_session_of(rec);
	if (ses)
		ses->stamped++;
}

/* Once: the first device that has a program writes the stamps, also of a reply that passes several.
 */
static __always_inline void stamp_reply(struct __sk_buff *skb, __u32 l3)
{
	struct pt_stamp_slot *rec;
	struct scratch *s;
	struct reply r;
	__u64 cookie;

	if (!may_be_reply(skb, l3) || !find(skb, l3, &r))
		return;
	r.ifindex = skb->ifindex;
	r.hash = pt_hash(r.peer, r.session);
	r.slot = slot_index(&r, r.sequence);
	rec = slot_of(&r);
	s = this_scratch();
	if (!rec || !s || !(rec->state & PT_REC_LIVE))
		return;
	r.own = pt_is_own_reply(rec);
	s->r = r;
	/* Without a branch, and before the rest: the verifier would follow that twice. */
	cookie = r.own ? rec->cookie : r.icmp.cookie;
	rec->state |= give_cookie(skb, r.offset, r.icmp.cookie, cookie);
	give_tag(skb, r.offset, r.own ? rec->tag : 0);
	if (r.room && rec->state & PT_REC_PENDING)
		write_stamps(skb, s, rec);
}

/* Devices with an Ethernet header, the loopback included. */
SEC("tcx/egress")
int inband_ether(struct __sk_buff *skb)
{
	stamp_reply(skb, ETH_HLEN);
	return TC_ACT_UNSPEC;
}

/* Devices whose frames begin at layer 3. */
SEC("tcx/egress")
int inband_raw(struct __sk_buff *skb)
{
	stamp_reply(skb, 0);
	return TC_ACT_UNSPEC;
}
