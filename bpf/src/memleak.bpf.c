// SPDX-License-Identifier: GPL-2.0-only
/*
 * memleak: the code that allocated the objects that are still live. Only the programs that the
 * chosen allocator needs are loaded, and unwanted objects are left out before anything
 * expensive.
 *
 * raw_tp, not tp_btf: kernels before 6.18 refuse arguments that point to no struct. The order of
 * the arguments differs between kernels (include/trace/events/kmem.h, percpu.h), so there is a
 * program for each order, and user space chooses by the kernel's BTF. The kernel skips a program
 * that would interrupt itself on a CPU and counts that (recursion_misses); user space reports it.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "memleak.h"

char LICENSE[] SEC("license") = "GPL";

/* include/linux/gfp_types.h: both have kept their place from 5.10 on. */
enum { GFP_MOVABLE = 0x08, GFP_COMP = 1 << 18 };
enum { ORDERS = 11, PAGE_STRUCT = 64, PAGE_CALLERS = 10 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct kmem_cache {
	unsigned int size;
	const char *name;
};
typedef struct {
	int counter;
} atomic_t;
struct page___counted {
	atomic_t _refcount;
};
struct bpf_iter__bpf_map_elem {
	void *key, *value;
};
#pragma clang attribute pop

static __always_inline bool is_named(const __u64 *name, const volatile char *wanted_name)
{
	const volatile __u64 *other = (const volatile __u64 *)wanted_name;

	return name[0] == other[0] && name[1] == other[1] && name[2] == other[2] &&
	       name[3] == other[3];
}

static __always_inline void name_of(__u64 cache, char *name)
{
	struct kmem_cache *s = (struct kmem_cache *)cache;

	bpf_probe_read_kernel_str(name, ML_NAME, BPF_CORE_READ(s, name));
}

/* Compares the name of a cache whose address is new. */
static __always_inline bool is_wanted_name(__u64 cache)
{
	__u64 name[ML_NAME / sizeof(__u64)] = {};

	name_of(cache, (char *)name);
#pragma unroll
	for (int i = 0; i < ML_WANTED; i++)
		if (wanted[i][0] && is_named(name, wanted[i]))
			return true;
	return false;
}

static __always_inline bool is_wanted(__u64 cache)
{
	__u64 *slot = &seen[(cache >> 6) * 0x9e3779b97f4a7c15ull >> 56 & (ML_SEEN - 1)], known;

	if (all)
		return true;
	known = *slot;
	if ((known & ~1ull) == cache)
		return known & 1;
	known = is_wanted_name(cache);
	*slot = cache | known;
	return known;
}

static __always_inline bool is_wanted_size(__u64 bytes, __u32 gfp)
{
	if (all)
		return true;
#pragma unroll
	for (int i = 0; i < ML_WANTED; i++)
		if (classes[i].bytes == bytes && (gfp & classes[i].mask) == classes[i].gfp)
			return true;
	return false;
}

/* Whether this object's stack is taken. */
static __always_inline bool is_sampled(__u64 address)
{
	return ((__u32)(address >> 3) * 2654435769u >> 8) % stack_rate == 0;
}

/* The stack of a sampled slab object: a site below its site. */
static __always_inline void add_stack(void *ctx, struct ml_outstanding *object)
{
	struct ml_frames frames;
	struct ml_site *site;
	struct ml_key key;
	bool is_new;

	object->stack = ml_stack(ctx, &frames, 0);
	if (!object->stack)
		return;
	key = ml_stack_key(object);
	site = ml_site(&key, &is_new);
	if (!site) {
		object->stack = 0;
		return;
	}
	if (is_new) {
		site->kind = ML_STACK;
		site->above = object->site;
		__builtin_memcpy(site->frames, frames.at, sizeof(site->frames));
	}
	ml_allocated(site, object->bytes, object->generation);
}

/* An object of a cache (its address), or of a size class (cache 0). */
static __always_inline int slab_allocated(void *ctx, __u64 call_site, __u64 address, __u64 cache,
					  __u64 bytes, __u32 account)
{
	struct ml_outstanding object = { .site = { call_site, (cache ?: bytes) | account },
					 .generation = generation };
	struct ml_site *site;
	bool is_new;

	if (!address)
		return 0;
	site = ml_site(&object.site, &is_new);
	if (!site)
		return 0;
	if (is_new) {
		site->call_site = call_site;
		site->kind = cache ? ML_SLAB : ML_SIZED;
		site->account = account;
		site->size = bytes;
		if (cache) {
			site->size = BPF_CORE_READ((struct kmem_cache *)cache, size);
			name_of(cache, site->name);
		}
	}
	object.bytes = site->size;
	/* At least one of each site: its stack shows the purpose of the objects. */
	if (stack_rate && (is_new || is_sampled(address)))
		add_stack(ctx, &object);
	if (!ml_insert(address, &object)) {
		/* It is counted in its stack already. */
		struct ml_key stack = ml_stack_key(&object);

		if (object.stack)
			ml_freed(&stack, &object, false);
		return 0;
	}
	ml_count(ML_ALLOCS);
	ml_allocated(site, object.bytes, object.generation);
	return 0;
}

static __always_inline int slab_freed(__u64 address)
{
	if (address && !ml_release(address, 0))
		ml_count(ML_OLDER);
	return 0;
}

/* call_site, ptr, cache, ... : kmem_cache_alloc, and kmem_cache_alloc_node, since 5.19 */
static __always_inline int cache_alloc(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 cache = ctx->args[2];

	return is_wanted(cache) ? slab_allocated(ctx, ctx->args[0], ctx->args[1], cache, 0, 0) : 0;
}

SEC("?raw_tp/kmem_cache_alloc")
int ml_cache_alloc(struct bpf_raw_tracepoint_args *ctx)
{
	return cache_alloc(ctx);
}

SEC("?raw_tp/kmem_cache_alloc_node")
int ml_cache_alloc_node(struct bpf_raw_tracepoint_args *ctx)
{
	return cache_alloc(ctx);
}

/* call_site, ptr, bytes_req, bytes_alloc, gfp, ... */
static __always_inline int sized_alloc(struct bpf_raw_tracepoint_args *ctx, __u64 bytes, __u32 gfp)
{
	if (!is_wanted_size(bytes, gfp))
		return 0;
	return slab_allocated(ctx, ctx->args[0], ctx->args[1], 0, bytes, !!(gfp & gfp_account));
}

SEC("?raw_tp/kmem_cache_alloc")
int ml_cache_alloc_sized(struct bpf_raw_tracepoint_args *ctx)
{
	return sized_alloc(ctx, ctx->args[3], ctx->args[4]);
}

SEC("?raw_tp/kmem_cache_alloc_node")
int ml_cache_alloc_node_sized(struct bpf_raw_tracepoint_args *ctx)
{
	return sized_alloc(ctx, ctx->args[3], ctx->args[4]);
}

SEC("?raw_tp/kmalloc")
int ml_kmalloc(struct bpf_raw_tracepoint_args *ctx)
{
	return sized_alloc(ctx, ctx->args[3], ctx->args[4]);
}

SEC("?raw_tp/kmalloc_node")
int ml_kmalloc_node(struct bpf_raw_tracepoint_args *ctx)
{
	return sized_alloc(ctx, ctx->args[3], ctx->args[4]);
}

/* 5.19 and 6.0: call_site, ptr, cache, bytes_req, bytes_alloc, gfp, ... */
SEC("?raw_tp/kmalloc")
int ml_kmalloc_cache(struct bpf_raw_tracepoint_args *ctx)
{
	return sized_alloc(ctx, ctx->args[4], ctx->args[5]);
}

SEC("?raw_tp/kmalloc_node")
int ml_kmalloc_node_cache(struct bpf_raw_tracepoint_args *ctx)
{
	return sized_alloc(ctx, ctx->args[4], ctx->args[5]);
}

/* call_site, ptr. kfree takes the objects of caches too. */
SEC("?raw_tp/kfree")
int ml_kfree(struct bpf_raw_tracepoint_args *ctx)
{
	return slab_freed(ctx->args[1]);
}

SEC("?raw_tp/kmem_cache_free")
int ml_cache_free(struct bpf_raw_tracepoint_args *ctx)
{
	return slab_freed(ctx->args[1]);
}

/* call_site, ptr, cache: since 6.1 */
SEC("?raw_tp/kmem_cache_free")
int ml_cache_free_wanted(struct bpf_raw_tracepoint_args *ctx)
{
	return is_wanted(ctx->args[2]) ? slab_freed(ctx->args[1]) : 0;
}

/* The slab allocator's own pages are accounted for as slab. */
static __always_inline bool is_slab_page(const struct ml_frames *frames)
{
#pragma unroll
	for (int i = 0; i < PAGE_CALLERS; i++) {
		__u64 at = frames->at[i];

		if ((at >= slab_pages[0][0] && at < slab_pages[0][1]) ||
		    (at >= slab_pages[1][0] && at < slab_pages[1][1]))
			return true;
	}
	return false;
}

/* page, order, gfp, migratetype. Movable pages are those of processes and of files. */
SEC("?raw_tp/mm_page_alloc")
int ml_page_alloc(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 order = ctx->args[1], gfp = ctx->args[2];
	struct ml_frames frames;
	__u64 hash, bytes;

	if (gfp & GFP_MOVABLE || !ctx->args[0] || order > ML_PAGE_SHIFT_MAX)
		return 0;
	hash = ml_stack(ctx, &frames, 0);
	if (!hash || is_slab_page(&frames))
		return 0;
	bytes = (__u64)page_size << order;
	if (order && !(gfp & GFP_COMP))
		__sync_fetch_and_add(&splittable, 1);
	ml_allocated_by(&frames, hash, ML_PAGE, ctx->args[0], bytes, bytes);
	return 0;
}

/*
 * page, order. split_page() divides a block into single pages that are freed one by one: the block
 * is found at a lower page, whose number, and therefore the address of its struct, is aligned.
 */
SEC("?raw_tp/mm_page_free")
int ml_page_free(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 page = ctx->args[0], bytes = (__u64)page_size << (ctx->args[1] & 31);

	if (ml_release(page, bytes))
		return 0;
	if (splittable) {
#pragma unroll
		for (int order = 1; order < ORDERS; order++) {
			__u64 head = page & ~((__u64)(PAGE_STRUCT << order) - 1);

			if (head != page && ml_release(head, bytes))
				return 0;
		}
	}
	ml_count(ML_OLDER);
	return 0;
}

/* A page without references is free, whether its free was seen or not. */
SEC("?iter/bpf_map_elem")
int ml_page_check(struct bpf_iter__bpf_map_elem *ctx)
{
	struct ml_outstanding *object = ctx->value, copy;
	struct page___counted *page;
	__u64 *key = ctx->key;

	if (!key || !object || object->gone)
		return 0;
	page = (struct page___counted *)*key;
	if (BPF_CORE_READ(page, _refcount.counter))
		return 0;
	copy = *object;
	object->gone = 1;
	ml_count(ML_REUSED);
	ml_forget(&copy, true);
	return 0;
}

/* addr, size, align, vstart, vend, failed: since 6.2 */
SEC("?raw_tp/alloc_vmap_area")
int ml_vmap_alloc(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 bytes = ctx->args[1];
	struct ml_frames frames;

	if (!(int)ctx->args[5])
		ml_allocated_by(&frames, ml_stack(ctx, &frames, 0), ML_VMALLOC, ctx->args[0], bytes,
				bytes);
	return 0;
}

/* va_start, nr_lazy, nr_lazy_max: since 6.2 */
SEC("?raw_tp/free_vmap_area_noflush")
int ml_vmap_free(struct bpf_raw_tracepoint_args *ctx)
{
	return slab_freed(ctx->args[0]);
}

static __always_inline int percpu_allocated(void *ctx, __u64 address, __u64 size)
{
	__u64 bytes = size * possible_cpus;
	struct ml_frames frames;

	ml_allocated_by(&frames, ml_stack(ctx, &frames, 0), ML_PERCPU, address, bytes, bytes);
	return 0;
}

/* call_site, reserved, is_atomic, size, align, base_addr, off, ptr, ...: since 5.18 */
SEC("?raw_tp/percpu_alloc_percpu")
int ml_percpu_alloc(struct bpf_raw_tracepoint_args *ctx)
{
	return percpu_allocated(ctx, ctx->args[7], ctx->args[3]);
}

/* reserved, is_atomic, size, align, base_addr, off, ptr */
SEC("?raw_tp/percpu_alloc_percpu")
int ml_percpu_alloc_old(struct bpf_raw_tracepoint_args *ctx)
{
	return percpu_allocated(ctx, ctx->args[6], ctx->args[2]);
}

/* base_addr, off, ptr */
SEC("?raw_tp/percpu_free_percpu")
int ml_percpu_free(struct bpf_raw_tracepoint_args *ctx)
{
	return slab_freed(ctx->args[2]);
}

/* address, regs, error_code; x86. User space finds out which of these pages are still present. */
SEC("?raw_tp/page_fault_user")
int ml_fault(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 page = ctx->args[0] & ~((__u64)page_size - 1);
	struct ml_frames frames;

	if (bpf_get_current_pid_tgid() >> 32 != tgid_wanted)
		return 0;
	ml_allocated_by(&frames, ml_stack(ctx, &frames, BPF_F_USER_STACK), ML_FAULT, page,
			page_size, page_size);
	return 0;
}

/* The bytes that a thread's current call of malloc() asks for. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u64);
} asked SEC(".maps");

static __always_inline int malloc_asked(__u64 bytes)
{
	__u64 thread = bpf_get_current_pid_tgid();

	if (bpf_map_update_elem(&asked, &thread, &bytes, BPF_ANY))
		ml_count(ML_OUTSTANDING_FULL);
	return 0;
}

SEC("?uprobe")
int BPF_KPROBE(ml_malloc, __u64 bytes)
{
	return malloc_asked(bytes);
}

SEC("?uprobe")
int BPF_KPROBE(ml_calloc, __u64 count, __u64 bytes)
{
	return malloc_asked(count * bytes);
}

SEC("?uprobe")
int BPF_KPROBE(ml_realloc, __u64 old, __u64 bytes)
{
	slab_freed(old);
	return malloc_asked(bytes);
}

SEC("?uretprobe")
int BPF_KRETPROBE(ml_malloc_returns, __u64 address)
{
	__u64 thread = bpf_get_current_pid_tgid(), *found = bpf_map_lookup_elem(&asked, &thread);
	struct ml_frames frames;
	__u64 bytes;

	if (!found)
		return 0;
	bytes = *found;
	bpf_map_delete_elem(&asked, &thread);
	ml_allocated_by(&frames, ml_stack(ctx, &frames, BPF_F_USER_STACK), ML_MALLOC, address,
			bytes, 0);
	return 0;
}

SEC("?uprobe")
int BPF_KPROBE(ml_free, __u64 address)
{
	return slab_freed(address);
}
