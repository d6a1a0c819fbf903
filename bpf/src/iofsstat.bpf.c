// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which process reads and writes which device and file, counted where the kernel knows it.
 *
 * Block devices: the submitter of each bio is remembered at block_bio_queue, in whose context it
 * runs, and the bytes are counted at block_rq_complete, which is where the kernel counts them for
 * /proc/diskstats. A request consists of a chain of bios, merged from any number of submitters, of
 * which each gets its own bytes. Devices without requests (dm, md, zram) complete at
 * block_bio_complete.
 *
 * Writeback: who dirtied a folio is remembered at writeback_dirty_folio, and looked up for each
 * folio of a completed write, before it can be dirtied by the next one's writeback. A folio that
 * is dirtied again while its bio is on its way has two owners, the second for the next time.
 *
 * Counts belong to an epoch, so that user space takes a whole cycle at once.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "iofsstat_kernel.h"
#include "iofsstat.h"

char LICENSE[] SEC("license") = "GPL";

#define NULL ((void *)0)

enum { MAX_BIOS = 512, MAX_CHUNKS = 1024, MAX_EVENTS = 64 };

/* Which argument is the bio or request: on older kernels a queue precedes it. */
const volatile bool bio_queue_second = false, rq_issue_second = false, split_second = false;
const volatile bool split_writes = false; /* split written bytes by the owner of the pages */
const volatile bool count_files = false;
const volatile __u32 page_shift = 12;
/* io_uring_complete(ctx, request, ...): 1 with the result as a number, 2 with the entry; 0: none.
 */
const volatile __u32 uring_layout = 0;

__u32 epoch; /* 0: nothing is counted yet */
struct io_losses losses;
struct io_notes notes;

/* Only so that the skeleton has these types. */
enum io_kind kind_type;
struct io_row_key row_key_type;
struct io_row row_type;
struct io_part_key part_key_type;
struct io_part part_type;
struct io_use_key use_key_type;
struct io_use use_type;
struct io_file_key file_key_type;
struct io_path path_type;
struct io_process process_type;

#include "iofsstat_names.h"

struct io_bio {
	io_who who;
	__u64 queued_ns;
	__u32 dev, bytes, index, done; /* index, done: its beginning in its vector */
	bool without_requests;
	__u8 op, pad[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct io_bio);
} bios SEC(".maps");

/* Never removed: request structures are few and reused. */
struct io_issue {
	__u64 ns;
	__u32 bytes, pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct io_issue);
} issues SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct io_row_key);
	__type(value, struct io_row);
} rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, struct io_part_key);
	__type(value, struct io_part);
} parts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, struct io_use_key);
	__type(value, struct io_use);
} uses SEC(".maps");

/* Who dirtied a folio, by its address. */
struct io_owner {
	io_who who, next;
	bool written, pad[7]; /* a part was written, so the next one to dirty it owns it */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct io_owner);
} owners SEC(".maps");

/* A completion that is being split, and the folios of its current bio. */
struct io_walk {
	__u32 busy, epoch, dev, direction;
	io_who first, who;
	__u64 bio, queued_ns;
	__u32 left, pad;
	/* of the bio: */
	__u64 vector, page;
	__u32 index, done, length, offset, bytes, fs;
	__u64 mapping, inode;
	struct inode *host;
	__u32 mode, rdev;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct io_walk);
} walks SEC(".maps");

static const struct io_row no_row;

static __always_inline struct io_walk *walk_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&walks, &zero);
}

static __always_inline struct io_row *row_of(io_who who, __u32 dev, __u32 in_epoch)
{
	struct io_row_key key = { .who = who, .dev = dev, .epoch = in_epoch };
	struct io_row *row = bpf_map_lookup_elem(&rows, &key);

	if (row)
		return row;
	bpf_map_update_elem(&rows, &key, &no_row, BPF_NOEXIST);
	row = bpf_map_lookup_elem(&rows, &key);
	if (!row)
		__sync_fetch_and_add(&losses.rows, 1);
	return row;
}

static __always_inline void add(__u64 *to, __u64 n)
{
	__sync_fetch_and_add(to, n);
}

/* Looked up again, as another CPU may have inserted it. */
static __always_inline void raise(__u64 *to, __u64 n)
{
	if (n > *(volatile __u64 *)to)
		*(volatile __u64 *)to = n;
	if (n > *(volatile __u64 *)to)
		*(volatile __u64 *)to = n;
}

