//! Who had the CPU while a segment of a slow probe lasted: the join of a probe's stamps with what
//! a recorder saw on that CPU.
//!
//! At each moment of the segment's window the CPU belongs to one thing, and what is closer to the
//! hardware goes first: a hard interrupt, interrupts off, a softirq, a task that does not call the
//! scheduler, any task. A wait for a quota goes before all: nothing that ran meanwhile caused it. What the recorder did not see, and
//! the time in which the CPU was idle, is *unexplained*: it is said, and never given to anybody.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::companion::Class;
use crate::model::{Host, Owner, Point, Segment, Stamp};
use crate::printable::printable;
use crate::units::{duration, share};

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

/// A segment whose time is to be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The segment.
    pub segment: Segment,
    /// On which host.
    pub host: Host,
    /// The CPU where it ended.
    pub cpu: u16,
    /// From, `CLOCK_MONOTONIC` ns of that host.
    pub from_ns: u64,
    /// To.
    pub to_ns: u64,
}

/// The segments of a host that took at least so long, by its own stamps alone. Wires have none.
pub fn windows(path: &[Stamp], host: Host, least_ns: u64) -> Vec<Window> {
    let mut places: BTreeMap<u16, &Stamp> = BTreeMap::new();
    for stamp in path.iter().filter(|stamp| stamp.host == host) {
        let last_counts = matches!(stamp.point, Point::LTxDevout | Point::RTxDevout);
        let place = places.entry(stamp.point as u16).or_insert(stamp);
        if last_counts {
            *place = stamp;
        }
    }
    let mut stamps: Vec<&Stamp> = places.into_values().collect();
    stamps.sort_by_key(|stamp| stamp.ns);
    let pairs = stamps.windows(2).map(|pair| (pair[0], pair[1]));
    let window = |(from, to): (&Stamp, &Stamp)| {
        // Between the hand-over and the return lies the wire.
        let segment = segment_to(host, to.point).filter(|_| from.point != Point::LTxDevout)?;
        Some(Window {
            segment,
            host,
            cpu: to.cpu.or(from.cpu)?,
            from_ns: from.ns,
            to_ns: to.ns,
        })
    };
    let long = |window: &Window| window.to_ns - window.from_ns >= least_ns;
    pairs.filter_map(window).filter(long).collect()
}

/// The host's own segment that ends at a point.
fn segment_to(host: Host, point: Point) -> Option<Segment> {
    if point == Point::LRxUser {
        return Some(Segment::LRxTaskRun);
    }
    let of_host = |segment: &Segment| {
        let own = matches!(
            segment.owner(),
            Owner::Local | Owner::Receiver | Owner::Remote
        );
        own && segment.end() == Some((host, point))
    };
    Segment::ALL.into_iter().find(of_host)
}

/// A part of a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it was.
    pub class: Class,
    /// A task's name, or which interrupt or softirq.
    #[serde(rename = "comm")]
    pub who: String,
    /// The task; 0 where there is none.
    pub tid: u32,
    /// How long, ns.
    pub ns: u64,
    /// Where the kernel was, if that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}

/// Who had the CPU during a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blame {
    /// The segment.
    pub segment: Segment,
    /// On which host.
    pub host: Host,
    /// The CPU.
    pub cpu: u16,
    /// How long the segment took, ns.
    pub window_ns: u64,
    /// What is explained, the longest first.
    pub parts: Vec<Part>,
    /// In their order: from (ns since the segment began), for how long, and which of the parts.
    /// Empty for another host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lane: Vec<(u64, u64, usize)>,
}

/// A class explains a segment if it took this part of it, in percent.
const ENOUGH: u64 = 60;
/// Parts that are kept, and pieces of a lane.
const PARTS: usize = 16;
const PIECES: usize = 256;
/// Pieces shorter than this are not drawn, ns.
const PIECE_NS: u64 = 1_000;

impl Blame {
    /// What no part explains, ns.
    pub fn unexplained_ns(&self) -> u64 {
        self.window_ns.saturating_sub(sum_ns(&self.parts))
    }

    /// The part that explains the segment, if one does: all that a task did counts together, and so
    /// does all of one class. Of a task, what is closest to the hardware says most.
    pub fn culprit(&self) -> Option<&Part> {
        let enough = |alike: &dyn Fn(&Part) -> bool| {
            let alike = self.parts.iter().filter(|part| alike(part));
            u128::from(sum_ns(alike)) * 100 >= u128::from(self.window_ns) * u128::from(ENOUGH)
        };
        let of_task =
            |part: &&Part| part.is_task() && enough(&|p| p.is_task() && p.tid == part.tid);
        let of_class = |part: &&Part| enough(&|p| p.class == part.class);
        let by_rank = self
            .parts
            .iter()
            .filter(of_task)
            .min_by_key(|part| rank(part.class));
        by_rank.or_else(|| self.parts.iter().find(of_class))
    }

