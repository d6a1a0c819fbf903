/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A probe as it travels and as it is remembered: the wire header, the points of the stack, the
 * stamp, and the record that collects a probe's stamps. Shared by all programs and, through the
 * generated skeleton types, by user space; nothing of it is typed twice.
 *
 * A stamp has one layout everywhere: in a record, in a packet that carries it in band, and in a
 * record packet. It is big-endian, so that it can be copied into a packet as it stands.
 */
#pragma once

enum pt_wire {
	PT_MAGIC = 0x7ace,
	PT_V1_HEADER = 48, /* ICMP header included; entries follow */
	PT_FLAG_DONTADD = 1 << 0,
	PT_FLAG_INBAND = 1 << 1,
	PT_FLAG_RECORD = 1 << 2,
	/* A packet has room for no more; also keeps one checksum run within 512 bytes. */
	PT_INBAND_MAX = 20,
	/* aux of a stamp taken at the tc hook: stands in until the exact one has arrived. */
	PT_AUX_PROVISIONAL = 0xffff,
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

/* What both protocol versions begin with, from the ICMP type on. */
struct pt_header {
	__u8 type, code;
	__be16 checksum, id, sequence16;
	__u8 version, num;
	__be16 flags, magic, capacity;
	__be32 session, sequence;
	__be64 host_id; /* version 1: hash of the client's boot id, 0 unknown */
} __attribute__((packed, aligned(4)));

struct pt_stamp {
	__be64 time_ns; /* CLOCK_MONOTONIC of the stamping host */
	__be32 netns, ifindex;
	__be16 host, point, cpu;
	__be16 aux; /* in a packet: how many sequence numbers back the stamp's probe is */
};

enum pt_direction { PT_REQUEST, PT_REPLY };
enum { PT_STAMPS = 32 };

/* rec->state */
enum pt_state {
	PT_REC_LIVE = 1 << 0, /* stamps are welcome */
	PT_REC_OWED = 1 << 1, /* user space is to send a record packet */
	PT_REC_OUT = 1 << 2, /* the reply was handed to a driver */
};

/* A probe's stamps, direction by direction in the order in which they were taken. */
struct pt_record {
	__u32 session, sequence;
	__be32 peer[4]; /* the client's address, IPv4 as ::ffff:a.b.c.d; server only */
	__be32 local[4]; /* the address that was probed, likewise */
	__u32 state;
	__u16 length; /* of the ICMP message, bytes; server only */
	__u8 version, family; /* 4 or 6; server only */
	__u64 sent_ns; /* l_tx_user; client only */
	__u16 used[2]; /* stamps in use, by direction */
	__u16 host; /* index of the stamping host; 0 also for a server on the client's kernel */
	__u16 pad;
	struct pt_stamp stamp[2][PT_STAMPS];
};

/* One client of a server: how far its replies' late stamps have been delivered. */
struct pt_session {
	__u32 session;
	__be32 peer[4];
	__u32 delivered; /* the next sequence number whose late stamps are due */
	__u32 handed_over; /* the newest sequence number that a driver got */
};

/* Told to user space when a record packet is owed. */
struct pt_owed {
	__u32 slot, session, sequence;
};

/* Last NET_RX softirq of a CPU; a cache line each. */
struct pt_softirq {
	__u64 raised_ns; /* first raise since the last entry, 0: none */
	__u64 poll_raised_ns; /* the raise that the running softirq answers, 0: unknown */
	__u64 entered_ns; /* 0: no NET_RX softirq runs */
	__u64 pad[5];
};

/* The receiving thread's last sleep; user space zeroes it before it waits. */
struct pt_sleep {
	__u64 woken_ns, oncpu_ns;
	__u32 woken_cpu, oncpu_cpu;
};

/* Every loss has a number; user space shows them all. */
struct pt_losses {
	__u64 stamp_overflow; /* more hops than a record holds */
	__u64 evicted; /* a record was reused before its reply had left */
	__u64 owed_overflow; /* no room to tell user space of an owed record packet */
	__u64 no_room; /* the packet had too little capacity for its stamps */
	__u64 session_evicted; /* two clients share a session slot */
};
