//! `Retry-After` from arbitrary and from nearly valid text, by properties.

use proptest::prelude::*;

#[path = "property/retry_after.rs"]
mod retry_after;

proptest! {
    #[test]
    fn any_text_is_read_within_the_bound(text: String) {
        retry_after::check(&text);
    }

    #[test]
    fn digits_are_seconds(text in "[+-]?[0-9]{1,25}") {
        retry_after::check(&text);
    }

    #[test]
    fn dates_in_any_form_are_read_within_the_bound(
        day in "(Mon|Tue|Sun|Sunday|Xyz)(,)? ",
        date in "([0-9]{2} [A-Z][a-z]{2} [0-9]{4}|[0-9]{2}-(Jan|Nov)-[0-9]{2}|Nov ( |[0-9])[0-9])",
        rest in " [0-9]{2}:[0-9]{2}:[0-9]{2}( GMT| [0-9]{4})",
    ) {
        retry_after::check(&format!("{day}{date}{rest}"));
    }
}
