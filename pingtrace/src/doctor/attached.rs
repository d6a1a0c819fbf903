//! BPF programs at the devices of this network namespace, whoever attached them (`BPF_PROG_QUERY`, `IFLA_XDP`).

#![expect(
    unsafe_code,
    reason = "these queries are in libbpf, and not in libbpf-rs"
)]

use libbpf_rs::libbpf_sys as sys;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// Upper bound on the programs at one hook: the kernel's (`BPF_MPROG_MAX`).
const MAX_PROGRAMS: usize = 64;
/// Programs of this name are pingtrace's own, which a server attaches.
const OWN: &str = "inband_";

/// A program that is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its number.
    pub id: u32,
    /// Its name, if this process may ask for it.
    pub name: Option<String>,
}

impl Attached {
    fn of(id: u32) -> Self {
        Self { id, name: name(id) }
    }

    /// Whether a pingtrace server attached it.
    pub fn is_own(&self) -> bool {
        self.name.as_ref().is_some_and(|name| name.starts_with(OWN))
    }
}

/// The programs at TCX; `None`: a kernel without it (before 6.6).
pub fn tcx(ifindex: u32, egress: bool) -> io::Result<Option<Vec<Attached>>> {
    let hook = if egress {
        sys::BPF_TCX_EGRESS
    } else {
        sys::BPF_TCX_INGRESS
    };
    let mut ids = [0_u32; MAX_PROGRAMS];
    let mut options = sys::bpf_prog_query_opts {
        sz: size_of::<sys::bpf_prog_query_opts>() as _,
        prog_ids: ids.as_mut_ptr(),
        ..Default::default()
    };
    options.__bindgen_anon_1.count = ids.len() as u32;
    // SAFETY: the kernel writes at most `count` numbers to `ids`, which outlive the call.
    let result = unsafe { sys::bpf_prog_query_opts(ifindex.cast_signed(), hook, &raw mut options) };
    if result < 0 {
        let e = io::Error::last_os_error();
        return if e.raw_os_error() == Some(libc::EINVAL) {
            Ok(None)
        } else {
            Err(e)
        };
    }
    // SAFETY: both members are this number.
    let count = unsafe { options.__bindgen_anon_1.count } as usize;
    Ok(Some(
        ids.into_iter().take(count).map(Attached::of).collect(),
    ))
}

/// The XDP program, and whether the driver runs it; else the stack does, later.
pub fn xdp(ifindex: u32) -> io::Result<Option<(Attached, bool)>> {
    let mut options = sys::bpf_xdp_query_opts {
        sz: size_of::<sys::bpf_xdp_query_opts>() as _,
        ..Default::default()
    };
    // SAFETY: libbpf writes plain integers to the options.
    let result = unsafe { sys::bpf_xdp_query(ifindex.cast_signed(), 0, &raw mut options) };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    let modes = [
        (options.hw_prog_id, true),
        (options.drv_prog_id, true),
        (options.skb_prog_id, false),
        (
            options.prog_id,
            options.attach_mode != sys::XDP_ATTACHED_SKB as u8,
        ),
    ];
    let attached = modes.into_iter().find(|(id, _)| *id != 0);
    Ok(attached.map(|(id, by_driver)| (Attached::of(id), by_driver)))
}

/// Needs `CAP_SYS_ADMIN`.
fn name(id: u32) -> Option<String> {
    // SAFETY: takes a number; returns a descriptor that nothing else owns, or a negative number.
    let program = unsafe {
        let fd = sys::bpf_prog_get_fd_by_id(id);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))?
    };
    let mut info = sys::bpf_prog_info::default();
    let mut length = size_of_val(&info) as u32;
    // SAFETY: the kernel writes at most `length` bytes of plain integers to `info`.
    let result = unsafe {
        sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut length)
    };
    let bytes = info.name.iter().map(|c| c.cast_unsigned());
    let name: Vec<u8> = bytes.take_while(|b| *b != 0).collect();
    (result >= 0 && !name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned())
}
