//! What identifies this host, this session, and the server of this namespace.

use crate::wire::number::SessionId;
use crate::wire::protocol::Family;
use anyhow::{Context, Result, bail};
use rustix::rand::{GetRandomFlags, getrandom};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

/// A hash of the kernel's boot id: equal for all processes on one running kernel, in containers
/// too. 0 when it cannot be read.
pub fn id() -> u64 {
    let Ok(uuid) = std::fs::read_to_string("/proc/sys/kernel/random/boot_id") else {
        return 0;
    };
    let hex: String = uuid.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&hex, 16).map_or(0, |v| (v >> 64) as u64 ^ v as u64)
}

/// The name of this host, if it has one.
pub fn name() -> Option<String> {
    rustix::system::uname()
        .nodename()
        .to_str()
        .ok()
        .filter(|name| *name != "(none)")
        .map(str::to_owned)
}

/// The online CPUs, from /sys/devices/system/cpu/online.
pub fn online_cpus() -> Result<Vec<u32>> {
    const FILE: &str = "/sys/devices/system/cpu/online";
    let list = std::fs::read_to_string(FILE).with_context(|| format!("read {FILE}"))?;
    cpu_list(list.trim()).with_context(|| format!("{FILE} says '{}'", list.trim()))
}

/// Upper bound on the numbers of CPUs: eight times the largest that a kernel can be built for.
const MAX_CPUS: u32 = 1 << 16;

/// A list such as `0-3,8`.
pub(crate) fn cpu_list(list: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for range in list.split(',') {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (from, to) = (from.parse::<u32>().ok()?, to.parse().ok()?);
        cpus.extend((to < MAX_CPUS && cpus.len() < MAX_CPUS as usize).then_some(from..=to)?);
    }
    Some(cpus)
}

/// Whether the calling thread's network namespace leaves echo requests of this family without a reply.
pub fn ignores_echo(family: Family) -> bool {
    let setting = match family {
        Family::V4 => "/proc/sys/net/ipv4/icmp_echo_ignore_all",
        Family::V6 => "/proc/sys/net/ipv6/icmp/echo_ignore_all",
    };
    std::fs::read_to_string(setting).is_ok_and(|set| set.trim() != "0")
}

/// A session id from the kernel's random source; neither it nor its ICMP id is 0.
pub fn session() -> Result<SessionId> {
    loop {
        let mut bytes = [0; 4];
        getrandom(&mut bytes, GetRandomFlags::empty())
            .context("read the kernel's random source")?;
        let session = SessionId(u32::from_ne_bytes(bytes));
        if session.id(0) != 0 {
            return Ok(session);
        }
    }
}

/// A secret from the kernel's random source.
pub fn secret<const N: usize>() -> Result<[u64; N]> {
    let mut bytes = [[0; 8]; N];
    getrandom(bytes.as_flattened_mut(), GetRandomFlags::empty())
        .context("read the kernel's random source")?;
    Ok(bytes.map(u64::from_ne_bytes))
}

/// Held by the one server of a network namespace: a raw socket with a local address that no other has. Only
/// a process with `CAP_NET_RAW` in the namespace can make one, so nobody else can keep a server from starting; it
/// vanishes with the process however that ends, and is there in a read-only container too.
pub struct ServerLock {
    _socket: Socket,
}

/// IP protocol "for experimentation" (RFC 3692), and a multicast address that nobody joins (RFC 2365): the
/// socket receives nothing.
const LOCK_PROTOCOL: i32 = 253;
const LOCK_ADDRESS: Ipv4Addr = Ipv4Addr::new(239, 0x7a, 0xce, 1);

impl ServerLock {
    /// Fails when another server runs in this network namespace. Of two that start in the same instant both
    /// may fail.
    pub fn take() -> Result<Self> {
        const LIST: &str = "/proc/thread-self/net/raw";
        let socket = lock_socket().context("take the server's lock")?;
        let list = std::fs::read_to_string(LIST).with_context(|| format!("read {LIST}"))?;
        if locks(&list) > 1 {
            bail!(
                "another pingtrace server runs in this network namespace; one serves any number of clients"
            );
        }
        Ok(Self { _socket: socket })
    }
}

fn lock_socket() -> io::Result<Socket> {
    let protocol = Protocol::from(LOCK_PROTOCOL);
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol))?;
    socket.bind(&SocketAddrV4::new(LOCK_ADDRESS, 0).into())?;
    Ok(socket)
}

/// Number of locks in a list of raw sockets: `ADDRESS:PROTOCOL` in hexadecimal, the address as the kernel
/// stores it.
fn locks(list: &str) -> usize {
    let address = u32::from_ne_bytes(LOCK_ADDRESS.octets());
    let lock = format!("{address:08X}:{LOCK_PROTOCOL:04X}");
    let locals = list.lines().filter_map(|l| l.split_whitespace().nth(1));
    locals.filter(|local| *local == lock).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_listed_in_ranges() {
        assert_eq!(cpu_list("0-2,5,8-9"), Some(vec![0, 1, 2, 5, 8, 9]));
        assert_eq!(cpu_list("0"), Some(vec![0]));
        assert_eq!(cpu_list("x"), None);
    }
}