static __always_inline __u32 direction_of(__u32 op)
{
	return op == REQ_OP_DISCARD ? IO_DISCARD : op & REQ_OP_WRITE ? IO_WRITE : IO_READ;
}

static __always_inline __u32 size_class(__u32 bytes)
{
	__u32 class = 0;

	for (__u32 limit = 4096; class < IO_SIZES - 1 && bytes > limit; limit <<= 1)
		class ++;
	return class;
}

static __always_inline void count_bytes(const struct io_walk *w, __u64 bytes)
{
	struct io_row *row = row_of(w->who, w->dev, w->epoch);
	__u32 direction = w->direction;

	if (row && direction < IO_DIRECTIONS)
		add(&row->direction[direction].bytes, bytes);
}

/* Counts a request, which belongs to the submitter of its first bio. */
static __always_inline void count_request(const struct io_walk *w, __u64 now, __u64 issued_ns,
					  __u32 bytes)
{
	struct io_row *row = row_of(w->first, w->dev, w->epoch);
	__u32 class = size_class(bytes), d = w->direction;
	struct io_direction *direction;

	if (!row || d >= IO_DIRECTIONS || class >= IO_SIZES)
		return;
	direction = &row->direction[d];
	add(&direction->count, 1);
	add(&direction->sizes[class], 1);
	raise(&row->largest, bytes);
	if (w->queued_ns && now > w->queued_ns) {
		add(&direction->q2c_ns, now - w->queued_ns);
		raise(&direction->q2c_max_ns, now - w->queued_ns);
	}
	if (issued_ns && now > issued_ns) {
		add(&direction->d2c_count, 1);
		add(&direction->d2c_ns, now - issued_ns);
		raise(&direction->d2c_max_ns, now - issued_ns);
	}
}

/* --- whose pages --- */

struct place {
	__u64 folio;
	__u32 bytes, offset; /* of the folio; in it */
};

static __always_inline __u64 head_of(__u64 page)
{
	__u64 info;

	if (bpf_core_field_exists(struct page___tail, compound_head)) {
		info = BPF_CORE_READ((struct page___tail *)page, compound_head);
		return info & 1 ? info - 1 : page;
	}
	info = BPF_CORE_READ((struct page___7_2 *)page, compound_info);
	if (!(info & 1))
		return page;
	/* A mask, or a pointer if the size of struct page is no power of two; no page is at such an
	 * address. */
	return info >= 0xffffffffe0000000ull ? page & info : info - 1;
}

static __always_inline __u32 pages_of(__u64 head, __u64 page)
{
	__u32 order = 0;

	if (bpf_core_field_exists(struct folio___pages, _nr_pages))
		return BPF_CORE_READ((struct folio___pages *)head, _nr_pages);
	if (bpf_core_field_exists(struct folio___pages_older, _folio_nr_pages))
		return BPF_CORE_READ((struct folio___pages_older *)head, _folio_nr_pages);
	if (bpf_core_field_exists(struct folio___order, _flags_1)) {
		order = BPF_CORE_READ((struct folio___order *)head, _flags_1) & 0xff;
	} else if (bpf_core_field_exists(struct page___order, compound_order)) {
		__u64 second = head + bpf_core_type_size(struct page);

		order = BPF_CORE_READ((struct page___order *)second, compound_order);
	}
	return 1u << (order & 31);
}

static __always_inline bool is_compound(__u64 head, __u64 page)
{
	__u64 second = head + bpf_core_type_size(struct page);

	return page != head || head_of(second) == head;
}

/* Finds the folio of the bio's next byte, and its offset there. */
static __always_inline struct place place_of(const struct io_walk *w)
{
	__u32 at = w->offset + w->done, shift = page_shift & 31;
	__u64 page = w->page + (__u64)(at >> shift) * bpf_core_type_size(struct page);
	struct place p = { .folio = head_of(page), .bytes = 1u << shift };

	if (is_compound(p.folio, page))
		p.bytes = pages_of(p.folio, page) << shift;
	p.offset = ((page - p.folio) / bpf_core_type_size(struct page)) << shift;
	p.offset += at & ((1u << shift) - 1);
	return p;
}

