//! The verdict, and how sure it is.

use std::fmt::Write as _;

use super::cache::Origin;
use super::leak::Leak;
use super::suspect::{Suspect, explains};
use super::trend::{ENOUGH, Trend};
use crate::units::{Unit, bytes};

/// Upper bound on the confidence: the future may differ from what was seen.
const SUREST: f64 = 0.99;
/// A probability of a trend below this counts as chance.
const SURE: f64 = 0.95;
/// Lower bound on the share of old objects that is live if none is freed; some are in flight when
/// they are counted.
const KEPT: f64 = 0.8;
/// Lower bound on the share of the tracked bytes that the accounting must show.
const CONFIRMED: f64 = 0.5;
/// A "no" with less confidence than this is no answer.
const ANSWER: f64 = 0.5;
/// Factor of the confidence if the kernel has no account to compare with, or one that is too coarse
/// for the amount.
const UNCONFIRMED: f64 = 0.8;

/// Factor of the confidence in a leak of what may be cache.
const MAY_BE_CACHE: f64 = 0.3;

/// The evidence on one cache, one caller, or one allocator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Its subject in text: `slab cache eventfd_ctx`.
    pub what: String,
    /// The largest site, and its share of the bytes.
    pub site: Option<(String, f64)>,
    /// Objects that were allocated since the start and are not known to be freed.
    pub held: u64,
    /// Of these.
    pub held_bytes: u64,
    /// Less than this gets no verdict, bytes.
    pub floor: u64,
    /// Growth of the kernel's accounting meanwhile, bytes; absent if it has no account.
    pub books: Option<i64>,
    /// Error of the accounting, bytes.
    pub noise: u64,
    /// Of the objects of the older half of the time, the share that is still there.
    pub kept: Option<f64>,
    /// Of the live bytes.
    pub trend: Option<Trend>,
    /// Addresses allocated again although no free was seen.
    pub reused: u64,
    /// Snapshots since the tracker follows this.
    pub looks: usize,
    /// Allocations that were followed, and what was not.
    pub followed: u64,
    /// Lost: tables full, programs not run.
    pub lost: u64,
    /// Whether live pages were not checked for being in use.
    pub unchecked: bool,
    /// The kernel reclaims it when memory is short.
    pub reclaimable: bool,
    /// The purpose of these objects.
    pub origin: Origin,
    /// Growth of the kernel's reclaimable objects meanwhile, if the kernel reports it.
    pub hosts: Option<u64>,
    /// The share of the objects that stayed after reclaim, 0 to 1.
    pub stayed: Option<f64>,
}

impl Evidence {
    /// Whether it may be cache; the result of reclaim decides.
    fn may_be_cache(&self) -> bool {
        match self.origin {
            Origin::Files => true,
            _ if self.stayed.is_some() => false,
            Origin::Cache => self
                .hosts
                .is_none_or(|hosts| explains(hosts, self.grown_objects())),
            Origin::Own => self.reclaimable,
        }
    }

    /// Growth in objects: by the accounting, as others may have been freed meanwhile.
    fn grown_objects(&self) -> f64 {
        let size = self.held_bytes as f64 / self.held.max(1) as f64;
        let books = self.books.map(|grown| grown.max(0) as f64 / size.max(1.0));
        books.map_or(self.held as f64, |books| books.min(self.held as f64))
    }
}

/// The verdict on some evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The answer.
    pub leak: Leak,
    /// From 0 to 1.
    pub confidence: f64,
    /// It may be cache.
    pub may_be_cache: bool,
    /// Why.
    pub what: String,
}

impl Judgement {
    /// Nothing can be said.
    pub fn unknown(what: String) -> Self {
        Self {
            leak: Leak::Unknown,
            confidence: 0.0,
            may_be_cache: false,
            what,
        }
    }

    /// How sure it is, where there is an answer.
    pub fn confidence(&self) -> Option<f64> {
        (self.leak != Leak::Unknown).then_some(self.confidence)
    }

