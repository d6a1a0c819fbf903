/* SPDX-License-Identifier: GPL-2.0-only */
/* What the programs of iofsstat count, and by which keys user space reads it. */
#pragma once

enum {
	IO_READ,
	IO_WRITE,
	IO_DISCARD,
	IO_DIRECTIONS,
	IO_SIZES = 9, /* up to 4, 8, 16, 32, 64, 128, 256 and 512 KiB, and above */
	IO_COMM = 16,
	IO_CGROUP = 96,
	IO_NAMES = 1024, /* for the names of a path, of at most IO_NAME bytes each */
	IO_NAME = 256,
	IO_LEVELS = 24,
	IO_CHUNK = 32, /* bindings derive what they need for arrays up to this length */
};

/*
 * A process: its id in the upper half and its start, in units of 10 ms since boot, in the lower
 * half, so that a reused id is another process. 0: unknown.
 */
typedef __u64 io_who;

/* Requests of a process to a device that completed in an epoch. */
struct io_row_key {
	io_who who;
	__u32 dev; /* as in /sys/dev/block: major << 20 | minor */
	__u32 epoch;
};

struct io_direction {
	__u64 count; /* requests whose first part is this process's */
	__u64 bytes; /* its parts of all requests */
	__u64 q2c_ns, q2c_max_ns; /* from the queue to the completion; a request counts once */
	__u64 d2c_count, d2c_ns, d2c_max_ns; /* from the driver to the completion, where known */
	__u64 sizes[IO_SIZES]; /* requests by size */
};

struct io_row {
	struct io_direction direction[IO_DIRECTIONS];
	__u64 largest; /* bytes of the largest request */
};

/* The owner of pages that were written to a device. */
enum io_kind {
	IO_FILE, /* of a file, dirtied by `who` */
	IO_EARLIER, /* of a file, dirtied before the start */
	IO_METADATA, /* of the device's own page cache, the file system's metadata */
	IO_NO_FILE, /* no page of the cache: direct writes, the journals of some file systems */
};

struct io_part_key {
	io_who via; /* the process that wrote */
	io_who who; /* the owner of the pages */
	__u64 inode;
	__u32 fs; /* dev of the file system */
	__u32 dev;
	__u32 kind;
	__u32 epoch;
};

struct io_part {
	__u64 count, bytes;
};

/* What a process did to a file. */
struct io_use_key {
	io_who who;
	__u64 inode;
	__u32 fs;
	__u32 epoch;
};

struct io_use {
	__u64 count[2], bytes[2];
	__u32 thread; /* the first thread, in the initial PID namespace */
	__u32 pad;
};

struct io_file_key {
	__u64 inode;
	__u32 fs;
	__u32 pad;
};

struct io_path {
	__u32 used; /* bytes of names, the file's own first, each with its 0 */
	__u8 cut, deleted; /* levels are missing at the top; it has no name any more */
	__u8 pad[2];
	char names[IO_NAMES / IO_CHUNK][IO_CHUNK];
};

struct io_process {
	char comm[IO_COMM];
	__u32 kernel; /* a kernel thread */
	/* the last names, of the unified hierarchy and of memory's */
	char cgroup[2][IO_CGROUP / IO_CHUNK][IO_CHUNK];
};

/* Losses: what could not be counted where it belongs. */
struct io_losses {
	__u64 bios; /* no room for the submitter: the bytes have no owner */
	__u64 requests; /* no room for the time of the driver: no d2c */
	__u64 rows, parts, uses; /* no room: bytes are missing */
	__u64 pages; /* no room for the owner: counted as dirtied before the start */
	__u64 nested; /* a program that interrupted itself */
	__u64 walks; /* a request in too many pieces: the rest has no owner */
	__u64 events; /* AIO results beyond the limit of one call */
	__u64 foreign; /* calls of 32-bit programs with a result */
};

/* Counts of known blind spots; these are not losses. */
struct io_notes {
	__u64 aio_submitted, aio_seen;
};