    /// One line for people.
    pub fn text(&self) -> String {
        let share = |ns: u64| percent(ns, self.window_ns);
        let mut text = format!(
            "{} {} on CPU {}:",
            self.segment.name(),
            duration(self.window_ns),
            self.cpu
        );
        let telling = |part: &&Part| share(part.ns) > 0;
        for part in self.parts.iter().filter(telling).take(3) {
            let _ = write!(
                text,
                " {} {} ({} %);",
                part.words(),
                duration(part.ns),
                share(part.ns)
            );
        }
        let rest = self.unexplained_ns();
        if share(rest) > 0 || self.parts.is_empty() {
            let _ = write!(text, " unexplained {} ({} %);", duration(rest), share(rest));
        }
        text.truncate(text.trim_end_matches(';').len());
        text
    }
}

/// Time of several parts, ns; what another host says need not make sense.
fn sum_ns<'a>(parts: impl IntoIterator<Item = &'a Part>) -> u64 {
    let ns = parts.into_iter().map(|part| part.ns);
    ns.fold(0, u64::saturating_add)
}

/// A part of a whole, in percent.
fn percent(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    u64::try_from(percent).unwrap_or(u64::MAX)
}

impl Part {
    /// A task did it.
    fn is_task(&self) -> bool {
        matches!(
            self.class,
            Class::Irqoff | Class::Hard | Class::Lazy | Class::Cpu | Class::Own
        )
    }

    /// What it was, and where if that is known, for people.
    pub fn words(&self) -> String {
        match &self.function {
            Some(function) => {
                format!("{} in {}", self.who_did_what(), printable(function))
            }
            None => self.who_did_what(),
        }
    }

    fn who_did_what(&self) -> String {
        did_what(self.class, &self.who, Some(self.tid))
    }
}

/// Without a thread's id it was several.
fn did_what(class: Class, who: &str, tid: Option<u32>) -> String {
    let who = printable(who);
    let task = || tid.map_or_else(|| format!("{who} (several)"), |tid| format!("{who}/{tid}"));
    match class {
        Class::Own => format!("itself ({})", task()),
        Class::Hardirq => format!("interrupt {who}"),
        Class::SoftirqRun | Class::SoftirqDelay => format!("softirq {who}"),
        Class::Irqoff => format!("{} kept interrupts off", task()),
        Class::Hard | Class::Lazy => format!("{} did not schedule", task()),
        Class::Quota => "quota of its cgroup used up".to_owned(),
        Class::Outside => "held up from outside this kernel".to_owned(),
        Class::Cpu | Class::Stolen => format!("{} ran", task()),
    }
}

/// Which of two that overlap had the CPU: the lower.
fn rank(class: Class) -> usize {
    match class {
        Class::Quota => 0,
        Class::Hardirq => 1,
        Class::Irqoff | Class::Outside | Class::Stolen => 2,
        Class::SoftirqRun | Class::SoftirqDelay => 3,
        Class::Hard | Class::Lazy => 4,
        Class::Cpu | Class::Own => 5,
    }
}
const RANKS: usize = 6;

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

    /// The longest part first; what is beyond the most is unexplained.
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

/// A moment's owner.
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

/// Whether it is of the server's host, the segment, the class, and a name.
type Culprit = (bool, Segment, Class, String);
/// Probes, ns in all of them, and the task if it was always the same.
type Toll = (u64, u64, Option<u32>);

/// What was to blame over a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "TallyLine", into = "TallyLine")]
pub struct BlameTally {
    culprits: BTreeMap<Culprit, Toll>,
    /// Probes with a blame.
    probes: u64,
    /// Those that nothing was found to explain.
    unexplained: u64,
    /// Slow probes that were not looked at: too many at once.
    pub skipped: u64,
}

/// The same in JSON.
#[derive(Serialize, Deserialize)]
struct TallyLine {
    probes: u64,
    unexplained: u64,
    #[serde(default)]
    skipped: u64,
    culprits: Vec<BlameCount>,
}

impl From<BlameTally> for TallyLine {
    fn from(tally: BlameTally) -> Self {
        Self {
            probes: tally.probes,
            unexplained: tally.unexplained,
            skipped: tally.skipped,
            culprits: tally.list(),
        }
    }
}

