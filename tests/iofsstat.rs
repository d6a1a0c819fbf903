//! iofsstat: four processes at once write and read a file system of their own on a loop device, each
//! in another way, and every byte has to be theirs.

use super::harness::{Finished, alone, finish, kill, program};
use serde_json::Value;
use std::ffi::CString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const SCHEMA: &str = include_str!("../report/schema/pingtrace.schema.json");
const CONTAINER: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const USAGE: i32 = 2;
const FAILED: i32 = 1;
const BLOCK: usize = 4096;
const MIB: usize = 1 << 20;

fn run(command: &str, args: &[&str]) -> String {
    let done = Command::new(command).args(args).output();
    let done = done.unwrap_or_else(|e| panic!("{command}: {e}; scripts/setup.sh installs it"));
    let (out, err) = [&done.stdout, &done.stderr]
        .map(|text| String::from_utf8_lossy(text).trim().to_owned())
        .into();
    assert!(done.status.success(), "{command} {args:?}: {err}");
    out
}

/// A file system on a loop device on a temporary file.
pub struct Disk {
    directory: tempfile::TempDir,
    device: String,
    mounted: bool,
}

impl Disk {
    pub fn make(kind: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        let file = fs::File::create(&image).unwrap();
        file.set_len(512 << 20).unwrap();
        let image = image.to_str().unwrap();
        run(&format!("mkfs.{kind}"), &["-q", image]);
        let device = run("losetup", &["--find", "--show", image]);
        let mut disk = Self {
            directory,
            device,
            mounted: false,
        };
        fs::create_dir(disk.path("")).unwrap();
        let at = disk.path("");
        run("mount", &[&disk.device, at.to_str().unwrap()]);
        disk.mounted = true;
        disk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("mnt").join(name)
    }

    fn name(&self) -> &str {
        self.device.strip_prefix("/dev/").unwrap()
    }

    /// None of its dentries and inodes is in memory: it is a copy on another device, as the old one
    /// stays mounted in namespaces that others made meanwhile.
    pub fn mount_copy(&mut self) {
        let at = self.path("");
        let at = at.to_str().unwrap();
        run("umount", &[at]);
        self.mounted = false;
        let image = |name| self.directory.path().join(name);
        let (image, copy) = (image("image"), image("copy"));
        run("losetup", &["--detach", &self.device]);
        let [from, to] = [&image, &copy].map(|path| path.to_str().unwrap());
        run("cp", &["--sparse=always", from, to]);
        fs::rename(&copy, &image).unwrap();
        self.device = run("losetup", &["--find", "--show", from]);
        run("mount", &[&self.device, at]);
        self.mounted = true;
    }

    /// Everything is written, and nothing of it stays in memory.
    fn settle(&self) {
        run("sync", &["-f", self.path("").to_str().unwrap()]);
        fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let at = self.path("");
            let _ = Command::new("umount").arg(at).status();
        }
        let detach = ["--detach", &self.device];
        let _ = Command::new("losetup").args(detach).status();
    }
}

/// How a process works on its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AccessPattern {
    Buffered,
    Direct,
    Random4k,
    Mapped,
}

const PATTERNS: [(AccessPattern, &str, usize); 4] = [
    (AccessPattern::Buffered, "io-buffered", 8 * MIB),
    (AccessPattern::Direct, "io-direct", 2 * MIB),
    (AccessPattern::Random4k, "io-random", 3 * MIB),
    (AccessPattern::Mapped, "io-mapped", MIB),
];

/// What a forked child needs: it may not allocate.
struct Work {
    pattern: AccessPattern,
    write: bool,
    size: usize,
    comm: CString,
    path: CString,
    /// A file to which a 0 is written first.
    join: Option<CString>,
    buffer: *mut u8,
}

/// Starts a process of this name that does the work and ends; 0 is success.
fn fork(work: &Work) -> i32 {
    // SAFETY: the child makes system calls only, and ends by _exit.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::prctl(libc::PR_SET_NAME, work.comm.as_ptr());
            libc::_exit(child(work));
        }
        pid
    }
}

