use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::ladder::{Hop, LEVELS_MS, next_hop};

fn pace(per_second: u64, dispatchers: u32) -> Pace {
    Pace::share(ThrottleRate::try_from(per_second).unwrap(), dispatchers)
}

fn delay_ms(throttle: &mut Throttle, now_ms: u64, pace: Pace) -> u64 {
    throttle
        .reserve(now_ms, pace, 0, 0)
        .reservation()
        .delay
        .as_millis() as u64
}

#[test]
fn a_share_is_the_limit_over_the_dispatchers_and_its_burst_a_tenth_of_a_second() {
    for (per_second, dispatchers, interval_ms, burst) in [
        (1, 1, 1_000.0, 1),
        (10, 1, 100.0, 1),
        (10, 4, 400.0, 1),
        (500, 1, 2.0, 50),
        (500, 5, 10.0, 10),
        (10, 0, 100.0, 1),
    ] {
        let pace = pace(per_second, dispatchers);
        assert_eq!((pace.interval_ms, pace.burst()), (interval_ms, burst));
    }
}

#[test]
fn a_process_begins_with_an_empty_bucket() {
    let pace = pace(10, 1);
    let mut throttle = Throttle::default();
    assert_eq!(throttle.wait(30, pace), Duration::from_millis(70));
    assert!(!throttle.take(99, pace));
    assert!(throttle.take(100, pace));
    assert!(!throttle.take(200, pace), "the clock may have stood at 100.999");
    assert!(throttle.take(201, pace));
}

#[test]
fn whoever_comes_first_hand_goes_behind_the_line_and_whoever_comes_back_does_not() {
    let pace = pace(10, 1);
    let mut throttle = Throttle::default();
    assert!(throttle.take(1_000, pace));
    assert!(throttle.lets_in(1_000, pace, 0, Visitor::New));
    assert!(throttle.lets_in(1_010, pace, 1, Visitor::New));
    assert!(
        !throttle.lets_in(1_000, pace, 2, Visitor::New),
        "the third would wait too long"
    );
    assert!(throttle.lets_in(1_000, pace, 2, Visitor::Back));
    assert_eq!(delay_ms(&mut throttle, 1_000, pace), 101);
    assert_eq!(delay_ms(&mut throttle, 1_000, pace), 201);
    assert!(!throttle.lets_in(1_050, pace, 0, Visitor::New), "there is a line");
    assert!(throttle.lets_in(1_050, pace, 0, Visitor::Back));
    assert!(
        throttle.lets_in(1_400, pace, 0, Visitor::New),
        "the line has passed"
    );
}

#[test]
fn a_limit_that_is_raised_moves_the_end_of_the_line_nearer() {
    let mut throttle = Throttle::default();
    for _ in 0..100 {
        throttle.reserve(1_000, pace(1, 1), 0, 0);
    }
    assert_eq!(delay_ms(&mut throttle, 1_000, pace(1, 1)), 100_000);
    assert!(delay_ms(&mut throttle, 1_000, pace(10, 1)) <= 10_100);
}

#[test]
fn nothing_comes_back_before_it_may_and_the_later_of_two_limits_holds() {
    let (slow, quick) = (pace(1, 1), pace(10, 1));
    let mut throttle = Throttle::default();
    let first = throttle.reserve(0, quick, 0, 5_000);
    assert_eq!(first.reservation().delay, Duration::from_secs(5));
    let other = Throttle::default().reserve(0, slow, 10, 0);
    assert_eq!(first.later(other), other);
    assert_eq!(other.later(first).reservation().delay, Duration::from_secs(11));
}

#[test]
fn the_more_are_away_the_longer_they_stay_up_to_an_hour() {
    let pace = pace(10, 1);
    let longest = |count: u64| {
        let mut throttle = Throttle::default();
        let delays = (0..count).map(|n| delay_ms(&mut throttle, n / 10, pace));
        delays.max().unwrap()
    };
    assert!(longest(2_000) <= 200_000);
    assert!((190_000..=205_000).contains(&longest(5_000)));
    // 20,000 are a backlog of 2,000 s.
    assert!((450_000..=520_000).contains(&longest(20_000)));
    assert!(longest(400_000) <= DELAY_MAX.as_millis() as u64 + 1_000);
}

/// A limited endpoint, its dispatcher and the ladder, simulated: a backlog comes in at 5,000/s, a hop is late by up to 20 ms.
struct Simulation {
    /// When each attempt began, in milliseconds.
    begun_ms: Vec<u64>,
    /// How often deliveries parked, all together.
    parks: u64,
    /// How many messages the ladder carried for that.
    hops: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    Turn,
    Arrival(bool),
}

fn simulate(backlog: u64, pace: Pace) -> Simulation {
    let mut throttle = Throttle::default();
    let mut random = 1u64;
    let mut late_ms = move || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % 20
    };
    let mut future: BinaryHeap<_> = (0..backlog)
        .map(|n| Reverse((n / 5, Happens::Arrival(false))))
        .collect();
    let mut waiting = VecDeque::new();
    let mut next_turn_ms = 0;
    let mut run = Simulation {
        begun_ms: Vec::new(),
        parks: 0,
        hops: 0,
    };
    while let Some(Reverse((now_ms, what))) = future.pop() {
        if let Happens::Arrival(is_back) = what {
            let visitor = if is_back { Visitor::Back } else { Visitor::New };
            let behind = waiting.len() as u32;
            if behind < 64 && throttle.lets_in(now_ms, pace, behind, visitor) {
                waiting.push_back(());
            } else {
                run.parks += 1;
                let mut hop = throttle.reserve(now_ms, pace, behind, 0).reservation().hop;
                let mut back_ms = now_ms;
                loop {
                    run.hops += 1;
                    back_ms += LEVELS_MS[hop.level] + late_ms();
                    match next_hop(hop.remaining_ms) {
                        Some(next) => hop = next,
                        None => break,
                    }
                }
                future.push(Reverse((back_ms, Happens::Arrival(true))));
            }
        }
        while !waiting.is_empty() && throttle.take(now_ms, pace) {
            waiting.pop_front();
            run.begun_ms.push(now_ms);
        }
        if !waiting.is_empty() && next_turn_ms <= now_ms {
            let wait_ms = throttle.wait(now_ms, pace).as_millis() as u64;
            next_turn_ms = now_ms + wait_ms;
            future.push(Reverse((now_ms + wait_ms, Happens::Turn)));
        }
    }
    run
}

