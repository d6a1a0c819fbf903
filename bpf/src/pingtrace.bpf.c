// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stamps every probe at every stage of the stack, on the client's host and on the server's: the
 * same programs with another role. Each begins with the cheapest test that tells most packets from
 * a probe, and makes one look-up.
 *
 * Client: user space prepares the slot of a probe before it sends the probe, so a stamp is one
 * comparison and one store. Server: the first netif_receive_skb of a request takes a slot.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>
#include "probe.h"
#include "clock.h"
#include "table.h"
#include "receive.h"
#include "siphash.h"
#include "view.h"
#include "tunnel.h"
#include "parse.h"
#include "local.h"
#include "stranger.h"
#include "tag.h"
#include "refused.h"
#include "arrival.h"

char LICENSE[] SEC("license") = "GPL";

const volatile __u64 explain_ns =
	0; /* server: from this stay on, ns, user space explains the probe; 0: never */

int receiver_tid; /* client: in the initial PID namespace */
struct pt_sleep receiver_sleep;

/* Only so that the skeleton has these types. */
struct pt_pending pending_type;
struct pt_header header_type;
struct pt_stamp_slot slot_type;
struct pt_session session_type;
struct pt_set set_type;
struct pt_session_set session_set_type;
struct pt_place place_type;
struct pt_target target_type;
struct pt_name name_type;
enum pt_point point_type;
enum pt_state state_type;
enum pt_wire wire_type;
enum pt_extension extension_type;
enum pt_server_status server_status_type;
enum pt_text text_type;
enum pt_pending_kind pending_kind_type;
enum pt_refusal refusal_type;
struct pt_refused refused_type;
enum pt_stamp_flag stamp_flag_type;

/* What a device is: the first seven characters of its kind, or none. */
struct kind {
	char name[8];
};

static __always_inline struct kind kind_of(const struct net_device *dev)
{
	const struct rtnl_link_ops *ops = dev->rtnl_link_ops;
	struct kind kind = {};

	if (ops)
		bpf_probe_read_kernel_str(kind.name, sizeof(kind.name), ops->kind);
	return kind;
}

static __always_inline bool is_tun(const struct kind *kind)
{
	return !__builtin_memcmp(kind->name, "tun", 4);
}

/* Devices whose packets leave in others of this host, which are encrypted or a process's. */
static __always_inline bool is_carried(const struct kind *kind, const struct net_device *dev)
{
	static const struct kind carried[] = {
		{ "wiregua" }, { "ovpn" },   { "xfrm" },   { "vti" },	  { "vti6" },
		{ "macsec" },  { "vxlan" },  { "geneve" }, { "bareudp" }, { "gtp" },
		{ "gre" },     { "gretap" }, { "erspan" }, { "ip6gre" },  { "ip6gret" },
		{ "ip6ersp" }, { "ipip" },   { "sit" },	   { "ip6tnl" },
	};
	__u32 i;

	if (is_tun(kind))
		return dev->type == ARPHRD_NONE;
#pragma unroll
	for (i = 0; i < sizeof(carried) / sizeof(carried[0]); i++)
		if (!__builtin_memcmp(kind, &carried[i], sizeof(*kind)))
			return true;
	return false;
}

/* A stamp has no room in the slot of its probe. */
static __always_inline void count_overflow(const struct pt_stamp_slot *rec)
{
	struct pt_target *target;

	if (server) {
		__sync_fetch_and_add(&losses.stamp_overflow, 1);
		return;
	}
	target = target_of(rec->session);
	if (target)
		__sync_fetch_and_add(&target->lost_stamps, 1);
}

static __always_inline void stamp_with(struct pt_stamp_slot *rec, const struct packet *p,
				       enum pt_point point, __u64 now, struct sk_buff *skb,
				       __u16 flags)
{
	struct pt_where at = { .host = server ? rec->host : 0, .flags = flags };
	__u64 place;

	if (skb) {
		at.netns = netns_of(skb);
		at.ifindex = skb->dev->ifindex;
	}
	if (server) {
		now += rec->origin;
		place = told_place(rec->origin, at.netns, at.ifindex, rec->state & PT_REC_TRUSTED);
		at.netns = place >> 32;
		at.ifindex = place;
	}
	if (!pt_push(rec, p->direction, point, now, &at))
		count_overflow(rec);
}

