/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tags: who has the key. A request's tag covers the header but for ICMP's own part, which address
 * translations rewrite, and the first entry, which may be a question; a reply's covers the header
 * but for the number of entries, which grows on the way.
 */
#pragma once

enum { KEYS = 2, TAGGED_FROM = 8, TAG_WORDS = 7 };

/*
 * Those of --key-file, twice: user space writes into the half that is not in use, and then changes
 * `first`. A file with one key fills both places of a half with it. The first one is used where
 * neither has proved right.
 */
struct pt_keys {
	__u32 in_use; /* 0: this server has no keys */
	__u32 first; /* 0 or KEYS: the half in use */
	__u64 key[2 * KEYS][2];
} keys SEC(".data.keys");

/* The bytes of a message from TAGGED_FROM on. */
struct pt_tagged {
	__u64 header[4]; /* up to the cookie */
	__be64 tag;
	__u64 entry[3];
};

static __noinline __u64 hash_of(const struct pt_tagged *t, __u32 key)
{
	__u64 words[TAG_WORDS];

	__builtin_memcpy(words, t->header, sizeof(t->header));
	__builtin_memcpy(words + 4, t->entry, sizeof(t->entry));
	return pt_siphash(keys.key[key & (2 * KEYS - 1)], words, TAG_WORDS);
}

/* The number of the key that has made the tag, from `first` on; negative: none of ours. */
static __always_inline int key_of(const struct pt_tagged *t, __u32 first)
{
	const __u64 tag = bpf_be64_to_cpu(t->tag);

	if (hash_of(t, first) == tag)
		return first;
	return hash_of(t, first + 1) == tag ? first + 1 : -1;
}

/* The tag of the reply to a request, with this cookie. Changes `t`. */
static __always_inline __be64 reply_tag(struct pt_tagged *t, __u64 cookie, __u32 key)
{
	/* The number of entries is the second byte. */
	((__u8 *)t->header)[1] = 0;
	t->header[3] = cookie;
	/* "reply of a pingtrace -s" */
	t->entry[0] = bpf_cpu_to_be64(0x7265706c79206f66);
	t->entry[1] = bpf_cpu_to_be64(0x20612070696e6774);
	t->entry[2] = bpf_cpu_to_be64(0x72616365202d7300);
	return bpf_cpu_to_be64(hash_of(t, key));
}

/* The last sequence number of a session, and which of those before it have been seen. */
struct pt_window {
	__u32 last, pad;
	__u64 seen; /* bit n: the number that is n less */
};
struct pt_window_key {
	__be32 peer[4];
	__u32 session;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct pt_window_key);
	__type(value, struct pt_window);
} windows SEC(".maps");

/* Whether a request with a right tag was seen before, or is so old that it may have been. */
static __always_inline bool is_replay(const __be32 *peer, __u32 session, __u32 sequence)
{
	struct pt_window first = { .last = sequence, .seen = 1 };
	struct pt_window_key key = { .session = session };
	struct pt_window *window;
	__s32 ahead;

	__builtin_memcpy(key.peer, peer, sizeof(key.peer));
	window = bpf_map_lookup_elem(&windows, &key);
	if (!window) {
		bpf_map_update_elem(&windows, &key, &first, BPF_ANY);
		return false;
	}
	ahead = sequence - window->last;
	if (ahead > 0) {
		window->seen = ahead < 64 ? window->seen << ahead | 1 : 1;
		window->last = sequence;
		return false;
	}
	if (ahead <= -64 || window->seen >> -ahead & 1)
		return true;
	window->seen |= 1ULL << -ahead;
	return false;
}
