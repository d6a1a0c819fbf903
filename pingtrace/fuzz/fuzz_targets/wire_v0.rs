//! Packets of version 0.
#![no_main]

use pingtrace::wire::protocol::Version;

libfuzzer_sys::fuzz_target!(|data: &[u8]| pingtrace_fuzz::check(data, Version::V0));