unsafe fn child(work: &Work) -> i32 {
    // SAFETY: paths are C strings, and the buffer is a mebibyte, aligned.
    unsafe {
        if let Some(join) = &work.join {
            let fd = libc::open(join.as_ptr(), libc::O_WRONLY);
            if libc::write(fd, c"0".as_ptr().cast(), 1) != 1 {
                return 2;
            }
        }
        // Each of its own pages is there: a file system may begin a read into others anew.
        libc::memset(work.buffer.cast(), 7, MIB);
        let direct = if work.pattern == AccessPattern::Direct {
            libc::O_DIRECT
        } else {
            0
        };
        let flags = libc::O_RDWR | libc::O_CREAT | direct;
        let fd = libc::open(work.path.as_ptr(), flags, 0o600);
        if fd < 0 {
            return 3;
        }
        let size = work.size as libc::off_t;
        if work.write && libc::ftruncate(fd, size) != 0 {
            return 4;
        }
        match work.pattern {
            AccessPattern::Mapped => map(work, fd),
            AccessPattern::Buffered | AccessPattern::Direct => each(work, fd, MIB, 1),
            // A step that shares no factor with the number of blocks reaches each one once.
            AccessPattern::Random4k => each(work, fd, BLOCK, 331),
        }
    }
}

/// Reads or writes the file in pieces, in steps.
unsafe fn each(work: &Work, fd: i32, piece: usize, step: usize) -> i32 {
    let pieces = work.size / piece;
    for k in 0..pieces {
        let at = (k * step % pieces * piece) as libc::off_t;
        // SAFETY: the buffer holds a piece.
        let done = unsafe {
            if work.write {
                libc::pwrite(fd, work.buffer.cast(), piece, at)
            } else {
                libc::pread(fd, work.buffer.cast(), piece, at)
            }
        };
        if done != piece as isize {
            return 5;
        }
    }
    0
}

/// Touches each page of the file.
unsafe fn map(work: &Work, fd: i32) -> i32 {
    let access = libc::PROT_READ | if work.write { libc::PROT_WRITE } else { 0 };
    // SAFETY: a new mapping, used within its length.
    unsafe {
        let base = libc::mmap(
            std::ptr::null_mut(),
            work.size,
            access,
            libc::MAP_SHARED,
            fd,
            0,
        );
        if base == libc::MAP_FAILED {
            return 6;
        }
        for page in 0..work.size / BLOCK {
            let byte = base.cast::<u8>().add(page * BLOCK);
            if work.write {
                byte.write_volatile(7);
            } else {
                byte.read_volatile();
            }
        }
    }
    0
}

/// Lets four processes work at once; their ids, in the order of [`PATTERNS`].
fn four(disk: &Disk, write: bool, join: Option<&Path>) -> Vec<u64> {
    let c_string = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
    let layout = std::alloc::Layout::from_size_align(MIB, BLOCK).unwrap();
    // SAFETY: the layout has a size; the memory is kept until the test ends.
    let buffer = unsafe { std::alloc::alloc_zeroed(layout) };
    let works = PATTERNS.map(|(pattern, comm, size)| Work {
        pattern,
        write,
        size,
        comm: CString::new(comm).unwrap(),
        path: c_string(&disk.path(comm)),
        join: join.map(c_string),
        buffer,
    });
    let pids: Vec<_> = works.iter().map(fork).collect();
    for (pid, work) in pids.iter().zip(&works) {
        let mut status = 0;
        // SAFETY: waits for a child of ours.
        assert_eq!(unsafe { libc::waitpid(*pid, &raw mut status, 0) }, *pid);
        assert_eq!(status, 0, "{:?} of {}", work.pattern, disk.device);
    }
    // SAFETY: nobody uses it any more.
    unsafe { std::alloc::dealloc(buffer, layout) };
    pids.into_iter()
        .map(|pid| pid.try_into().unwrap())
        .collect()
}

/// iofsstat, counting; ended by SIGINT.
struct Running(Child);

