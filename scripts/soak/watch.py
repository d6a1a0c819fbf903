#!/usr/bin/env python3
"""Memory, descriptors and BPF objects of the processes of a soak.

    watch.py sample PIDS SAMPLES   until it is ended: every 2 s a line of SAMPLES for each process of the file PIDS
    watch.py flat SAMPLES          whether memory and descriptors of each process stayed what they were
    watch.py gone SAMPLES          whether the BPF objects that they had are gone

Memory is compared without the first quarter of a process' life, in which it takes what it needs: the lower
quartile of the second quarter with that of the last one, less the largest single step between: a first summary
(SIGUSR1) takes 25 MB once. A peak does not matter, nor when it comes; what grows again and again does.
"""

import collections
import ctypes
import json
import os
import platform
import sys
import time

EVERY_S = 2
# From the second to the last quarter. A server takes nothing (seen: 0). A client touches the pages of its histograms
# as delays come that it had not seen yet: 270 kB for a segment, 14 MB at most in its life (seen in 10 min: 2.2 MB).
MAX_GROWTH_KB = {"server": 512, "client": 6144}
# A log that is rotated or reopened has another descriptor meanwhile.
MAX_DESCRIPTORS = 3
# Shorter lives have no trend.
MIN_LIFE_S = 240
OBJECTS = {"prog_id": 13, "map_id": 14, "link_id": 30}  # BPF_*_GET_FD_BY_ID


def own(pid):
    """Resident memory without files, kB; descriptors; BPF objects."""
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status if ":" in line)
    objects = set()
    descriptors = os.listdir(f"/proc/{pid}/fd")
    for fd in descriptors:
        try:
            with open(f"/proc/{pid}/fdinfo/{fd}") as info:
                for line in info:
                    kind, _, number = line.partition(":")
                    if kind in OBJECTS:
                        objects.add((kind, int(number)))
        except OSError:
            pass
    return int(fields["RssAnon"].split()[0]), len(descriptors), sorted(objects)


def sample(pids, samples):
    known = collections.defaultdict(set)
    with open(samples, "a", buffering=1) as out:
        while True:
            for line in open(pids).read().splitlines():
                pid, name = line.split()
                try:
                    rss, descriptors, objects = own(pid)
                except (OSError, KeyError):
                    continue
                new = [o for o in objects if o not in known[pid]]
                known[pid].update(new)
                row = {"at": time.monotonic(), "pid": pid, "name": name, "rss": rss, "fds": descriptors}
                out.write(json.dumps(row | {"new": new}) + "\n")
            time.sleep(EVERY_S)


def rows(samples):
    return [json.loads(line) for line in open(samples)]


def quartile(values):
    return sorted(values)[len(values) // 4]


def slope(points):
    """kB a minute, by least squares."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    across = sum((x - mean_x) ** 2 for x, _ in points)
    return 60 * sum((x - mean_x) * (y - mean_y) for x, y in points) / across


def flat(samples):
    lives = collections.defaultdict(list)
    for row in rows(samples):
        lives[(row["name"], row["pid"])].append(row)
    wrong, judged = 0, []
    for (name, _), life in lives.items():
        length = life[-1]["at"] - life[0]["at"]
        if length < MIN_LIFE_S:
            continue
        quarter = lambda k: [r for r in life if k <= 4 * (r["at"] - life[0]["at"]) / length <= k + 1]
        before, between, after = quarter(1), quarter(2), quarter(3)
        growth = quartile([r["rss"] for r in after]) - quartile([r["rss"] for r in before])
        steps = [later["rss"] - earlier["rss"] for earlier, later in zip(life, life[1:]) if earlier in before + between]
        growth -= max([0, *steps])
        settled = [(r["at"], r["rss"]) for r in life if r["at"] - life[0]["at"] >= length / 4]
        descriptors = [r["fds"] for r in before + after]
        judged.append((growth, slope(settled), max(descriptors) - min(descriptors), name, length))
        bound = MAX_GROWTH_KB["server" if name == "server" else "client"]
        if growth > bound:
            wrong += 1
            print(f"soak: {name} grew by {growth} kB, more than {bound} kB", file=sys.stderr)
        if max(descriptors) - min(descriptors) > MAX_DESCRIPTORS:
            wrong += 1
            print(f"soak: {name} had {min(descriptors)} to {max(descriptors)} descriptors", file=sys.stderr)
    if not judged:
        print(f"soak: no process lived for {MIN_LIFE_S} s: memory is not judged", file=sys.stderr)
        return True
    print(f"memory: {len(judged)} lives of up to {max(j[4] for j in judged):.0f} s, which may grow by {MAX_GROWTH_KB} kB")
    for kind, lives in (("servers", True), ("clients", False)):
        of_kind = [j for j in judged if (j[3] == "server") == lives]
        if of_kind:
            growth, rising, _, name, _ = max(of_kind)
            print(f"memory of {kind}: {name} grew most, by {growth} kB ({rising:.0f} kB/min)")
    print(f"descriptors: a difference of {max(j[2] for j in judged)} (at most {MAX_DESCRIPTORS})")
    return not wrong


class Id(ctypes.Structure):
    """union bpf_attr, as BPF_*_GET_FD_BY_ID reads it."""

    _fields_ = [("id", ctypes.c_uint32), ("next", ctypes.c_uint32), ("flags", ctypes.c_uint32)]


def exists(kind, number):
    call = {"x86_64": 321, "aarch64": 280}[platform.machine()]
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(call, OBJECTS[kind], ctypes.byref(Id(number)), ctypes.sizeof(Id))
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def gone(samples):
    objects = {tuple(o) for row in rows(samples) for o in row["new"]}
    # The kernel frees them after a grace period, or later on a busy machine.
    left = objects
    for _ in range(30):
        left = {o for o in left if exists(*o)}
        if not left:
            break
        time.sleep(1)
    counts = collections.Counter(kind for kind, _ in objects)
    print(f"BPF: {dict(counts)} were there, {len(left)} are left")
    if left:
        print(f"soak: BPF objects are left: {sorted(left)[:20]}", file=sys.stderr)
    return not left


task, *paths = sys.argv[1:]
sys.exit(not {"sample": sample, "flat": flat, "gone": gone}[task](*paths))
