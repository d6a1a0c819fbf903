/* SPDX-License-Identifier: GPL-2.0-only */
/* Names of processes and files: each read once, in the context that knows it. */
#pragma once

const volatile __u32 own_tgid = 0; /* pingtrace itself, which is left out */

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, io_who);
	__type(value, struct io_process);
} processes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct io_file_key);
	__type(value, struct io_path);
} files SEC(".maps");

/* Buffer for a path, too large for the stack. A second user at the same time gets none. */
struct io_path_room {
	__u32 busy, pad;
	struct io_path path;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct io_path_room);
} path_room SEC(".maps");

static __always_inline void cgroup_name(char *to, struct cgroup *cgroup)
{
	bpf_probe_read_kernel_str(to, IO_CGROUP, BPF_CORE_READ(cgroup, kn, name));
}

static __always_inline void learn_process(io_who who, struct task_struct___io *leader)
{
	struct css_set *cgroups = BPF_CORE_READ(leader, cgroups);
	struct io_process p = {};

	p.kernel = !!(BPF_CORE_READ(leader, flags) & PF_KTHREAD);
	bpf_probe_read_kernel_str(p.comm, sizeof(p.comm), &leader->comm);
	cgroup_name(p.cgroup[0][0], BPF_CORE_READ(cgroups, dfl_cgrp));
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id___io, memory_cgrp_id___io)) {
		__u32 id = bpf_core_enum_value(enum cgroup_subsys_id___io, memory_cgrp_id___io);
		struct cgroup_subsys_state *css = NULL;

		bpf_probe_read_kernel(&css, sizeof(css), &cgroups->subsys[0] + id);
		cgroup_name(p.cgroup[1][0], BPF_CORE_READ(css, cgroup));
	}
	bpf_map_update_elem(&processes, &who, &p, BPF_ANY);
}

/* After exec it has another name. */
static __always_inline bool is_called(const struct io_process *known,
				      const struct task_struct___io *leader)
{
	__u64 comm[2] = {};

	bpf_probe_read_kernel_str(comm, sizeof(comm), &leader->comm);
	return comm[0] == *(__u64 *)&known->comm[0] && comm[1] == *(__u64 *)&known->comm[8];
}

/* The current process; reads its name if it is new. */
static __always_inline io_who current_who(void)
{
	struct task_struct___io *task = (void *)bpf_get_current_task(), *leader;
	__u32 tgid = bpf_get_current_pid_tgid() >> 32, began;
	struct io_process *known;
	io_who who;

	leader = BPF_CORE_READ(task, group_leader);
	began = BPF_CORE_READ(leader, start_boottime) / 10000000;
	who = (io_who)tgid << 32 | began;
	known = bpf_map_lookup_elem(&processes, &who);
	if (!known || !is_called(known, leader))
		learn_process(who, leader);
	return who;
}

static __always_inline bool is_kernel_thread(void)
{
	struct task_struct___io *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, flags) & PF_KTHREAD;
}

/* Any name of a file that this process has not open. */
static __always_inline struct dentry *any_alias(struct inode *inode)
{
	struct hlist_node *first = BPF_CORE_READ(inode, i_dentry.first);

	if (!first)
		return NULL;
	if (bpf_core_field_exists(struct dentry, d_u))
		return (void *)first - bpf_core_field_offset(struct dentry, d_u);
	return (void *)first - bpf_core_field_offset(struct dentry___anonymous, d_alias);
}

/* The names from a file up to the root of its file system. */
static __always_inline void collect_names(struct io_path *path, struct dentry *dentry)
{
	struct dentry *parent;
	__u32 used = 0;
	long n;

	path->cut = 1;
	for (int level = 0; level < IO_LEVELS; level++) {
		parent = BPF_CORE_READ(dentry, d_parent);
		if (parent == dentry) {
			path->cut = 0;
			break;
		}
		if (used > IO_NAMES - IO_NAME)
			break;
		n = bpf_probe_read_kernel_str(path->names[0] + used, IO_NAME,
					      BPF_CORE_READ(dentry, d_name.name));
		if (n <= 0)
			break;
		used += n;
		dentry = parent;
	}
	path->used = used;
}

/*
 * Reads the path of a file, each time anew, as inode numbers are reused; `dentry` is the name by
 * which it was opened, or NULL.
 */
static __always_inline void learn_file(struct inode *inode, struct dentry *dentry)
{
	struct io_file_key key = { .inode = BPF_CORE_READ(inode, i_ino),
				   .fs = BPF_CORE_READ(inode, i_sb, s_dev) };
	struct io_path_room *room;
	__u32 zero = 0;

	room = bpf_map_lookup_elem(&path_room, &zero);
	if (!room || room->busy)
		return;
	if (!dentry)
		dentry = any_alias(inode);
	if (!dentry)
		return;
	room->busy = 1;
	collect_names(&room->path, dentry);
	room->path.deleted = !BPF_CORE_READ(inode, i_nlink);
	bpf_map_update_elem(&files, &key, &room->path, BPF_ANY);
	room->busy = 0;
}