impl From<TallyLine> for BlameTally {
    fn from(line: TallyLine) -> Self {
        let culprit = |c: BlameCount| {
            let remote = c.host == Host::Server;
            ((remote, c.segment, c.class, c.who), (c.probes, c.ns, c.tid))
        };
        Self {
            culprits: line.culprits.into_iter().map(culprit).collect(),
            probes: line.probes,
            unexplained: line.unexplained,
            skipped: line.skipped,
        }
    }
}

/// A culprit of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlameCount {
    /// On which host.
    pub host: Host,
    /// In which segment.
    pub segment: Segment,
    /// What it was.
    pub class: Class,
    /// A task's name, or which interrupt or softirq.
    #[serde(rename = "comm")]
    pub who: String,
    /// The task, where it was always the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// In so many probes.
    pub probes: u64,
    /// For so long, in all of them, ns.
    pub ns: u64,
}

impl BlameTally {
    /// Counts a slow probe by the blame for its longest segment.
    pub fn count(&mut self, blame: &[Blame]) {
        let Some(longest) = blame.iter().max_by_key(|blame| blame.window_ns) else {
            return;
        };
        self.probes += 1;
        let Some(part) = longest.culprit() else {
            self.unexplained += 1;
            return;
        };
        let remote = longest.host == Host::Server;
        let key = (remote, longest.segment, part.class, part.who.clone());
        let explained = longest.window_ns - longest.unexplained_ns();
        let (probes, ns, tid) = self.culprits.entry(key).or_insert((0, 0, Some(part.tid)));
        *probes += 1;
        *ns = ns.saturating_add(explained);
        *tid = tid.filter(|tid| *tid == part.tid);
    }

    /// What took most time first.
    pub fn list(&self) -> Vec<BlameCount> {
        let mut list: Vec<BlameCount> = self
            .culprits
            .iter()
            .map(
                |((remote, segment, class, who), (probes, ns, tid))| BlameCount {
                    host: if *remote { Host::Server } else { Host::Client },
                    segment: *segment,
                    class: *class,
                    who: who.clone(),
                    tid: *tid,
                    probes: *probes,
                    ns: *ns,
                },
            )
            .collect();
        list.sort_by_key(|count| Reverse((count.ns, count.probes)));
        list
    }

    /// Nothing was to be explained.
    pub fn is_empty(&self) -> bool {
        self.probes == 0 && self.skipped == 0
    }

    /// The largest number of probes that it has of anything.
    pub(crate) fn largest(&self) -> u64 {
        let of_culprits = self.culprits.values().map(|(probes, ..)| *probes);
        let others = [self.probes, self.unexplained, self.skipped];
        of_culprits.chain(others).max().unwrap_or(0)
    }

    /// For people: a line each, and what nothing explains.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.skipped > 0 {
            let _ = writeln!(
                text,
                "{} slow probes were not explained: too many at once",
                self.skipped
            );
        }
        for count in self.list().iter().take(PARTS) {
            let share = share(count.probes, self.probes, 0);
            let host = if count.host == Host::Server {
                "remote"
            } else {
                "local"
            };
            let _ = writeln!(
                text,
                "{:>4}{share} explained probes: {} ({host} host) {}, {} in all",
                count.probes,
                count.segment.name(),
                did_what(count.class, &count.who, count.tid),
                duration(count.ns)
            );
        }
        if self.unexplained > 0 {
            let share = share(self.unexplained, self.probes, 0);
            let _ = writeln!(
                text,
                "{:>4}{share} explained probes: nothing on the CPU explains them",
                self.unexplained
            );
        }
        text
    }
}

/// What separates blames, their parts, and the fields of one, in the form that a server sends.
const BLAME: char = '&';
const PART: char = '|';
const FIELD: char = ';';

/// As a server sends it: printable ASCII, and as many blames and parts as fit into so many bytes.
pub fn to_wire(blame: &[Blame], most: usize) -> String {
    blame.iter().fold(String::new(), |mut wire, blame| {
        let room = most.saturating_sub(wire.len() + 1);
        let next = blame.to_wire(room);
        if !next.is_empty() && !wire.is_empty() {
            wire.push(BLAME);
        }
        wire + &next
    })
}

/// Reads what a server sent; what makes no sense is left out.
pub fn from_wire(wire: &str) -> Vec<Blame> {
    wire.split(BLAME).filter_map(Blame::from_wire).collect()
}

