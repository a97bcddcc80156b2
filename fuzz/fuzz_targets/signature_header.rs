//! Any text in any of the headers that a verifier reads: it neither panics nor passes unless somebody signed it. The
//! property itself stands in the tests of hooklane-signing, where it runs on stable too.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/signing/tests/property/signature_header.rs"]
mod signature_header;

fuzz_target!(|text: &str| signature_header::check(text));
