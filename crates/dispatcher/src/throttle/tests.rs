use std::time::Instant;

use hooklane_types::{ThrottleRate, UnixMillis};

use super::*;

const ALONE: Known = Known {
    dispatchers: 1,
    from_ms: 0,
};
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A clock whose zero was ten seconds ago: every bucket is full.
fn clock() -> impl Fn() -> Moment + Copy {
    let begun = Instant::now();
    move || Moment {
        wall: UnixMillis(0),
        monotonic_ms: 10_000 + begun.elapsed().as_millis() as u64,
    }
}

fn limits(limited: &[(u64, &Arc<Turnstile>)], known: Known, visitor: Visitor) -> Limits {
    let limited = limited
        .iter()
        .map(|(per_second, turnstile)| (ThrottleRate::try_from(*per_second).unwrap(), (*turnstile).clone()));
    Limits::of(limited, known, visitor)
}

#[tokio::test]
async fn many_that_ask_at_once_pass_as_far_apart_as_the_limit_says() {
    // Goal: of 20 at 50/s the n-th begins n - 5 intervals later at the earliest. Method: real time; only too early can fail.
    let clock = clock();
    let turnstile = Arc::new(Turnstile::default());
    let begun = Instant::now();
    let passes = (0..20).map(|_| async {
        let limits = limits(&[(50, &turnstile)], ALONE, Visitor::Back);
        limits.pass(clock, WAIT_MAX).await.unwrap();
        begun.elapsed()
    });
    let mut passed = futures_util::future::join_all(passes).await;
    passed.sort();
    for (n, passed) in passed.into_iter().enumerate() {
        let earliest = Duration::from_millis(20) * (n as u32).saturating_sub(4);
        assert!(passed >= earliest, "the {n}th after {passed:?}");
    }
    assert_eq!(turnstile.waiting(), 0);
}

#[tokio::test]
async fn under_two_limits_both_hold_and_nothing_is_taken_from_one_alone() {
    // Goal: with a slow limit in front, ten that give up take nothing from the quick one.
    let clock = clock();
    let (endpoint, application) = (Arc::default(), Arc::default());
    let both = limits(&[(5, &endpoint), (1, &application)], ALONE, Visitor::New);
    assert!(both.let_in(clock()));
    both.pass(clock, WAIT_MAX).await.unwrap();
    assert!(!both.let_in(clock()), "the application's next is a second away");
    for _ in 0..10 {
        assert_eq!(both.pass(clock, Duration::from_millis(1)).await, Err(NotNow));
    }
    let waited = Duration::from_millis(210);
    let endpoints = limits(&[(5, &endpoint)], ALONE, Visitor::New);
    assert!(
        endpoints.pass(clock, waited).await.is_ok(),
        "its next was 200 ms away"
    );
    let delay = both.reserve(clock()).unwrap().delay;
    assert!(delay > Duration::from_millis(300), "{delay:?}");
}

#[tokio::test]
async fn a_slow_endpoint_does_not_hold_up_the_others_of_its_application() {
    // Goal: while one waits for its endpoint's turn, another endpoint's pass under the application's limit.
    let clock = clock();
    let (slow, application) = (Arc::default(), Arc::default());
    let of_slow = limits(&[(1, &slow), (1_000, &application)], ALONE, Visitor::Back);
    of_slow.pass(clock, WAIT_MAX).await.unwrap();
    let others = async {
        for _ in 0..50 {
            let other = limits(&[(1_000, &application)], ALONE, Visitor::Back);
            other.pass(clock, WAIT_MAX).await.unwrap();
        }
    };
    let passed = tokio::select! {
        biased;
        _ = of_slow.pass(clock, WAIT_MAX) => false,
        () = others => true,
    };
    assert!(passed, "the slow one, which waits for a second, was first");
}

#[tokio::test]
async fn nothing_begins_before_the_number_of_dispatchers_is_known() {
    let clock = clock();
    let turnstile = Arc::default();
    let known = Known {
        dispatchers: 2,
        from_ms: clock().monotonic_ms + 5_000,
    };
    let unknown = limits(&[(1_000, &turnstile)], known, Visitor::Back);
    assert!(!unknown.let_in(clock()));
    let delay = unknown.reserve(clock()).unwrap().delay;
    assert!(delay > Duration::from_secs(4), "{delay:?}");
    assert!(Limits::none().let_in(clock()));
    assert_eq!(Limits::none().reserve(clock()), None);
}

#[tokio::test]
async fn no_more_wait_in_memory_than_a_limit_has_places_for() {
    // Goal: of 100 that all want to wait, 64 do and the others are told so at once.
    let clock = clock();
    let turnstile = Arc::default();
    let known = limits(&[(1, &turnstile)], ALONE, Visitor::Back);
    let passes = (0..100).map(|_| known.pass(clock, Duration::from_millis(50)));
    let began = Instant::now();
    let passed = futures_util::future::join_all(passes).await;
    assert_eq!(passed.iter().filter(|passed| passed.is_ok()).count(), 1);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(known.reserve(clock()).is_some());
}

#[test]
fn an_applications_limit_goes_with_its_rate() {
    let (kept, gone) = (
        ApplicationId::parse("app_a").unwrap(),
        ApplicationId::parse("app_b").unwrap(),
    );
    let all = ApplicationLimits::default();
    let before = all.of(&kept);
    all.of(&gone);
    let rate = ThrottleRate::try_from(5).unwrap();
    all.follow(&Registry::default().with_throttle_rates([(kept.clone(), rate)]));
    assert!(Arc::ptr_eq(&before, &all.of(&kept)));
    assert_eq!(all.lock().len(), 1);
}
