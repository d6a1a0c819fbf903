/* SPDX-License-Identifier: GPL-2.0-only */
/* The bytes of a packet, as a hook finds them. */
#pragma once

/* Where this kernel keeps the base of its direct map and of its page structs; 0: unknown. */
const volatile __u64 page_offset_base = 0, vmemmap_base = 0;

/* A packet: its layer 3 and what that is, and the end of its linear part. */
struct view {
	const unsigned char *l3, *tail;
	const struct sk_buff *skb;
	__be16 protocol;
};

/* Linux's page_address() of a byte in the first page fragment; 0 when it is not there. */
static __always_inline const unsigned char *paged(const struct view *v, __u64 offset)
{
	const struct sk_buff *skb = v->skb;
	const struct skb_shared_info *shared;
	__u64 direct_map, pages;
	struct skb_frag frag;

	if (!page_offset_base)
		return 0;
	shared = (const void *)(BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, end));
	if (!BPF_CORE_READ(shared, nr_frags) ||
	    bpf_probe_read_kernel(&direct_map, 8, (const void *)page_offset_base) ||
	    bpf_probe_read_kernel(&pages, 8, (const void *)vmemmap_base) ||
	    bpf_probe_read_kernel(&frag, sizeof(frag),
				  (const char *)shared + bpf_core_field_offset(shared->frags)))
		return 0;
	/* Memory of a device has no address here (NET_IOV). */
	if (frag.page & 1 || offset >= frag.len)
		return 0;
	return (const unsigned char *)(direct_map +
				       (frag.page - pages) / bpf_core_type_size(struct page) *
					       4096 +
				       frag.offset + offset);
}

/* Copies bytes that lie in one piece, in the linear part or in the first page. */
static __always_inline bool copy(void *to, __u32 size, const struct view *v,
				 const unsigned char *from)
{
	if (from >= v->tail)
		from = paged(v, from - v->tail);
	return from && !bpf_probe_read_kernel(to, size, from);
}
