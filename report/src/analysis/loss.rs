//! Autopsy of a lost probe: the last stage that saw it, the direction in which it was lost, and the
//! kernel's reason if a kernel dropped it.
//!
//! The client's own stamps show how far a probe got on its host. What the server saw follows from its
//! stamps, from its [`ServerStatus`] (an answer to the client's question about overdue probes), and from the
//! drop that it reported. Without any of these nothing is known beyond the client's device, and the
//! result says so.

use crate::model::path::Stage;
use crate::model::send_error::SendError;
use crate::model::{
    Direction, Host, KernelDrop, Loss, LossCount, Place, Point, Probe, Stamp, Symbol,
};

/// What a server says it saw of a probe, at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerStatus {
    /// It never arrived at a device of the server.
    Unseen,
    /// The request was received by a device.
    Arrived,
    /// The request was received by ICMP.
    Delivered,
    /// The reply was queued.
    Replied,
    /// The reply was handed to a driver.
    Left,
    /// The server's kernel dropped the reply.
    ReplyDropped,
    /// The server does not remember it any more, or is younger than the probe.
    Forgotten,
}

/// What a run knows beside a probe's own stamps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence {
    /// What the server says of the probe.
    pub status: Option<ServerStatus>,
    /// The run sees the client's device queue.
    pub sees_queue: bool,
    /// The run sees the client's hand-over to a driver.
    pub sees_driver: bool,
    /// What can have dropped it without a notice.
    pub silent: Option<Silent>,
    /// The client's kernel refused to send it.
    pub send_error: Option<SendError>,
}

/// What drops packets without a `kfree_skb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silent {
    /// The client's socket had no room when the reply arrived; only recent kernels are silent.
    SocketFull,
    /// The namespace that received the request last has the probed address, and ignores echo requests. IPv6
    /// gives a notice without a reason.
    EchoIgnored,
}

impl Silent {
    /// As a drop where the packet was seen last.
    fn drop(self, last: &Stamp) -> KernelDrop {
        let (host, direction, reason) = match self {
            Self::SocketFull => (Host::Client, Direction::Reply, "SOCKET_RCVBUFF"),
            Self::EchoIgnored => {
                let reason = "ICMP_ECHO_IGNORED (icmp_echo_ignore_all)";
                (Host::Server, Direction::Request, reason)
            }
        };
        KernelDrop {
            host,
            direction,
            ns: last.ns,
            netns: last.netns,
            ifindex: last.ifindex,
            reason: Symbol::named(reason),
            location: Symbol::default(),
            device: None,
            netns_name: None,
            mtu: None,
        }
    }
}

/// Finds where a lost probe was lost. Of several drops, the first that fits counts.
pub fn autopsy(
    probe: &Probe,
    drops: impl IntoIterator<Item = KernelDrop>,
    evidence: Evidence,
) -> Loss {
    let path = &probe.path;
    let seen = at_server(path).max(at_client(path));
    let status = evidence.status.and_then(stage_of_status);
    let stage = seen.max(status).unwrap_or(Stage::Out);
    let drop = drops.into_iter().find(|d| fits(d, path, stage));
    let silent = evidence.silent.filter(|silent| match silent {
        Silent::SocketFull => drop.is_none() && stage == Stage::Back,
        Silent::EchoIgnored => stage <= Stage::Delivered,
    });
    let full = silent == Some(Silent::SocketFull);
    let ignored = silent == Some(Silent::EchoIgnored);
    let mut drop = drop.or(silent.zip(path.last()).map(|(s, last)| s.drop(last)));
    if let Some(drop) = drop.as_mut().filter(|_| ignored) {
        drop.host = Host::Server;
    }
    let place = match stage {
        _ if evidence.send_error.is_some() => Place::ClientSend,
        _ if full => Place::Socket,
        Stage::Out => before_server(path, drop.as_ref(), evidence),
        _ => behind_wire(stage, drop.as_ref(), evidence.status),
    };
    let (last, device) = match status {
        Some(status) if Some(status) > seen => (Point::of_server(status), None),
        _ => (
            path.last().map(|stamp| stamp.point),
            path.last().and_then(Stamp::device),
        ),
    };
    // A packet lost between two hosts was at none of their devices, perhaps at one between them.
    let between = path.last().is_some_and(is_between);
    let device = device.filter(|_| place.is_at_a_host() || between);
    Loss {
        place,
        last,
        device: drop.as_ref().map_or(device, KernelDrop::device_id),
        drop,
        error: evidence.send_error,
    }
}

