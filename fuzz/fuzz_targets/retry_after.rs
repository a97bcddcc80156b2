//! Any text as `Retry-After`: read without panic and within its bound. The property itself stands in the tests of
//! hooklane-policy, where it runs on stable too.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/policy/tests/property/retry_after.rs"]
mod retry_after;

fuzz_target!(|text: &str| retry_after::check(text));
