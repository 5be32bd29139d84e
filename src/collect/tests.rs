//! The parts of a look that need no server. `tests/live_collect.rs` has the rest.

use super::votes::settled;
use super::*;

fn ballot(id: &str, port: u16, others: usize) -> Ballot {
    let primary = Endpoint::new("10.0.0.1", port);
    Ballot {
        id: id.into(),
        primary,
        run_id: String::new(),
        others,
        down: false,
        most_unlinked: false,
        in_sight: Vec::new(),
    }
}

fn vote(port: u16, others: usize) -> Vote {
    Some(ballot("", port, others))
}

#[test]
fn a_sentinel_listed_twice_has_one_vote() {
    let twin = || Some(ballot("a", 1, 2));
    assert_eq!(verdict(&[twin(), twin()], 3), None);
    assert_eq!(verdict(&[twin(), twin(), None], 3), Some(None));
}

#[test]
fn a_majority_is_counted_over_all_sentinels_that_anybody_knows() {
    let first = Some(Some(Endpoint::new("10.0.0.1", 1)));
    let cases: [(&[Vote], usize, _); 8] = [
        (&[], 0, Some(None)),
        (&[], 3, None),
        (&[vote(1, 2)], 3, None),
        (&[vote(1, 2), vote(1, 2)], 3, first.clone()),
        (&[vote(1, 2), None, vote(1, 2)], 3, first.clone()),
        (&[vote(1, 2), vote(2, 2), None], 3, Some(None)),
        (&[vote(1, 4), vote(1, 4)], 2, Some(None)),
        (&[vote(1, 0)], 1, first),
    ];
    for (votes, configured, expected) in cases {
        assert_eq!(verdict(votes, configured), expected, "{votes:?} of {configured}");
    }
}

#[test]
fn one_server_under_two_spellings_is_one() {
    let spelt = |host: &str, id: &str, run_id: &str| {
        Some(Ballot { primary: Endpoint::new(host, 1), run_id: run_id.into(), ..ballot(id, 1, 2) })
    };
    let two = [spelt("redis-0", "a", "r0"), spelt("10.0.0.1", "b", "r0")];
    assert!(verdict(&two, 3).flatten().is_some());
    assert_eq!(verdict(&[spelt("redis-0", "a", "r0"), spelt("10.0.0.1", "b", "r1")], 3), None);
    assert_eq!(verdict(&[spelt("redis-0", "a", ""), spelt("10.0.0.1", "b", "")], 3), None, "nobody knows");
}

#[test]
fn a_look_can_be_given_to_a_task() {
    fn given<T: Send>(_: impl FnOnce(&'static Target, Ask<'static>) -> T) {}
    given(look);
}

#[test]
fn replicas_are_looked_at_once_a_majority_of_all_sentinels_holds_the_primary_down() {
    let down = |id: &str, others: usize| Some(Ballot { down: true, ..ballot(id, 1, others) });
    let up = |id: &str| Some(ballot(id, 1, 2));
    let held_down = |votes: &[Vote], configured| settled(votes, configured, |ballot| ballot.down);
    assert_eq!(held_down(&[down("a", 2)], 3), None, "the others have not spoken yet");
    assert_eq!(held_down(&[down("a", 2), down("a", 2), None], 3), Some(false), "one that is listed twice");
    assert_eq!(held_down(&[down("a", 2), up("b"), down("c", 2)], 3), Some(true));
    let elsewhere = |id: &str| Some(Ballot { down: true, ..ballot(id, 7, 2) });
    assert_eq!(held_down(&[down("a", 2), up("b"), elsewhere("c")], 3), Some(false), "it holds another primary down");
    assert_eq!(held_down(&[up("a"), None, down("c", 2)], 3), Some(false));
    assert_eq!(held_down(&[down("a", 4), down("b", 4)], 2), Some(false), "two of five");
}

/// A Sentinel whose login is refused keeps its last reading for ever, and an address may be given to another server.
#[test]
fn a_version_that_a_sentinel_read_long_ago_is_none() {
    let read = |age_ms: u64| {
        let mut e = crate::diagnose::tests::world::healthy();
        let Reading::Seen(says) = &mut e.sentinels[0].says else { panic!() };
        let Reading::Seen(nodes) = &mut says.nodes else { panic!() };
        nodes.values_mut().for_each(|node| node.age_ms = age_ms);
        versions_that_hold(nodes).count()
    };
    assert_eq!((read(10_100), read(600_000)), (3, 0));
}
