// SPDX-License-Identifier: GPL-2.0-only
/*
 * Faults of a known place and size, for the self-test and the tests: keeps a CPU busy for a known
 * time. On one CPU, when armed, in a softirq or with interrupts off; or for probes with chosen
 * sequence numbers, at the tc hooks of the laboratory's devices and between a socket and the
 * wake-up of its reader.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>
#include "probe.h"
#include "burn.h"

char LICENSE[] SEC("license") = "GPL";

enum { SPANS = 256 };

/* The tc hooks, and what lies behind the last of them. */
enum burn_site { CLIENT_EGRESS, CLIENT_INGRESS, SERVER_INGRESS, SERVER_EGRESS, WAKE_UP, SITES };

/* first, first + step, ... below end */
struct burn_hits {
	__u32 first, step, end;
};

struct burn_hits hits[SITES];
const volatile __u64 probe_ns = 0;

/* Set by user space before `armed`, which each burn of that CPU takes back. */
__u32 long_cpu, long_ns;
bool in_net_rx, armed;

/* What was really done there, CLOCK_MONOTONIC ns. */
struct burn_span {
	__u64 from, to;
} spans[SPANS];
__u32 burnt;

enum burn_site site_type; /* only so that the skeleton has this type */

static __always_inline void burn_once(void)
{
	__u32 n = burnt;

	if (bpf_get_smp_processor_id() != long_cpu || n >= SPANS)
		return;
	armed = false;
	n &= SPANS - 1;
	spans[n].from = bpf_ktime_get_ns();
	burn(spans[n].from, long_ns);
	spans[n].to = bpf_ktime_get_ns();
	burnt = n + 1;
}

/*
 * Any softirq but NET_RX: packets that raise NET_RX meanwhile wait for its entry. Or NET_RX
 * itself, behind its entry: they wait for their poll.
 */
SEC("tp_btf/softirq_entry")
int BPF_PROG(burn_softirq, unsigned int vec)
{
	if (armed && (vec == NET_RX_SOFTIRQ) == in_net_rx)
		burn_once();
	return 0;
}

/*
 * The thread that has armed it starts a timer, below the lock of its clock base and so with
 * interrupts off. Not in the idle task, where nothing tells a late interrupt from a slow waking.
 */
SEC("tp_btf/hrtimer_start")
int BPF_PROG(burn_irqs_off)
{
	if (armed && (__u32)bpf_get_current_pid_tgid())
		burn_once();
	return 0;
}

/* The sequence number of a probe or an echo of it over IPv4. */
static __always_inline bool sequence_of(struct __sk_buff *skb, __u32 *sequence)
{
	struct {
		struct iphdr ip;
		struct pt_header icmp;
	} b;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &b, sizeof(b)) || b.ip.ihl != 5 ||
	    b.ip.protocol != IPPROTO_ICMP || b.icmp.magic != bpf_htons(PT_MAGIC) ||
	    b.icmp.flags & bpf_htons(PT_FLAG_DONTADD))
		return false;
	*sequence = bpf_ntohl(b.icmp.sequence);
	return true;
}

static __always_inline bool is_hit(enum burn_site site, __u32 sequence)
{
	__u32 first = hits[site].first, step = hits[site].step, end = hits[site].end;

	return step && sequence >= first && sequence < end && (sequence - first) % step == 0;
}

static __always_inline int burn_probe(struct __sk_buff *skb, enum burn_site site)
{
	__u32 sequence;

	if (sequence_of(skb, &sequence) && is_hit(site, sequence))
		burn(bpf_ktime_get_ns(), probe_ns);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int client_egress(struct __sk_buff *skb)
{
	return burn_probe(skb, CLIENT_EGRESS);
}

SEC("tc")
int server_ingress(struct __sk_buff *skb)
{
	return burn_probe(skb, SERVER_INGRESS);
}

SEC("tc")
int server_egress(struct __sk_buff *skb)
{
	return burn_probe(skb, SERVER_EGRESS);
}

/* The next data for a socket on this CPU are those of a chosen probe. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} chosen SEC(".maps");

SEC("tc")
int client_ingress(struct __sk_buff *skb)
{
	__u32 sequence, zero = 0, *mine = bpf_map_lookup_elem(&chosen, &zero);

	if (mine && sequence_of(skb, &sequence))
		*mine = is_hit(WAKE_UP, sequence);
	return burn_probe(skb, CLIENT_INGRESS);
}

/* In sock_def_readable: behind the socket's filter, before it wakes anybody. Since Linux 6.2. */
SEC("?tp_btf/sk_data_ready")
int BPF_PROG(burn_wake_up, const void *sk)
{
	__u32 zero = 0, *mine = bpf_map_lookup_elem(&chosen, &zero);

	if (mine && *mine) {
		*mine = 0;
		burn(bpf_ktime_get_ns(), probe_ns);
	}
	return 0;
}
