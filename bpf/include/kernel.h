/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The few kernel types that the programs read, so that they compile on any machine, with or
 * without BTF. UAPI layouts are fixed; structs of the kernel's inside carry
 * preserve_access_index: libbpf relocates their fields to the running kernel's offsets, so only
 * the fields that are used are listed.
 */
#pragma once

/* Makes <bpf/bpf_tracing.h> use the kernel's register names. */
#define __VMLINUX_H__

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef _Bool bool;
enum { false = 0, true = 1 };

/* include/uapi/linux/bpf.h */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_F_NO_PREALLOC = 1 << 0,
	BPF_F_USER_STACK = 1 << 8,
	BPF_F_MMAPABLE = 1 << 10,
};

enum { AF_INET = 2, AF_INET6 = 10 };
enum { BPF_HDR_START_NET = 1 };
enum { TC_ACT_UNSPEC = -1 };

struct bpf_raw_tracepoint_args {
	__u64 args[0];
};

struct __sk_buff {
	__u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto;
	__u32 priority, ingress_ifindex, ifindex, tc_index, cb[5], hash, tc_classid;
	__u32 data, data_end;
};

/* include/uapi/linux/if_ether.h, in.h, ip.h, ipv6.h, icmp.h */
enum {
	ETH_P_IP = 0x0800,
	ETH_P_TEB = 0x6558,
	ETH_P_8021Q = 0x8100,
	ETH_P_IPV6 = 0x86DD,
	ETH_P_MPLS_UC = 0x8847,
	ETH_P_8021AD = 0x88A8,
};
enum {
	IPPROTO_HOPOPTS = 0,
	IPPROTO_ICMP = 1,
	IPPROTO_IPIP = 4,
	IPPROTO_TCP = 6,
	IPPROTO_UDP = 17,
	IPPROTO_IPV6 = 41,
	IPPROTO_ROUTING = 43,
	IPPROTO_GRE = 47,
	IPPROTO_ICMPV6 = 58,
	IPPROTO_DSTOPTS = 60,
};
enum { ETH_HLEN = 14, VLAN_HLEN = 4, UDP_HLEN = 8 };
enum { ICMP_ECHOREPLY = 0, ICMP_ECHO = 8, ICMPV6_ECHO_REQUEST = 128, ICMPV6_ECHO_REPLY = 129 };
enum { IP_MF_OFFSET = 0x3fff, ICMP_HLEN = 8 };

/* include/uapi/linux/if_arp.h: frames begin at layer 3, as those of tun. */
enum { ARPHRD_NONE = 0xfffe };

/* include/uapi/linux/if_tunnel.h, include/net/vxlan.h, geneve.h, gue.h */
enum { GRE_HLEN = 4, GRE_CSUM = 0x8000, GRE_KEY = 0x2000, GRE_SEQ = 0x1000, GRE_VERSION = 0x0007 };
enum { VXLAN_HLEN = 8, VXLAN_VNI = 0x08, VXLAN_GPE = 0x04, VXLAN_NEXT_ETHERNET = 3 };
enum { GENEVE_HLEN = 8, GENEVE_VERSION = 0x40, GUE_HLEN = 4, GUE_CONTROL = 0x20 };
enum { MPLS_BOTTOM = 0x100 };

struct iphdr {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	__u8 ihl : 4, version : 4;
#else
	__u8 version : 4, ihl : 4;
#endif
	__u8 tos;
	__be16 tot_len, id, frag_off;
	__u8 ttl, protocol;
	__u16 check;
	__be32 saddr, daddr;
};

struct ipv6hdr {
	__be32 flow;
	__be16 payload_len;
	__u8 nexthdr, hop_limit;
	__be32 saddr[4], daddr[4];
};

/* include/net/tcp_states.h: of what is no whole struct sock. */
enum { TCP_TIME_WAIT = 6, TCP_NEW_SYN_RECV = 12 };

/* include/linux/sched/prio.h */
enum { MAX_RT_PRIO = 100 };

/* include/linux/interrupt.h */
enum { NET_RX_SOFTIRQ = 3 };

/* include/linux/sched.h */
enum { PF_KTHREAD = 0x00200000 };

/* include/linux/skbuff.h: a struct bio_vec before 6.9, of the same layout. */
struct skb_frag {
	__u64 page;
	__u32 len, offset;
};

