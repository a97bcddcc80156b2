//! Any text as an endpoint's URL: what the guard judges is the host that the URL has. The property itself stands in the
//! tests of hooklane-egress, where it runs on stable too.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/egress/tests/property/url_guard.rs"]
mod url_guard;

fuzz_target!(|text: &str| {
    url_guard::check(text);
    url_guard::check(&format!("http://{text}/"));
});
