/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A probe on the wire and in memory: the packet header, the points of the stack, the stamp, and the
 * slot that collects the stamps of a probe (docs/wire.md). All programs share it, and user space
 * gets its types from the generated skeletons.
 *
 * A stamp has one layout everywhere: in a slot, in a reply that carries it in band, and in a stamp
 * packet. It is big-endian, so that it can be copied into a packet as it is.
 */
#pragma once

enum pt_wire {
	PT_MAGIC = 0x7ace,
	PT_V1_HEADER = 48, /* ICMP header included; entries follow */
	PT_FLAG_DONTADD = 1 << 0,
	PT_FLAG_INBAND = 1 << 1,
	PT_FLAG_RECORD = 1 << 2,
	PT_FLAG_AUTH = 1 << 4, /* the request has a tag */
	PT_FLAG_TTL = 1 << 5, /* say with which TTL the request arrived */
	PT_FLOW_SHIFT = 8, /* the flow of the probe is in the upper byte of the flags */
	/* Upper bound on entries written in band; keeps one checksum run within 512 bytes. */
	PT_INBAND_MAX = 20,
	/* aux of a stamp taken at the tc hook, which the exact one replaces when it arrives. */
	PT_AUX_PROVISIONAL = 0x8000,
	/* Unit of the time for which a server has run, and its upper bound in these units. */
	PT_RUNNING_NS = 10000000,
	PT_RUNNING_MAX = 0xffff,
	/* Of the host field: a host on the way, by its number; 0: on the client's kernel. */
	PT_HOST_TRANSIT = 0x8000,
	/* A cookie is accepted in its epoch and the next one, of 2^36 ns (69 s) each. */
	PT_COOKIE_EPOCH = 36,
};

/* Numbers on the wire; 0 to 14 are those of protocol version 0. */
enum pt_point {
	PT_L_TX_USER = 0,
	PT_L_TX_DEVQUEUE = 1,
	PT_L_TX_DEVOUT = 2,
	PT_R_RX_ICMPRCV = 3,
	PT_R_TX_DEVOUT = 4,
	PT_L_RX_IPRCV = 5,
	PT_L_RX_SKDATAREADY = 6,
	PT_L_RX_WAKEUP = 7,
	PT_L_RX_USER = 8,
	PT_R_RX_DEVRCV = 9,
	PT_L_RX_SOFTIRQ = 10,
	PT_M_TX_DEVECHO = 11,
	PT_M_RX_DEVECHO = 12,
	PT_M_TX_DEVREPLY = 13,
	PT_M_RX_DEVREPLY = 14,
	PT_L_RX_NAPI = 15,
	PT_L_RX_ONCPU = 16,
	PT_R_RX_SOFTIRQ = 17,
	PT_R_RX_NAPI = 18,
	PT_R_TX_DEVQUEUE = 19,
	PT_M_TX_QUEUEECHO = 20,
	PT_M_TX_QUEUEREPLY = 21,
};

/*
 * Entries of a packet that are no stamps: numbers in the place of the point, far above it.
 *
 * WINDOW: in a request, a question: what became of the PT_WINDOW probes from `aux` sequence
 * numbers back on, the first of which was sent `time_ns` (a duration, ns) ago? In the reply, the
 * first PT_WINDOW_BYTES of the entry hold the answer, a pt_server_status of four bits a probe, low
 * bits first, and `cpu` for how many PT_RUNNING_NS the server has run. DROP: the kernel of `host`
 * dropped a packet of the probe at `time_ns`, in this namespace and on this device; `cpu` is the
 * direction. TEXT: a name for the DROP of the same probe: the first 16 bytes hold ASCII, padded
 * with zeros, and `cpu` says what it names (enum pt_text); several follow one another. TTL: `cpu`
 * is the TTL (hop limit) with which the request arrived at the first device of `host`.
 */
enum pt_extension {
	PT_EXTENSION_WINDOW = 256,
	PT_EXTENSION_DROP = 257,
	PT_EXTENSION_TEXT = 258,
	PT_EXTENSION_TTL = 259,
};
enum { PT_WINDOW = 32, PT_WINDOW_BYTES = 16 };