/* include/net/dropreason-core.h (Linux 5.17): the numbers are relocated to the running kernel's. */
enum skb_drop_reason {
	SKB_DROP_REASON_NO_SOCKET,
	SKB_DROP_REASON_SOCKET_FILTER,
	SKB_DROP_REASON_PACKET_SOCK_ERROR,
	SKB_DROP_REASON_PKT_TOO_BIG,
	SKB_DROP_REASON_PKT_TOO_SMALL,
	SKB_DROP_REASON_IP_CSUM,
	SKB_DROP_REASON_IP_INHDR,
	SKB_DROP_REASON_ICMP_CSUM,
};

/* include/linux/skbuff.h: the number is relocated to the running kernel's, which may have none. */
enum skb_ext_id { SKB_EXT_SEC_PATH };

/* include/linux/cgroup_subsys.h: the number is relocated to the running kernel's. */
enum cgroup_subsys_id { cpu_cgrp_id };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct ns_common {
	unsigned int inum;
};
struct net {
	struct ns_common ns;
};
typedef struct {
	struct net *net;
} possible_net_t;
struct rtnl_link_ops {
	const char *kind;
};
struct net_device {
	int ifindex;
	unsigned short type; /* ARPHRD_... */
	possible_net_t nd_net;
	const struct rtnl_link_ops *rtnl_link_ops;
};
struct sock_common {
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
};
struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
};
/* include/net/dst.h: where a packet is routed to. */
struct dst_entry {
	struct net_device *dev;
};
struct sk_buff {
	__u8 active_extensions;
	struct sock *sk;
	unsigned long _skb_refdst;
	unsigned int len;
	__be16 protocol;
	__u16 network_header;
	unsigned int tail, end;
	unsigned char *head, *data;
	struct net_device *dev;
};
struct skb_shared_info {
	__u8 nr_frags;
	struct skb_frag frags[1];
};
struct page {
	unsigned long flags;
};
struct sched_info {
	unsigned long long last_queued;
};
struct rq {
	__u64 clock;
	unsigned int nr_running;
};
/* How long it was throttled: the last of these that the kernel has is the best. */
struct cfs_rq {
	struct rq *rq;
	int throttle_count;
	__u64 throttled_clock_task_time; /* before 5.19 */
	__u64 throttled_clock_pelt_time; /* since then, slower on a slower CPU */
	__u64 throttled_clock_self_time; /* since 6.6 */
};
struct sched_entity {
	struct cfs_rq *cfs_rq;
};
struct kernfs_node {
	const char *name;
	__u64 id;
};
struct cgroup {
	struct kernfs_node *kn;
};
struct cgroup_subsys_state {
	struct cgroup *cgroup;
};
struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};
struct thread_info {
	unsigned long flags;
};
struct upid {
	int nr;
};
struct pid {
	unsigned int level;
	struct upid numbers[1];
};
struct task_struct {
	struct thread_info thread_info;
	unsigned int __state, flags;
	int pid, tgid, prio;
	char comm[16];
	struct sched_entity se;
	struct sched_info sched_info;
	struct css_set *cgroups;
	struct pid *thread_pid;
};
/* Before 5.14. */
struct task_struct___o {
	long state;
};
struct timerqueue_node {
	__s64 expires;
};
struct hrtimer {
	struct timerqueue_node node;
	__u8 is_soft;
};

struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
};
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct hrtimer_sleeper {
	struct hrtimer timer;
	struct task_struct *task;
};
#pragma clang attribute pop

/* Registers, for the kprobe alternatives (PT_REGS_PARM1). */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31], sp, pc, pstate;
};
struct pt_regs {
	struct user_pt_regs user_regs;
};
#elif defined(__TARGET_ARCH_s390)
typedef struct {
	unsigned long mask, addr;
} psw_t;
typedef struct {
	unsigned long args[1];
	psw_t psw;
	unsigned long gprs[16];
} user_pt_regs;
struct pt_regs {
	user_pt_regs user_regs;
};
#elif defined(__TARGET_ARCH_riscv)
struct user_regs_struct {
	unsigned long pc, ra, sp, gp, tp, t0, t1, t2, s0, s1, a0, a1, a2, a3, a4, a5, a6, a7;
};
struct pt_regs {
	struct user_regs_struct regs;
};
#elif defined(__TARGET_ARCH_powerpc)
struct pt_regs {
	unsigned long gpr[32], nip, msr, orig_gpr3, ctr, link, xer, ccr;
};
#endif