    /// The answer in a few words.
    pub fn headline(&self) -> String {
        let confidence = self.confidence();
        let confidence = confidence.map(|c| format!(" (confidence {c:.2})"));
        self.leak.words().to_owned() + &confidence.unwrap_or_default()
    }

    /// The judgement of a run that ended after this share of its time: what does not grow by then may grow
    /// later. `why` says how it ended.
    #[must_use]
    pub fn cut_off(mut self, share: f64, why: &str) -> Self {
        if self.leak == Leak::No {
            self.confidence *= share;
        }
        self.what = format!("{}; {why}", self.what);
        self.settled()
    }

    fn settled(mut self) -> Self {
        self.confidence = self.confidence.clamp(0.0, SUREST);
        if self.leak == Leak::No && self.confidence < ANSWER {
            return Self::unknown(self.what);
        }
        self
    }
}

/// Weighs the tracked objects against the kernel's accounting.
pub fn judge(evidence: &Evidence) -> Judgement {
    if evidence.looks < ENOUGH {
        let looks = evidence.looks;
        return Judgement::unknown(format!(
            "{}: {} stay; {looks} looks, and a trend takes {ENOUGH}",
            evidence.what,
            bytes(evidence.held_bytes)
        ));
    }
    weigh(evidence).settled()
}

fn weigh(evidence: &Evidence) -> Judgement {
    let seen = share(evidence.followed, evidence.lost);
    if let Some(stayed) = evidence.stayed.filter(|stayed| *stayed < CONFIRMED) {
        return Judgement {
            leak: Leak::No,
            confidence: seen * (1.0 - stayed),
            may_be_cache: false,
            what: format!(
                "{}: it was cache: {:.0} % went when the kernel was made to reclaim",
                evidence.what,
                100.0 * (1.0 - stayed)
            ),
        };
    }
    let grown = evidence.books.map(|b| u64::try_from(b).unwrap_or(0));
    if unseen_frees(evidence, grown) {
        let grown = grown.unwrap_or(0);
        return Judgement {
            leak: Leak::No,
            confidence: seen * (1.0 - grown as f64 / evidence.held_bytes as f64),
            may_be_cache: false,
            what: format!(
                "{}: {} seen to come and not to go, but the kernel's books grew by {} only: freed \
                 in bulk or by RCU",
                evidence.what,
                bytes(evidence.held_bytes),
                bytes(grown)
            ),
        };
    }
    let max = evidence.held_bytes.max(grown.unwrap_or(0));
    if max < evidence.floor.max(1) {
        return Judgement {
            leak: Leak::No,
            confidence: seen,
            may_be_cache: false,
            what: format!("{}: {} stay", evidence.what, bytes(evidence.held_bytes)),
        };
    }
    growth(evidence, seen)
}

/// More is tracked than the accounting's error, and the accounting does not show it.
fn unseen_frees(evidence: &Evidence, grown: Option<u64>) -> bool {
    let shown = |grown: u64| grown as f64 >= CONFIRMED * evidence.held_bytes as f64;
    evidence.held_bytes > evidence.noise.max(evidence.floor) && grown.is_some_and(|g| !shown(g))
}

fn growth(evidence: &Evidence, seen: f64) -> Judgement {
    let rising = evidence.trend.as_ref().map_or(0.5, |t| t.rising);
    let kept = evidence.kept.unwrap_or(0.0);
    let may_be_cache = evidence.may_be_cache();
    let leaks = rising >= SURE
        && is_steady(evidence)
        && kept >= KEPT
        && is_confirmable(evidence)
        && !may_be_cache;
    let checked = if evidence.unchecked { UNCONFIRMED } else { 1.0 };
    let cached = if may_be_cache { MAY_BE_CACHE } else { 1.0 };
    let agree = agreement(evidence) * checked * cached;
    let (leak, confidence) = if leaks {
        (Leak::Yes, rising * kept * agree * seen)
    } else {
        (Leak::Growing, rising.max(0.5) * agree * seen)
    };
    Judgement {
        leak,
        confidence,
        may_be_cache,
        what: growth_in_words(evidence, leak),
    }
}