impl Blame {
    /// With as many parts as fit; empty if not even the window does.
    fn to_wire(&self, most: usize) -> String {
        let mut wire = format!("{};{};{}", self.segment.name(), self.cpu, self.window_ns);
        if wire.len() > most {
            return String::new();
        }
        for part in &self.parts {
            let Part {
                class,
                who,
                tid,
                ns,
                function,
            } = part;
            let function = function.as_deref().unwrap_or_default();
            let fields = [
                class.name(),
                &escape(who),
                &tid.to_string(),
                &ns.to_string(),
            ];
            let part = format!("{PART}{};{}", fields.join(";"), escape(function));
            if wire.len() + part.len() > most {
                break;
            }
            wire += &part;
        }
        wire
    }

    fn from_wire(wire: &str) -> Option<Self> {
        let mut parts = wire.split(PART);
        let mut head = parts.next()?.split(FIELD);
        let segment = Segment::from_name(head.next()?)?;
        let mut blame = Self {
            segment,
            host: Host::Server,
            cpu: head.next()?.parse().ok()?,
            window_ns: head.next()?.parse().ok()?,
            parts: parts
                .take(PARTS)
                .map(part_from_wire)
                .collect::<Option<_>>()?,
            lane: Vec::new(),
        };
        let explained = blame
            .parts
            .iter()
            .try_fold(0_u64, |sum, part| sum.checked_add(part.ns))?;
        blame.parts.sort_by_key(|part| Reverse(part.ns));
        (explained <= blame.window_ns).then_some(blame)
    }
}

fn part_from_wire(wire: &str) -> Option<Part> {
    let fields: Vec<&str> = wire.split(FIELD).collect();
    let &[class, who, tid, ns, function] = fields.as_slice() else {
        return None;
    };
    Some(Part {
        class: Class::from_name(class)?,
        who: unescape(who)?,
        tid: tid.parse().ok()?,
        ns: ns.parse().ok()?,
        function: Some(unescape(function)?).filter(|function| !function.is_empty()),
    })
}

