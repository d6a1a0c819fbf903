/*
 * fill ID...: attaches fentry programs that do nothing to the functions with these BTF ids, until
 * their trampolines take no more (BPF_MAX_TRAMP_LINKS), and holds them until it is ended.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bpf(enum bpf_cmd command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static int attach(unsigned int id)
{
	struct bpf_insn nothing[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_TRACING,
		.expected_attach_type = BPF_TRACE_FENTRY,
		.attach_btf_id = id,
		.insns = (unsigned long)nothing,
		.insn_cnt = sizeof(nothing) / sizeof(nothing[0]),
		.license = (unsigned long)"GPL",
	};
	int program = bpf(BPF_PROG_LOAD, &load);
	union bpf_attr open = { .raw_tracepoint.prog_fd = program };

	return program < 0 ? program : bpf(BPF_RAW_TRACEPOINT_OPEN, &open);
}

int main(int count, char **ids)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	/* Kernels before 5.11 charge programs to it. */
	setrlimit(RLIMIT_MEMLOCK, &all);
	for (int i = 1; i < count; i++) {
		int n = 0;

		while (attach(atoi(ids[i])) >= 0)
			n++;
		printf("%d programs at %s, then %m\n", n, ids[i]);
		if (errno != E2BIG)
			return 1;
	}
	puts("full");
	fflush(stdout);
	pause();
}
