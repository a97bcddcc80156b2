//! Any bytes as an internal message: read without panic, and what is read is written as the same. The property itself stands in the tests of
//! hooklane-types, where it runs on stable too.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/types/tests/property/envelope.rs"]
mod envelope;

fuzz_target!(|bytes: &[u8]| envelope::check(bytes));