static __always_inline struct address_space *mapping_of(__u64 folio)
{
	if (bpf_core_field_exists(struct folio, mapping))
		return BPF_CORE_READ((struct folio *)folio, mapping);
	return BPF_CORE_READ((struct page___io *)folio, mapping);
}

static __always_inline bool is_under_writeback(__u64 folio)
{
	__u64 flags = 0;

	/* The first word of a page, whatever the name of its type. */
	bpf_probe_read_kernel(&flags, sizeof(flags), (void *)folio);
	return flags >> bpf_core_enum_value(enum pageflags___io, PG_writeback___io) & 1;
}

/* The file of a folio; most follow another one of the same file. */
static __always_inline void look_at_mapping(struct io_walk *w, struct address_space *mapping)
{
	struct inode *inode;

	if ((__u64)mapping == w->mapping)
		return;
	w->mapping = (__u64)mapping;
	w->mode = 0;
	w->inode = 0;
	w->fs = 0;
	/* The low bits mark pages that belong to no file. */
	if (!mapping || (__u64)mapping & 3)
		return;
	inode = BPF_CORE_READ(mapping, host);
	w->host = inode;
	w->mode = BPF_CORE_READ(inode, i_mode);
	w->rdev = BPF_CORE_READ(inode, i_rdev);
	w->inode = BPF_CORE_READ(inode, i_ino);
	w->fs = BPF_CORE_READ(inode, i_sb, s_dev);
}

/*
 * Only the completion at the file system's own device ends the ownership of its folios: a lower
 * device of a stack completes before the upper one, with the same folios. File systems over several
 * devices (btrfs) have a number of their own; their entries end when the page cache drops the
 * folio.
 */
static __always_inline bool is_own_device(const struct io_walk *w)
{
	return ((w->mode & S_IFMT) == S_IFBLK ? w->rdev : w->fs) == w->dev;
}

static __always_inline void consume(const struct io_walk *w, struct io_owner *owner,
				    const struct place *p, __u32 take)
{
	bool whole = p->offset + take >= p->bytes;
	__u64 folio = p->folio;

	if (owner->next) {
		if (whole) {
			owner->who = owner->next;
			owner->next = 0;
		}
	} else if (whole && is_own_device(w)) {
		bpf_map_delete_elem(&owners, &folio);
	} else {
		owner->written = true;
	}
}

static __always_inline void count_part(const struct io_walk *w, io_who who, enum io_kind kind,
				       __u32 take)
{
	struct io_part_key key = {
		.via = w->who, .who = who, .dev = w->dev, .kind = kind, .epoch = w->epoch
	};
	struct io_part none = {}, *part;

	if (kind == IO_FILE || kind == IO_EARLIER) {
		key.inode = w->inode;
		key.fs = w->fs;
	}
	part = bpf_map_lookup_elem(&parts, &key);
	if (!part) {
		if (key.inode)
			learn_file(w->host, NULL);
		bpf_map_update_elem(&parts, &key, &none, BPF_NOEXIST);
		part = bpf_map_lookup_elem(&parts, &key);
	}
	if (!part) {
		add(&losses.parts, 1);
		return;
	}
	add(&part->count, 1);
	add(&part->bytes, take);
}

/* Counts the part of a bio in one folio; 0 if the bio goes on. */
__noinline int count_chunk(void)
{
	struct io_walk *w = walk_here();
	enum io_kind kind = IO_NO_FILE;
	struct io_owner *owner = NULL;
	struct io_segment segment;
	struct place p;
	io_who who;
	__u32 take;

	if (!w || !w->bytes)
		return 1;
	if (!w->length) {
		bpf_probe_read_kernel(&segment, sizeof(segment),
				      (struct io_segment *)w->vector + w->index);
		w->page = segment.page;
		w->offset = segment.offset;
		w->length = segment.length;
	}
	p = place_of(w);
	look_at_mapping(w, mapping_of(p.folio));
	take = w->length - w->done;
	if (take > w->bytes)
		take = w->bytes;
	if (p.bytes > p.offset && take > p.bytes - p.offset)
		take = p.bytes - p.offset;
	who = w->who;
	if ((w->mode & S_IFMT) == S_IFBLK)
		kind = IO_METADATA;
	else if (w->inode && is_under_writeback(p.folio))
		kind = IO_EARLIER;
	if (kind != IO_NO_FILE) {
		owner = bpf_map_lookup_elem(&owners, &p.folio);
		if (owner)
			who = owner->who;
		else if (kind == IO_EARLIER)
			who = 0;
		if (owner && kind == IO_EARLIER)
			kind = IO_FILE;
	}
	count_part(w, who, kind, take);
	if (owner)
		consume(w, owner, &p, take);
	w->bytes -= take;
	w->done += take;
	if (w->done >= w->length) {
		w->index++;
		w->done = 0;
		w->length = 0;
	}
	return !take;
}

