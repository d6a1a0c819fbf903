#!/usr/bin/env python3
"""The counts of a soak: soak.sh calls this with a task and what it needs."""

import collections
import json
import pathlib
import sys

wrong = 0


def demand(so, what, of=None):
    global wrong
    if not so:
        wrong += 1
        of = "" if of is None else f": {json.dumps(of)[:600]}"
        print(f"soak: {what}{of}", file=sys.stderr)


def known(book):
    return book["replied"] + book["lost"] + book["forgotten"]


def lines_of(path, kind=None):
    lines = [json.loads(line) for line in path.open()]
    return [line for line in lines if kind in (None, line["type"])]


def check_intervals(name, lines, end):
    """What is sent in an interval is known in it or still in flight; all intervals make the end."""
    in_flight = 0
    total = collections.Counter()
    for interval in (line for line in lines if line["type"] == "interval"):
        in_flight += interval["sent"] + interval["amended"] - known(interval)
        demand(in_flight == interval.get("in_flight", 0), f"{name}: an interval", interval)
        total.update({k: interval[k] for k in ("sent", "replied", "lost", "amended", "forgotten")})
    for key in ("sent", "replied", "amended", "forgotten"):
        demand(total[key] == end[key], f"{name}: the intervals' {key} is {total[key]}", end)
    demand(total["lost"] - total["amended"] == end["lost"], f"{name}: the intervals' lost", end)


def check_lines(name, lines, end):
    """A probe has one line, or one more that amends it."""
    last = {}
    written = collections.Counter()
    for probe in (line for line in lines if line["type"] == "probe"):
        if probe["status"] == "dup":
            written["dup"] += 1
            continue
        said = last.get(probe["seq"])
        demand(probe.get("amends") == said, f"{name}: a second line, not an amendment", probe)
        written["amended"] += "amends" in probe
        last[probe["seq"]] = probe["status"]
    written.update(last.values())
    for key in ("late", "lost", "forgotten", "dup", "amended"):
        demand(written[key] == end[key], f"{name}: lines say {key} {written[key]}", end[key])
    answered = written["ok"] + written["late"]
    demand(answered == end["replied"], f"{name}: lines say replied {answered}", end["replied"])


def books(folder):
    """The books of every run of a client; returns their sums."""
    sums = collections.Counter()
    for path in sorted(folder.glob("*.json")):
        lines = lines_of(path)
        end = next((line for line in reversed(lines) if line["type"] == "stat"), None)
        demand(end is not None, f"{path.stem} has no final statistics")
        if end is None:
            continue
        flying = end.get("in_flight", 0)
        demand(known(end) + flying == end["sent"], f"{path.stem}: the end", end)
        check_intervals(path.stem, lines, end)
        if path.stem.startswith("whole"):
            check_lines(path.stem, lines, end)
        for key in ("sent", "replied", "lost", "forgotten", "late", "amended", "dup", "send_errors"):
            sums[key] += end.get(key, 0)
        sums["in_flight"] += flying
        sums["runs"] += 1
    return sums


def icmp(path):
    """Counters of ICMP, both versions, of a namespace (/proc/net/snmp and snmp6, one behind the other)."""
    counters = collections.Counter()
    rows = [line.split() for line in open(path)]
    names = next(row for row in rows if row[0] == "Icmp:" and row[1] == "InMsgs")
    values = next(row for row in rows if row[0] == "Icmp:" and row[1] != "InMsgs")
    v4 = dict(zip(names, values))
    v6 = {row[0]: row[1] for row in rows if len(row) == 2}
    for name in ("InEchos", "OutEchos", "InEchoReps", "OutEchoReps"):
        counters[name] = int(v4[name])
    for name, other in (
        ("InEchos", "Icmp6InEchos"),
        ("InEchoReps", "Icmp6InEchoReplies"),
        ("OutEchos", "Icmp6OutEchos"),
        ("OutEchoReps", "Icmp6OutEchoReplies"),
    ):
        counters[name] += int(v6[other])
    return counters


def served(path):
    """Replies stamped in band and stamp packets, as each server said at its end."""
    total = collections.Counter()
    for line in open(path, errors="replace"):
        words = line.replace(",", "").split()
        if "replies stamped in band" in line:
            total["inband"] += int(words[words.index("replies") - 1])
            total["packets"] += int(words[words.index("packets") - 2])
            total["servers"] += 1
    return total


def faults(folder):
    """While there are faults, nobody counts more than there was."""
    sums = books(folder)
    kernel = {end: icmp(folder / f"{end}.icmp") for end in ("client", "server")}
    server = served(folder / "server.err")
    sent, echoed = kernel["client"]["OutEchos"], kernel["server"]["OutEchoReps"]
    demand(sums["sent"] - sums["send_errors"] <= sent, "clients count more than left", [sums, sent])
    demand(kernel["server"]["InEchos"] <= sent, "more arrived than left", [kernel["server"], sent])
    demand(sums["replied"] <= echoed, "more replies than the kernel made", [sums, echoed])
    demand(server["inband"] <= echoed, "more stamped replies than replies", [server, echoed])
    report(sums, server, kernel)


def quiet(folder):
    """Without a fault, both ends and both kernels count the same, to the packet."""
    sums = books(folder)
    client, server_kernel = icmp(folder / "client.icmp"), icmp(folder / "server.icmp")
    server = served(folder / "server.err")
    demand(sums["sent"] == sums["replied"], "a probe was lost without a fault", sums)
    demand(sums["dup"] == 0, "a probe was answered twice", sums)
    requests = client["OutEchos"]
    collecting = requests - sums["sent"]
    demand(0 <= collecting <= 8 * sums["runs"], f"{collecting} requests are nobody's", client)
    demand(requests == server_kernel["InEchos"], "requests", [client, server_kernel])
    answers = requests + server["packets"]
    demand(answers == server_kernel["OutEchoReps"], f"{answers} answers made", [server_kernel, server])
    demand(client["InEchoReps"] == answers, f"{answers} answers left", [client, server])
    inband = 0
    for path in folder.glob("*inband*.json"):
        for end in lines_of(path, "stat")[-1:]:
            inband += end["sent"]
            stamped = [delay["count"] for delay in end["delays"] if delay["delay"] == "r_tx_kern"]
            demand(stamped == [end["sent"]], f"{path.stem}: stamped {stamped}", end)
    stamped = server["inband"]
    demand(inband <= stamped <= inband + collecting, f"stamped in band {stamped}, asked {inband}", [server, client])
    report(sums, server, {"client": client, "server": server_kernel})


def report(sums, server, kernel):
    keys = ("runs", "sent", "replied", "late", "lost", "amended", "forgotten", "in_flight", "dup")
    print("clients: " + ", ".join(f"{key} {sums[key]}" for key in keys))
    print(f"servers: {dict(server)}")
    for end, counters in kernel.items():
        print(f"kernel, {end}: {dict(counters)}")


{"faults": faults, "quiet": quiet}[sys.argv[1]](pathlib.Path(sys.argv[2]))
sys.exit(wrong > 0)
