//! Losses and oddities of a run.

use serde::{Deserialize, Serialize};

/// Losses and irregularities of a run; each is in every format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Probes sent: each of them is replied, lost, forgotten or in flight.
    pub sent: u64,
    /// Probes answered, late ones included.
    pub replied: u64,
    /// Answered after the timeout.
    pub late: u64,
    /// Of these, surely late because of the wire out; the rest is neither or unknown.
    pub late_out: u64,
    /// Of these, surely late because of the wire in.
    pub late_in: u64,
    /// Not answered so far; of an interval, given up in it.
    pub lost: u64,
    /// Of these, the request was lost; of the rest, the direction is unknown.
    pub lost_out: u64,
    /// Of these, the reply was lost.
    pub lost_in: u64,
    /// Reported as lost and answered after all: they are among `replied`, no longer among `lost`.
    pub amended: u64,
    /// Given up because too many were in flight at once: their state is unknown.
    pub forgotten: u64,
    /// Sent, and neither answered nor given up yet; of an interval, at its end.
    #[serde(skip_serializing_if = "is_zero")]
    pub in_flight: u64,
    /// Further answers to an answered probe.
    pub dup: u64,
    /// Of these, the request arrived twice; of the rest, the direction is unknown.
    pub dup_out: u64,
    /// Of these, the reply arrived twice.
    pub dup_in: u64,
    /// Answers that overtook an earlier probe's answer.
    pub reordered: u64,
    /// Of these, the requests changed their order; of the rest, the direction is unknown.
    pub reordered_out: u64,
    /// Of these, the replies changed their order.
    pub reordered_in: u64,
    /// Probes recorded (at or over the threshold, or lost).
    pub recorded: u64,
    /// Answered probes whose stamps of the server never arrived although the run expected them.
    pub no_remote: u64,
    /// Stamps known to be lost: overflow, eviction, late hand-over.
    pub lost_stamps: u64,
    /// Stamps left out because they contradicted their neighbours.
    pub unordered: u64,
    /// Replies with a wrong ICMP checksum.
    pub bad_checksum: u64,
    /// Packets that looked like replies and were malformed or forged.
    pub malformed: u64,
    /// Entries with an unknown point number.
    pub unknown_points: u64,
    /// Sends that failed.
    pub send_errors: u64,
    /// ICMP errors that quote a probe in flight.
    pub icmp_errors: u64,
    /// Answers to probes whose state is not remembered any more: first or further ones.
    pub unmatched: u64,
    /// Stamps, drops and parts of names that were refused: more than a probe can have, or for a probe that
    /// was not sent.
    pub refused: u64,
    /// ICMP errors that quote no probe in flight, about packets to the peer or with the session's
    /// id: forged, another program's, or too late.
    pub icmp_unrelated: u64,
    /// Packets of a flow that arrived with another TTL than the ones before: the path changed.
    pub path_changes: u64,
    /// Probes of the schedule that had not left when the time was over: the client could not keep up.
    pub unsent: u64,
    /// Stamp packets without the tag of the key that the server has shown: forged.
    #[serde(skip_serializing_if = "is_zero")]
    pub untagged: u64,
    /// Probes before the first one, sent until one brought stamps of the server: in no other count.
    #[serde(skip_serializing_if = "is_zero")]
    pub warm_up: u64,
}