/* Splits `bytes` of a bio, from `index` and `done` in its vector on, by the owners of the pages. */
static __always_inline void split_bio(struct io_walk *w, struct bio *bio, __u32 index, __u32 done,
				      __u32 bytes)
{
	w->vector = (__u64)BPF_CORE_READ(bio, bi_io_vec);
	w->index = index;
	w->done = done;
	w->length = 0;
	w->bytes = bytes;
	for (int n = 0; n < MAX_CHUNKS; n++)
		if (count_chunk())
			break;
	if (!w->bytes)
		return;
	add(&losses.walks, 1);
	w->mapping = 1;
	look_at_mapping(w, NULL);
	count_part(w, 0, IO_EARLIER, w->bytes);
	w->bytes = 0;
}

/* Only these have pages: others that count as writes (write zeroes) have none. */
static __always_inline bool has_pages(__u32 op)
{
	return op == REQ_OP_WRITE || op == 7 /* REQ_OP_ZONE_APPEND */;
}

/* --- block devices --- */

/* Bytes of a bio's current segment that are done. */
static __always_inline __u32 done_of(struct bio *bio)
{
	struct bvec_iter___7_3 *at = (void *)&bio->bi_iter;

	if (bpf_core_field_exists(struct bvec_iter, bi_bvec_done))
		return BPF_CORE_READ(bio, bi_iter.bi_bvec_done);
	return BPF_CORE_READ(at, bi_offset);
}

static __always_inline __u32 dev_of_bio(struct bio *bio, struct gendisk **disk)
{
	if (bpf_core_field_exists(struct bio, bi_bdev)) {
		struct block_device *bdev = bio->bi_bdev;

		*disk = bdev->bd_disk;
		return bdev->bd_dev;
	}
	*disk = ((struct bio___5_10 *)bio)->bi_disk;
	return (*disk)->major << 20 |
	       ((*disk)->first_minor + ((struct bio___5_10 *)bio)->bi_partno);
}

/* 0 when the device keeps no statistics. */
static __always_inline __u32 dev_of_request(struct request *rq)
{
	if (bpf_core_type_exists(struct hd_struct___5_10)) {
		struct hd_struct___5_10 *part = ((struct request___5_10 *)rq)->part;

		return part ? part->__dev.devt : 0;
	}
	return rq->part ? rq->part->bd_dev : 0;
}

/* The first or the second argument; a context may not be read at an offset that was computed. */
static __always_inline __u64 argument(const __u64 *ctx, bool second)
{
	__u64 value;

	if (second) {
		value = ctx[1];
		barrier_var(value);
	} else {
		value = ctx[0];
		barrier_var(value);
	}
	return value;
}

SEC("tp_btf/block_bio_queue")
int on_bio_queue(__u64 *ctx)
{
	struct bio *bio = (void *)argument(ctx, bio_queue_second);
	struct io_bio b = {};
	struct gendisk *disk;
	__u64 key = (__u64)bio;

	b.who = current_who();
	b.queued_ns = bpf_ktime_get_ns();
	b.dev = dev_of_bio(bio, &disk);
	b.bytes = bio->bi_iter.bi_size;
	b.index = bio->bi_iter.bi_idx;
	b.done = done_of(bio);
	b.op = bio->bi_opf & REQ_OP_MASK;
	b.without_requests = disk->fops->submit_bio != NULL;
	if (bpf_map_update_elem(&bios, &key, &b, BPF_ANY))
		add(&losses.bios, 1);
	return 0;
}

/* The front of a bio that is too large becomes a bio of its own, chained to the rest. */
SEC("tp_btf/block_split")
int on_split(__u64 *ctx)
{
	struct bio *front = (void *)argument(ctx, split_second);
	__u64 key = (__u64)front, rest = (__u64)front->bi_private;
	struct io_bio *whole = bpf_map_lookup_elem(&bios, &rest), b;

	if (!whole)
		return 0;
	b = *whole;
	b.bytes = front->bi_iter.bi_size;
	if (bpf_map_update_elem(&bios, &key, &b, BPF_ANY))
		add(&losses.bios, 1);
	return 0;
}

