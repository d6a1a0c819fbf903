//! Many names at once: one that is slow to resolve does not hold up the others.

use crate::client::args::Args;
use crate::client::plan::addresses;
use anyhow::{Result, anyhow};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Names that are resolved at the same time.
const THREADS: usize = 16;
/// Upper bound on the wait for all of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// A name, and the family that is wanted: 4, 6, or both.
type Lookup = (String, Option<u8>);

/// The addresses of each.
pub fn resolve(names: HashSet<Lookup>, args: &Args) -> HashMap<Lookup, Result<Vec<SocketAddr>>> {
    let mut found = HashMap::new();
    let mut open = Vec::new();
    for lookup in names {
        let args = of_family(args, lookup.1);
        // An address, with or without zone, asks nobody.
        if lookup.0.parse::<std::net::IpAddr>().is_ok() || lookup.0.contains('%') {
            let addresses = addresses(&lookup.0, &args);
            found.insert(lookup, addresses);
        } else {
            open.push((lookup, args));
        }
    }
    let waiting: HashSet<Lookup> = open.iter().map(|(lookup, _)| lookup.clone()).collect();
    let threads = open.len().min(THREADS);
    let queue = Arc::new(Mutex::new(open));
    let (done, results) = channel();
    for _ in 0..threads {
        let (queue, done) = (Arc::clone(&queue), done.clone());
        // A look-up cannot be ended; who waits too long for one does without its thread.
        thread::spawn(move || {
            while let Some((lookup, args)) = next(&queue) {
                let addresses = addresses(&lookup.0, &args);
                if done.send((lookup, addresses)).is_err() {
                    return;
                }
            }
        });
    }
    drop(done);
    let deadline = Instant::now() + PATIENCE;
    while let Ok((lookup, addresses)) =
        results.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    {
        found.insert(lookup, addresses);
    }
    for lookup in waiting {
        let late = || {
            Err(anyhow!(
                "no answer from the name service within {PATIENCE:?}"
            ))
        };
        found.entry(lookup).or_insert_with(late);
    }
    found
}

fn next<T>(queue: &Mutex<Vec<T>>) -> Option<T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn of_family(args: &Args, family: Option<u8>) -> Args {
    let mut args = args.clone();
    if let Some(family) = family {
        (args.ipv4, args.ipv6) = (family == 4, family == 6);
    }
    args
}
