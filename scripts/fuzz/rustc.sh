#!/usr/bin/env bash
# Compiles this project's crates for libFuzzer (cargo's RUSTC_WORKSPACE_WRAPPER): counters of coverage, as
# `cargo fuzz` asks for them, in optimised code with all of its checks. Other crates stay as they are, and
# build scripts, which run without libFuzzer.
set -euo pipefail
[[ " $* " != *" build_script_build "* ]] || exec "$@"
exec "$@" --cfg fuzzing -C opt-level=1 -C overflow-checks=on -C debug-assertions=on \
    -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares
