//! What the companions can do on this host: the programs of each are loaded and attached, and run for a moment.

use super::iofsstat::Mode;
use super::memleak::{Follow, Options, Tracker};
use super::{iofsstat, irqoff, nosched, runqlat};
use crate::kernel::ids::Ids;
use crate::kernel::meter::Programs;
use crate::kernel::object::{self, Storage};
use crate::kernel::recorder::{Hook as Reschedules, Recorder, Setup};
use anyhow::{Result, bail};
use report::model::{Hook, HookUser};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::thread;
use std::time::{Duration, Instant};

/// A threshold that ordinary events stay below: what is measured is what a quiet host pays.
const THRESHOLD: Duration = Duration::from_millis(10);
/// Objects that memleak's programs can follow meanwhile.
const OBJECTS: u32 = 1 << 12;
/// Stacks: of one in this many objects.
const STACK_RATE: u32 = 64;
/// Bytes of a read that passes the page cache by; a multiple of any block.
const BLOCK: usize = 4096;

/// What was seen of a companion.
pub struct Tried {
    /// Its hooks, with what they took.
    pub hooks: Vec<Hook>,
    /// What it cannot see here, and why.
    pub missing: Vec<String>,
}

/// Runs the programs of a companion for a moment; an error says why it cannot run here.
pub type Trial = fn(Duration) -> Result<Tried>;

/// All companions.
pub const COMPANIONS: [(HookUser, Trial); 5] = [
    (HookUser::Irqoff, irqoff),
    (HookUser::Nosched, nosched),
    (HookUser::Runqlat, runqlat),
    (HookUser::Memleak, memleak),
    (HookUser::Iofsstat, iofsstat),
];

fn irqoff(look: Duration) -> Result<Tried> {
    record(HookUser::Irqoff, &irqoff::setup(THRESHOLD, true), look)
}

fn nosched(look: Duration) -> Result<Tried> {
    record(HookUser::Nosched, &nosched::setup(THRESHOLD, false), look)
}

fn runqlat(look: Duration) -> Result<Tried> {
    runqlat::check_kernel()?;
    let setup = Setup {
        waits: Some(THRESHOLD),
        ..Setup::default()
    };
    record(HookUser::Runqlat, &setup, look)
}

fn record(user: HookUser, setup: &Setup, look: Duration) -> Result<Tried> {
    let mut storage = Storage::uninit();
    let mut recorder = Recorder::load(&mut storage, setup)?;
    recorder.attach()?;
    if setup.reschedules.is_some() && recorder.reschedules() == Reschedules::None {
        bail!("{}", nosched::unseen());
    }
    stir(look);
    let missing = recorder.missing().iter();
    let mut missing: Vec<_> = missing.map(|t| format!("no tracepoint {t}")).collect();
    if setup.reschedules.is_some() && recorder.reschedules() == Reschedules::Sampled {
        missing.push(
            "when the scheduler is to be called is sampled, with the error stated (traced on Linux 6.17 to 6.19)"
                .to_owned(),
        );
    }
    Ok(Tried {
        hooks: hooks(user, &recorder.attached()),
        missing,
    })
}

fn memleak(look: Duration) -> Result<Tried> {
    let mut storage = object::storages();
    let what = [
        Follow::Slab(Vec::new()),
        Follow::Page,
        Follow::Vmalloc,
        Follow::Percpu,
    ];
    let options = Options {
        stack_rate: STACK_RATE,
        objects: OBJECTS,
        caches: &BTreeMap::new(),
    };
    let (tracker, refusals) = Tracker::start(&mut storage, &what, &options)?;
    stir(look);
    let notes = refusals
        .iter()
        .map(|refusal| super::memleak::note(refusal, &what));
    let hooks = tracker.map(|tracker| hooks(HookUser::Memleak, tracker.programs()));
    Ok(Tried {
        hooks: hooks.unwrap_or_default(),
        missing: notes.collect(),
    })
}

fn iofsstat(look: Duration) -> Result<Tried> {
    let ids = Ids::read()?;
    let mut tried = Tried {
        hooks: Vec::new(),
        missing: Vec::new(),
    };
    for mode in [Mode::Misc, Mode::Files] {
        let mut storage = Storage::uninit();
        let mut programs = iofsstat::Programs::attach(&mut storage, mode, &ids)?;
        programs.cut()?;
        stir(look / 2);
        tried.missing.append(&mut programs.blind);
        for hook in hooks(HookUser::Iofsstat, programs.loaded()) {
            let same = tried.hooks.iter().position(|h| h.program == hook.program);
            match same {
                None => tried.hooks.push(hook),
                Some(at) if tried.hooks[at].cost.is_none() => tried.hooks[at] = hook,
                Some(_) => {}
            }
        }
    }
    Ok(tried)
}

/// The hooks of programs, with what they took so far.
pub fn hooks(user: HookUser, programs: &Programs) -> Vec<Hook> {
    let one = |program: &crate::kernel::meter::LoadedProgram| Hook {
        user,
        point: None,
        hook: program.hook.clone(),
        program: Some(program.name.clone()),
        cost: program.mean(),
    };
    programs.iter().map(one).collect()
}

/// For a moment, does what most hosts do all the time: sleeps, wakes, and reads from a disk.
fn stir(look: Duration) {
    let end = Instant::now() + look;
    // Past the page cache, if the file system can.
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open("/proc/self/exe");
    let mut buffer = vec![0_u8; 2 * BLOCK];
    let aligned = buffer.as_ptr().align_offset(BLOCK).min(BLOCK);
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
        if let Ok(mut file) = opened.as_ref() {
            // A file system that cannot says so; then no request is measured.
            let _ = file.read(&mut buffer[aligned..aligned + BLOCK]);
        }
    }
}
