//! Inside a PID namespace the processes have other numbers than the kernel's, which its programs see.

use super::harness::{Finished, alone, finish};
use std::process::{Command, Stdio};

/// Runs these lines of a shell as the first process of a PID namespace with its own /proc;
/// `$PINGTRACE` is the program. What still runs there at their end goes with it.
fn inside(lines: &str) -> Finished {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "bash", "-c", lines]);
    command.env("PINGTRACE", env!("CARGO_BIN_EXE_pingtrace"));
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = finish(command.spawn().expect("start unshare"));
    assert_eq!(done.status, 0, "{done:#?}");
    done
}

/// What the shell wrote in a line of its own: the number of a process there.
fn number(done: &Finished) -> u64 {
    let line = done.lines("number").pop();
    let line = line.unwrap_or_else(|| panic!("{done:#?}"));
    line["pid"].as_u64().expect("a number")
}

/// Says the number of the process that was started last.
const SAY: &str = r#"p=$!; echo "{\"type\":\"number\",\"pid\":$p}""#;
/// Writes a file again and again, for a minute at most.
const WRITES: &str =
    "f=$(mktemp); (exec 3>$f; rm $f; while ((SECONDS < 60)); do printf %04096d 0 >&3; done) &";
/// Grows by some 100 kB, 100 times a second.
const GROWS: &str = "(for k in {1..2000}; do a[k]=$(printf %0100000d 0); sleep 0.01; done) &";
/// Sleeps and wakes.
const SLEEPS: &str = "(for k in {1..2000}; do read -t 0.005 <> <(:); done) &";

#[test]
fn iofsstat_finds_the_process_that_is_named() {
    let _alone = alone();
    let done = inside(&format!(
        "{WRITES} {SAY}; $PINGTRACE iofsstat -f -p $p -T 2 -o json"
    ));
    let rows = done.lines("io");
    assert!(!rows.is_empty(), "{done:#?}");
    for row in rows {
        assert_eq!(row["tgid"].as_u64(), Some(number(&done)), "{row:#}");
        assert_eq!(row["comm"], "bash", "{row:#}");
    }
}

#[test]
fn iofsstat_leaves_itself_out() {
    let _alone = alone();
    let done = inside("$PINGTRACE iofsstat -f -T 3 -c 1 -o json");
    let itself = |row: &serde_json::Value| row["comm"] == "pingtrace";
    assert!(!done.lines("io").iter().any(itself), "{done:#?}");
}

#[test]
fn memleak_follows_the_process_that_is_named() {
    let _alone = alone();
    for option in ["", "--malloc"] {
        let look = format!("$PINGTRACE memleak {option} -p $p -i 4 -o json");
        let done = inside(&format!("{GROWS} {SAY}; {look}"));
        let sites = done.lines("site");
        assert!(!sites.is_empty(), "{option}: {done:#?}");
        let verdict = done.lines("verdict").pop().expect("a verdict");
        let what = verdict["what"].as_str().expect("text");
        assert!(what.contains(&format!("bash/{}", number(&done))), "{what}");
    }
}

#[test]
fn runqlat_counts_the_process_and_the_thread_that_are_named() {
    let _alone = alone();
    for option in ["-p", "--tid"] {
        let look = format!("$PINGTRACE runqlat {option} $p -T 2 --hist --by process -o json");
        let done = inside(&format!("{SLEEPS} {SAY}; {look}"));
        let waits = done.lines("waits");
        assert_eq!(waits.len(), 1, "{option}: {done:#?}");
        assert_eq!(waits[0]["pid"].as_u64(), Some(number(&done)), "{done:#?}");
        assert!(waits[0]["count"].as_u64() > Some(0), "{done:#?}");
    }
}
