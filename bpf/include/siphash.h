/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * SipHash-2-4 (Aumasson and Bernstein, 2012) of whole words of 64 bits: a keyed hash that nobody
 * can compute, or compute backwards, without the key. `count` is a constant and the loops are
 * unrolled, so that the verifier goes through straight code once.
 */
#pragma once

struct pt_sip {
	__u64 a, b, c, d;
};

static __always_inline __u64 pt_rotate(__u64 x, __u32 bits)
{
	return x << bits | x >> (64 - bits);
}

static __always_inline void pt_sip_round(struct pt_sip *s)
{
	s->a += s->b;
	s->b = pt_rotate(s->b, 13) ^ s->a;
	s->a = pt_rotate(s->a, 32);
	s->c += s->d;
	s->d = pt_rotate(s->d, 16) ^ s->c;
	s->a += s->d;
	s->d = pt_rotate(s->d, 21) ^ s->a;
	s->c += s->b;
	s->b = pt_rotate(s->b, 17) ^ s->c;
	s->c = pt_rotate(s->c, 32);
}

static __always_inline void pt_sip_word(struct pt_sip *s, __u64 word)
{
	s->d ^= word;
	pt_sip_round(s);
	pt_sip_round(s);
	s->a ^= word;
}

/* The hash of 8 * count bytes, the first of which is the lowest of words[0]. */
static __always_inline __u64 pt_siphash(const volatile __u64 *key, const __u64 *words, __u32 count)
{
	const __u64 k0 = key[0], k1 = key[1];
	/* "somepseudorandomlygeneratedbytes" */
	struct pt_sip s = {
		k0 ^ 0x736f6d6570736575,
		k1 ^ 0x646f72616e646f6d,
		k0 ^ 0x6c7967656e657261,
		k1 ^ 0x7465646279746573,
	};
	__u32 i;

#pragma unroll
	for (i = 0; i < count; i++)
		pt_sip_word(&s, words[i]);
	pt_sip_word(&s, (__u64)(count * 8) << 56);
	s.c ^= 0xff;
#pragma unroll
	for (i = 0; i < 4; i++)
		pt_sip_round(&s);
	return s.a ^ s.b ^ s.c ^ s.d;
}
