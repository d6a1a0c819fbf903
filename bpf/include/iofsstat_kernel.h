/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kernel types that only iofsstat reads. A name with three underscores is a flavour: libbpf
 * relocates it as the type before them; so different kernels' layouts of one type stand side by
 * side, and types that other programs read too need no second definition.
 */
#pragma once

/* include/linux/blk_types.h, the same since 4.10 */
enum { REQ_OP_MASK = 0xff, REQ_OP_WRITE = 1, REQ_OP_FLUSH = 2, REQ_OP_DISCARD = 3 };
enum { REQ_OP_DRV_FIRST = 32 }; /* from here on: no reads or writes of the file system's */
/* include/linux/fs.h, uapi/linux/stat.h, uapi/linux/magic.h */
enum { FS_REQUIRES_DEV = 1 };
enum { S_IFMT = 0170000, S_IFREG = 0100000, S_IFBLK = 0060000 };
enum {
	OVERLAYFS_SUPER_MAGIC = 0x794c7630,
	NFS_SUPER_MAGIC = 0x6969,
	FUSE_SUPER_MAGIC = 0x65735546,
	SMB2_SUPER_MAGIC = 0xfe534d42,
	CIFS_SUPER_MAGIC = 0xff534d42,
	CEPH_SUPER_MAGIC = 0x00c36400,
	V9FS_MAGIC = 0x01021997,
};
/* include/uapi/linux/aio_abi.h */
enum { IOCB_CMD_PREAD, IOCB_CMD_PWRITE, IOCB_CMD_PREADV = 7, IOCB_CMD_PWRITEV };
struct io_event {
	__u64 data, obj;
	__s64 res, res2;
};
struct iocb {
	__u64 aio_data;
	__u32 aio_key, aio_rw_flags;
	__u16 aio_lio_opcode;
	__s16 aio_reqprio;
	__u32 aio_fildes;
};

/* include/uapi/linux/io_uring.h */
enum {
	IORING_OP_READV = 1,
	IORING_OP_WRITEV,
	IORING_OP_READ_FIXED = 4,
	IORING_OP_WRITE_FIXED,
	IORING_OP_READ = 22,
	IORING_OP_WRITE,
	IORING_OP_READ_MULTISHOT = 49,
	IORING_OP_READV_FIXED = 60,
	IORING_OP_WRITEV_FIXED,
};
struct io_uring_cqe_head {
	__u64 user_data;
	__s32 res;
};

/* Their numbers differ from kernel to kernel: relocated. */
enum pageflags___io {
	PG_writeback___io = 0x7001,
};
enum cgroup_subsys_id___io {
	memory_cgrp_id___io = 0x7002,
};
enum bpf_func_id___io {
	BPF_FUNC_task_pt_regs___io = 0x7003,
};

/* struct bio_vec of include/linux/bvec.h, read whole: the same since 3.14. */
struct io_segment {
	__u64 page;
	__u32 length, offset;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct qstr {
	const unsigned char *name;
};
struct hlist_node {
	struct hlist_node *next;
};
struct hlist_head {
	struct hlist_node *first;
};
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	union {
		struct hlist_node d_alias;
	} d_u;
};
struct dentry___anonymous {
	struct hlist_node d_alias;
};
struct file_system_type {
	int fs_flags;
};
struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
	struct file_system_type *s_type;
};
struct inode {
	unsigned short i_mode;
	struct super_block *i_sb;
	unsigned long i_ino;
	unsigned int i_nlink;
	__u32 i_rdev;
	struct hlist_head i_dentry;
};
struct address_space {
	struct inode *host;
};
struct path {
	struct dentry *dentry;
};
struct file {
	struct inode *f_inode;
	struct path f_path;
};
struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};
struct task_struct___io {
	unsigned int flags;
	void *stack;
	struct task_struct___io *group_leader;
	__u64 start_boottime;
	struct files_struct *files;
	struct css_set *cgroups;
	char comm[16];
};

struct block_device_operations {
	void *submit_bio;
};
struct gendisk {
	int major, first_minor;
	const struct block_device_operations *fops;
};
struct block_device {
	struct gendisk *bd_disk;
	__u32 bd_dev;
};
struct bvec_iter {
	unsigned int bi_size, bi_idx, bi_bvec_done;
};
struct bvec_iter___7_3 {
	unsigned int bi_offset;
};
struct bio {
	struct bio *bi_next;
	struct block_device *bi_bdev;
	unsigned int bi_opf;
	struct bvec_iter bi_iter;
	void *bi_private;
	void *bi_io_vec;
};
struct bio___5_10 {
	struct gendisk *bi_disk;
	__u8 bi_partno;
};
struct request {
	unsigned int cmd_flags, __data_len;
	struct bio *bio;
	struct block_device *part;
};
struct device___5_10 {
	__u32 devt;
};
struct hd_struct___5_10 {
	struct device___5_10 __dev;
};
struct request___5_10 {
	struct hd_struct___5_10 *part;
};

struct page___io {
	unsigned long flags;
	struct address_space *mapping;
};
struct page___tail {
	unsigned long compound_head;
};
struct page___7_2 {
	unsigned long compound_info;
};
struct page___order {
	unsigned char compound_order;
};
struct folio {
	struct address_space *mapping;
};
struct folio___pages {
	unsigned int _nr_pages;
};
struct folio___pages_older {
	unsigned int _folio_nr_pages;
};
struct folio___order {
	unsigned long _flags_1;
};

struct io_kiocb {
	struct file *file;
	__u8 opcode;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs___io {
	unsigned long r10, dx, si, di, orig_ax, cs;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs___io {
	__u64 regs[31];
	__u64 orig_x0;
	__s32 syscallno;
};
#endif
#pragma clang attribute pop