static __always_inline void stamp(struct pt_stamp_slot *rec, const struct packet *p,
				  enum pt_point point, __u64 now, struct sk_buff *skb)
{
	stamp_with(rec, p, point, now, skb, 0);
}

/* Server: a device queues the reply, perhaps a further one of this host. */
static __always_inline void queued(struct pt_stamp_slot *rec, const struct packet *p,
				   struct sk_buff *skb)
{
	bool first = !rec->used[PT_REPLY], own = pt_is_own_reply(rec);

	if (first && netns_of(skb) != own_netns)
		own = false;
	stamp(rec, p, own ? PT_R_TX_DEVQUEUE : PT_M_TX_QUEUEREPLY, pt_now(), skb);
	rec->state &= ~PT_REC_OUT;
}

SEC("tp_btf/net_dev_queue")
int BPF_PROG(on_net_dev_queue, struct sk_buff *skb)
{
	struct pt_stamp_slot *rec;
	struct packet p;

	if (!parse(skb, &p))
		return 0;
	if (server && p.direction == PT_REQUEST)
		note_sent(BPF_CORE_READ(skb, sk, __sk_common.skc_family), p.session, p.sequence);
	if (!(rec = slot_of(&p)) || !is_wanted(skb, &p))
		return 0;
	if (p.direction == PT_REQUEST)
		stamp(rec, &p, server ? PT_M_TX_QUEUEECHO : PT_L_TX_DEVQUEUE, pt_now(), skb);
	else if (server)
		queued(rec, &p, skb);
	else
		stamp(rec, &p, PT_M_TX_QUEUEREPLY, pt_now(), skb);
	return 0;
}

/* The time from the first to the last stamp of a server's slot, ns. */
static __always_inline __u64 stay_ns(const struct pt_stamp_slot *rec)
{
	__u64 first = bpf_be64_to_cpu(rec->stamp[PT_REQUEST][0].time_ns);
	__u32 last = rec->used[PT_REPLY] - 1;

	if (!rec->used[PT_REQUEST] || last >= PT_STAMPS)
		return 0;
	return bpf_be64_to_cpu(rec->stamp[PT_REPLY][last & (PT_STAMPS - 1)].time_ns) - first;
}

/* A reply is handed to a driver, perhaps of several devices. */
static __always_inline void count_reply(struct pt_stamp_slot *rec, bool own)
{
	struct pt_session *s = pt_session_of(rec);

	if (!s)
		return;
	if (own)
		s->own = 1;
	if (rec->used[PT_REPLY] <= 2)
		s->replies++;
}

/* Lists the reply, unless it is listed: its late stamps travel in another one. */
static __always_inline void list_late(struct pt_stamp_slot *rec, const struct packet *p)
{
	struct pt_session *s = pt_session_of(rec);

	if (!s || rec->listed)
		return;
	rec->listed = 1;
	s->late[s->head & (PT_LATE - 1)] = p->sequence;
	s->head++;
}

static __always_inline void stamp_hand_over(struct pt_stamp_slot *rec, const struct packet *p,
					    enum pt_point point, struct sk_buff *skb)
{
	__u64 now = pt_now();
	const struct kind kind = kind_of(skb->dev);

	stamp_with(rec, p, point, now, skb, is_carried(&kind, skb->dev) ? PT_STAMP_UNDERLAY : 0);
}

/*
 * Server: a driver has the reply. That of a macvlan, a bridge or a tunnel queues it again, so it
 * has left only when no queue follows.
 */
static __always_inline void handed_over(struct pt_stamp_slot *rec, const struct packet *p,
					struct sk_buff *skb)
{
	const bool own = pt_is_own_reply(rec), pending = rec->state & PT_REC_PENDING;

	stamp_hand_over(rec, p, own ? PT_R_TX_DEVOUT : PT_M_TX_DEVREPLY, skb);
	count_reply(rec, own);
	rec->state |= PT_REC_OUT;
	if (p->version && p->flags & PT_FLAG_INBAND)
		list_late(rec, p);
	else if (!pending || rec->state & PT_REC_PROVEN)
		pt_settle(index_of(p));
	if (!own)
		return;
	if (explain_ns && rec->state & PT_REC_TRUSTED && !(rec->state & PT_REC_SLOW) &&
	    stay_ns(rec) >= explain_ns) {
		rec->state |= PT_REC_SLOW;
		notify(p, PT_PENDING_BLAME);
	} else if (pending) {
		notify(p, PT_PENDING_STAMPS);
	}
}

