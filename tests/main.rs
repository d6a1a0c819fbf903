//! The end-to-end tests: real packets through real kernels, in anonymous network namespaces.
//! They need root; a test that cannot run fails.

#![expect(
    unsafe_code,
    reason = "raw sockets, signals and scheduling of the tools"
)]

mod agent;
mod amplifier;
mod arming;
mod caches;
mod cleanup;
mod clocks;
mod confined;
mod counts;
mod diff;
mod doctor;
mod exhausted;
mod explain;
mod fairness;
mod faults;
mod forged;
mod goes_on;
mod headline;
mod holders;
mod interrupts;
mod iofsstat;
mod irqoff;
mod keys;
mod kit;
mod late;
mod limits;
mod live;
mod loss;
mod memleak;
mod mesh;
mod mesh_prometheus;
mod metrics;
mod misuse;
mod modes;
mod moved;
mod names;
mod nosched;
mod objectives;
mod options;
mod outputs;
mod packets;
mod pidns;
mod points;
mod processes;
mod profile;
mod prometheus;
mod refuse;
mod replay;
mod report;
mod runqlat;
mod selftest;
mod service;
mod signals;
mod softirq;
mod stalls;
mod strangers;
mod taken_away;
mod targets;
mod threaded;
mod tools;
mod topologies;
mod transit;
mod tunnels;
mod ways;

use kit::{crowd, harness, v0peer};
