use super::*;

const TURNS: Turns = Turns { first: 10_000, stagger: 8_000, spare: SPARE_MS };

fn seat(rank: u32, of: u32) -> Seat {
    Seat { rank, of }
}

#[test]
fn rank_k_waits_for_k_turns_from_the_first_on() {
    for of in 2..6 {
        for rank in 0..of {
            let begins = 10_000 + 8_000 * u64::from(rank);
            assert_eq!(TURNS.wait(0, seat(rank, of)), begins);
            assert!(!TURNS.ours(begins - 1, seat(rank, of)));
            assert!(TURNS.ours(begins, seat(rank, of)) && TURNS.ours(begins + LOOK_MS - 1, seat(rank, of)));
            assert!(!TURNS.ours(begins + LOOK_MS, seat(rank, of)), "what comes next has to see it");
        }
    }
}

#[test]
fn at_any_age_one_seat_at_most_may_ask_and_whoever_is_next_can_see_it() {
    for of in 2..6 {
        let mut last: Option<(u64, u32)> = None;
        for age in (0..600_000).step_by(250) {
            let who: Vec<u32> = (0..of).filter(|rank| TURNS.ours(age, seat(*rank, of))).collect();
            assert!(who.len() <= 1, "{age}: {who:?}");
            let Some(who) = who.first() else { continue };
            assert!(
                last.is_none_or(|(then, former)| former == *who || age - then > SPARE_MS),
                "{last:?}, {who} at {age}"
            );
            last = Some((age, *who));
        }
    }
}

#[test]
fn what_it_says_to_wait_for_is_the_next_moment_to_ask() {
    for rank in 0..3 {
        for age in (0..200_000).step_by(777) {
            let wait = TURNS.wait(age, seat(rank, 3));
            assert!(TURNS.ours(age + wait, seat(rank, 3)), "{rank} at {age}: {wait}");
            assert!(wait == 0 || !TURNS.ours(age + wait - 1, seat(rank, 3)));
        }
    }
}

#[test]
fn each_has_one_turn_in_every_round() {
    for of in 1..6_u32 {
        for round in 0..50 {
            let first = round * u64::from(of);
            let mut ranks: Vec<u32> = (first..first + u64::from(of)).map(|number| whose(number, of)).collect();
            ranks.sort_unstable();
            assert_eq!(ranks, (0..of).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_replica_that_is_alone_waits_only_for_the_first_turn() {
    assert!(!TURNS.ours(9_999, seat(0, 1)));
    assert!((10_000..40_000).step_by(500).all(|age| TURNS.ours(age, seat(0, 1))));
}

#[test]
fn clocks_that_differ_by_anything_agree_now_and_then_for_as_long_as_a_look_takes() {
    let both = |age: u64, apart: u64, seat: Seat| TURNS.ours(age, seat) && TURNS.ours(age + apart, seat);
    for of in 2..4 {
        for rank in 0..of {
            for apart in (0..200_000).step_by(3_250) {
                let seat = seat(rank, of);
                // But for the moment in which one turn ends as the other begins.
                let long = |from: u64| (from + 1..from + LOOK_MS).step_by(500).all(|age| both(age, apart, seat));
                let soon = (0..3_000_000).step_by(250).find(|from| long(*from));
                assert!(soon.is_some(), "rank {rank} of {of}, {apart} ms apart");
            }
        }
    }
}