SEC("tp_btf/block_rq_issue")
int on_rq_issue(__u64 *ctx)
{
	struct request *rq = (void *)argument(ctx, rq_issue_second);
	struct io_issue *known, issue = {};
	__u64 key = (__u64)rq;

	issue.ns = bpf_ktime_get_ns();
	issue.bytes = rq->__data_len;
	known = bpf_map_lookup_elem(&issues, &key);
	if (known)
		*known = issue;
	else if (bpf_map_update_elem(&issues, &key, &issue, BPF_ANY))
		add(&losses.requests, 1);
	return 0;
}

/* Counts the next bio of a request; 0 when there are more. */
__noinline int count_bio(void)
{
	struct io_walk *w = walk_here();
	struct bvec_iter at = {};
	struct io_bio *known;
	__u32 take;
	struct bio *bio;
	__u64 key;

	if (!w || !w->bio)
		return 1;
	key = w->bio;
	bio = (void *)key;
	at.bi_size = BPF_CORE_READ(bio, bi_iter.bi_size);
	if (at.bi_size && !w->left)
		return 1;
	take = at.bi_size < w->left ? at.bi_size : w->left;
	known = bpf_map_lookup_elem(&bios, &key);
	w->who = known ? known->who : 0;
	if (!w->queued_ns) {
		w->first = w->who;
		w->queued_ns = known ? known->queued_ns : 1;
	}
	if (w->epoch && take) {
		count_bytes(w, take);
		if (split_writes && w->direction == IO_WRITE) {
			at.bi_idx = BPF_CORE_READ(bio, bi_iter.bi_idx);
			split_bio(w, bio, at.bi_idx, done_of(bio), take);
		}
	}
	w->left -= take;
	if (take < at.bi_size)
		return 1;
	w->bio = (__u64)BPF_CORE_READ(bio, bi_next);
	if (known)
		bpf_map_delete_elem(&bios, &key);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(on_rq_complete, struct request *rq, int error, unsigned int bytes)
{
	__u32 op = rq->cmd_flags & REQ_OP_MASK, whole = rq->__data_len;
	struct io_walk *w = walk_here();
	struct io_issue *issue;
	__u64 key = (__u64)rq;

	/* Flushes and commands are neither reads nor writes, as in diskstats. */
	if (op >= REQ_OP_DRV_FIRST || op == REQ_OP_FLUSH || !w)
		return 0;
	if (w->busy) {
		add(&losses.nested, 1);
		return 0;
	}
	w->busy = 1;
	w->epoch = *(volatile __u32 *)&epoch;
	w->dev = dev_of_request(rq);
	w->direction = direction_of(op);
	w->bio = (__u64)rq->bio;
	w->left = bytes;
	w->queued_ns = 0;
	w->first = 0;
	w->mapping = 1;
	if (!w->dev)
		w->epoch = 0;
	for (int n = 0; n < MAX_BIOS; n++)
		if (count_bio())
			break;
	if (w->epoch && w->left) {
		add(&losses.walks, 1);
		w->who = 0;
		count_bytes(w, w->left);
	}
	if (w->epoch && bytes && bytes >= whole) {
		issue = bpf_map_lookup_elem(&issues, &key);
		if (w->queued_ns == 1)
			w->queued_ns = 0;
		count_request(w, bpf_ktime_get_ns(), issue ? issue->ns : 0,
			      issue && issue->bytes ? issue->bytes : bytes);
		if (issue)
			issue->ns = 0;
	}
	w->busy = 0;
	return 0;
}

/* Only for bios that no completed request contained. */
SEC("tp_btf/block_bio_complete")
int BPF_PROG(on_bio_complete, void *queue, struct bio *bio)
{
	struct io_walk *w = walk_here();
	__u64 key = (__u64)bio;
	struct io_bio *known = bpf_map_lookup_elem(&bios, &key);

	if (!known || !w)
		return 0;
	if (w->busy) {
		add(&losses.nested, 1);
	} else if (known->without_requests && known->bytes && known->op != REQ_OP_FLUSH) {
		w->busy = 1;
		w->epoch = *(volatile __u32 *)&epoch;
		w->dev = known->dev;
		w->direction = direction_of(known->op);
		w->who = w->first = known->who;
		w->queued_ns = known->queued_ns;
		w->mapping = 1;
		if (w->epoch) {
			count_bytes(w, known->bytes);
			if (split_writes && has_pages(known->op))
				split_bio(w, bio, known->index, known->done, known->bytes);
			count_request(w, bpf_ktime_get_ns(), 0, known->bytes);
		}
		w->busy = 0;
	}
	bpf_map_delete_elem(&bios, &key);
	return 0;
}

/* --- who dirties --- */

#if defined(__TARGET_ARCH_x86)
enum { X86_THREAD_SIZE = 16384, X86_USER32_CS = 0x23 };
#endif

/* Whether this thread entered the kernel by a page fault of its own. */
static __always_inline bool is_in_fault(void)
{
#if defined(__TARGET_ARCH_x86) || defined(__TARGET_ARCH_arm64)
	struct task_struct___io *task = (void *)bpf_get_current_task();
	struct pt_regs___io *regs;

	if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return false;
	if (bpf_core_enum_value_exists(enum bpf_func_id___io, BPF_FUNC_task_pt_regs___io))
		regs = (void *)bpf_task_pt_regs((void *)bpf_get_current_task_btf());
	else
#if defined(__TARGET_ARCH_x86)
		regs = BPF_CORE_READ(task, stack) + X86_THREAD_SIZE -
		       bpf_core_type_size(struct pt_regs___io);
#else
		return false;
#endif
		/* No system call to restart (arch/x86/entry/entry_64.S,
		 * arch/arm64/include/asm/ptrace.h). */
#if defined(__TARGET_ARCH_x86)
	return (__s64)BPF_CORE_READ(regs, orig_ax) < 0;
#else
	return BPF_CORE_READ(regs, syscallno) < 0;
#endif
#else
	return false;
#endif
}

static __always_inline bool is_on_disk(struct inode *inode)
{
	if (BPF_CORE_READ(inode, i_sb, s_type, fs_flags) & FS_REQUIRES_DEV)
		return true;
	switch ((__u32)BPF_CORE_READ(inode, i_sb, s_magic)) {
	case OVERLAYFS_SUPER_MAGIC:
	case NFS_SUPER_MAGIC:
	case FUSE_SUPER_MAGIC:
	case SMB2_SUPER_MAGIC:
	case CIFS_SUPER_MAGIC:
	case CEPH_SUPER_MAGIC:
	case V9FS_MAGIC:
		return true;
	}
	return false;
}

/* Counts what this process did to a file; memory and pipes do not count as files. */
static __always_inline void count_use(struct inode *inode, struct dentry *dentry, __u32 direction,
				      __u64 bytes)
{
	struct io_use_key key = { .epoch = *(volatile __u32 *)&epoch };
	struct io_use none = {}, *use;

	if (!key.epoch || (BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFREG || !is_on_disk(inode))
		return;
	key.who = current_who();
	if (key.who >> 32 == own_tgid)
		return;
	key.inode = BPF_CORE_READ(inode, i_ino);
	key.fs = BPF_CORE_READ(inode, i_sb, s_dev);
	use = bpf_map_lookup_elem(&uses, &key);
	if (!use) {
		learn_file(inode, dentry);
		none.thread = bpf_get_current_pid_tgid();
		bpf_map_update_elem(&uses, &key, &none, BPF_NOEXIST);
		use = bpf_map_lookup_elem(&uses, &key);
	}
	if (!use) {
		add(&losses.uses, 1);
		return;
	}
	add(&use->count[direction & 1], 1);
	add(&use->bytes[direction & 1], bytes);
}

static __always_inline __u64 bytes_of(__u64 folio)
{
	__u64 pages = is_compound(folio, folio) ? pages_of(folio, folio) : 1;

	return pages << (page_shift & 31);
}

static __always_inline void own(__u64 folio)
{
	struct io_owner *owner = bpf_map_lookup_elem(&owners, &folio), fresh = {};

	if (!owner) {
		fresh.who = current_who();
		if (bpf_map_update_elem(&owners, &folio, &fresh, BPF_ANY))
			add(&losses.pages, 1);
	} else if (owner->written) {
		owner->who = current_who();
		owner->written = false;
	} else if (!is_kernel_thread()) {
		/* Writeback that failed for now dirties the folio again, for its owner. */
		owner->next = current_who();
	}
}

/* The first argument as a number: with a pointer the verifier allows no arithmetic. */
static __always_inline __u64 address(const __u64 *ctx)
{
	__u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), ctx);
	return value;
}