impl Running {
    fn start(args: &[&str]) -> Self {
        let mut command = program();
        command.arg("iofsstat").args(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("counting") {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it ended");
        }
        // What is left of it must not fill the pipe.
        std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
        Self(child)
    }

    /// All lines, each as the schema says.
    fn end(mut self) -> Vec<Value> {
        kill(self.0.id(), libc::SIGINT);
        let mut text = String::new();
        let out = self.0.stdout.as_mut().unwrap();
        out.read_to_string(&mut text).unwrap();
        assert!(self.0.wait().unwrap().success(), "{text}");
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let schema = jsonschema::validator_for(&schema).unwrap();
        let valid = |line: &str| {
            let value: Value = serde_json::from_str(line).expect(line);
            let faults: Vec<_> = schema.iter_errors(&value).map(|e| e.to_string()).collect();
            assert!(faults.is_empty(), "{faults:#?} in {line}");
            value
        };
        text.lines().map(valid).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A sum over the rows that are so.
fn sum(lines: &[Value], key: &str, so: impl Fn(&Value) -> bool) -> u64 {
    let rows = lines.iter().filter(|l| l["type"] == "io" && so(l));
    rows.map(|l| l[key].as_u64().unwrap()).sum()
}

fn is_part(row: &Value) -> bool {
    row.get("via").is_some()
}

/// Nothing was lost, and the rows of the device account for all it did.
fn accounted(lines: &[Value], disk: &Disk) {
    let summary = lines.last().unwrap();
    assert_eq!(
        (&summary["type"], &summary["lost"]),
        (&"summary".into(), &0.into()),
        "{summary}"
    );
    let devices = lines.iter().filter(|l| l["type"] == "device");
    let devices: Vec<_> = devices.filter(|l| l["dev"] == disk.name()).collect();
    assert!(!devices.is_empty());
    for device in devices {
        assert_eq!(device["agree"], true, "{device}");
        for (of_rows, key) in [("rows_rd_bytes", "rd_bytes"), ("rows_wr_bytes", "wr_bytes")] {
            let rows = sum(lines, key, |l| !is_part(l) && l["time"] == device["time"]);
            assert_eq!(device[of_rows], rows, "{key} of {device}");
        }
    }
}

/// The file systems that this kernel has; which it has not is said.
fn kinds() -> Vec<&'static str> {
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    let has = |kind: &&str| {
        let has = known.lines().any(|l| l.trim() == *kind);
        if !has {
            println!("not tested: {kind}, which is not in /proc/filesystems");
        }
        has
    };
    let kinds: Vec<_> = ["ext4", "xfs", "btrfs"].into_iter().filter(has).collect();
    assert!(kinds.contains(&"ext4"));
    kinds
}

const ENDLESS: [&str; 6] = ["-T", "0", "-c", "600", "-j", "-d"];

#[test]
fn writers_and_readers_have_every_byte_of_theirs() {
    let _alone = alone();
    for kind in kinds() {
        let disk = Disk::make(kind);
        let running = Running::start(&[&ENDLESS[..], &[disk.name(), "-m"]].concat());
        let writers = four(&disk, true, None);
        disk.settle();
        let written = running.end();
        accounted(&written, &disk);
        let running = Running::start(&[&ENDLESS[..], &[disk.name()]].concat());
        let readers = four(&disk, false, None);
        let read = running.end();
        accounted(&read, &disk);
        for (k, (pattern, comm, size)) in PATTERNS.iter().enumerate() {
            let path = disk.path(comm);
            let of_file = |l: &Value| l["file"] == path.to_str().unwrap();
            let by = |l: &Value| l["pid"] == writers[k] && l["comm"] == *comm;
            let others = |l: &Value| is_part(l) && of_file(l) && !by(l);
            assert_eq!(
                sum(&written, "wr_bytes", others),
                0,
                "{kind} {comm}: {written:#?}"
            );
            let own = |l: &Value| by(l) && is_part(l) && (of_file(l) || l["pages"] == "no_file");
            let wr = match sum(&written, "wr_bytes", own) {
                // Its own rows: no page of the file was in the page cache (btrfs goes that way).
                0 if *pattern == AccessPattern::Direct => sum(&written, "wr_bytes", by),
                parts => parts,
            };
            // A mapped page that is dirtied again while it is written goes to the disk twice.
            let twice = if *pattern == AccessPattern::Mapped {
                64 * 1024
            } else {
                0
            };
            assert!(
                (*size..=size + twice).contains(&(wr as usize)),
                "{kind} {comm}: {wr} of {size}: {written:#?}"
            );
            // Beside its data a reader may read what the file system keeps about it.
            let got = sum(&read, "rd_bytes", |l| l["pid"] == readers[k] && !is_part(l));
            assert!(
                (*size..size + 256 * 1024).contains(&(got as usize)),
                "{kind} {comm}: {got}"
            );
        }
        // The parts of a kernel thread's row are all of it.
        for row in written.iter().filter(|l| l["type"] == "io" && !is_part(l)) {
            let of_row = |l: &Value| is_part(l) && l["via_pid"] == row["pid"];
            let parts = sum(&written, "wr_bytes", of_row);
            let whole = row["wr_bytes"].as_u64().unwrap();
            assert!(parts == whole || parts == 0, "{kind}: {parts} of {row}");
            assert!(
                parts > 0 || !row["comm"].as_str().unwrap().starts_with("kworker"),
                "{row}"
            );
        }
        let size = PATTERNS.iter().map(|pattern| pattern.2 as u64).sum::<u64>();
        assert!(sum(&written, "wr_bytes", |l| !is_part(l)) >= size);
    }
}

#[test]
fn calls_and_mappings_count_for_process_file_and_container() {
    let _alone = alone();
    let cgroup = Cgroup::make();
    for kind in kinds() {
        let disk = Disk::make(kind);
        let running = Running::start(&[&ENDLESS[..], &[disk.name(), "-f"]].concat());
        let writers = four(&disk, true, Some(&cgroup.0.join("cgroup.procs")));
        disk.settle();
        let readers = four(&disk, false, None);
        let lines = running.end();
        assert_eq!(lines.last().unwrap()["lost"], 0);
        for (k, (_, comm, size)) in PATTERNS.iter().enumerate() {
            let path = disk.path(comm);
            for (pid, key, other) in [
                (writers[k], "wr_bytes", "rd_bytes"),
                (readers[k], "rd_bytes", "wr_bytes"),
            ] {
                let own = |l: &&Value| l["tgid"] == pid && l["file"] == path.to_str().unwrap();
                let rows: Vec<_> = lines.iter().filter(own).collect();
                assert_eq!(rows.len(), 1, "{kind} {comm}: {lines:#?}");
                let row = rows[0];
                assert_eq!(row[key], *size, "{kind} {comm}: {row}");
                assert_eq!(
                    (&row["comm"], &row["dev"]),
                    (&(*comm).into(), &disk.name().into())
                );
                // A page that is to be written by a mapping is read first.
                let mapped = *comm == "io-mapped" && key == "wr_bytes";
                assert!(mapped || row[other] == 0, "{kind} {comm}: {row}");
                let container = (key == "wr_bytes").then_some(CONTAINER);
                assert_eq!(
                    row.get("container").and_then(Value::as_str),
                    container,
                    "{row}"
                );
            }
        }
    }
}

/// `struct iocb` of `include/uapi/linux/aio_abi.h`.
#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    key: [u32; 2],
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    more: [u64; 2],
}

/// Bytes of each of these writes.
const PIECE: usize = 64 * 1024;
const PWRITE: u16 = 1;

/// Writes a piece of a file, and writes it to another one by sendfile, `copy_file_range`, splice by way
/// of a pipe, AIO and `io_uring`; 0 is success.
unsafe fn other_ways(from: &CString, to: &CString, buffer: *mut u8) -> i32 {
    let piece = PIECE as isize;
    // SAFETY: plain system calls on descriptors of our own and a buffer of a piece or more.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"io-other".as_ptr());
        let flags = libc::O_RDWR | libc::O_CREAT;
        let from = libc::open(from.as_ptr(), flags, 0o600);
        let to = libc::open(to.as_ptr(), flags, 0o600);
        let none = std::ptr::null_mut();
        if libc::pwrite(from, buffer.cast(), PIECE, 0) != piece
            || libc::sendfile(to, from, none, PIECE) != piece
        {
            return 2;
        }
        let (mut there, mut pipe) = (0, [0; 2]);
        libc::pipe(pipe.as_mut_ptr());
        libc::fcntl(pipe[0], libc::F_SETPIPE_SZ, PIECE);
        if libc::copy_file_range(from, &raw mut there, to, none, PIECE, 0) != piece {
            return 3;
        }
        there = 0;
        let piped = libc::splice(from, &raw mut there, pipe[1], none, PIECE, 0);
        if piped <= 0 || libc::splice(pipe[0], none, to, none, piped as usize, 0) != piped {
            return 4;
        }
        match by_aio(to, buffer) {
            0 => by_uring(to, buffer),
            failed => failed,
        }
    }
}

