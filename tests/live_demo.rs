//! The demo is a promise to newcomers: every act of it, on real servers, with the verdicts that it gives itself.

mod live;

use std::path::Path;
use std::time::Duration;

use lab::Kind;
use lab::demo::{Play, play};

#[test]
fn every_act_of_the_demo_goes_as_it_should_redis_70() {
    let Some(kind) = lab::require(Kind::Redis70) else { return };
    let mut shown = Vec::new();
    let play_it = Play { relinkd: Path::new(live::RELINKD), kind, colours: false, pause: Duration::ZERO };
    let went_well = play(&play_it, &mut shown);
    let shown = String::from_utf8_lossy(&shown);
    assert!(matches!(went_well, Ok(true)), "{went_well:?}\n{shown}");
    let widest = shown.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{widest:?} columns\n{shown}");
}
