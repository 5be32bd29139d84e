//! The parts of a look that need no server. `tests/live_collect.rs` has the rest.

use super::*;

fn vote(port: u16, others: usize) -> Vote {
    Some(Ballot { id: String::new(), primary: Endpoint::new("10.0.0.1", port), run_id: String::new(), others })
}

#[test]
fn a_sentinel_listed_twice_has_one_vote() {
    let twin =
        || Some(Ballot { id: "a".into(), primary: Endpoint::new("10.0.0.1", 1), run_id: String::new(), others: 2 });
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
fn a_look_can_be_given_to_a_task() {
    fn given<T: Send>(_: impl FnOnce(&'static Target, Ask<'static>) -> T) {}
    given(look);
}