/// Whether a count is the one that an absent field stands for.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Counters {
    /// The counts since `earlier`. Lost are the probes given up since, even if they were answered after
    /// that; `amended` counts the latter, whenever they were given up.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let since = |of: fn(&Self) -> u64| of(self).saturating_sub(of(earlier));
        Self {
            sent: since(|c| c.sent),
            replied: since(|c| c.replied),
            late: since(|c| c.late),
            late_out: since(|c| c.late_out),
            late_in: since(|c| c.late_in),
            lost: since(|c| c.lost + c.amended),
            lost_out: since(|c| c.lost_out),
            lost_in: since(|c| c.lost_in),
            amended: since(|c| c.amended),
            forgotten: since(|c| c.forgotten),
            in_flight: self.in_flight,
            dup: since(|c| c.dup),
            dup_out: since(|c| c.dup_out),
            dup_in: since(|c| c.dup_in),
            reordered: since(|c| c.reordered),
            reordered_out: since(|c| c.reordered_out),
            reordered_in: since(|c| c.reordered_in),
            recorded: since(|c| c.recorded),
            no_remote: since(|c| c.no_remote),
            lost_stamps: since(|c| c.lost_stamps),
            unordered: since(|c| c.unordered),
            bad_checksum: since(|c| c.bad_checksum),
            malformed: since(|c| c.malformed),
            unknown_points: since(|c| c.unknown_points),
            send_errors: since(|c| c.send_errors),
            icmp_errors: since(|c| c.icmp_errors),
            unmatched: since(|c| c.unmatched),
            refused: since(|c| c.refused),
            icmp_unrelated: since(|c| c.icmp_unrelated),
            path_changes: since(|c| c.path_changes),
            unsent: since(|c| c.unsent),
            untagged: since(|c| c.untagged),
            warm_up: since(|c| c.warm_up),
        }
    }

    /// The states of the probes sent, how many were recorded, and how many were sent before them, with their names for people.
    pub fn states(&self) -> [(&'static str, u64); 7] {
        [
            ("sent", self.sent),
            ("replied", self.replied),
            ("lost", self.lost),
            ("forgotten", self.forgotten),
            ("still in flight", self.in_flight),
            ("recorded", self.recorded),
            ("warm-up", self.warm_up),
        ]
    }

    /// Every other counter: each is 0 in a run without trouble. With its name for people.
    pub fn oddities(&self) -> [(&'static str, u64); 18] {
        let Counters {
            sent: _,
            replied: _,
            lost: _,
            forgotten: _,
            in_flight: _,
            recorded: _,
            warm_up: _,
            lost_out: _,
            lost_in: _,
            late_out: _,
            late_in: _,
            dup_out: _,
            dup_in: _,
            reordered_out: _,
            reordered_in: _,
            late,
            amended,
            dup,
            reordered,
            no_remote,
            lost_stamps,
            unordered,
            bad_checksum,
            malformed,
            unknown_points,
            send_errors,
            icmp_errors,
            unmatched,
            refused,
            icmp_unrelated,
            path_changes,
            unsent,
            untagged,
        } = *self;
        [
            ("late replies", late),
            ("probes answered after they were counted as lost", amended),
            ("duplicate replies", dup),
            ("reordered replies", reordered),
            ("replies without server stamps", no_remote),
            ("lost stamps", lost_stamps),
            ("stamps out of order", unordered),
            ("bad checksums", bad_checksum),
            ("malformed packets", malformed),
            ("unknown points", unknown_points),
            ("send errors", send_errors),
            ("ICMP errors", icmp_errors),
            ("replies to forgotten probes", unmatched),
            ("stamps refused", refused),
            ("ICMP errors about no probe in flight", icmp_unrelated),
            ("path changes by the TTL", path_changes),
            ("probes not sent in time", unsent),
            ("stamp packets without the key's tag", untagged),
        ]
    }

    /// Whether each probe sent is counted exactly once, for a run so far.
    pub fn balance(&self) -> bool {
        self.replied + self.lost + self.forgotten + self.in_flight == self.sent
            && self.late <= self.replied
            && self.amended <= self.late
    }

    /// The largest of them.
    pub(crate) fn largest(&self) -> u64 {
        let all = serde_json::to_value(self).unwrap_or_default();
        let all = all.as_object().into_iter().flat_map(|all| all.values());
        all.filter_map(serde_json::Value::as_u64).max().unwrap_or(0)
    }

    /// `count` as a percentage of the probes sent; 0 while none was sent.
    pub fn percent_of_sent(&self, part: u64) -> f64 {
        100.0 * part as f64 / self.sent.max(1) as f64
    }
}
