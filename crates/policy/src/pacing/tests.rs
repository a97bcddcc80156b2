use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::ladder::{LEVELS_MS, next_hop};

const ROOM: Room = Room {
    concurrency: 16,
    waiting: 0,
};

fn walk_ms(mut hop: Hop) -> u64 {
    let mut sum_ms = LEVELS_MS[hop.level];
    while let Some(next) = next_hop(hop.remaining_ms) {
        hop = next;
        sum_ms += LEVELS_MS[hop.level];
    }
    sum_ms
}

fn pacer(estimate_ms: u64) -> Pacer {
    let mut pacer = Pacer::new();
    (0..200).for_each(|_| pacer.observe(Duration::from_millis(estimate_ms)));
    pacer
}

fn reserve(pacer: &mut Pacer, count: u32) {
    for _ in 0..count {
        pacer.reserve(0, ROOM, 0);
    }
}

#[test]
fn a_reservation_lies_at_least_one_step_ahead() {
    let first = pacer(10).reserve(5_000, ROOM, 0);
    assert_eq!(first.delay, Duration::from_millis(100));
    assert_eq!(
        first.hop,
        Hop {
            level: 0,
            remaining_ms: 0
        }
    );
}

#[test]
fn slots_lie_apart_by_what_an_attempt_takes_of_the_endpoints_room() {
    let mut pacer = pacer(1_600);
    let delays: Vec<u64> = (0..100)
        .map(|_| pacer.reserve(0, ROOM, 0).delay.as_millis() as u64)
        .collect();
    assert!(delays.is_sorted());
    // 1,600 ms / 16, of which 0.8 are given out.
    assert_eq!(delays[99] - delays[49], 50 * 125);
}

#[test]
fn slots_that_have_passed_are_free_again() {
    let mut pacer = pacer(1_600);
    reserve(&mut pacer, 100);
    assert_eq!(
        pacer.reserve(100 * 125, ROOM, 0).delay,
        Duration::from_millis(100)
    );
}

#[test]
fn a_paused_or_sick_endpoints_first_slot_is_when_it_is_free_again() {
    let mut pacer = pacer(1_600);
    assert_eq!(pacer.reserve(1_000, ROOM, 31_000).delay, Duration::from_secs(30));
    assert_eq!(
        pacer.reserve(1_000, ROOM, 31_000).delay,
        Duration::from_millis(30_125)
    );
    assert_eq!(
        pacer.reserve(11_000, ROOM, 31_000).delay,
        Duration::from_millis(20_250)
    );
    // It recovered early: those who waited keep their places, the newcomer comes soon after now.
    assert_eq!(pacer.reserve(12_000, ROOM, 0).delay, Duration::from_millis(375));
}

#[test]
fn nobody_waits_longer_than_the_bound_and_those_without_a_slot_are_spread() {
    let mut pacer = pacer(15_000);
    let delays: Vec<u64> = (0..10_000)
        .map(|_| pacer.reserve(0, ROOM, 0).delay.as_millis() as u64)
        .collect();
    assert!(delays.iter().all(|delay| *delay <= DELAY_MAX.as_millis() as u64));
    let without = &delays[500..];
    let early = without.iter().filter(|delay| **delay < 250_000).count();
    assert!(without.iter().all(|delay| *delay >= 200_000));
    assert!(
        (without.len() * 45 / 100..without.len() * 55 / 100).contains(&early),
        "{early} in the first half"
    );
}

#[test]
fn the_queue_gets_shorter_when_the_endpoint_recovers() {
    let mut pacer = pacer(15_000);
    reserve(&mut pacer, 150);
    assert!(pacer.reserve(0, ROOM, 0).delay > Duration::from_secs(150));
    (0..40).for_each(|_| pacer.observe(Duration::from_millis(50)));
    assert!(pacer.estimate() < Duration::from_millis(150));
    assert!(pacer.reserve(0, ROOM, 0).delay < Duration::from_secs(3));
}

/// An endpoint, its dispatcher and the ladder, simulated: all deliveries come in at 5,000/s, an attempt takes from half to
/// one and a half times `attempt_ms`, a hop is late by up to 10 ms.
struct Simulation {
    /// How often deliveries parked, all together.
    parks: u64,
    /// When the last attempt ended.
    drained_ms: u64,
}

