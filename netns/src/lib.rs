//! Network namespaces without the `ip` program: enter them, name them, list and watch their
//! links, ask for routes, and build laboratories of veth pairs for the demo and the tests.
//!
//! A network namespace is an attribute of a *thread*. So there are two ways in: [`Namespace::run`]
//! takes a closure to a fresh thread that never comes back, and [`Namespace::enter`] moves the
//! calling thread and returns it when its [`Guard`] is dropped (for values that are not `Send`).
//! A netlink socket belongs for good to the namespace in which it was opened.

mod config;
mod containers;
mod counters;
mod error;
mod lab;
mod links;
mod names;
mod namespace;
mod netlink;
mod qdisc;
mod route;
mod tap;

pub use containers::{container_id, container_of, pod_uid};
pub use counters::{Counter, LinkCounters, QdiscCounters};
pub use error::{Error, Result, reason, without_numbers};
pub use lab::{Bridge, Host, Lab, Router, TapLab};
pub use links::{Link, LinkEvent, LinkEvents};
pub use names::NamespaceNames;
pub use namespace::{Guard, Namespace};
pub use netlink::Netlink;
pub use qdisc::{Filter, Qdisc};
pub use route::Route;