unsafe fn by_aio(to: i32, buffer: *mut u8) -> i32 {
    let (mut context, mut result) = (0_u64, [0_i64; 4]);
    let mut iocb = Iocb {
        opcode: PWRITE,
        fd: to.cast_unsigned(),
        buffer: buffer as u64,
        bytes: PIECE as u64,
        ..Iocb::default()
    };
    let mut list = [&raw mut iocb];
    // SAFETY: as the kernel wants them (include/uapi/linux/aio_abi.h).
    unsafe {
        libc::syscall(libc::SYS_io_setup, 1, &raw mut context);
        libc::syscall(libc::SYS_io_submit, context, 1, list.as_mut_ptr());
        libc::syscall(
            libc::SYS_io_getevents,
            context,
            1,
            1,
            result.as_mut_ptr(),
            0,
        );
        libc::syscall(libc::SYS_io_destroy, context);
    }
    if result[2] == PIECE as i64 { 0 } else { 5 }
}

unsafe fn by_uring(to: i32, buffer: *mut u8) -> i32 {
    const OP_WRITE: u8 = 23;
    const GETEVENTS: u32 = 1;
    const SQES: i64 = 0x1000_0000;
    // struct io_uring_params: offsets of the submission ring from word 10 on (head, tail, mask,
    // entries, flags, dropped, array).
    let mut params = [0_u32; 30];
    // SAFETY: as the kernel wants them (include/uapi/linux/io_uring.h); one entry, used once.
    unsafe {
        let ring = libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) as i32;
        if ring < 0 {
            return 6;
        }
        let shared = |length, at| {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(
                std::ptr::null_mut(),
                length,
                access,
                libc::MAP_SHARED,
                ring,
                at,
            )
        };
        let (queue, entries) = (shared(BLOCK, 0), shared(BLOCK, SQES));
        if queue == libc::MAP_FAILED || entries == libc::MAP_FAILED {
            return 7;
        }
        // struct io_uring_sqe in words: opcode, fd, offset, address, length.
        let entry = entries.cast::<u32>();
        let address = buffer as u64;
        let words = [
            0,
            to.cast_unsigned(),
            0,
            0,
            address as u32,
            (address >> 32) as u32,
        ];
        for (k, word) in words.into_iter().chain([PIECE as u32]).enumerate() {
            entry.add(k).write(word);
        }
        entry.cast::<u8>().write(OP_WRITE);
        let at = |bytes: u32| queue.cast::<u32>().add(bytes as usize / 4);
        at(params[16]).write(0);
        at(params[11]).write_volatile(1);
        let none = std::ptr::null::<u8>();
        let done = libc::syscall(libc::SYS_io_uring_enter, ring, 1, 1, GETEVENTS, none, 0);
        libc::close(ring);
        if done == 1 { 0 } else { 8 }
    }
}

