/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which probes a process on the server's own kernel has sent. The kernel itself saw it: a device
 * queued the request while it belonged to a socket of IP, before any device received it. So no
 * packet has to say which host it is from, addresses may be translated on the way, and nobody can
 * find out by a guess whether two addresses are one host.
 */
#pragma once

/* Server: an own client counts as such; false where the user says that it is another host. */
const volatile bool knows_local = false;

enum { SENT_HERE = 16384 };

/* The last requests that were sent here, by session and sequence; the newest takes the entry. */
struct pt_sent {
	__u32 session, sequence;
} sent_here[SENT_HERE];

static __always_inline struct pt_sent *sent_entry(__u32 session, __u32 sequence)
{
	__u32 i = (session * 2654435769u >> 16) + sequence & (SENT_HERE - 1);

	/* For verifiers before 6.2: the index itself must carry the bound, not a copy of it. */
	barrier_var(i);
	return &sent_here[i & (SENT_HERE - 1)];
}

/*
 * A device queues a request. A tunnel's process and a packet socket have sockets of other kinds.
 * Global functions: the verifier follows them once.
 */
__noinline int note_sent(__u32 family, __u32 session, __u32 sequence)
{
	struct pt_sent *sent = sent_entry(session, sequence);

	if (!knows_local || (family != AF_INET && family != AF_INET6))
		return 0;
	sent->session = session;
	sent->sequence = sequence;
	return 0;
}

__noinline int was_sent_here(__u32 session, __u32 sequence)
{
	const struct pt_sent *sent = sent_entry(session, sequence);

	return knows_local && sent->session == session && sent->sequence == sequence;
}