SEC("tp_btf/net_dev_start_xmit")
int BPF_PROG(on_net_dev_start_xmit, struct sk_buff *skb, struct net_device *dev)
{
	struct pt_stamp_slot *rec;
	struct packet p;

	if (!parse(skb, &p) || !(rec = slot_of(&p)))
		return 0;
	if (!is_wanted(skb, &p))
		return 0;
	if (p.direction == PT_REQUEST)
		stamp_hand_over(rec, &p, server ? PT_M_TX_DEVECHO : PT_L_TX_DEVOUT, skb);
	else if (server)
		handed_over(rec, &p, skb);
	else
		stamp_hand_over(rec, &p, PT_M_TX_DEVREPLY, skb);
	return 0;
}

/* A server's user space sleeps until it is notified. */
static __always_inline void notify_of_receiver(void)
{
	static const struct packet none;

	if (server)
		notify(&none, PT_PENDING_WAKE);
}

static __always_inline void note_receiver(bool poll_known)
{
	__u32 cpu = bpf_get_smp_processor_id();

	if (cpu >= MAX_CPUS)
		return;
	barrier_var(cpu);
	cpu &= MAX_CPUS - 1;
	if (!receiving[cpu]) {
		receiving[cpu] = true;
		notify_of_receiver();
	}
	if (!poll_known && !napi_thread_seen && in_napi_thread()) {
		napi_thread_seen = true;
		notify_of_receiver();
	}
}

/* Whether IPsec has decrypted the packet: the one that carried it was received before. */
static __always_inline bool is_decrypted(const struct sk_buff *skb)
{
	return bpf_core_field_exists(skb->active_extensions) &&
	       bpf_core_enum_value_exists(enum skb_ext_id, SKB_EXT_SEC_PATH) &&
	       skb->active_extensions >> bpf_core_enum_value(enum skb_ext_id, SKB_EXT_SEC_PATH) & 1;
}

/*
 * What a receive stamp says besides. The writer of a tun device hands its packet over itself,
 * outside NET_RX: it waits for no softirq. A tasklet, busy polling and a NAPI thread do not: there
 * the packet waited for them.
 */
static __always_inline __u16 receive_flags(const struct sk_buff *skb, const struct poll *poll)
{
	const struct kind kind = kind_of(skb->dev);
	const bool carried = is_carried(&kind, skb->dev) || is_decrypted(skb);
	const __u16 flags = carried ? PT_STAMP_UNDERLAY : 0;

	if (poll)
		return flags | (poll->on_unknown ? PT_STAMP_INTERRUPTS : 0);
	return flags | (is_tun(&kind) && !in_napi_thread() ? PT_STAMP_DIRECT : 0);
}

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(on_netif_receive_skb, struct sk_buff *skb)
{
	struct pt_stamp_slot *rec;
	struct packet p;
	struct poll poll;
	bool request, poll_known;
	__u16 flags;
	__u64 now;

	if (!parse_data(skb, &p) || !is_whole(skb, &p) || !is_wanted(skb, &p))
		return 0;
	now = pt_now();
	rec = arrival(skb, &p, now);
	if (!rec)
		return 0;
	request = p.direction == PT_REQUEST;
	poll_known = this_poll(&poll);
	note_receiver(poll_known);
	if (poll_known) {
		if (poll.raised_ns)
			stamp(rec, &p, request ? PT_R_RX_SOFTIRQ : PT_L_RX_SOFTIRQ, poll.raised_ns,
			      skb);
		stamp(rec, &p, request ? PT_R_RX_NAPI : PT_L_RX_NAPI, poll.entered_ns, skb);
	}
	flags = receive_flags(skb, poll_known ? &poll : 0);
	if (request)
		stamp_with(rec, &p, server ? PT_R_RX_DEVRCV : PT_M_RX_DEVECHO, now, skb, flags);
	else
		stamp_with(rec, &p, server ? PT_M_RX_DEVREPLY : PT_L_RX_IPRCV, now, skb, flags);
	return 0;
}

/* --- the kernel drops a packet --- */

