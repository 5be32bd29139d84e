//! The figures of all rounds, with relinkd acting beside relinkd watching.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::losses::Losses;
use super::stage::RECOVERS;
use super::{Chaos, Mode, Played};

/// A request that is due for this long has been every relinkd's turn (two turns of 8 s, and a look).
const DUE: Duration = Duration::from_secs(20);

pub struct Verdict {
    text: String,
    /// No aim was missed.
    pub good: bool,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One round in one mode, for whoever watches.
pub fn line(mode: Mode, one: &Played) -> String {
    let mut text = format!(
        "{:>4} {:<8}{:>2} acts {:>2} requests {:>6.1} s without primary {:>6.1} s link broken {:>4}/{} lost  {}",
        one.number,
        mode.word(),
        one.changes.len(),
        one.requests,
        one.without_primary.as_secs_f64(),
        one.broken_link.as_secs_f64(),
        one.lost(),
        one.acked,
        one.plan
    );
    if one.gave_up {
        let _ = write!(text, "\n       Sentinel gave up; a request was due for {:.1} s", one.due.as_secs_f64());
    }
    for told in faults(one).into_iter().chain(unmade(mode, one)) {
        let _ = write!(text, "\n       {told}");
    }
    text
}

fn faults(one: &Played) -> Vec<String> {
    let mut all: Vec<String> = one.void.iter().map(|why| format!("not judged: {why}")).collect();
    all.extend(one.wrong.iter().map(|what| format!("wrong: {what}")));
    all.extend(one.unclosed.iter().map(|what| format!("never closed: {what}")));
    all.extend(one.lost_messages.iter().map(|what| format!("message: {what}")));
    if !one.whole && one.void.is_none() {
        all.push("the group was not whole again within its time".to_owned());
    }
    all
}

/// What a relinkd that may act said while a request was due that none made: it may be right.
fn unmade(mode: Mode, one: &Played) -> Vec<String> {
    if mode == Mode::Observe || !due(one) || one.requests > 0 {
        return Vec::new();
    }
    one.held.iter().map(|why| format!("no request: {why}")).collect()
}

/// Whether relinkd missed an aim in a round, whatever became of the twin.
fn spoils(mode: Mode, one: &Played) -> bool {
    let harmed = !one.whole && !one.changes.is_empty();
    let acted = mode == Mode::Observe && !one.changes.is_empty();
    let missed = one.requests > 1 || !(one.wrong.is_empty() && one.unclosed.is_empty() && one.lost_messages.is_empty());
    one.void.is_none() && (missed || harmed || acted)
}

#[derive(Default)]
struct Sums {
    rounds: usize,
    acted: usize,
    gave_up: usize,
    due: usize,
    unmade: usize,
    requests: usize,
    doubles: usize,
    wrong: usize,
    unclosed: usize,
    messages: usize,
    not_whole: usize,
    without_primary: Duration,
    /// … in rounds in which Sentinel gave up, in either mode.
    given_up: Duration,
    broken_link: Duration,
    acked: usize,
    lost: usize,
}

fn due(one: &Played) -> bool {
    one.due >= DUE
}

impl Sums {
    /// Each with whether Sentinel gave up in that round, in either mode.
    fn of<'a>(all: impl Iterator<Item = (&'a Played, bool)>) -> Sums {
        all.fold(Sums::default(), |sums, (one, given_up)| Sums {
            rounds: sums.rounds + 1,
            acted: sums.acted + one.changes.len(),
            gave_up: sums.gave_up + usize::from(one.gave_up),
            // One that was made is due no longer.
            due: sums.due + usize::from(due(one) || (one.gave_up && one.requests > 0)),
            unmade: sums.unmade + usize::from(due(one) && one.requests == 0),
            requests: sums.requests + one.requests,
            doubles: sums.doubles + usize::from(one.requests > 1),
            wrong: sums.wrong + one.wrong.len(),
            unclosed: sums.unclosed + one.unclosed.len(),
            messages: sums.messages + one.lost_messages.len(),
            not_whole: sums.not_whole + usize::from(!one.whole),
            without_primary: sums.without_primary + one.without_primary,
            given_up: sums.given_up + if given_up { one.without_primary } else { Duration::ZERO },
            broken_link: sums.broken_link + one.broken_link,
            acked: sums.acked + one.acked,
            lost: sums.lost + one.lost(),
        })
    }
}