/// Goal: a backlog drains at nearly its limit, and each delivery parks a few times however long the backlog is. By simulation.
#[test]
fn a_backlog_drains_at_its_limit_and_parks_a_bounded_number_of_times() {
    for (per_second, backlog) in [
        (1, 150),
        (10, 500),
        (10, 5_000),
        (10, 100_000),
        (100, 5_000),
        (1_000, 5_000),
    ] {
        let run = simulate(backlog, pace(per_second, 1));
        let name = format!("{backlog} at {per_second}/s");
        assert_eq!(run.begun_ms.len() as u64, backlog, "{name}");
        let best_ms = backlog * 1_000 / per_second;
        let drained_ms = *run.begun_ms.last().unwrap();
        assert!(
            drained_ms < best_ms * 3 / 2 + 2_000,
            "{name}: {drained_ms} ms, at best {best_ms}"
        );
        assert!(run.parks < 8 * backlog, "{name}: {} parks", run.parks);
    }
}

/// The most that began within any time of this length.
fn most_within(begun_ms: &[f64], window_ms: f64) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at_ms) in begun_ms.iter().enumerate() {
        while at_ms - begun_ms[first] > window_ms {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

proptest! {
    /// Goal: never more than rate × time + burst in any window, for any order of calls and whatever else is asked.
    #[test]
    fn no_window_has_more_than_its_rate_and_one_burst(
        per_second in 1u64..3_000, dispatchers in 1u32..5,
        steps in proptest::collection::vec((0u64..40_000, 0u8..4, 0u32..100), 1..400),
        windows_ms in proptest::collection::vec(0u64..20_000, 5),
    ) {
        let pace = pace(per_second, dispatchers);
        let mut throttle = Throttle::default();
        let mut now_us = 0;
        let mut begun_ms = Vec::new();
        for (passed, action, waiting) in steps {
            // Mostly little time passes, sometimes much.
            now_us += if passed > 39_000 { passed * 100 } else { passed / 4 };
            let now_ms = now_us / 1_000;
            match action {
                0 => {
                    throttle.reserve(now_ms, pace, waiting, 0);
                }
                1 => {
                    throttle.lets_in(now_ms, pace, waiting, Visitor::New);
                }
                _ => {
                    let may = throttle.wait(now_ms, pace).is_zero();
                    let took = throttle.take(now_ms, pace);
                    prop_assert_eq!(took, may);
                    if took {
                        begun_ms.push(now_us as f64 / 1_000.0);
                    }
                }
            }
        }
        for window_ms in windows_ms {
            let allowed = window_ms as f64 / pace.interval_ms + f64::from(pace.burst());
            prop_assert!(most_within(&begun_ms, window_ms as f64) as f64 <= allowed + 1e-6);
        }
    }

    /// Goal: shares that change as dispatchers come and go let through no more than the largest of them.
    #[test]
    fn a_share_that_changes_lets_through_no_more_than_the_largest(
        per_second in 1u64..500,
        steps in proptest::collection::vec((0u64..50, 1u32..6), 1..400),
    ) {
        let mut throttle = Throttle::default();
        let mut now_ms = 0;
        let mut begun_ms = Vec::new();
        for (passed_ms, dispatchers) in steps {
            now_ms += passed_ms;
            if throttle.take(now_ms, pace(per_second, dispatchers)) {
                begun_ms.push(now_ms as f64);
            }
        }
        let largest = pace(per_second, 1);
        for window_ms in [0.0, 100.0, 1_000.0, 5_000.0] {
            let allowed = window_ms / largest.interval_ms + f64::from(largest.burst());
            prop_assert!(most_within(&begun_ms, window_ms) as f64 <= allowed + 1e-6);
        }
    }

    #[test]
    fn any_turn_lies_within_its_bounds_and_its_hops_reach_it(
        steps in proptest::collection::vec((any::<u32>(), 1u64..65_536, 1u32..100, 0u32..65, 0u64..10_000), 1..50),
    ) {
        let mut throttle = Throttle::default();
        for (now_ms, per_second, dispatchers, waiting, blocked_ms) in steps {
            let now_ms = u64::from(now_ms);
            let pace = pace(per_second, dispatchers);
            let longest_ms = throttle.begin_ms(now_ms as f64, pace, waiting) - now_ms as f64;
            let turn = throttle.reserve(now_ms, pace, waiting, now_ms + blocked_ms);
            let Hop { level, remaining_ms } = turn.reservation().hop;
            prop_assert!(turn.delay_ms >= STEP_MS);
            prop_assert!(turn.delay_ms <= longest_ms.max(blocked_ms as f64) + AWAY_MAX_MS);
            prop_assert!((LEVELS_MS[level] + remaining_ms) as f64 >= turn.delay_ms);
        }
    }
}