/* What a server saw of a probe. */
enum pt_server_status {
	PT_STATUS_NONE, /* not asked for */
	PT_STATUS_UNSEEN, /* it never arrived at a device */
	PT_STATUS_ARRIVED, /* the request was received by a device */
	PT_STATUS_DELIVERED, /* and by ICMP */
	PT_STATUS_REPLIED, /* the reply was queued */
	PT_STATUS_LEFT, /* and handed to a driver */
	PT_STATUS_FORGOTTEN, /* its slot was reused since */
	PT_STATUS_REPLY_DROPPED, /* the kernel dropped the reply */
};

enum pt_text {
	PT_TEXT_REASON,
	PT_TEXT_LOCATION,
	PT_TEXT_DEVICE,
	PT_TEXT_NETNS,
	PT_TEXT_BLAME, /* who had the CPU in slow segments; of the probe, without a drop */
	PT_TEXT_PLACE, /* no text: its device, or with ifindex 0 its namespace, has the name */
	PT_TEXT_NAME, /* that follows */
};

/* From the ICMP type on. Both protocol versions have what precedes the reserved word. */
struct pt_header {
	__u8 type, code;
	__be16 checksum, id, sequence16;
	__u8 version, num;
	__be16 flags, magic, capacity;
	__be32 session, sequence;
	__be64 reserved; /* version 1: 0 */
	__u64 cookie; /* version 1: the last one that the server gave to this client, 0 none */
} __attribute__((packed, aligned(4)));

struct pt_stamp {
	__be64 time_ns; /* CLOCK_MONOTONIC of the stamping host */
	__be32 netns, ifindex;
	__be16 host, point;
	__be16 cpu; /* PT_STAMP_CPU, and flags of enum pt_stamp_flag above it */
	__be16 aux; /* in a packet: how many sequence numbers back its probe is, signed */
};

/* What the stamping host knows besides, in the high bits of pt_stamp.cpu. */
enum pt_stamp_flag {
	PT_STAMP_CPU = 0x1fff, /* the rest: the number of the CPU */
	PT_STAMP_UNDERLAY = 1 << 13, /* what carries the packet below this device is not seen */
	PT_STAMP_INTERRUPTS = 1 << 14, /* received; interrupts may have been off until then */
	PT_STAMP_DIRECT = 1 << 15, /* received outside a softirq: it waited for none */
};

enum pt_direction { PT_REQUEST, PT_REPLY };
enum { PT_STAMPS = 32 };

/* pt_stamp_slot.state */
enum pt_state {
	PT_REC_LIVE = 1 << 0, /* stamps are added */
	PT_REC_PENDING = 1 << 1, /* user space is to send a stamp packet */
	PT_REC_OUT = 1 << 2, /* the reply was last handed to a driver, and is in no queue */
	PT_REC_REPORTED = 1 << 3, /* user space knows of the drop */
	PT_REC_SLOW = 1 << 4, /* and of the long stay */
	PT_REC_DELIVERED = 1 << 5, /* ICMP of the served namespace has the request */
	PT_REC_PROVEN = 1 << 6, /* the request had a valid cookie: its source gets our packets */
	PT_REC_GIVEN = 1 << 7, /* the reply has a cookie */
	PT_REC_SETTLED = 1 << 8, /* no stamps are owed any more */
	PT_REC_TRUSTED = 1 << 9, /* the peer may know everything: it has the key, or all may */
};

/* The kernel dropped a packet (kfree_skb); numbers of this host, in its own byte order. */
struct pt_drop {
	__u64 ns; /* CLOCK_MONOTONIC, 0: nothing was dropped */
	__u64 location; /* address of the instruction that did */
	__u32 reason; /* enum skb_drop_reason, 0: the kernel does not say */
	__u32 netns, ifindex; /* 0: unknown */
	__u32 direction;
};