impl Verdict {
    pub(super) fn of(chaos: &Chaos, mut played: Vec<(Mode, Played)>) -> Verdict {
        played.sort_by_key(|(mode, one)| (one.number, *mode));
        // A round counts where both modes could be judged.
        let find = |mode, number| {
            let judged = |(m, one): &&(Mode, Played)| *m == mode && one.number == number && one.void.is_none();
            played.iter().find(judged).map(|(_, one)| one)
        };
        let pairs: Vec<(&Played, &Played)> =
            (0..chaos.rounds).filter_map(|number| find(Mode::Auto, number).zip(find(Mode::Observe, number))).collect();
        let given_up = |(auto, observe): &(&Played, &Played)| auto.gave_up || observe.gave_up;
        let auto = Sums::of(pairs.iter().map(|pair| (pair.0, given_up(pair))));
        let observe = Sums::of(pairs.iter().map(|pair| (pair.1, given_up(pair))));
        let losses = Losses::of(&pairs);
        let mut text = String::new();
        let _ = writeln!(
            text,
            "lab chaos --kind {} --rounds {} --seed {} --jobs {}\n{} of {} rounds judged in both modes\n",
            chaos.kind.code(),
            chaos.rounds,
            chaos.seed,
            chaos.jobs,
            auto.rounds,
            chaos.rounds
        );
        let _ = write!(text, "{}\n{losses}", table(&auto, &observe, losses.costly));
        for (mode, one) in &played {
            let told: Vec<String> = faults(one).into_iter().chain(unmade(*mode, one)).collect();
            if !told.is_empty() {
                let _ =
                    write!(text, "\nround {} ({}): {}\n  {}\n", one.number, mode.word(), one.plan, told.join("\n  "));
            }
        }
        let spoilt = played.iter().any(|(mode, one)| spoils(*mode, one));
        let good = auto.rounds > 0 && losses.costly == 0 && !spoilt;
        Verdict { text, good }
    }
}

fn table(auto: &Sums, observe: &Sums, costly: usize) -> String {
    let seconds = |span: Duration| format!("{:.1} s", span.as_secs_f64());
    let count = |number: usize| number.to_string();
    let rows = [
        ("changes made", count(auto.acted), count(observe.acted)),
        ("wrong changes (aim 0)", count(auto.wrong), count(observe.wrong)),
        ("rounds in which Sentinel gave up", count(auto.gave_up), count(observe.gave_up)),
        ("rounds in which a request was due", count(auto.due), count(observe.due)),
        ("... and none was made", count(auto.unmade), count(observe.unmade)),
        ("failovers requested", count(auto.requests), count(observe.requests)),
        ("rounds with a second request (aim 0)", count(auto.doubles), count(observe.doubles)),
        ("incidents never closed (aim 0)", count(auto.unclosed), count(observe.unclosed)),
        ("messages lost (aim 0)", count(auto.messages), count(observe.messages)),
        (
            &*format!("groups not whole again within {} s", RECOVERS.as_secs()),
            count(auto.not_whole),
            count(observe.not_whole),
        ),
        ("time without a primary", seconds(auto.without_primary), seconds(observe.without_primary)),
        ("... in rounds in which Sentinel gave up", seconds(auto.given_up), seconds(observe.given_up)),
        ("time with a broken link, over all replicas", seconds(auto.broken_link), seconds(observe.broken_link)),
        ("writes acknowledged", count(auto.acked), count(observe.acked)),
        ("acknowledged writes lost", count(auto.lost), count(observe.lost)),
        ("rounds in which relinkd lost more (aim 0)", count(costly), "-".to_owned()),
    ];
    let mut text =
        format!("| {:<48} | {:>12} | {:>12} |\n|{:-<50}|{:->14}|{:->14}|\n", "", "auto", "observe", "", "", "");
    for (what, with, without) in rows {
        let _ = writeln!(text, "| {what:<48} | {with:>12} | {without:>12} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::judge::Did;
    use super::super::losses::NOISE;
    use super::*;

    fn chaos() -> Chaos {
        Chaos { relinkd: "relinkd".into(), kind: crate::Kind::Redis70, rounds: 1, seed: 1, only: None, jobs: 1 }
    }

    fn whole() -> Played {
        Played { whole: true, ..Played::default() }
    }

    #[test]
    fn a_second_request_a_wrong_change_and_a_lost_message_each_spoil_it() {
        let judge = |auto: Played| Verdict::of(&chaos(), vec![(Mode::Auto, auto), (Mode::Observe, whole())]).good;
        assert!(judge(whole()));
        assert!(judge(Played { requests: 1, ..whole() }));
        assert!(!judge(Played { requests: 2, ..whole() }));
        assert!(!judge(Played { wrong: vec!["x".into()], ..whole() }));
        assert!(!judge(Played { lost_messages: vec!["x".into()], ..whole() }));
        assert!(!judge(Played { unclosed: vec!["x".into()], ..whole() }));
        let moved =
            || vec![Did { node: 1, remedy: "request-failover".into(), what: String::new(), at: Timestamp::UNIX_EPOCH }];
        assert!(judge(Played { changes: moved(), lost: vec![NOISE], ..whole() }));
        assert!(!judge(Played { changes: moved(), lost: vec![NOISE + 1], ..whole() }));
        assert!(judge(Played { lost: vec![5_000], ..whole() }), "nothing that relinkd did");
        let void = || Played { void: Some("x".into()), ..whole() };
        let lone = Played { wrong: vec!["x".into()], ..whole() };
        assert!(
            !Verdict::of(&chaos(), vec![(Mode::Auto, lone), (Mode::Observe, void())]).good,
            "the twin excuses nothing"
        );
        assert!(judge(Played { whole: false, ..whole() }), "nothing that relinkd did");
        assert!(!judge(Played { whole: false, changes: moved(), ..whole() }));
        assert!(!judge(Played { void: Some("x".into()), ..whole() }), "nothing judged is nothing proved");
    }
}
