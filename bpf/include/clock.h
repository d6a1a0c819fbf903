/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The clock of the stamps: CLOCK_MONOTONIC, or, in a laboratory, one that is wrong by a known
 * amount, so that one kernel can represent two hosts with a clock each. Its parameters are
 * constants of the loaded object: when it is off, the verifier removes the code.
 */
#pragma once

/* Times are CLOCK_MONOTONIC ns; a rate is ns gained in 2^32 ns. */
struct pt_lab_clock {
	__u64 epoch_ns; /* 0: off; else the drift begins here */
	__s64 offset_ns, rate;
	__u64 step_at_ns;
	__s64 step_ns;
	__u64 slew_from_ns, slew_until_ns;
	__s64 slew_rate;
};

const volatile struct pt_lab_clock lab_clock = {};

static __always_inline __s64 pt_drift(__u64 from, __u64 to, __s64 rate)
{
	return to > from ? (__s64)((to - from) >> 8) * rate >> 24 : 0;
}

/* What the clock shows, at this time of CLOCK_MONOTONIC. */
static __always_inline __u64 pt_shown(__u64 now)
{
	__s64 wrong;
	__u64 end;

	if (!lab_clock.epoch_ns)
		return now;
	wrong = lab_clock.offset_ns + pt_drift(lab_clock.epoch_ns, now, lab_clock.rate);
	if (now >= lab_clock.step_at_ns)
		wrong += lab_clock.step_ns;
	end = now < lab_clock.slew_until_ns ? now : lab_clock.slew_until_ns;
	return now + wrong + pt_drift(lab_clock.slew_from_ns, end, lab_clock.slew_rate);
}

static __always_inline __u64 pt_now(void)
{
	return pt_shown(bpf_ktime_get_ns());
}