/* The stamps of a probe, by direction, in the order in which they were taken. */
struct pt_stamp_slot {
	__u32 session, sequence;
	__be32 peer[4]; /* the client's address, IPv4 as ::ffff:a.b.c.d; server only */
	__be32 local[4]; /* the address that was probed, likewise */
	__u16 state;
	__u16 listed; /* its number is in the list of late stamps; server only */
	__u16 length; /* of the ICMP message, bytes; server only */
	__u8 version, family; /* 4 or 6; server only */
	__u64 sent_ns; /* l_tx_user; at a server when the request arrived */
	__u64 cookie; /* to be given to the client; server only */
	__be64 tag; /* of the reply; 0: it has none; server only */
	__u16 used[2]; /* stamps in use, by direction */
	__u16 host; /* index of the stamping host; 0 also for a server on the client's kernel */
	__be16 id; /* ICMP id of the request as it arrived; server only */
	__u8 flow; /* server only */
	__u8 ttl; /* of the request as it arrived, 0: not asked for; server only */
	__u8 pad[2];
	__u32 session_at; /* index of its session, PT_NONE: it has no entry; server only */
	__u64 origin; /* added to the times of a stranger's stamps, ns: so they tell no uptime */
	struct pt_drop drop; /* the last one */
	struct pt_stamp stamp[2][PT_STAMPS];
};

/*
 * A server's slots, and its sessions, are sets of eight; where a set stores which they are, and
 * which of them is displaced first (table.h). A tag of 0 is an empty place.
 */
enum { PT_WAYS = 8 };
struct pt_set {
	__u32 tag[PT_WAYS]; /* of the probe */
	__u16 time[PT_WAYS]; /* when it arrived, in units of 2^PT_SLOT_TIME ns */
	__u8 rank[PT_WAYS]; /* enum pt_rank */
	__u8 source[PT_WAYS];
};
struct pt_session_set {
	__u32 tag[PT_WAYS];
	__u16 time[PT_WAYS]; /* of its last request, in units of 2^PT_SESSION_TIME ns */
	__u8 source[PT_WAYS]; /* and PT_SOURCE_PROVEN */
	__u64 displaced_ns; /* last request of a session that was displaced, the latest of all */
};

/* The higher, the sooner a slot is displaced. */
enum pt_rank {
	PT_RANK_RATES = 7, /* upper bound on the rate of a session as a power of two */
	PT_RANK_SETTLED = 6, /* added when nothing is owed any more */
	PT_RANK_STRANGER = 15, /* from here on: no proven source, and nothing of one is owed */
	PT_RANK_GONE = 24, /* added for a stranger */
	PT_RANK_FREE = 255,
};

enum pt_set_time {
	PT_SLOT_TIME = 20, /* about 1 ms; wraps after 69 s */
	PT_SLOT_IDLE = 15000, /* what is settled is free after this time, in this unit */
	PT_SESSION_TIME = 26, /* about 67 ms; wraps after 73 minutes */
	PT_SESSION_IDLE = 4500, /* 5 minutes: a session is over */
	PT_SOURCE_PROVEN = 0x80,
};

enum { PT_LATE = 64, PT_WITHHELD = 8 };

/*
 * A session of a server: the sequence numbers of the replies that a driver got, in that order,
 * each once, until their late stamps have been sent; again, if there are more of them since.
 * Usually one CPU at a time hands over the replies of a session; if two do, one number may be
 * lost, and the client counts the missing stamps.
 */
struct pt_session {
	__u32 session;
	__be32 peer[4];
	__u32 own; /* a reply of it was made here; else this is a host on the way */
	__u32 head, tail; /* handed over, delivered: counts */
	__u32 late[PT_LATE];
	__u64 named_ns; /* when a reply had names last */
	__u32 named; /* replies with names */
	__u16 flags; /* of the last request */
	__u8 version; /* likewise */
	__u8 proven; /* a request of it had a valid cookie */
	__u64 first_ns, last_ns; /* requests, CLOCK_MONOTONIC */
	__u64 displaced_ns; /* the latest arrival of those whose slots were displaced */
	__u64 requests, replies, stamped; /* arrived, handed to a driver, with stamps in band */
	__u64 lost, refused; /* displaced before their stamps were sent; without a slot */
	__u64 packets,
		withheld[PT_WITHHELD]; /* sent by user space, and not, by reason: it counts */
	__u32 recent, recent_at; /* requests, halved every 2^30 ns; when, in this unit */
};

