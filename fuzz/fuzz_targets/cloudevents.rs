//! Any bytes as a CloudEvent, in every mode: read without panic, and what is read can be sent. The property itself stands in the tests of
//! hooklane-types, where it runs on stable too.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/types/tests/property/cloudevents.rs"]
mod cloudevents;

fuzz_target!(|bytes: &[u8]| cloudevents::check(bytes));
