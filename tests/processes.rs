//! A process that was named by its number ends, or has ended before the start.

use super::harness::{alone, end, hear, program, refused, with_story};
use std::process::{Child, ChildStdin, Command, Stdio};

/// A process that ends when its input does.
fn mortal() -> (Child, ChildStdin) {
    let mut cat = Command::new("cat");
    let child = cat.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut child = child.unwrap();
    let input = child.stdin.take().unwrap();
    (child, input)
}

/// Arguments before and after its number, what is said when it is looked at, and the status when
/// there is none.
const LOOKS: [(&str, &str, &str, i32); 6] = [
    ("memleak -p", "-i 100", "following", 1),
    ("memleak --malloc -p", "-i 100", "following", 1),
    ("runqlat -p", "-T 100", "watching", 1),
    ("runqlat --tid", "-T 100", "watching", 1),
    ("profile -p", "-T 100", "watching", 1),
    ("iofsstat -p", "-T 100 -c 100", "counting", 2),
];

#[test]
fn its_end_is_said_and_ends_the_look_at_it() {
    let _alone = alone();
    for (before, after, looks, status) in LOOKS {
        let (mut child, input) = mortal();
        let pid = child.id();
        let start = || {
            let mut command = program();
            command.args(before.split(' ')).arg(pid.to_string());
            command.args(after.split(' ')).args(["-o", "json"]);
            command.stdin(Stdio::null()).stdout(Stdio::piped());
            with_story(command.stderr(Stdio::piped()).spawn().unwrap())
        };
        let (look, mut story) = start();
        hear(&mut story, looks);
        drop(input);
        let done = end(look, story);
        assert_eq!(done.status, 0, "{done:#?}");
        let said = |line: &str| line.contains(&pid.to_string()) && line.contains(" ended");
        assert!(done.stderr.lines().any(said), "{done:#?}");
        let summary = done
            .lines("summary")
            .pop()
            .unwrap_or_else(|| panic!("{done:#?}"));
        assert!(
            summary["elapsed_ns"].as_u64() < Some(100_000_000_000),
            "{summary:#}"
        );
        if before.contains("memleak") {
            let verdict = done.lines("verdict").pop().unwrap();
            assert_eq!(verdict["leak"], "unknown", "{verdict:#}");
            let what = verdict["what"].as_str().unwrap();
            assert!(
                what.contains(&format!("process cat/{pid} ended after")),
                "{what}"
            );
        }
        // It has ended, though nobody has asked how yet.
        let (look, story) = start();
        let id = pid.to_string();
        refused(&end(look, story), status, &["no process", &id]);
        child.wait().unwrap();
    }
}