/* A place that a server's stamps name, and the entries with its name; without any it has none. */
struct pt_place {
	__u32 netns, ifindex; /* ifindex 0: the namespace itself */
};
enum { PT_NAME_ENTRIES = 8 };
struct pt_name {
	__u32 count, pad;
	struct pt_stamp entry[PT_NAME_ENTRIES];
};

/* One that a client probes, and its slots: a power of two. */
struct pt_target {
	__u32 session; /* 0: none */
	__u32 first, mask; /* the first slot, and how many there are, less one */
	__u32 pad;
	__u64 lost_stamps; /* more than a slot holds */
};

/* Why user space is notified of a probe. */
enum pt_pending_kind {
	PT_PENDING_STAMPS, /* its client needs a stamp packet */
	PT_PENDING_DROP, /* a packet of it was dropped */
	PT_PENDING_BLAME, /* it stayed long in this host: user space explains it; or STAMPS too */
	PT_PENDING_WAKE, /* user space is to look at flags, such as `wanted` */
	PT_PENDING_OTHER_KEY, /* requests have the tag of another key */
	PT_PENDING_NAME, /* a place has no name yet: `slot` is its netns, `session` its ifindex */
};

struct pt_pending {
	__u32 slot, session, sequence;
	__u32 what; /* enum pt_pending_kind */
};

/* Last NET_RX softirq of a CPU, and when its interrupts were on or off; a cache line each. */
struct pt_softirq {
	__u64 raised_ns; /* first raise since the last entry, 0: none */
	__u64 poll_raised_ns; /* the raise that the running softirq answers, 0: unknown */
	__u64 entered_ns; /* 0: no NET_RX softirq runs */
	__u64 on_ns; /* interrupts were last known to be on */
	__u64 off_ns, late_ns; /* they were off from the first until a timer expired late */
	__u32 raised_unknown, poll_unknown; /* interrupts may have been off before that raise */
	__u64 pad;
};

/* A kernel thread that polls devices. */
struct pt_napi_thread {
	int tid; /* 0: none */
	__u32 runnable_unknown; /* interrupts may have been off before it was woken */
	__u64 runnable_ns; /* since when it waits for a CPU, or did; 0: unknown */
	__u64 oncpu_ns; /* since when it has one, or from the end of its last poll on; 0: unknown */
};

/* The receiving thread's last sleep; user space zeroes woken_ns before it waits. */
struct pt_sleep {
	__u64 woken_ns, oncpu_ns;
	__u32 woken_cpu, oncpu_cpu;
};

/* Losses, counted by cause; user space reports all of them. */
struct pt_losses {
	__u64 stamp_overflow; /* server: more stamps than a slot holds */
	__u64 evicted; /* a slot was reused before its reply had left */
	__u64 evicted_late; /* before its late stamps were sent, of a session that was proven */
	__u64 evicted_stranger; /* likewise, of one that was not */
	__u64 no_slot; /* a stranger's request that would have displaced what is owed to others */
	__u64 pending_overflow; /* the ring buffer to user space was full */
	__u64 no_room; /* the packet had too little capacity for its stamps */
	__u64 session_evicted; /* a proven session was displaced */
	__u64 no_session; /* a stranger's, that would have displaced a proven one */
};

/* Why a request that arrives in the served namespace gets no stamps. */
enum pt_refusal {
	PT_REFUSED_DENIED, /* its address is not served */
	PT_REFUSED_UNTAGGED, /* no tag, and this server has keys */
	PT_REFUSED_OTHER_KEY, /* a tag of another key */
	PT_REFUSED_REPLAYED, /* a tag that was seen before, or is too old to tell */
	PT_REFUSALS,
};

/*
 * A source of such requests. A server keeps sets of PT_WAYS of them: a new one takes the place of
 * the one that was silent longest.
 */
struct pt_refused {
	__be32 peer[4];
	__u32 session; /* of the last request */
	__u32 notified; /* user space knows that it has another key */
	__u64 first_ns, last_ns; /* requests, CLOCK_MONOTONIC; 0: an empty place */
	__u64 count[PT_REFUSALS];
};
enum { PT_REFUSED_SETS = 64 };
