//! What must hold for any bytes that come from outside: packets, files of others, words of users.
//!
//! Compiled for tests, which replay the inputs that are kept in `pingtrace/fuzz/corpus`, and for
//! `scripts/fuzz.sh`, which finds new ones. Every parser of the program belongs to a target.

mod client;
mod errors;
mod files;
mod input;
mod metrics;
mod packets;
mod results;
mod saved;
mod stamps;
mod words;

use crate::wire::protocol::Version;

/// A kind of input, and what is done with it.
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    run: fn(&[u8]),
}

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// All targets.
pub const TARGETS: [Target; 11] = [
    target("wire_v0", |data| packets::check(data, Version::V0)),
    target("wire_v1", |data| packets::check(data, Version::V1)),
    target("errors", errors::check),
    target("client", client::check),
    target("stamps", stamps::check),
    target("saved", saved::check_lines),
    target("histogram", saved::check_histogram),
    target("archive", saved::check_archive),
    target("files", files::check),
    target("words", words::check),
    target("metrics", metrics::check),
];

impl Target {
    /// The target of this name.
    pub fn from_name(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Panics if the input does what none may do.
    pub fn run(&self, data: &[u8]) {
        (self.run)(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::fs::File;
    use std::io::Read;
    use std::path::PathBuf;

    /// Bytes of a header in a tar archive, and of what its contents are padded to.
    const BLOCK: usize = 512;

    /// The files in a tar archive (`tar --format=ustar`), with their names.
    fn unpacked(archive: &[u8]) -> Vec<(String, &[u8])> {
        let mut files = Vec::new();
        let mut rest = archive;
        while let Some((header, behind)) = rest.split_at_checked(BLOCK) {
            let text = |from: usize, to: usize| {
                let field = String::from_utf8_lossy(&header[from..to]);
                field.trim_end_matches('\0').trim().to_owned()
            };
            let Ok(size) = usize::from_str_radix(&text(124, 136), 8) else {
                break;
            };
            if header[156] == b'0' {
                files.push((text(0, 100), &behind[..size]));
            }
            rest = &behind[size.next_multiple_of(BLOCK)..];
        }
        files
    }

    fn replay(name: &str) {
        let target = Target::from_name(name).expect("a target");
        let path = [env!("CARGO_MANIFEST_DIR"), "fuzz", "corpus"];
        let path = path.iter().collect::<PathBuf>();
        let archive = File::open(path.join(format!("{name}.tar.gz"))).expect("a corpus");
        let mut content = Vec::new();
        let read = GzDecoder::new(archive).read_to_end(&mut content);
        read.expect("a corpus");
        let inputs = unpacked(&content);
        assert!(inputs.len() > 10, "{} inputs", inputs.len());
        for (name, input) in inputs {
            println!("{name}");
            target.run(input);
        }
    }

    /// A test a target, so that they run side by side.
    macro_rules! corpora {
        ($($name:ident),* $(,)?) => {
            $(
                #[test]
                fn $name() {
                    replay(stringify!($name));
                }
            )*

            #[test]
            fn each_target_has_a_corpus() {
                assert_eq!(TARGETS.map(|target| target.name), [$(stringify!($name)),*]);
            }
        };
    }

    corpora![
        wire_v0, wire_v1, errors, client, stamps, saved, histogram, archive, files, words, metrics
    ];
}
