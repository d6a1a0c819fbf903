//! One program for all targets; the environment variable `TARGET` names the one that is run.
#![no_main]

use pingtrace::fuzz::Target;
use std::env;
use std::sync::LazyLock;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = env::var("TARGET").unwrap_or_default();
    Target::from_name(&name).unwrap_or_else(|| panic!("TARGET is '{name}', which is no target"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET.run(data));
