//! Compiles the test-only kernel programs, as the crate `bpf` compiles the program's own.

use libbpf_cargo::SkeletonBuilder;
use std::env;
use std::path::PathBuf;

const OBJECTS: [&str; 5] = ["buckets", "empty", "hold", "siphash", "stall"];
const INCLUDE: &str = "../../../bpf/include";

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo:rerun-if-changed={INCLUDE}");
    for name in OBJECTS {
        let source = format!("{name}.bpf.c");
        println!("cargo:rerun-if-changed={source}");
        SkeletonBuilder::new()
            .source(&source)
            .clang_args([
                "-I",
                INCLUDE,
                "-Wall",
                "-Wextra",
                "-Werror",
                "-Wno-unused-parameter",
                "-mcpu=v3",
            ])
            .build_and_generate(out.join(format!("{name}.skel.rs")))
            .unwrap_or_else(|e| panic!("cannot compile {source}: {e:#}"));
    }
}
