//! Failed sends: reported once for each reason, and once when probes leave again.

use super::index::ProbeIndex;
use crate::wire::socket;
use report::model::send_error::SendError;
use std::net::IpAddr;

/// Reports failed sends.
pub struct Refusals {
    peer: IpAddr,
    /// ICMP message size, bytes.
    size: usize,
    /// Reasons that were reported.
    reported: Vec<SendError>,
    /// The last probe that failed, and the number of failures since probes last left.
    outage: Option<(u64, u64)>,
}

impl Refusals {
    /// None yet.
    pub fn new(peer: IpAddr, size: usize) -> Self {
        Self {
            peer,
            size,
            reported: Vec::new(),
            outage: None,
        }
    }

    /// The probe with this index could not be sent.
    pub fn add(&mut self, index: ProbeIndex, error: SendError) {
        let (_, count) = self.outage.unwrap_or_default();
        self.outage = Some((index.0, count + 1));
        if !self.reported.contains(&error) {
            self.reported.push(error);
            log::warn!(
                "{}; the run goes on, such probes are lost at client send",
                socket::explain_send(error, self.peer, self.size)
            );
        }
    }

    /// This many probes were sent or failed; all failures before the last one are known.
    pub fn sent(&mut self, sent: u64) {
        // The last one may just be failing.
        if let Some((_, count)) = self.outage.take_if(|(last, _)| sent > *last + 2) {
            log::warn!("probes leave again; {count} could not be sent");
        }
    }

    /// The first reason, if no probe could be sent at all.
    pub fn explain(&self) -> Option<String> {
        let first = self.reported.first()?;
        Some(socket::explain_send(*first, self.peer, self.size))
    }
}
