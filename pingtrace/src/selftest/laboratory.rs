//! The hosts of a setup, and the queues on the way between them.

use super::plan::Place;
use anyhow::Result;
use netns::{Bridge, Host, Lab, Namespace, TapLab};
use report::analysis::confusion::Setup;
use report::model::Segment;
use std::net::Ipv4Addr;

/// Hosts whose cable is this process.
pub struct Laboratory {
    /// With the addresses that are probed.
    pub taps: TapLab,
    pub queues: Vec<Queue>,
}

/// A queue that probes pass.
pub struct Queue {
    pub segment: Segment,
    /// The last place before it of which a probe's time is known.
    pub place: Place,
    /// The device.
    pub ns: Namespace,
    pub ifindex: u32,
    /// What this host sends to this address passes it too.
    pub from: Namespace,
    pub to: Ipv4Addr,
}

impl Laboratory {
    pub fn build(setup: Setup) -> Result<Self> {
        match setup {
            Setup::Cable | Setup::Explained => {
                let taps = Lab::tap_pair()?;
                let queues = at_ends(&taps.lab, Segment::LTxQdisc)?.into();
                Ok(Self { taps, queues })
            }
            Setup::Overlay => {
                let (taps, bridge) = Lab::bridged_tap_pair()?;
                let mut queues = Vec::from(at_ends(&taps.lab, Segment::LTxPath)?);
                queues.extend(at_bridge(&taps.lab, &bridge)?);
                let lab = taps.lab.vxlan(false)?;
                let taps = TapLab { lab, ..taps };
                Ok(Self { taps, queues })
            }
        }
    }
}

/// The client's queue is in a segment that depends on the number of its devices.
fn at_ends(lab: &Lab, at_client: Segment) -> Result<[Queue; 2]> {
    let (client, server) = (&lab.client, &lab.server);
    let device = |host: &Host| -> Result<_> { Ok((host.ns.try_clone()?, host.ifindex)) };
    let out = (at_client, Place::ClientSends);
    let back = (Segment::RTxQdisc, Place::ServerReceives);
    Ok([
        Queue::new(out, device(client)?, client, server)?,
        Queue::new(back, device(server)?, server, client)?,
    ])
}

/// At the bridge a request has not been on the cable yet, and a reply has.
fn at_bridge(lab: &Lab, bridge: &Bridge) -> Result<[Queue; 2]> {
    let (client, server) = (&lab.client, &lab.server);
    let port = |ifindex| -> Result<_> { Ok((bridge.ns.try_clone()?, ifindex)) };
    let out = (Segment::LTxOutlink, Place::ClientSends);
    let back = (Segment::LRxInlink, Place::ClientReceives);
    Ok([
        Queue::new(out, port(bridge.to_server)?, client, server)?,
        Queue::new(back, port(bridge.to_client)?, server, client)?,
    ])
}

impl Queue {
    /// Of a device, which packets of one host to the other pass.
    fn new(
        (segment, place): (Segment, Place),
        (ns, ifindex): (Namespace, u32),
        from: &Host,
        to: &Host,
    ) -> Result<Self> {
        Ok(Self {
            segment,
            place,
            ns,
            ifindex,
            from: from.ns.try_clone()?,
            to: to.v4,
        })
    }
}
