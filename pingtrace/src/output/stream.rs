//! Lines to a stream that may refuse them: lines that could not be written are counted, and nothing ends. A
//! reader that has left is not an error: later lines are dropped.

use netns::reason;
use std::io::{self, ErrorKind, Write};

/// Lines to stdout or stderr.
#[derive(Debug)]
pub struct Stream<W> {
    out: W,
    /// Whether EIO means a terminal that hung up; of a file it is an error.
    is_terminal: bool,
    /// Ends inside a line.
    torn: bool,
    /// Its reader has left.
    abandoned: bool,
    lost_lines: u64,
}

impl<W: Write> Stream<W> {
    /// To this place.
    pub fn new(out: W, is_terminal: bool) -> Self {
        Self {
            out,
            is_terminal,
            torn: false,
            abandoned: false,
            lost_lines: 0,
        }
    }

    /// Writes whole lines; on the first failure after a success, returns the system's error.
    pub fn write(&mut self, lines: &[u8]) -> Option<String> {
        if lines.is_empty() {
            return None;
        }
        if self.torn {
            if self.out.write(b"\n").is_ok_and(|written| written == 1) {
                self.torn = false;
            } else {
                self.lost_lines += count(lines);
                return None;
            }
        }
        let (written, error) = write_whole(&mut self.out, lines);
        let error = error?;
        self.abandoned |= error.kind() == ErrorKind::BrokenPipe
            || self.is_terminal && error.raw_os_error() == Some(libc::EIO);
        self.torn = written > 0 && lines[written - 1] != b'\n';
        let first = self.lost_lines == 0;
        self.lost_lines += count(&lines[written..]);
        first.then(|| reason(&error))
    }

    /// Its reader has left.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// Lines that were not written, or not to their end.
    pub fn lost_lines(&self) -> u64 {
        self.lost_lines
    }
}

/// Lines that end in these bytes.
pub fn count(lines: &[u8]) -> u64 {
    lines.split(|byte| *byte == b'\n').count() as u64 - 1
}

/// How much was written, and the error if it was not all.
fn write_whole(out: &mut impl Write, lines: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while written < lines.len() {
        match out.write(&lines[written..]) {
            Ok(0) => return (written, Some(ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return (written, Some(e)),
        }
    }
    (written, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes this many bytes, then refuses.
    struct Full {
        taken: Vec<u8>,
        room: usize,
        error: i32,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::Error::from_raw_os_error(self.error));
            }
            self.taken.extend(&bytes[..count]);
            self.room -= count;
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn full(room: usize, error: i32) -> Stream<Full> {
        let taken = Vec::new();
        Stream::new(Full { taken, room, error }, true)
    }

    #[test]
    fn what_is_not_written_is_counted_and_the_next_line_is_whole() {
        let mut stream = full(6, libc::ENOSPC);
        let said = stream.write(b"one\ntwo\nthree\n");
        assert_eq!(said.as_deref(), Some("no space left on device"));
        assert_eq!((stream.lost_lines(), stream.is_abandoned()), (2, false));
        assert_eq!(stream.write(b"four\n"), None);
        assert_eq!(stream.lost_lines(), 3);
        stream.out.room = 100;
        assert_eq!(stream.write(b"five\n"), None);
        assert_eq!(stream.lost_lines(), 3);
        assert_eq!(stream.out.taken, b"one\ntw\nfive\n");
    }

    #[test]
    fn a_reader_that_left_is_told_from_a_full_disk() {
        for (error, left) in [
            (libc::EPIPE, true),
            (libc::EIO, true),
            (libc::ENOSPC, false),
        ] {
            let mut stream = full(0, error);
            stream.write(b"one\n");
            assert_eq!(stream.is_abandoned(), left, "{error}");
        }
        let mut file = full(0, libc::EIO);
        file.is_terminal = false;
        file.write(b"one\n");
        assert!(!file.is_abandoned());
    }
}