/// What is not printable ASCII, or separates, as `%` and two hexadecimal digits.
fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, b| {
        let separates = matches!(char::from(b), BLAME | PART | FIELD | '%');
        if b.is_ascii_graphic() && !separates {
            escaped.push(char::from(b));
        } else {
            let _ = write!(escaped, "%{b:02x}");
        }
        escaped
    })
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, more) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = more;
    }
    let text = String::from_utf8_lossy(&bytes);
    Some(
        text.chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn span(from: u64, to: u64, class: Class, who: &str, tid: u32) -> Span {
        Span {
            from_ns: from * MS,
            to_ns: to * MS,
            class,
            who: who.to_owned(),
            tid,
            function: None,
        }
    }

    fn window(from: u64, to: u64) -> Window {
        Window {
            segment: Segment::LRxTaskQueue,
            host: Host::Client,
            cpu: 1,
            from_ns: from * MS,
            to_ns: to * MS,
        }
    }

    fn parts(blame: &Blame) -> Vec<(Class, &str, u64)> {
        blame
            .parts
            .iter()
            .map(|p| (p.class, p.who.as_str(), p.ns / MS))
            .collect()
    }

    #[test]
    fn a_hog_is_to_blame() {
        let spans = [
            span(0, 12, Class::Cpu, "hog", 9),
            span(12, 20, Class::Own, "pingtrace", 7),
        ];
        let blame = join(&spans, &window(1, 13));
        assert_eq!(
            parts(&blame),
            [(Class::Cpu, "hog", 11), (Class::Own, "pingtrace", 1)]
        );
        assert_eq!(blame.unexplained_ns(), 0);
        assert_eq!(blame.culprit().unwrap().who, "hog");
        assert_eq!(blame.lane, [(0, 11 * MS, 0), (11 * MS, MS, 1)]);
    }

    #[test]
    fn what_is_closer_to_the_hardware_goes_first() {
        let spans = [
            span(0, 20, Class::Cpu, "java", 9),
            span(2, 10, Class::SoftirqRun, "NET_RX", 9),
            span(4, 5, Class::Hardirq, "24:virtio", 9),
        ];
        let blame = join(&spans, &window(0, 10));
        let expected = [
            (Class::SoftirqRun, "NET_RX", 7),
            (Class::Cpu, "java", 2),
            (Class::Hardirq, "24:virtio", 1),
        ];
        assert_eq!(parts(&blame), expected);
    }

    #[test]
    fn idle_and_unseen_time_is_unexplained() {
        let blame = join(&[span(0, 2, Class::Cpu, "x", 9)], &window(0, 10));
        assert_eq!(blame.unexplained_ns(), 8 * MS);
        assert_eq!(blame.culprit(), None);
        let mut tally = BlameTally::default();
        tally.count(&[blame]);
        assert!(
            tally.text().contains("   1 of 1 explained probes: nothing"),
            "{}",
            tally.text()
        );
    }

    #[test]
    fn what_a_task_did_counts_together() {
        let spans = [
            span(0, 10, Class::Cpu, "x", 9),
            span(5, 9, Class::Irqoff, "x", 9),
        ];
        let blame = join(&spans, &window(0, 10));
        assert_eq!(
            parts(&blame),
            [(Class::Cpu, "x", 6), (Class::Irqoff, "x", 4)]
        );
        assert_eq!(blame.culprit().unwrap().class, Class::Irqoff);
    }

    #[test]
    fn a_quota_is_nobody_elses_fault() {
        let spans = [
            span(0, 20, Class::Cpu, "x", 9),
            span(1, 9, Class::Quota, "x", 7),
        ];
        let blame = join(&spans, &window(1, 10));
        assert_eq!(blame.culprit().unwrap().class, Class::Quota);
    }

    #[test]
    fn nonsense_from_the_wire_is_nothing() {
        for wire in [
            "",
            "x",
            "total;1;2",
            "r_rx_kern;1;2|cpu;a;1;3;",
            "r_rx_kern;1;2|cpu;%4;1;1;",
        ] {
            assert_eq!(Blame::from_wire(wire), None, "{wire}");
        }
    }

    #[test]
    fn windows_are_of_one_host_and_of_no_wire() {
        let stamp = |point, host, ns: u64, cpu| Stamp {
            point,
            host,
            ns: ns * MS,
            cpu,
            ifindex: 0,
            netns: 0,
        };
        let (client, server) = (Host::Client, Host::Server);
        let path = [
            stamp(Point::LTxUser, client, 0, None),
            stamp(Point::LTxDevqueue, client, 3, Some(1)),
            stamp(Point::LTxDevout, client, 4, Some(1)),
            stamp(Point::RRxSoftirq, server, 1000, Some(0)),
            stamp(Point::RRxNapi, server, 1005, Some(2)),
            stamp(Point::LRxIprcv, client, 20, Some(0)),
            stamp(Point::LRxWakeup, client, 21, Some(0)),
            stamp(Point::LRxOncpu, client, 29, Some(1)),
            stamp(Point::LRxUser, client, 30, None),
        ];
        let found = |host| -> Vec<_> {
            let windows = windows(&path, host, 2 * MS);
            windows
                .iter()
                .map(|w| (w.segment, w.cpu, (w.to_ns - w.from_ns) / MS))
                .collect()
        };
        let local = [(Segment::LTxKern, 1, 3), (Segment::LRxTaskQueue, 1, 8)];
        assert_eq!(found(client), local);
        assert_eq!(found(server), [(Segment::RRxSoftirq, 2, 5)]);
    }

    proptest! {
        #[test]
        fn the_wire_keeps_everything(who in "\\PC{0,15}", tid: u32, ns in 0..5 * MS, function in proptest::option::of("[a-z_]{1,20}")) {
            let part = Part { class: Class::Irqoff, who, tid, ns, function };
            let blame = Blame { host: Host::Server, ..join(&[], &window(0, 9)) };
            let blame = Blame { parts: vec![part], ..blame };
            let all = vec![blame.clone(), blame];
            prop_assert_eq!(from_wire(&to_wire(&all, 600)), all);
        }

        #[test]
        fn any_text_can_be_read(wire in ".{0,80}") {
            let _ = from_wire(&wire);
        }

        #[test]
        fn no_moment_has_two_owners(all in proptest::collection::vec((0..50_u64, 1..20_u64, 0..3_u32), 0..40)) {
            let class = [Class::Cpu, Class::SoftirqRun, Class::Hardirq];
            let spans: Vec<Span> = all.iter().map(|(from, ns, k)| span(*from, from + ns, class[*k as usize], "x", 1 + k)).collect();
            let blame = join(&spans, &window(5, 45));
            prop_assert!(blame.parts.iter().map(|p| p.ns).sum::<u64>() <= 40 * MS);
            prop_assert!(blame.lane.iter().all(|(at, ns, part)| at + ns <= 40 * MS && *part < blame.parts.len()));
        }
    }
}
