//! Compiles the kernel programs and generates their skeletons into `OUT_DIR`.

use libbpf_cargo::SkeletonBuilder;
use std::env;
use std::path::{Path, PathBuf};

const OBJECTS: &[&str] = &[
    "pingtrace",
    "inband",
    "recorder",
    "iofsstat",
    "burn",
    "ids",
    "memleak",
    "profile",
];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo:rerun-if-changed=include");
    for name in OBJECTS {
        compile(name, &out);
    }
}

fn compile(name: &str, out: &Path) {
    let source = format!("src/{name}.bpf.c");
    println!("cargo:rerun-if-changed={source}");
    SkeletonBuilder::new()
        .source(&source)
        .clang_args(["-Iinclude", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-mcpu=v3"])
        .build_and_generate(out.join(format!("{name}.skel.rs")))
        .unwrap_or_else(|e| panic!("cannot compile {source}: {e:#}\nclang 11 or newer and libelf are needed (scripts/setup.sh installs them)"));
}
