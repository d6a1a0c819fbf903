/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What memleak follows: every object that was allocated since the start and is not freed yet
 * (`outstanding`), by its address, with the site that allocated it; and per site what was allocated
 * and freed
 * (`sites`). Both are hash tables that refuse what does not fit, and that is counted: a table that
 * forgets its oldest entries would forget the leak.
 */
#pragma once

enum {
	ML_FRAMES = 24, /* of a stack, the innermost */
	ML_GENERATIONS = 16, /* generations of objects: user space says which one is current */
	ML_NAME = 32,
	ML_WANTED = 8, /* caches, or sizes, that may be asked for */
	ML_SEEN = 256,
	ML_PAGE_SHIFT_MAX = 16,
};

/* Of what kind a site is. */
enum ml_kind { ML_SLAB, ML_SIZED, ML_PAGE, ML_VMALLOC, ML_PERCPU, ML_FAULT, ML_MALLOC, ML_STACK };

/* What could not be followed, and what shows that it was not. */
enum ml_count {
	ML_ALLOCS,
	ML_FREES,
	ML_OLDER, /* freed, but not allocated since the start */
	ML_REUSED, /* an address was allocated again before its free was seen */
	ML_OUTSTANDING_FULL,
	ML_SITES_FULL,
	ML_NO_STACK,
	ML_COUNTS,
};

/*
 * Of a site: where = the call site, or a hash of the stack; what = the cache, or the bytes. Of
 * the stacks below a site (ML_STACK): the stack's hash, and the site's where ^ what.
 */
struct ml_key {
	__u64 where, what;
};

struct ml_site {
	enum ml_kind kind;
	__u32 account; /* kmalloc: of the caches that are charged to a cgroup */
	__u64 call_site, size;
	struct ml_key above; /* ML_STACK: its site */
	char name[ML_NAME]; /* of the cache */
	__u64 allocs, bytes, reused;
	__u32 allocated[ML_GENERATIONS], live[ML_GENERATIONS];
	__u64 frames[ML_FRAMES];
};

struct ml_outstanding {
	struct ml_key site;
	__u64 stack; /* 0: none taken */
	__u64 bytes;
	__u32 generation, gone;
};

/* kmalloc has no cache to compare: a size class, and the bits of gfp_t that choose among caches. */
struct ml_class {
	__u64 bytes;
	__u32 mask, gfp;
};

/* Set before loading. `wanted` and `classes` are empty where everything is. */
const volatile char wanted[ML_WANTED][ML_NAME] = {};
const volatile struct ml_class classes[ML_WANTED] = {};
const volatile bool all = true;
/* The stack is taken of one in this many slab objects, chosen by address; 0: of none. */
const volatile __u32 stack_rate = 0;
const volatile __u32 gfp_account = 0;
/* From and to of the slab allocator's own callers of the page allocator. */
const volatile __u64 slab_pages[2][2] = {};
const volatile __u32 page_size = 4096;
const volatile __u32 possible_cpus = 1;
const volatile __u32 tgid_wanted = 0;

/* Set by user space, each time an interval ends. */
__u32 generation;
/* Multi-page allocations that are no compound pages: parts of them may be freed one by one. */
__u64 splittable;

/* Addresses of caches that were looked at; the lowest bit says whether it is a wanted one. */
__u64 seen[ML_SEEN];

/* Only so that the skeleton has these types. */
enum ml_kind kind_type;
enum ml_count count_type;
struct ml_site site_type;
struct ml_key key_type;
struct ml_outstanding outstanding_type;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 524288);
	__type(key, __u64);
	__type(value, struct ml_outstanding);
} outstanding SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct ml_key);
	__type(value, struct ml_site);
} sites SEC(".maps");

/* A site before anything happened there: too large for a program's stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ml_site);
} blank SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ML_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline void ml_count(enum ml_count what)
{
	__u32 key = what;
	__u64 *n = bpf_map_lookup_elem(&counts, &key);

	if (n)
		(*n)++;
}

struct ml_frames {
	__u64 at[ML_FRAMES];
};

/* FNV-1a by words; never 0. */
static __always_inline __u64 ml_hash(const struct ml_frames *frames)
{
	__u64 h = 14695981039346656037ull;

#pragma unroll
	for (int i = 0; i < ML_FRAMES; i++)
		h = (h ^ frames->at[i]) * 1099511628211ull;
	return h | 1;
}

/* Fills the frames, zero behind the last, and returns their hash; 0 when there is no stack. */
static __always_inline __u64 ml_stack(void *ctx, struct ml_frames *frames, __u64 flags)
{
	__builtin_memset(frames, 0, sizeof(*frames));
	if (bpf_get_stack(ctx, frames, sizeof(*frames), flags) > 0)
		return ml_hash(frames);
	ml_count(ML_NO_STACK);
	return 0;
}