static __always_inline int dirtied(__u64 folio, struct address_space *mapping)
{
	if (split_writes)
		own(folio);
	if (count_files && mapping && is_in_fault())
		count_use(mapping->host, NULL, IO_WRITE, bytes_of(folio));
	return 0;
}

SEC("?tp_btf/writeback_dirty_folio")
int BPF_PROG(on_dirty_folio, struct folio *folio, struct address_space *mapping)
{
	return dirtied(address(ctx), mapping);
}

SEC("?tp_btf/writeback_dirty_page")
int BPF_PROG(on_dirty_page, struct page *page, struct address_space *mapping)
{
	return dirtied(address(ctx), mapping);
}

SEC("?tp_btf/mm_filemap_delete_from_page_cache")
int on_forget_folio(__u64 *ctx)
{
	__u64 folio = ctx[0];

	bpf_map_delete_elem(&owners, &folio);
	return 0;
}

/* --- files --- */

SEC("?tp_btf/mm_filemap_add_to_page_cache")
int on_add_folio(__u64 *ctx)
{
	__u64 folio = address(ctx);

	if (is_in_fault())
		count_use(BPF_CORE_READ(mapping_of(folio), host), NULL, IO_READ, bytes_of(folio));
	return 0;
}

static __always_inline struct file *file_of(__u32 fd)
{
	struct task_struct___io *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file *file = NULL;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), BPF_CORE_READ(table, fd) + fd);
	return file;
}

