//! Somebody who sends echo requests by hand, and files of keys.

use super::harness::{Finished, SOON};
use netns::Lab;
use pingtrace::wire::entry::Entry;
use pingtrace::wire::extension::Extension;
use pingtrace::wire::key::Keys;
use pingtrace::wire::number::{Sequence, SessionId};
use pingtrace::wire::packet;
use pingtrace::wire::probe::Probe;
use pingtrace::wire::protocol::{Family, Version};
use pingtrace::wire::socket::{MAX_MESSAGE, Options, ProbeSocket, Received};
use std::fs;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;
use tempfile::TempDir;

/// Sends echo requests by hand.
pub struct Stranger<'a> {
    pub lab: &'a Lab,
    pub socket: ProbeSocket,
    /// What the last reply gave.
    pub cookie: u64,
    pub sequence: u32,
}

impl<'a> Stranger<'a> {
    pub fn new(lab: &'a Lab) -> Self {
        let open = || ProbeSocket::open(Family::V4, &Options::default());
        Self {
            lab,
            socket: lab.client.ns.run(open).unwrap().unwrap(),
            cookie: 0,
            sequence: 0,
        }
    }

    /// Everything that comes back of some probes of a session, the echo replies and what is sent on top.
    pub fn learns(&mut self, session: SessionId, flags: u16) -> Vec<Vec<u8>> {
        let mut probe = Probe::new(Family::V4, Version::V1, session, 512, flags);
        let mut came = Vec::new();
        for _ in 0..20 {
            came.extend(self.asks(&mut probe, session));
            self.sequence += 1;
        }
        came
    }

    /// Sends the probe with this session's next number, as often as it is called; what comes back.
    pub fn asks(&mut self, probe: &mut Probe, session: SessionId) -> Vec<Vec<u8>> {
        let message = probe.at(Sequence(self.sequence), self.cookie).to_vec();
        let to = SocketAddr::new(self.lab.server.v4.into(), 0).into();
        self.socket.send(&message, &to).unwrap();
        self.reply(session)
    }

    /// The packets of the server that have come so far.
    pub fn drain(&mut self, session: SessionId) -> Vec<Vec<u8>> {
        let mut buffer = vec![MaybeUninit::uninit(); MAX_MESSAGE];
        let mut came = Vec::new();
        while let (Received::Reply(reply), _) = self.socket.receive(&mut buffer).unwrap() {
            if let Ok(packet) = packet::parse(reply.message, Family::V4)
                && !packet.request
                && packet.session == session
            {
                self.cookie = packet.cookie;
                came.push(reply.message.to_vec());
            }
        }
        came
    }

    /// The packets up to the echo reply of the last request.
    pub fn reply(&mut self, session: SessionId) -> Vec<Vec<u8>> {
        let mut buffer = vec![MaybeUninit::uninit(); MAX_MESSAGE];
        let (mut came, deadline) = (Vec::new(), Instant::now() + SOON);
        loop {
            assert!(Instant::now() < deadline, "no reply");
            let (Received::Reply(reply), _) = self.socket.receive(&mut buffer).unwrap() else {
                continue;
            };
            let Ok(packet) = packet::parse(reply.message, Family::V4) else {
                continue;
            };
            if packet.request || packet.session != session {
                continue;
            }
            came.push(reply.message.to_vec());
            self.cookie = packet.cookie;
            if !packet.is_stamp_packet() && packet.sequence == Sequence(self.sequence) {
                return came;
            }
        }
    }
}

pub fn stamps(messages: &[Vec<u8>]) -> Vec<Entry> {
    let packets = messages
        .iter()
        .map(|m| packet::parse(m, Family::V4).unwrap());
    packets
        .flat_map(|packet| packet.entries().flatten().collect::<Vec<_>>())
        .collect()
}

/// Blame, names, functions.
pub fn texts(messages: &[Vec<u8>]) -> usize {
    let packets = messages
        .iter()
        .map(|m| packet::parse(m, Family::V4).unwrap());
    let is_text = |e: &Extension| matches!(e, Extension::Text { .. } | Extension::Place { .. });
    packets
        .map(|packet| packet.extensions().filter(is_text).count())
        .sum()
}

/// Two keys.
pub const OLD: &str = "000102030405060708090a0b0c0d0e0f";
pub const NEW: &str = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

/// Key files of one test.
pub struct KeyFiles(TempDir);

impl KeyFiles {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// The option that names a file with these lines.
    pub fn option(&self, lines: &str, mode: u32) -> String {
        let name = format!(
            "{}-{mode:o}",
            lines.len() * 1000 + usize::from(lines.as_bytes()[0])
        );
        let path = self.0.path().join(name);
        fs::write(&path, lines).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        format!("--key-file {}", path.display())
    }

    /// These keys, read from a file.
    pub fn keys(&self, keys: &[&str]) -> Keys {
        let option = self.with(keys);
        Keys::of_file(option.rsplit(' ').next().unwrap()).unwrap()
    }

    /// The option that names a file of these keys.
    pub fn with(&self, keys: &[&str]) -> String {
        self.option(&keys.join("\n"), 0o600)
    }
}

/// Answered probes with a stamp of the server.
pub fn with_server(run: &Finished) -> usize {
    let of_server = |probe: &serde_json::Value| {
        let points = probe["points"].as_array().unwrap();
        points.iter().any(|point| point["host"] == "server")
    };
    run.probes().iter().filter(|probe| of_server(probe)).count()
}