/// What happens next: at a time (µs), a delivery arrives or an attempt ends.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    End,
    Arrival,
}

fn simulate(backlog: u64, attempt_ms: u64, room: Room) -> Simulation {
    let mut pacer = Pacer::new();
    let mut random = 1u64;
    let mut below = move |n: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % n
    };
    let mut future: BinaryHeap<_> = (0..backlog)
        .map(|n| Reverse((n * 200, Happens::Arrival, 0)))
        .collect();
    let mut waiting = VecDeque::new();
    let (mut busy, mut parks, mut now_us) = (0, 0, 0);
    while let Some(Reverse((at_us, what, took_us))) = future.pop() {
        now_us = at_us;
        match what {
            Happens::End => {
                busy -= 1;
                pacer.observe(Duration::from_micros(took_us));
            }
            Happens::Arrival if busy < room.concurrency || waiting.len() < room.waiting as usize => {
                waiting.push_back(())
            }
            Happens::Arrival => {
                parks += 1;
                let mut hop = pacer.reserve(now_us / 1000, room, 0).hop;
                let mut back_us = now_us;
                loop {
                    back_us += LEVELS_MS[hop.level] * 1000 + below(10_000);
                    match next_hop(hop.remaining_ms) {
                        Some(next) => hop = next,
                        None => break,
                    }
                }
                future.push(Reverse((back_us, Happens::Arrival, 0)));
            }
        }
        while busy < room.concurrency && waiting.pop_front().is_some() {
            busy += 1;
            let took_us = attempt_ms * 500 + below(attempt_ms * 1000);
            future.push(Reverse((now_us + took_us, Happens::End, took_us)));
        }
    }
    Simulation {
        parks,
        drained_ms: now_us / 1000,
    }
}

/// Goal: a backlog costs few rounds and leaves the endpoint busy, for slow and quick endpoints, with and without a waiting
/// room. By simulation.
#[test]
fn a_backlog_of_10_000_parks_less_than_three_times_each_and_keeps_the_endpoint_busy() {
    let backlog = 10_000;
    for (attempt_ms, waiting) in [
        (100, 0),
        (100, 16),
        (100, 64),
        (200, 16),
        (20, 16),
        (20, 64),
        (10, 64),
    ] {
        let room = Room {
            concurrency: 16,
            waiting,
        };
        let run = simulate(backlog, attempt_ms, room);
        let best_ms = backlog * attempt_ms / 16;
        assert!(
            run.drained_ms < 3 * best_ms,
            "{attempt_ms} ms, {waiting} waiting: {} ms, at best {best_ms}",
            run.drained_ms
        );
        assert!(
            run.parks < 3 * backlog,
            "{attempt_ms} ms, {waiting} waiting: {} parks",
            run.parks
        );
    }
}

proptest! {
    #[test]
    fn reservations_rise_while_nothing_changes(
        estimate_ms in 1u64..60_000, concurrency in 0u32..1_000, waiting in 0u32..1_000, count in 1usize..500,
    ) {
        let mut pacer = pacer(estimate_ms);
        let room = Room { concurrency, waiting };
        let mut slots: Vec<Duration> = (0..count).map(|_| pacer.reserve(7, room, 0).delay).collect();
        slots.retain(|delay| *delay <= Duration::from_millis(SLOTS_AHEAD_MS as u64));
        prop_assert!(slots.is_sorted());
    }

    #[test]
    fn any_reservation_lies_within_its_bounds_and_its_hops_reach_it(
        steps in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>(), 0u64..100_000), 1..50),
    ) {
        let mut pacer = Pacer::new();
        for (now_ms, free_from_ms, concurrency, waiting, attempt_ms) in steps {
            pacer.observe(Duration::from_millis(attempt_ms));
            let Reservation { delay, hop } = pacer.reserve(now_ms, Room { concurrency, waiting }, free_from_ms);
            prop_assert!(delay >= Duration::from_millis(100) && delay <= DELAY_MAX);
            let walked_ms = walk_ms(hop);
            prop_assert!(walked_ms >= delay.as_millis() as u64);
        }
    }
}