static __always_inline void count_file(struct file *file, __u32 direction, __s64 bytes)
{
	if (file && bytes > 0)
		count_use(BPF_CORE_READ(file, f_inode), BPF_CORE_READ(file, f_path.dentry),
			  direction, bytes);
}

static __always_inline int aio_direction(__u32 opcode)
{
	switch (opcode) {
	case IOCB_CMD_PREAD:
	case IOCB_CMD_PREADV:
		return IO_READ;
	case IOCB_CMD_PWRITE:
	case IOCB_CMD_PWRITEV:
		return IO_WRITE;
	}
	return -1;
}

/* The results of io_getevents: they point to the requests, in user memory. */
static __always_inline void count_events(__u64 events, __s64 n)
{
	struct io_event event;
	struct iocb iocb;
	int direction;

	for (__s64 i = 0; i < MAX_EVENTS && i < n; i++) {
		if (bpf_probe_read_user(&event, sizeof(event), (struct io_event *)events + i) ||
		    bpf_probe_read_user(&iocb, sizeof(iocb), (void *)event.obj))
			continue;
		add(&notes.aio_seen, 1);
		direction = aio_direction(iocb.aio_lio_opcode);
		if (direction >= 0)
			count_file(file_of(iocb.aio_fildes), direction, event.res);
	}
	if (n > MAX_EVENTS)
		add(&losses.events, n - MAX_EVENTS);
}

enum call {
	CALL_OTHER,
	CALL_READ,
	CALL_WRITE,
	CALL_SENDFILE, /* (to, from, ...) */
	CALL_SPLICE, /* (from, _, to, ...) */
	CALL_AIO_SUBMIT,
	CALL_AIO_RESULTS, /* (_, _, _, events) */
};

