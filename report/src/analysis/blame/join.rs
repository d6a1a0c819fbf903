//! Divides a window among what had its CPU.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::rank::{RANKS, rank};
use super::window::Window;
use crate::model::{Blame, Class, Part};

/// Something that had a CPU for a time, `CLOCK_MONOTONIC` ns of its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// From.
    pub from_ns: u64,
    /// To.
    pub to_ns: u64,
    /// What it was.
    pub class: Class,
    /// A task's name, or which interrupt or softirq.
    pub who: String,
    /// The task; 0 where there is none.
    pub tid: u32,
    /// Where the kernel was.
    pub function: Option<String>,
}

/// Parts that are kept, and pieces of a lane.
pub(super) const PARTS: usize = 16;

const PIECES: usize = 256;

/// Pieces shorter than this are not drawn, ns.
const PIECE_NS: u64 = 1_000;

/// Divides a window among what had its CPU. `spans` are of that CPU, in any order; those of one
/// rank do not overlap. The idle task has none.
pub fn join(spans: &[Span], window: &Window) -> Blame {
    let mut blame = Blame {
        segment: window.segment,
        host: window.host,
        cpu: window.cpu,
        window_ns: window.to_ns.saturating_sub(window.from_ns),
        parts: Vec::new(),
        lane: Vec::new(),
    };
    let mut places: HashMap<(Class, &str, u32), usize> = HashMap::new();
    for piece in pieces(spans, window) {
        let span = &spans[piece.span];
        let class = span.class;
        let place = *places
            .entry((class, &span.who, span.tid))
            .or_insert_with(|| {
                blame.parts.push(Part {
                    class,
                    who: span.who.clone(),
                    tid: span.tid,
                    ns: 0,
                    function: None,
                });
                blame.parts.len() - 1
            });
        let part = &mut blame.parts[place];
        part.ns += piece.to_ns - piece.from_ns;
        if part.function.is_none() {
            part.function.clone_from(&span.function);
        }
        blame.draw(
            piece.from_ns - window.from_ns,
            piece.to_ns - piece.from_ns,
            place,
        );
    }
    blame.sort();
    blame
}

impl Blame {
    /// Adds a piece to the lane, or lengthens the last.
    fn draw(&mut self, at: u64, ns: u64, part: usize) {
        let room = self.lane.len() < PIECES;
        match self.lane.last_mut() {
            Some((from, last, same)) if *same == part && *from + *last + PIECE_NS >= at => {
                *last = at + ns - *from;
            }
            _ if ns >= PIECE_NS && room => self.lane.push((at, ns, part)),
            _ => {}
        }
    }

    /// The longest part first; parts beyond the limit count as unexplained.
    fn sort(&mut self) {
        let mut order: Vec<usize> = (0..self.parts.len()).collect();
        order.sort_by_key(|k| Reverse(self.parts[*k].ns));
        let mut place = vec![0; order.len()];
        for (new, old) in order.iter().enumerate() {
            place[*old] = new;
        }
        self.parts = order.iter().map(|k| self.parts[*k].clone()).collect();
        self.parts.truncate(PARTS);
        self.lane
            .iter_mut()
            .for_each(|(.., part)| *part = place[*part]);
        self.lane.retain(|(.., part)| *part < PARTS);
    }
}

/// The owner of the CPU at a moment.
struct Piece {
    from_ns: u64,
    to_ns: u64,
    span: usize,
}

/// Sweeps over the window: at each moment the span of the lowest rank.
fn pieces(spans: &[Span], window: &Window) -> Vec<Piece> {
    let mut edges = Vec::new();
    for (k, span) in spans.iter().enumerate() {
        let from = span.from_ns.max(window.from_ns);
        let to = span.to_ns.min(window.to_ns);
        if from < to {
            edges.push((from, true, k));
            edges.push((to, false, k));
        }
    }
    edges.sort_unstable();
    let mut active: [Option<usize>; RANKS] = [None; RANKS];
    let mut pieces: Vec<Piece> = Vec::new();
    let mut since = window.from_ns;
    for (at, begins, k) in edges {
        if let Some(span) = active.iter().flatten().next().filter(|_| at > since) {
            pieces.push(Piece {
                from_ns: since,
                to_ns: at,
                span: *span,
            });
        }
        since = at;
        let slot = &mut active[rank(spans[k].class)];
        if begins {
            *slot = Some(k);
        } else if *slot == Some(k) {
            *slot = None;
        }
    }
    pieces
}