/// Whether it still grew towards the end: objects that were made once and are kept are not a leak.
fn is_steady(evidence: &Evidence) -> bool {
    evidence.trend.as_ref().is_some_and(|t| t.per_s > 0.0)
}

/// Whether there is no account to compare with, or it is precise enough.
fn is_confirmable(evidence: &Evidence) -> bool {
    evidence.books.is_none() || evidence.held_bytes > evidence.noise
}

fn growth_in_words(evidence: &Evidence, leak: Leak) -> String {
    let mut words = format!(
        "{}: {} in {} objects stay",
        evidence.what,
        bytes(evidence.held_bytes),
        evidence.held
    );
    if let Some(trend) = evidence.trend.as_ref().filter(|t| t.per_s >= 1.0) {
        let _ = write!(
            words,
            ", {} more",
            Unit::BytesPerSecond.text(trend.per_s as u64)
        );
    }
    if let Some((site, share)) = &evidence.site {
        let _ = write!(words, ", {:.0} % by {site}", 100.0 * share);
    }
    if let Some(stayed) = evidence.stayed {
        let _ = write!(
            words,
            "; {:.0} % stayed when the kernel was made to reclaim",
            100.0 * stayed
        );
    }
    if leak != Leak::Yes {
        words += &doubt(evidence);
    }
    words
}

/// Why growth is not a leak, as far as it is known.
fn doubt(evidence: &Evidence) -> String {
    let why = match evidence {
        Evidence {
            origin: Origin::Files,
            ..
        } => "; made for files in memory (tmpfs), it stays until they are deleted",
        Evidence {
            origin: Origin::Cache,
            hosts,
            ..
        } if evidence.may_be_cache() => return may_be_cache_in_words(*hosts),
        Evidence {
            reclaimable: true,
            stayed: None,
            ..
        } => "; the kernel takes them back when memory is short",
        Evidence {
            kept: Some(kept), ..
        } if *kept < KEPT => "; older ones are freed in part",
        _ if !is_steady(evidence) => "; it does not go on",
        _ if !is_confirmable(evidence) => "; too little for the kernel's books to confirm",
        _ => "; too short a time to tell whether they are freed later",
    };
    why.to_owned()
}

fn may_be_cache_in_words(hosts: Option<u64>) -> String {
    let unused = match hosts {
        Some(hosts) => format!("{hosts} more of these can be given back"),
        None => "how many of these can be given back is not known".to_owned(),
    };
    format!(
        "; it may be cache, made for dentries, inodes or cached pages: {unused}; --reclaim puts it \
         to the test"
    )
}

/// How well the tracked objects explain the growth of the accounting, 0 to 1.
fn agreement(evidence: &Evidence) -> f64 {
    let Some(grown) = evidence.books else {
        return UNCONFIRMED;
    };
    let held = evidence.held_bytes as f64;
    if held <= evidence.noise as f64 {
        return UNCONFIRMED;
    }
    let apart = ((grown as f64 - held).abs() - evidence.noise as f64).max(0.0);
    1.0 - apart / (grown as f64).max(held)
}

/// The share of allocations that was seen, 0 to 1.
fn share(followed: u64, lost: u64) -> f64 {
    if lost == 0 {
        return 1.0;
    }
    followed as f64 / (followed + lost) as f64
}

/// The verdict if no account grows; of those that are not reclaimable, the one that is least
/// sure decides. `None` when one does grow, or nothing has a trend yet.
pub fn nothing_grows(suspects: &[Suspect]) -> Option<Judgement> {
    if suspects.iter().any(Suspect::grows) {
        return None;
    }
    let sure = |s: &Suspect| s.trend.surely_below(s.floor);
    let firm = suspects.iter().filter(|s| !s.reclaimable);
    let weakest = firm.min_by(|a, b| sure(a).total_cmp(&sure(b)))?;
    let none = Judgement {
        leak: Leak::No,
        confidence: sure(weakest),
        may_be_cache: false,
        what: format!(
            "none of {} caches, callers and processes grows; least sure: {}",
            suspects.len(),
            weakest.what()
        ),
    };
    Some(none.settled())
}

