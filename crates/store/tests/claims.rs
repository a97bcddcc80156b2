//! The suite of claims, on every implementation.

mod suite;

use anyhow::Result;
use hooklane_store::ProcessClaims;

macro_rules! on_every_implementation {
    ($(
        $name:ident
    )*) => {
        mod process {
            $(
                #[tokio::test]
                async fn $name() -> super::Result<()> {
                    super::suite::$name(&super::ProcessClaims::new(3)).await
                }
            )*
        }
    };
}

on_every_implementation! {
    a_repeat_is_noticed_in_flight_and_after
    a_redelivered_message_is_no_duplicate_of_itself_unless_settled
    a_claim_that_was_given_back_leaves_no_trace
    applications_are_not_mixed_up
    the_window_is_bounded_and_the_oldest_yields
}
