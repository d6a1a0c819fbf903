// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs that do nothing, at the hooks of pingtrace.bpf.c and under the same names: what the
 * kernel itself takes for a call there, in the figures of scripts/bench.sh.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

#define EMPTY(section, name) \
	SEC(section)         \
	int name(void *ctx)  \
	{                    \
		return 0;    \
	}

EMPTY("tp_btf/net_dev_queue", on_net_dev_queue)
EMPTY("tp_btf/net_dev_start_xmit", on_net_dev_start_xmit)
EMPTY("tp_btf/netif_receive_skb", on_netif_receive_skb)
EMPTY("tp_btf/softirq_raise", on_softirq_raise)
EMPTY("tp_btf/softirq_entry", on_softirq_entry)
EMPTY("tp_btf/softirq_exit", on_softirq_exit)
EMPTY("tp_btf/sched_wakeup", on_sched_wakeup)
EMPTY("tp_btf/sched_switch", on_sched_switch)
EMPTY("tp_btf/kfree_skb", on_kfree_skb)
