//! The live view in a pseudo-terminal: it draws, follows keys and sizes, and leaves the terminal as it was.

use super::harness::{Server, finish, kill, pingtrace, program, refused, terminal, until};
use super::signals::at_terminal;
use netns::Lab;
use rustix::termios::{Termios, Winsize, tcgetattr, tcgetwinsize, tcsetwinsize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use tempfile::TempDir;

const ENTERED: &str = "\x1b[?1049h";
const LEFT: &str = "\x1b[?1049l";
const CURSOR: &str = "\x1b[?25h";

/// A program on a terminal of its own.
struct Seat {
    person: File,
    /// The program's side: its settings.
    program: OwnedFd,
    before: Termios,
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Seat {
    fn take(lab: &Lab, mut command: Command) -> Self {
        let (person, program) = terminal(80);
        let before = tcgetattr(&program).unwrap();
        at_terminal(&mut command, &program);
        command.stdin(program.try_clone().unwrap());
        command.stdout(program.try_clone().unwrap());
        command.stderr(program.try_clone().unwrap());
        let child = lab.client.ns.run(|| command.spawn()).unwrap().unwrap();
        // It holds the program's side open.
        drop(command);
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let mut terminal = person.try_clone().unwrap();
        let reader = thread::spawn({
            let seen = Arc::clone(&seen);
            move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = terminal.read(&mut buffer) {
                    seen.lock().unwrap().extend(&buffer[..count]);
                }
            }
        });
        Self {
            person,
            program,
            before,
            child,
            seen,
            reader,
        }
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    fn sends(&self, sequence: &str) {
        until(&format!("sends {sequence:?}"), || {
            self.seen().contains(sequence)
        });
    }

    /// What a terminal shows of it.
    fn screen(&self) -> String {
        let Winsize { ws_row, ws_col, .. } = tcgetwinsize(&self.program).unwrap();
        let [rows, columns] = [ws_row, ws_col].map(|count| NonZero::new(count).unwrap());
        let mut terminal = vt100::Parser::new(rows, columns, 0);
        terminal.process(self.seen().as_bytes());
        terminal.screen().contents()
    }

    fn shows(&self, words: &str) {
        until(&format!("shows {words:?}"), || {
            self.screen().contains(words)
        });
    }

    /// Forgets what was shown.
    fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }

    fn press(&mut self, keys: &str) {
        self.person.write_all(keys.as_bytes()).unwrap();
    }

    /// The exit status, and all that is seen; the terminal is as it was.
    fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap().code();
        let after = tcgetattr(&self.program).unwrap();
        assert_eq!(format!("{:?}", self.before), format!("{after:?}"));
        drop(self.program);
        self.reader.join().unwrap();
        let seen = String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned();
        assert!(seen.rfind(LEFT) > seen.rfind(ENTERED), "{seen:?}");
        assert!(seen.rfind(CURSOR) > seen.rfind("\x1b[?25l"), "{seen:?}");
        (status, seen)
    }
}

fn live(directory: &TempDir, args: &str) -> Command {
    let mut command = program();
    command.args(["--live", "-c", "10.77.0.2"]);
    command.args(args.split_whitespace());
    command.current_dir(directory.path());
    command
}

fn lab() -> (Lab, TempDir) {
    (Lab::veth_pair().unwrap(), TempDir::new().unwrap())
}