#[test]
fn calls_other_than_read_and_write_count() {
    let _alone = alone();
    let disk = Disk::make("ext4");
    let names = ["from", "to"].map(|name| disk.path(name));
    let paths = names
        .each_ref()
        .map(|path| CString::new(path.as_os_str().as_bytes()).unwrap());
    let mut buffer = vec![7_u8; PIECE];
    let running = Running::start(&[&ENDLESS[..], &[disk.name(), "-f"]].concat());
    let mut status = 0;
    // SAFETY: the child makes system calls only, and ends by _exit.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::_exit(other_ways(&paths[0], &paths[1], buffer.as_mut_ptr()));
        }
        libc::waitpid(pid, &raw mut status, 0);
    }
    assert_eq!(status, 0);
    let lines = running.end();
    assert_eq!(lines.last().unwrap()["lost"], 0);
    let of = |key: &str, k: usize| {
        let file = names[k].to_str().unwrap();
        sum(&lines, key, |l| {
            l["comm"] == "io-other" && l["file"] == file
        }) / PIECE as u64
    };
    // Read by three and written by one; written by these three, AIO and io_uring.
    assert_eq!([of("wr_bytes", 0), of("rd_bytes", 0)], [1, 3], "{lines:#?}");
    assert_eq!([of("wr_bytes", 1), of("rd_bytes", 1)], [5, 0], "{lines:#?}");
}