#define HAS_REASON(name) bpf_core_enum_value_exists(enum skb_drop_reason, SKB_DROP_REASON_##name)
#define IS_REASON(reason, name) \
	(HAS_REASON(name) &&    \
	 (reason) == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_##name))

/* Whether only a copy was dropped: the packet itself goes on. */
static __always_inline bool is_copy(__u32 reason)
{
	return IS_REASON(reason, SOCKET_FILTER) || IS_REASON(reason, PACKET_SOCK_ERROR);
}

/*
 * Whether the kernel found the packet itself wrong. Where it does not say so, what ICMP drops may
 * have a wrong checksum.
 */
static __always_inline bool is_malformed(const struct pt_stamp_slot *rec, const struct packet *p,
					 __u32 reason)
{
	if (!HAS_REASON(ICMP_CSUM))
		return p->direction == PT_REQUEST && rec->state & PT_REC_DELIVERED;
	return IS_REASON(reason, ICMP_CSUM) || IS_REASON(reason, IP_CSUM) ||
	       IS_REASON(reason, IP_INHDR) || IS_REASON(reason, PKT_TOO_SMALL);
}

/*
 * The slot of a dropped packet. Not for a request whose reply is under way: that is its ordinary
 * end. If a reply has reached the client's socket, the first drop after that is the socket's.
 */
static __always_inline struct pt_stamp_slot *dropped_slot(struct sk_buff *skb,
							  const struct packet *p, __u32 netns)
{
	struct pt_stamp_slot *rec = any_slot_of(p);

	if (!rec) {
		if (!server || p->direction == PT_REPLY || !netns || netns != own_netns)
			return 0;
		return slot_for(skb, p, false, pt_now());
	}
	if (p->direction == PT_REQUEST && rec->used[PT_REPLY])
		return 0;
	if (!server && !(rec->state & PT_REC_LIVE) && rec->drop.ns)
		return 0;
	/* The client is on this kernel: its own programs see the rest. */
	if (server && !rec->host && (rec->state & PT_REC_OUT || netns != own_netns))
		return 0;
	return rec;
}

/*
 * Notifies the server's user space, which tells the client, if that asked for stamps and returned a
 * cookie of this server: so a host on the way does not speak for the one behind it.
 */
static __always_inline void report_drop(struct pt_stamp_slot *rec, const struct packet *p)
{
	if (!(rec->state & PT_REC_PROVEN) || rec->state & PT_REC_REPORTED)
		return;
	if (!(p->flags & (PT_FLAG_INBAND | PT_FLAG_RECORD)))
		return;
	rec->state |= PT_REC_REPORTED;
	notify(p, PT_PENDING_DROP);
}

/* A packet that is sent may have no device yet, only a socket. */
static __always_inline __u32 netns_of_dropped(struct sk_buff *skb)
{
	struct net_device *dev = skb->dev;
	struct sock *sk = skb->sk;

	if (dev)
		return dev->nd_net.net->ns.inum;
	return sk ? sk->__sk_common.skc_net.net->ns.inum : 0;
}

/*
 * The device at which a packet was dropped. A packet too big to be forwarded still has the device
 * by which it arrived; the device without room is the one of its route.
 */
static __always_inline __u32 device_of_dropped(struct sk_buff *skb, __u32 reason)
{
	/* include/linux/skbuff.h: SKB_DST_PTRMASK. */
	struct dst_entry *dst = (void *)(skb->_skb_refdst & ~1UL);
	struct net_device *dev;

	if (dst && IS_REASON(reason, PKT_TOO_BIG)) {
		dev = BPF_CORE_READ(dst, dev);
		if (dev)
			return BPF_CORE_READ(dev, ifindex);
	}
	return skb->dev ? skb->dev->ifindex : 0;
}

/*
 * The kernel's own arguments are (skb, location), and (skb, location, reason, ...) since 5.17.
 * Headers may be pulled already, so the length says little; before the network layer has set its
 * header, layer 3 starts at skb->data.
 */
SEC("tp_btf/kfree_skb")
int BPF_PROG(on_kfree_skb, struct sk_buff *skb, void *location)
{
	const unsigned char *head;
	struct pt_stamp_slot *rec;
	struct packet p;
	bool no_socket = false;
	__u32 reason = 0, netns;

	if (skb->len < sizeof(struct pt_header) - 8 || is_of_no_interest(skb))
		return 0;
	head = skb->head;
	if (!parse_any(skb, head, skb->network_header ? head + skb->network_header : skb->data, &p))
		return 0;
	if (!is_whole(skb, &p))
		return 0;
	if (bpf_core_type_exists(enum skb_drop_reason)) {
		reason = ctx[2];
		if (is_copy(reason))
			return 0;
		no_socket = IS_REASON(reason, NO_SOCKET);
	}
	/* The ordinary end of a reply: raw sockets had their copies, no ping socket wants it. */
	if (p.direction == PT_REPLY && no_socket)
		return 0;
	netns = netns_of_dropped(skb);
	if ((only_netns && netns != only_netns) || !(rec = dropped_slot(skb, &p, netns)))
		return 0;
	/* Its copy for a raw socket of IPv6 was dropped before, for another reason. */
	if (server && is_malformed(rec, &p, reason)) {
		rec->drop.ns = 0;
		return 0;
	}
	rec->drop.ns = pt_now() + (server ? rec->origin : 0);
	rec->drop.location = (__u64)location;
	rec->drop.reason = reason;
	rec->drop.netns = netns;
	rec->drop.ifindex = device_of_dropped(skb, reason);
	rec->drop.direction = p.direction;
	if (server)
		report_drop(rec, &p);
	return 0;
}

/* --- server: the echo request reaches icmp_rcv; one of these, chosen by trial --- */

static __always_inline int delivered(const struct packet *p)
{
	struct pt_stamp_slot *rec = slot_of(p);

	if (rec) {
		rec->state |= PT_REC_DELIVERED;
		stamp(rec, p, PT_R_RX_ICMPRCV, pt_now(), 0);
	}
	return 0;
}

static __always_inline int icmp_received(struct sk_buff *skb)
{
	struct packet p;

	if (!parse(skb, &p) || p.direction != PT_REQUEST || netns_of(skb) != own_netns)
		return 0;
	return delivered(&p);
}

SEC("?fentry/icmp_rcv")
int BPF_PROG(fentry_icmp_rcv, struct sk_buff *skb)
{
	return icmp_received(skb);
}

SEC("?fentry/icmpv6_rcv")
int BPF_PROG(fentry_icmpv6_rcv, struct sk_buff *skb)
{
	return icmp_received(skb);
}

static __always_inline int kprobe_received(struct pt_regs *ctx)
{
	struct sk_buff *skb = (void *)PT_REGS_PARM1(ctx);
	const unsigned char *head = BPF_CORE_READ(skb, head);
	struct view v = { head + BPF_CORE_READ(skb, network_header),
			  head + BPF_CORE_READ(skb, tail), skb, 0 };
	struct packet p = {};
	bool outer;

	if (!find_ip(&v) || !parse_ip(&v, &p, &outer))
		return 0;
	if (p.direction != PT_REQUEST || BPF_CORE_READ(skb, dev, nd_net.net, ns.inum) != own_netns)
		return 0;
	return delivered(&p);
}

SEC("?kprobe/icmp_rcv")
int kprobe_icmp_rcv(struct pt_regs *ctx)
{
	return kprobe_received(ctx);
}

SEC("?kprobe/icmpv6_rcv")
int kprobe_icmpv6_rcv(struct pt_regs *ctx)
{
	return kprobe_received(ctx);
}

/* --- socket filters: IPv4 data starts at the IP header, IPv6 data at the ICMPv6 header --- */

static __always_inline bool filter_header(struct __sk_buff *skb, struct pt_header *h, bool *v6)
{
	__u32 offset = 0;
	__u8 ihl;

	*v6 = skb->protocol == bpf_htons(ETH_P_IPV6);
	if (!*v6) {
		if (bpf_skb_load_bytes(skb, 0, &ihl, 1))
			return false;
		offset = (ihl & 15) * 4;
	}
	return !bpf_skb_load_bytes(skb, offset, h, sizeof(*h));
}

/*
 * Client: the reply reached the socket. Replies of other sessions are refused here, before they
 * wake the thread; ICMP errors and stamp packets pass.
 */
SEC("socket")
int client_socket(struct __sk_buff *skb)
{
	struct pt_stamp_slot *rec;
	struct packet p = {};
	struct pt_header h;
	bool v6;

	if (!filter_header(skb, &h, &v6))
		return -1;
	if (h.type != (v6 ? ICMPV6_ECHO_REPLY : ICMP_ECHOREPLY))
		return -1;
	if (h.magic != bpf_htons(PT_MAGIC) || !target_of(bpf_ntohl(h.session)))
		return 0;
	if (h.flags & bpf_htons(PT_FLAG_DONTADD))
		return -1;
	take_header(&p, &h, v6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO);
	if ((rec = slot_of(&p))) {
		stamp(rec, &p, PT_L_RX_SKDATAREADY, pt_now(), 0);
		rec->state &= ~PT_REC_LIVE;
		rec->drop.ns = 0;
	}
	return -1;
}

/* --- server: what wakes it --- */

/* The filter takes the stamps of icmp_rcv, where neither fentry nor kprobe is possible. */
const volatile bool stamps_at_socket = false;

/* User space has attached the programs that stamp, or is about to attach the last one. */
bool armed;
/* A request has asked for that since they were detached, and who sent it. */
bool wanted;
__be32 wanted_by[4];

/* Requests that would have had stamps, and came before the programs were attached. */
__u64 unarmed;

/* The same as read_tagged(), of what reaches a socket. */
static __always_inline bool read_tagged_at(struct pt_tagged *t, struct __sk_buff *skb, __u32 at)
{
	if (!bpf_skb_load_bytes(skb, at, t, sizeof(*t)))
		return true;
	t->entry[0] = t->entry[1] = t->entry[2] = 0;
	return !bpf_skb_load_bytes(skb, at, t, sizeof(*t) - sizeof(t->entry));
}

/*
 * Whether a request may arm the server: the one that would get stamps. With keys that takes a tag
 * that was not seen before, so who has recorded a request cannot keep the server armed.
 */
static __always_inline bool may_arm(const struct packet *p, struct __sk_buff *skb, __u32 icmp)
{
	struct arrival *a = this_arrival();
	__u32 state;

	if (!a)
		return false;
	a->p = *p;
	a->is_here = true;
	a->has_tag = keys.in_use && p->version && p->flags & PT_FLAG_AUTH &&
		     read_tagged_at(&a->tagged, skb, icmp + TAGGED_FROM);
	state = judge(pt_now());
	return keys.in_use ? state & PT_REC_TRUSTED : state;
}

/* A server's user space sleeps until it is notified: once, however many requests come. */
static __always_inline void arm(const struct packet *p)
{
	__sync_fetch_and_add(&unarmed, 1);
	if (wanted)
		return;
	__builtin_memcpy(wanted_by, p->peer, sizeof(wanted_by));
	wanted = true;
	notify(p, PT_PENDING_WAKE);
}

/* A raw socket sees a request just before icmp_rcv. Nothing is delivered to the socket. */
SEC("socket")
int server_socket(struct __sk_buff *skb)
{
	struct packet p = {};
	struct pt_header h;
	struct ipv6hdr ip6;
	struct iphdr ip;
	__u32 icmp = 0;
	bool v6;

	if (!filter_header(skb, &h, &v6))
		return 0;
	if (!is_probe(&h, v6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO, 0xff))
		return 0;
	take_header(&p, &h, v6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO);
	if (v6) {
		if (bpf_skb_load_bytes_relative(skb, 0, &ip6, sizeof(ip6), BPF_HDR_START_NET))
			return 0;
		__builtin_memcpy(p.peer, ip6.saddr, 16);
	} else {
		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
			return 0;
		icmp = ip.ihl * 4;
		p.peer[2] = bpf_htonl(0xffff);
		p.peer[3] = ip.saddr;
	}
	if (stamps_at_socket)
		delivered(&p);
	if (!armed && may_arm(&p, skb, icmp))
		arm(&p);
	return 0;
}

/* --- client: the receiving thread's sleep --- */

SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_sched_wakeup, struct task_struct *task)
{
	if (task->pid == receiver_tid && !receiver_sleep.woken_ns) {
		receiver_sleep.woken_ns = pt_now();
		receiver_sleep.woken_cpu = bpf_get_smp_processor_id();
	}
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	/* After a wake-up the first switch counts, after preemptions the last. */
	if (next->pid == receiver_tid &&
	    (!receiver_sleep.woken_ns || receiver_sleep.oncpu_ns < receiver_sleep.woken_ns)) {
		receiver_sleep.oncpu_ns = pt_now();
		receiver_sleep.oncpu_cpu = bpf_get_smp_processor_id();
	}
	return 0;
}

/* Run by user space with BPF_PROG_TEST_RUN: stores the caller's id in the initial PID namespace. */
__u32 caller_tid;

SEC("?syscall")
int whoami(void *ctx)
{
	caller_tid = (__u32)bpf_get_current_pid_tgid();
	return 0;
}