#if defined(__TARGET_ARCH_x86)
/* arch/x86/entry/syscalls/syscall_64.tbl */
static __always_inline enum call call_of(__u64 number)
{
	switch (number) {
	case 0: /* read, pread64, readv, preadv, preadv2 */
	case 17:
	case 19:
	case 295:
	case 327:
		return CALL_READ;
	case 1: /* write, pwrite64, writev, pwritev, pwritev2 */
	case 18:
	case 20:
	case 296:
	case 328:
		return CALL_WRITE;
	case 40:
		return CALL_SENDFILE;
	case 275: /* splice, copy_file_range */
	case 326:
		return CALL_SPLICE;
	case 209:
		return CALL_AIO_SUBMIT;
	case 208: /* io_getevents, io_pgetevents */
	case 333:
		return CALL_AIO_RESULTS;
	}
	return CALL_OTHER;
}
#define CALL_NUMBER(regs)     ((regs)->orig_ax)
#define CALL_FIRST(regs)      ((regs)->di)
#define CALL_SECOND(regs)     ((regs)->si)
#define CALL_THIRD(regs)      ((regs)->dx)
#define CALL_FOURTH(regs)     ((regs)->r10)
#define CALL_IS_FOREIGN(regs) ((regs)->cs == X86_USER32_CS)
#elif defined(__TARGET_ARCH_arm64)
/* include/uapi/asm-generic/unistd.h */
static __always_inline enum call call_of(__u64 number)
{
	switch (number) {
	case 63: /* read, readv, pread64, preadv, preadv2 */
	case 65:
	case 67:
	case 69:
	case 286:
		return CALL_READ;
	case 64: /* write, writev, pwrite64, pwritev, pwritev2 */
	case 66:
	case 68:
	case 70:
	case 287:
		return CALL_WRITE;
	case 71:
		return CALL_SENDFILE;
	case 76: /* splice, copy_file_range */
	case 285:
		return CALL_SPLICE;
	case 2:
		return CALL_AIO_SUBMIT;
	case 4: /* io_getevents, io_pgetevents */
	case 292:
		return CALL_AIO_RESULTS;
	}
	return CALL_OTHER;
}
#define CALL_NUMBER(regs)     ((__u32)(regs)->syscallno)
#define CALL_FIRST(regs)      ((regs)->orig_x0)
#define CALL_SECOND(regs)     ((regs)->regs[1])
#define CALL_THIRD(regs)      ((regs)->regs[2])
#define CALL_FOURTH(regs)     ((regs)->regs[3])
#define CALL_IS_FOREIGN(regs) false
#endif

#ifdef CALL_NUMBER
SEC("?tp_btf/sys_exit")
int BPF_PROG(on_sys_exit, struct pt_regs___io *regs, long result)
{
	if (result <= 0)
		return 0;
	if (CALL_IS_FOREIGN(regs)) {
		add(&losses.foreign, 1);
		return 0;
	}
	switch (call_of(CALL_NUMBER(regs))) {
	case CALL_READ:
		count_file(file_of(CALL_FIRST(regs)), IO_READ, result);
		break;
	case CALL_WRITE:
		count_file(file_of(CALL_FIRST(regs)), IO_WRITE, result);
		break;
	case CALL_SENDFILE:
		count_file(file_of(CALL_SECOND(regs)), IO_READ, result);
		count_file(file_of(CALL_FIRST(regs)), IO_WRITE, result);
		break;
	case CALL_SPLICE:
		count_file(file_of(CALL_FIRST(regs)), IO_READ, result);
		count_file(file_of(CALL_THIRD(regs)), IO_WRITE, result);
		break;
	case CALL_AIO_SUBMIT:
		add(&notes.aio_submitted, result);
		break;
	case CALL_AIO_RESULTS:
		count_events(CALL_FOURTH(regs), result);
		break;
	case CALL_OTHER:
		break;
	}
	return 0;
}
#endif

static __always_inline int uring_direction(__u8 opcode)
{
	switch (opcode) {
	case IORING_OP_READV:
	case IORING_OP_READ_FIXED:
	case IORING_OP_READ:
	case IORING_OP_READ_MULTISHOT:
	case IORING_OP_READV_FIXED:
		return IO_READ;
	case IORING_OP_WRITEV:
	case IORING_OP_WRITE_FIXED:
	case IORING_OP_WRITE:
	case IORING_OP_WRITEV_FIXED:
		return IO_WRITE;
	}
	return -1;
}

/* Runs in a thread of the process that submitted the request. */
SEC("?raw_tp/io_uring_complete")
int on_uring_complete(struct bpf_raw_tracepoint_args *ctx)
{
	struct io_kiocb *request = (void *)ctx->args[1];
	struct io_uring_cqe_head entry = {};
	int direction;

	if (uring_layout == 1)
		entry.res = (__s32)ctx->args[3];
	else
		bpf_probe_read_kernel(&entry, sizeof(entry), (void *)ctx->args[2]);
	if (!request || entry.res <= 0)
		return 0;
	direction = uring_direction(BPF_CORE_READ(request, opcode));
	if (direction >= 0)
		count_file(BPF_CORE_READ(request, file), direction, entry.res);
	return 0;
}