/// How far the client's stamps show that the probe got.
fn at_client(path: &[Stamp]) -> Option<Stage> {
    let stamps = path.iter().filter(|stamp| stamp.host == Host::Client);
    stamps.filter_map(stage).max()
}

/// How far the server's last stamp shows that it got, as a reply can leave one device for the next.
fn at_server(path: &[Stamp]) -> Option<Stage> {
    stage(path.iter().rfind(|stamp| stamp.host == Host::Server)?)
}

const fn stage(stamp: &Stamp) -> Option<Stage> {
    stamp.point.stage(stamp.host)
}

fn stage_of_status(status: ServerStatus) -> Option<Stage> {
    match status {
        ServerStatus::Unseen | ServerStatus::Forgotten => None,
        ServerStatus::Arrived => Some(Stage::Arrived),
        // How far the reply got before is not said.
        ServerStatus::Delivered | ServerStatus::ReplyDropped => Some(Stage::Delivered),
        ServerStatus::Replied => Some(Stage::Replied),
        ServerStatus::Left => Some(Stage::Left),
    }
}

/// A drop explains a loss if the packet was not seen later: else a copy was dropped.
fn fits(drop: &KernelDrop, path: &[Stamp], stage: Stage) -> bool {
    let stages = match (drop.host, drop.direction) {
        (Host::Client, Direction::Request) => Stage::Out..=Stage::Out,
        (Host::Client, Direction::Reply) => Stage::Out..=Stage::AtSocket,
        (_, Direction::Request) => Stage::Out..=Stage::Delivered,
        (_, Direction::Reply) => Stage::Out..=Stage::Left,
    };
    let before = |stamp: &Stamp| stamp.host != drop.host || stamp.ns <= drop.ns;
    stages.contains(&stage) && path.iter().all(before)
}

/// Not seen after the client's request side.
fn before_server(path: &[Stamp], drop: Option<&KernelDrop>, evidence: Evidence) -> Place {
    match drop.map(|drop| (drop.host, drop.direction)) {
        Some((Host::Client, Direction::Reply)) => return Place::ClientReceive,
        Some((Host::Client, Direction::Request)) | None => {}
        Some((Host::Server, Direction::Reply)) => return Place::ServerReply,
        Some((Host::Server, Direction::Request)) => return Place::ServerReceive,
        Some((Host::Transit(_), Direction::Reply)) => return Place::WireIn,
        Some((Host::Transit(_), Direction::Request)) => return Place::WireOut,
    }
    if let Some(between) = path.last().filter(|stamp| is_between(stamp)) {
        return match between.point.direction() {
            Direction::Request => Place::WireOut,
            Direction::Reply => Place::WireIn,
        };
    }
    let last = path.last().map(|stamp| stamp.point);
    let dropped = drop.is_some();
    match last {
        Some(Point::LTxUser) if dropped || evidence.sees_queue => Place::ClientSend,
        Some(Point::LTxUser) if evidence.sees_driver => Place::ClientQueue,
        Some(Point::LTxDevqueue) if dropped || evidence.sees_driver => Place::ClientQueue,
        Some(Point::LTxDevqueue | Point::LTxDevout) if dropped => Place::ClientDriver,
        Some(Point::LTxDevqueue | Point::LTxDevout)
            if evidence.status != Some(ServerStatus::Unseen) =>
        {
            Place::NoWord
        }
        Some(Point::LTxDevout) => Place::WireOut,
        // Without stamps of the driver it may be in the queue.
        Some(Point::LTxUser | Point::LTxDevqueue) | None => Place::Unknown,
        Some(_) => Place::ClientForward,
    }
}

fn is_between(stamp: &Stamp) -> bool {
    matches!(stamp.host, Host::Transit(_))
}

/// Seen after the wire out.
fn behind_wire(stage: Stage, drop: Option<&KernelDrop>, status: Option<ServerStatus>) -> Place {
    let dropped_by_client = drop.is_some_and(|d| d.host == Host::Client);
    let reply_dropped = status == Some(ServerStatus::ReplyDropped)
        || drop.is_some_and(|d| d.host == Host::Server && d.direction == Direction::Reply);
    match stage {
        Stage::AtSocket => Place::Socket,
        Stage::Back => Place::ClientReceive,
        _ if dropped_by_client => Place::ClientReceive,
        _ if reply_dropped => Place::ServerReply,
        Stage::Left => Place::WireIn,
        Stage::Replied => Place::ServerReply,
        Stage::Out | Stage::Arrived | Stage::Delivered => Place::ServerReceive,
    }
}