/// The verdict on growth in the accounting that was not followed.
pub fn unfollowed(suspect: &Suspect) -> Judgement {
    let rate = Unit::BytesPerSecond.text(suspect.trend.per_s.max(0.0) as u64);
    let grown = bytes(u64::try_from(suspect.trend.grown).unwrap_or(0));
    let (doubt, cached) = match suspect {
        Suspect {
            reclaimable: true, ..
        } => (
            "; the kernel takes it back when memory is short",
            MAY_BE_CACHE,
        ),
        Suspect {
            may_be_cache: true, ..
        } => (
            "; it may be cache: as many more dentries, inodes or slabs can be given back",
            MAY_BE_CACHE,
        ),
        _ => ("", 1.0),
    };
    Judgement {
        leak: Leak::Growing,
        confidence: suspect.trend.rising.min(SUREST) * cached,
        may_be_cache: suspect.is_cache_like(),
        what: format!(
            "{} has grown by {grown}, {rate}; not followed{doubt}",
            suspect.what()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trend(values: [u64; 6]) -> Option<Trend> {
        let at = |(k, v): (usize, &u64)| (k as u64 * 1_000_000_000, *v);
        Trend::new(&values.iter().enumerate().map(at).collect::<Vec<_>>())
    }

    fn leaking() -> Evidence {
        Evidence {
            what: "slab cache x".to_owned(),
            site: Some(("f+0x1".to_owned(), 0.99)),
            held: 5000,
            held_bytes: 320_000,
            books: Some(330_000),
            floor: 64 << 10,
            noise: 20_000,
            kept: Some(1.0),
            trend: trend([0, 64_000, 128_000, 192_000, 256_000, 320_000]),
            looks: 6,
            followed: 5000,
            ..Evidence::default()
        }
    }

    #[test]
    fn steady_growth_that_stays_and_is_in_the_books_is_a_leak() {
        let verdict = judge(&leaking());
        assert_eq!(verdict.leak, Leak::Yes, "{verdict:?}");
        assert!(verdict.confidence > 0.95, "{verdict:?}");
        assert!(verdict.what.contains("99 % by f+0x1"), "{verdict:?}");
    }

    #[test]
    fn frees_that_nobody_saw_are_no_leak() {
        let verdict = judge(&Evidence {
            books: Some(4000),
            ..leaking()
        });
        assert_eq!(verdict.leak, Leak::No);
        assert!(verdict.confidence > 0.95, "{verdict:?}");
        assert!(verdict.what.contains("RCU"), "{verdict:?}");
    }

    #[test]
    fn what_is_freed_later_or_can_be_reclaimed_or_was_made_once_is_growing() {
        let cases = [
            (
                Evidence {
                    kept: Some(0.3),
                    ..leaking()
                },
                "freed in part",
            ),
            (
                Evidence {
                    reclaimable: true,
                    ..leaking()
                },
                "takes them back",
            ),
            (
                Evidence {
                    trend: trend([0, 320_000, 320_000, 320_000, 320_000, 320_000]),
                    ..leaking()
                },
                "does not go on",
            ),
        ];
        for (evidence, words) in cases {
            let verdict = judge(&evidence);
            assert_eq!(verdict.leak, Leak::Growing, "{verdict:?}");
            assert!(verdict.what.contains(words), "{verdict:?}");
        }
    }

    #[test]
    fn losses_and_disagreement_cost_confidence() {
        let whole = judge(&leaking()).confidence;
        let lossy = Evidence {
            lost: 5000,
            ..leaking()
        };
        assert!(judge(&lossy).confidence < 0.6 * whole);
        let apart = Evidence {
            books: Some(640_000),
            ..leaking()
        };
        assert!(judge(&apart).confidence < 0.7 * whole);
        let unknown = Evidence {
            books: None,
            ..leaking()
        };
        assert!(judge(&unknown).confidence < 0.9 * whole);
    }

    #[test]
    fn little_that_stays_is_no_leak() {
        let verdict = judge(&Evidence {
            held: 10,
            held_bytes: 640,
            books: Some(0),
            ..leaking()
        });
        assert_eq!(verdict.leak, Leak::No);
        assert!(verdict.confidence > 0.98, "{verdict:?}");
    }

    #[test]
    fn too_few_looks_are_no_answer() {
        let verdict = judge(&Evidence {
            looks: 4,
            ..leaking()
        });
        assert_eq!((verdict.leak, verdict.confidence()), (Leak::Unknown, None));
        assert_eq!(verdict.headline(), "unknown");
    }

    #[test]
    fn a_look_that_ended_early_says_no_only_as_far_as_it_looked() {
        let nothing = || {
            judge(&Evidence {
                held: 10,
                held_bytes: 640,
                books: Some(0),
                ..leaking()
            })
        };
        let cut = nothing().cut_off(0.8, "ended after 8 s of 10 s");
        assert_eq!(cut.leak, Leak::No);
        assert!(cut.confidence < 0.8, "{cut:?}");
        assert!(cut.what.ends_with("; ended after 8 s of 10 s"), "{cut:?}");
        let little = nothing().cut_off(0.3, "ended after 3 s of 10 s");
        assert_eq!(little.leak, Leak::Unknown, "{little:?}");
        // What leaks by then does leak.
        let leak = judge(&leaking()).cut_off(0.3, "ended after 3 s of 10 s");
        assert_eq!(leak.leak, Leak::Yes, "{leak:?}");
    }

    #[test]
    fn what_may_be_cache_is_no_leak_and_less_sure_than_one_of_malloc() {
        let find = Evidence {
            origin: Origin::Cache,
            hosts: Some(5000),
            ..leaking()
        };
        let malloc = judge(&Evidence {
            books: None,
            ..leaking()
        });
        assert_eq!(malloc.leak, Leak::Yes);
        let cases = [
            (find.clone(), "may be cache"),
            (
                Evidence {
                    hosts: None,
                    ..find.clone()
                },
                "not known",
            ),
            (
                Evidence {
                    origin: Origin::Files,
                    ..leaking()
                },
                "files in memory",
            ),
            (
                Evidence {
                    reclaimable: true,
                    ..leaking()
                },
                "takes them back",
            ),
        ];
        for (evidence, words) in cases {
            let verdict = judge(&evidence);
            assert_eq!(verdict.leak, Leak::Growing, "{verdict:?}");
            assert!(
                verdict.may_be_cache && verdict.what.contains(words),
                "{verdict:?}"
            );
            assert!(verdict.confidence < 0.5 * malloc.confidence, "{verdict:?}");
        }
        // As many inodes cannot be given back: they are in use.
        let used = judge(&Evidence {
            hosts: Some(100),
            ..find
        });
        assert_eq!(used.leak, Leak::Yes, "{used:?}");
    }

    #[test]
    fn reclaim_has_the_last_word() {
        let find = |stayed| Evidence {
            origin: Origin::Cache,
            hosts: Some(5000),
            reclaimable: true,
            stayed: Some(stayed),
            ..leaking()
        };
        let cache = judge(&find(0.1));
        assert_eq!(cache.leak, Leak::No, "{cache:?}");
        assert!(
            cache.confidence > 0.8 && cache.what.contains("90 % went"),
            "{cache:?}"
        );
        let leak = judge(&find(1.0));
        assert_eq!(leak.leak, Leak::Yes, "{leak:?}");
        assert!(leak.what.contains("100 % stayed"), "{leak:?}");
        let files = judge(&Evidence {
            origin: Origin::Files,
            ..find(1.0)
        });
        assert_eq!(files.leak, Leak::Growing, "{files:?}");
    }
}