/// A cgroup that is called as a container's.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make() -> Self {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mut unified = mounts.lines().filter_map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            (words[2] == "cgroup2").then(|| PathBuf::from(words[1]))
        });
        let at = unified
            .next()
            .expect("a cgroup2 file system")
            .join(CONTAINER);
        fs::create_dir(&at).unwrap();
        Self(at)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn pages_that_were_dirty_before_are_nobodys() {
    let _alone = alone();
    let disk = Disk::make("ext4");
    four(&disk, true, None);
    let running = Running::start(&[&ENDLESS[..], &[disk.name(), "-m"]].concat());
    disk.settle();
    let lines = running.end();
    accounted(&lines, &disk);
    let earlier = |l: &Value| is_part(l) && l["pages"] == "earlier";
    assert!(sum(&lines, "wr_bytes", earlier) > 0, "{lines:#?}");
    assert!(
        lines
            .iter()
            .filter(|l| earlier(l))
            .all(|l| l.get("comm").is_none())
    );
}

#[test]
fn text_log_and_thresholds() {
    let _alone = alone();
    let disk = Disk::make("ext4");
    let log = disk.directory.path().join("log");
    let mut command = program();
    let device = disk.device.clone();
    command.args(["iofsstat", "-d", &device, "-c", "2", "-P", "--log"]);
    let child = command
        .arg(&log)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1200));
    four(&disk, true, None);
    disk.settle();
    let done = finish(child);
    assert_eq!(done.status, 0, "{done:#?}");
    for words in [
        "device-stat",
        "r_rqm",
        "util%",
        "io-direct",
        "writes by size:",
        "agree",
        "0 lost",
    ] {
        assert!(done.stdout.contains(words), "no {words} in {}", done.stdout);
    }
    assert!(
        done.stderr.contains("is a stack on the file"),
        "{}",
        done.stderr
    );
    assert_eq!(fs::read_to_string(&log).unwrap(), done.stdout);
    let quiet = plain(&["-d", &device, "-u", "99", "-c", "1"]);
    assert!(quiet.stdout.contains("device-stat"), "{quiet:#?}");
    assert!(
        !quiet.stdout.contains(&format!("\n{}  ", disk.name())),
        "{quiet:#?}"
    );
}

fn plain(args: &[&str]) -> Finished {
    let mut command = program();
    command.arg("iofsstat").args(args);
    finish(
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    )
}

/// One line of complaint with these words.
fn refused(done: &Finished, status: i32, words: &[&str]) {
    let furniture =
        |l: &&str| !l.is_empty() && !l.starts_with("Usage:") && !l.starts_with("For more");
    let lines: Vec<_> = done.stderr.lines().filter(furniture).collect();
    assert_eq!(
        (done.status, lines.len(), done.stdout.as_str()),
        (status, 1, ""),
        "{done:#?}"
    );
    for word in words {
        assert!(lines[0].contains(word), "no '{word}' in: {}", lines[0]);
    }
}

#[test]
fn mistakes_are_said_in_one_line() {
    let cases: [(&[&str], &[&str]); 6] = [
        (&["-d", "nosuch0"], &["'nosuch0'", "-d", "/proc/diskstats"]),
        (&["-p", "4194305"], &["no process", "4194305", "-p"]),
        (&["-c", "0"], &["--interval", "100ms"]),
        (&["-u", "101"], &["--util", "not a percentage"]),
        (&["-f", "-m"], &["--fs", "--misc"]),
        (&["-j", "-o", "text"], &["--json", "--output"]),
    ];
    for (args, words) in cases {
        refused(&plain(args), USAGE, words);
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all"]);
    command.arg(program().get_program()).arg("iofsstat");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = finish(child.spawn().unwrap());
    refused(&done, FAILED, &["iofsstat", "root", "CAP_BPF"]);
}