/// Which of the counts a lost probe is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossId(usize);

/// Lost probes by place and reason, in bounded memory.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    counts: Vec<LossCount>,
}

impl Losses {
    /// Reasons and devices that are told apart; further ones are counted together at each place.
    const TOLD_APART: usize = 16;

    /// Counts a lost probe.
    pub fn count(&mut self, loss: &Loss) -> LossId {
        let drop = loss.drop.as_ref();
        let error = loss.error.map(|error| Symbol::named(&error.name()));
        let mut new = LossCount {
            place: loss.place,
            reason: drop.map(|d| d.reason.clone()).or(error),
            location: drop.map(|d| d.location.clone()),
            device: loss.device,
            count: 0,
        };
        if self.find(&new).is_none() && self.told_apart() >= Self::TOLD_APART {
            new.reason = new.reason.map(|_| Symbol::named("further reasons"));
            new.location = drop.map(|_| Symbol::default());
            new.device = None;
        }
        let index = self.find(&new).unwrap_or_else(|| {
            self.counts.push(new);
            self.counts.len() - 1
        });
        self.counts[index].count += 1;
        LossId(index)
    }

    /// Uncounts a probe that was answered after all. Returns where it was counted.
    pub fn take_back(&mut self, id: LossId) -> Place {
        let count = &mut self.counts[id.0];
        count.count -= 1;
        count.place
    }

    /// The counts, in path order.
    pub fn counts(&self) -> Vec<LossCount> {
        let mut counts: Vec<_> = self
            .counts
            .iter()
            .filter(|c| c.count > 0)
            .cloned()
            .collect();
        counts.sort_by_key(|c| (c.place, std::cmp::Reverse(c.count)));
        counts
    }

    fn told_apart(&self) -> usize {
        let apart = |c: &&LossCount| c.reason.is_some() || c.device.is_some();
        self.counts.iter().filter(apart).count()
    }

    fn find(&self, of: &LossCount) -> Option<usize> {
        self.counts.iter().position(|count| count.is_like(of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Ifindex, Netns};

    fn loss(place: Place, reason: &str) -> Loss {
        let drop = KernelDrop {
            host: Host::Server,
            direction: Direction::Request,
            ns: 1,
            netns: Netns(0),
            ifindex: Ifindex(0),
            reason: Symbol::named(reason),
            location: Symbol::default(),
            device: None,
            netns_name: None,
            mtu: None,
        };
        Loss {
            place,
            last: None,
            device: None,
            drop: (!reason.is_empty()).then_some(drop),
            error: None,
        }
    }

    #[test]
    fn losses_are_counted_by_place_and_reason() {
        let mut losses = Losses::default();
        losses.count(&loss(Place::WireIn, ""));
        let id = losses.count(&loss(Place::ClientQueue, "QDISC_DROP"));
        losses.count(&loss(Place::ClientQueue, "QDISC_DROP"));
        losses.count(&loss(Place::ClientQueue, "NETFILTER_DROP"));
        let found = |losses: &Losses| -> Vec<_> {
            let counts = losses.counts();
            counts.iter().map(|c| (c.place, c.count)).collect()
        };
        let queue = Place::ClientQueue;
        assert_eq!(found(&losses), [(queue, 2), (queue, 1), (Place::WireIn, 1)]);
        assert_eq!(losses.take_back(id), queue);
        assert_eq!(found(&losses), [(queue, 1), (queue, 1), (Place::WireIn, 1)]);
    }

    #[test]
    fn many_reasons_take_bounded_memory_and_none_is_forgotten() {
        let mut losses = Losses::default();
        for k in 0..1_000 {
            losses.count(&loss(Place::ServerReceive, &format!("REASON_{k}")));
            losses.count(&loss(Place::WireOut, ""));
        }
        let counts = losses.counts();
        assert_eq!(counts.len(), Losses::TOLD_APART + 2);
        assert_eq!(counts.iter().map(|c| c.count).sum::<u64>(), 2_000);
    }

    #[test]
    fn names_are_read_back() {
        for place in Place::ALL {
            assert_eq!(Place::from_name(place.name()), Some(place));
        }
        for direction in Direction::ALL {
            assert_eq!(Direction::from_name(direction.name()), Some(direction));
            assert_eq!(Direction::from_number(direction as u32), direction);
        }
    }
}
