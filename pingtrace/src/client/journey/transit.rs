//! Stamps of hosts on the way that run a server of their own, between the two wires.

use crate::client::slot_stamps::MAX_REMOTE;
use crate::wire::entry::TRANSIT;
use crate::wire::packet::Packet;
use report::model::{Direction, Host, Point, Stamp};

/// Upper bound on hosts on the way of a run.
const MAX_HOSTS: usize = 16;

/// The hosts on the way of a run, by the numbers that they have on the wire.
#[derive(Default)]
pub struct Hosts {
    numbers: Vec<u16>,
}

impl Hosts {
    /// Takes in the new ones of a reply, which passed the client's next one last.
    pub fn learn(&mut self, packet: &Packet<'_>) {
        let numbers = packet.entries().flatten().map(|e| e.host);
        let new: Vec<u16> = numbers
            .filter(|number| number & TRANSIT != 0 && !self.numbers.contains(number))
            .collect();
        for number in new.into_iter().rev() {
            if self.numbers.len() < MAX_HOSTS && !self.numbers.contains(&number) {
                self.numbers.push(number);
            }
        }
    }

    /// The index of the one with this number; absent if there are too many.
    pub fn index(&self, number: u16) -> Option<u16> {
        let place = self.numbers.iter().position(|known| *known == number)?;
        Some(place as u16 + 2)
    }
}

/// What the hosts on the way saw of a probe.
#[derive(Debug, Default)]
pub struct Transit {
    /// In the order in which the reply passed their hosts, unless they came later.
    stamps: Vec<Stamp>,
}

impl Transit {
    /// Takes a stamp; false if it is more than a probe can have.
    pub fn take(&mut self, stamp: Stamp) -> bool {
        if self.stamps.contains(&stamp) {
            return true;
        }
        let fits = self.stamps.len() < MAX_REMOTE;
        if fits {
            self.stamps.push(stamp);
        }
        fits
    }

    /// Whether every host that saw the request has handed over the reply.
    pub fn is_complete(&self) -> bool {
        let handed_over = |host: Host| {
            let last = self.of(host, Direction::Reply).max_by_key(|s| s.ns);
            last.is_some_and(|s| s.point == Point::MTxDevreply)
        };
        self.hosts().into_iter().all(handed_over)
    }

    /// Those of the request, in its order.
    pub fn request(&self) -> impl Iterator<Item = Stamp> + '_ {
        let hosts = self.hosts().into_iter().rev();
        hosts.flat_map(|host| self.of(host, Direction::Request))
    }

    /// Those of the reply, in its order.
    pub fn reply(&self) -> impl Iterator<Item = Stamp> + '_ {
        let hosts = self.hosts().into_iter();
        hosts.flat_map(|host| self.of(host, Direction::Reply))
    }

    /// Forgets everything, and keeps the memory.
    pub fn clear(&mut self) {
        self.stamps.clear();
    }

    /// The hosts, in the order in which the reply passed them.
    fn hosts(&self) -> Vec<Host> {
        let mut hosts = Vec::new();
        for stamp in &self.stamps {
            if !hosts.contains(&stamp.host) {
                hosts.push(stamp.host);
            }
        }
        hosts
    }

    fn of(&self, host: Host, direction: Direction) -> impl Iterator<Item = Stamp> + '_ {
        let of = move |s: &&Stamp| s.host == host && s.point.direction() == direction;
        self.stamps.iter().filter(of).copied()
    }
}