#[test]
fn it_draws_the_path_follows_keys_and_leaves_the_terminal_as_it_was() {
    let (lab, directory) = lab();
    let _server = Server::start(&lab.server.ns, "");
    let options = "-i 10ms -o text,log --image x.svg";
    let mut seat = Seat::take(&lab, live(&directory, options));
    seat.sends(ENTERED);
    for words in ["client host", "server host", "total"] {
        seat.shows(words);
    }
    seat.press("p");
    seat.shows("PAUSED");
    seat.press("p?");
    seat.shows("The live view");
    seat.press("\x1b[A");
    seat.forget();
    let wide = Winsize {
        ws_row: 40,
        ws_col: 120,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&seat.person, wide).unwrap();
    // The higher terminal has room for all of them.
    for words in ["l_tx_outlink", "r_rx_kern", "l_rx_inlink"] {
        seat.shows(words);
    }
    seat.press("i");
    seat.shows("picture: x.svg");
    seat.press("q");
    let (status, seen) = seat.end();
    assert_eq!(status, Some(0), "{seen}");
    let after = seen.rsplit(LEFT).next().unwrap();
    assert!(
        after.contains("sent ") && after.contains("r_rx_kern"),
        "{after}"
    );
    let drawn = std::fs::read_to_string(directory.path().join("x.svg")).unwrap();
    assert!(drawn.contains("</svg>"));
    let log = std::fs::read_to_string(directory.path().join("pingtrace.log.seq")).unwrap();
    assert!(log.contains("\"type\":\"probe\""), "{log}");
}

#[test]
fn signals_of_the_end_give_the_terminal_back() {
    let (lab, directory) = lab();
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let seat = Seat::take(&lab, live(&directory, "-i 10ms"));
        seat.shows("total");
        kill(seat.child.id(), signal);
        let (status, seen) = seat.end();
        assert_eq!(status, Some(0), "{seen}");
    }
}

#[test]
fn a_stopped_view_gives_the_terminal_back_until_it_goes_on() {
    let (lab, directory) = lab();
    let mut seat = Seat::take(&lab, live(&directory, "-i 10ms"));
    seat.shows("total");
    kill(seat.child.id(), libc::SIGTSTP);
    seat.sends(LEFT);
    let path = format!("/proc/{}/stat", seat.child.id());
    until("stopped", || {
        std::fs::read_to_string(&path).unwrap().contains(") T ")
    });
    let stopped = tcgetattr(&seat.program).unwrap();
    assert_eq!(format!("{:?}", seat.before), format!("{stopped:?}"));
    seat.forget();
    kill(seat.child.id(), libc::SIGCONT);
    seat.shows("total");
    seat.press("q");
    assert_eq!(seat.end().0, Some(0));
}

/// Runs in a terminal of its own, where [`a_panic_gives_the_terminal_back`] starts it.
#[test]
#[ignore = "a part of another test"]
fn panics() {
    pingtrace::output::live::terminal::enter().unwrap();
    panic!("as is tested");
}

#[test]
fn a_panic_gives_the_terminal_back() {
    let lab = Lab::veth_pair().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "live::panics", "--nocapture"]);
    let (status, seen) = Seat::take(&lab, command).end();
    assert_eq!(status, Some(101), "{seen}");
    let after = seen.rsplit(LEFT).next().unwrap();
    assert!(after.contains("as is tested"), "{seen}");
}

#[test]
fn what_cannot_be_shown_is_refused() {
    let (lab, directory) = lab();
    let no_terminal = finish(pingtrace(&lab.client.ns, "--live -c 10.77.0.2 -C 1"));
    refused(&no_terminal, 2, &["--live", "terminal"]);
    let json = finish(pingtrace(&lab.client.ns, "--live -c 10.77.0.2 -o json"));
    refused(&json, 2, &["--live", "-o json", "-o log"]);
    drop(directory);
}

#[test]
fn a_saved_run_is_shown_and_scrolled_through() {
    let (lab, directory) = lab();
    let saved = finish(pingtrace(
        &lab.client.ns,
        "-c 10.77.0.2 -C 50 -i 5ms -o json",
    ));
    assert_eq!(saved.status, 0, "{saved:#?}");
    std::fs::write(directory.path().join("run.json"), &saved.stdout).unwrap();
    let mut command = program();
    command.args(["replay", "--live", "run.json"]);
    command.current_dir(directory.path());
    let mut seat = Seat::take(&lab, command);
    seat.shows("sent 50, received 50");
    seat.press("\x1b[H");
    seat.shows("no probe was answered so far");
    seat.press("q");
    let (status, seen) = seat.end();
    assert_eq!(status, Some(0), "{seen}");
    let after = seen.rsplit(LEFT).next().unwrap();
    assert!(after.contains("sent 50, replied 50"), "{after}");
}
