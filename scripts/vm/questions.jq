# Questions about a run between two hosts. The input is the list of its probes.

def at(name): [.points[] | select(.point == name)][0].ns;
def delay(name): [.delays[] | select(.delay == name)][0];
def out: delay("l_tx_outlink");
def inward: delay("l_rx_inlink");

# The stamps that bracket the two ways of a probe, each of its host's clock.
def crossing: {
  left: at("l_tx_devout"), arrived: at("r_rx_devrcv"),
  returned: at("r_tx_devout"), back: at("l_rx_iprcv")
};

# The clocks differ by more than any probe takes.
def far_clocks: length > 0 and all(.[];
  .total_ns as $total | crossing | .arrived - .left | . < 0 or . > $total);

# Both directions of the wire have bounds, and lie within them.
def bounded: length > 0 and all(.[] | out, inward; .lo <= .ns and .ns <= .hi);

# How fast the server's clock gains on the client's, ppm: from the quickest probes of the first and
# the last quarter of the run.
def drift_ppm:
  map(crossing | {
    t: .left, round: (.back - .left - (.returned - .arrived)),
    offset: ((.arrived - .left - (.back - .returned)) / 2)
  })
  | (length / 4 | floor) as $quarter
  | (.[:$quarter] | min_by(.round)) as $first
  | (.[-$quarter:] | min_by(.round)) as $last
  | ($last.offset - $first.offset) / ($last.t - $first.t) * 1e6;

def median: sort | .[length / 2 | floor];

# The wire delayed one way by 10 ms from one time to another, in seconds: does the tool say so?
# Medians: some probes are slow elsewhere, when an emulated machine stands still; the verdict is
# that of probes to which this did not happen within a host.
def delayed_wire(before; from; to; way; other):
  map(select(at("l_tx_user") < before * 1e9)) as $quiet
  | map(select(at("l_tx_user") > from * 1e9 and .points[-1].ns < to * 1e9)) as $slow
  | ($slow | map(select([out, inward] as $wires | all(.delays - $wires | .[]; .ns < 5000000))))
    as $plain
  | ($quiet | map(way.ns) | median) as $way
  | ($quiet | map(other.ns) | median) as $other
  | {
    slow: ($slow | length),
    quiet: ($quiet | length),
    median_us: ($slow | map(way.ns - $way) | median / 1000 | floor),
    other_us: ($slow | map(other.ns - $other) | median / 1000 | floor),
    plain: ($plain | length),
    named: ($plain | map(select(.verdict.segment == way.delay)) | length)
  }
  | .enough = (.slow >= 30 and .quiet >= 30)
  | .there = (.median_us > 9500 and .median_us < 12000)
  | .alone = (.other_us < 1000)
  | .says_so = (.plain >= 20 and .named > .plain / 2);

# Of the probes that were sent in a time, in seconds, and held up for 20 ms: which verdicts have
# they, are most right, and is any sure of something else?
def named(from; to; right):
  map(select(at("l_tx_user") > from * 1e9 and .points[-1].ns < to * 1e9
    and .total_ns > 19000000 and .total_ns < 30000000) | .verdict) as $verdicts
  | {
    enough: ($verdicts | length >= 20),
    right: ($verdicts | map(select(right)) | length * 2 > ($verdicts | length)),
    never_wrong: ($verdicts | all(.sure != true or right)),
    verdicts: ($verdicts | group_by([.owner, .segment, .dev, .certainty])
      | map("\(length) \(.[0] | [.owner, .segment, .dev, .certainty] | map(. // "-") | join(" "))"))
  };

# The flows whose requests were handed over last by this device, and all of them.
def flows_by(device):
  map(select([.points[] | select(.point == "l_tx_devout")][-1].ifindex == device) | .flow // 0) | unique;
def all_flows: map(.flow // 0) | unique;