/* The site, made if need be; `is_new` says that the caller has to fill it. */
static __always_inline struct ml_site *ml_site(const struct ml_key *key, bool *is_new)
{
	struct ml_site *site = bpf_map_lookup_elem(&sites, key), *empty;
	__u32 zero = 0;

	*is_new = false;
	if (site)
		return site;
	empty = bpf_map_lookup_elem(&blank, &zero);
	if (empty)
		*is_new = !bpf_map_update_elem(&sites, key, empty, BPF_NOEXIST);
	site = bpf_map_lookup_elem(&sites, key);
	if (!site)
		ml_count(ML_SITES_FULL);
	return site;
}

static __always_inline void ml_allocated(struct ml_site *site, __u64 bytes, __u32 when)
{
	__sync_fetch_and_add(&site->allocs, 1);
	__sync_fetch_and_add(&site->bytes, bytes);
	__sync_fetch_and_add(&site->allocated[when & (ML_GENERATIONS - 1)], 1);
	__sync_fetch_and_add(&site->live[when & (ML_GENERATIONS - 1)], 1);
}

static __always_inline void ml_freed(const struct ml_key *key, const struct ml_outstanding *object,
				     bool reused)
{
	struct ml_site *site = bpf_map_lookup_elem(&sites, key);

	if (!site)
		return;
	__sync_fetch_and_add(&site->bytes, -object->bytes);
	__sync_fetch_and_add(&site->live[object->generation & (ML_GENERATIONS - 1)], -1);
	if (reused)
		__sync_fetch_and_add(&site->reused, 1);
}

static __always_inline struct ml_key ml_stack_key(const struct ml_outstanding *object)
{
	return (struct ml_key){ object->stack, object->site.where ^ object->site.what };
}

/* An object is no more: takes it from its site, and from its stack. */
static __always_inline void ml_forget(const struct ml_outstanding *object, bool reused)
{
	struct ml_key stack = ml_stack_key(object);

	if (object->gone)
		return;
	ml_freed(&object->site, object, reused);
	if (object->stack)
		ml_freed(&stack, object, reused);
}

/* Inserts the object under its address; false when the table is full. */
static __always_inline bool ml_insert(__u64 address, const struct ml_outstanding *object)
{
	struct ml_outstanding *old;

	if (!bpf_map_update_elem(&outstanding, &address, object, BPF_NOEXIST))
		return true;
	/* Full, or the free of who had this address before was not seen. */
	old = bpf_map_lookup_elem(&outstanding, &address);
	if (old) {
		struct ml_outstanding copy = *old;

		ml_count(ML_REUSED);
		ml_forget(&copy, true);
		if (!bpf_map_update_elem(&outstanding, &address, object, BPF_ANY))
			return true;
	}
	ml_count(ML_OUTSTANDING_FULL);
	return false;
}

/* Frees `part` bytes of an outstanding object, or all of it (0). False when it is not outstanding.
 */
static __always_inline bool ml_release(__u64 address, __u64 part)
{
	struct ml_outstanding *object = bpf_map_lookup_elem(&outstanding, &address), copy;

	if (!object)
		return false;
	if (part && part < object->bytes) {
		struct ml_site *site = bpf_map_lookup_elem(&sites, &object->site);

		__sync_fetch_and_add(&object->bytes, -part);
		if (site)
			__sync_fetch_and_add(&site->bytes, -part);
		return true;
	}
	copy = *object;
	if (bpf_map_delete_elem(&outstanding, &address))
		return true; /* another CPU was faster */
	ml_count(ML_FREES);
	ml_forget(&copy, false);
	return true;
}

/* An allocation whose site is its stack. */
static __always_inline void ml_allocated_by(struct ml_frames *frames, __u64 hash, enum ml_kind kind,
					    __u64 address, __u64 bytes, __u64 what)
{
	struct ml_outstanding object = { .site = { hash, what },
					 .bytes = bytes,
					 .generation = generation };
	struct ml_site *site;
	bool is_new;

	if (!hash || !address)
		return;
	site = ml_site(&object.site, &is_new);
	if (!site)
		return;
	if (is_new) {
		site->kind = kind;
		site->size = what;
		__builtin_memcpy(site->frames, frames->at, sizeof(site->frames));
	}
	if (!ml_insert(address, &object))
		return;
	ml_count(ML_ALLOCS);
	ml_allocated(site, bytes, object.generation);
}
