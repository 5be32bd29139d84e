//! The figures of all rounds, with relinkd acting beside relinkd watching.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::{Chaos, Mode, Played};

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
        one.acted,
        one.requests,
        one.without_primary.as_secs_f64(),
        one.broken_link.as_secs_f64(),
        one.lost,
        one.acked,
        one.plan
    );
    for told in faults(one) {
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

#[derive(Default)]
struct Sums {
    rounds: usize,
    acted: usize,
    requests: usize,
    doubles: usize,
    wrong: usize,
    unclosed: usize,
    messages: usize,
    not_whole: usize,
    without_primary: Duration,
    broken_link: Duration,
    acked: usize,
    lost: usize,
}

impl Sums {
    fn of<'a>(all: impl Iterator<Item = &'a Played>) -> Sums {
        all.fold(Sums::default(), |sums, one| Sums {
            rounds: sums.rounds + 1,
            acted: sums.acted + one.acted,
            requests: sums.requests + one.requests,
            doubles: sums.doubles + usize::from(one.requests > 1),
            wrong: sums.wrong + one.wrong.len(),
            unclosed: sums.unclosed + one.unclosed.len(),
            messages: sums.messages + one.lost_messages.len(),
            not_whole: sums.not_whole + usize::from(!one.whole),
            without_primary: sums.without_primary + one.without_primary,
            broken_link: sums.broken_link + one.broken_link,
            acked: sums.acked + one.acked,
            lost: sums.lost + one.lost,
        })
    }
}

impl Verdict {
    pub(super) fn of(chaos: &Chaos, mut played: Vec<(Mode, Played)>) -> Verdict {
        played.sort_by_key(|(mode, one)| (one.number, *mode));
        // A round counts where both modes could be judged.
        let judged =
            |number: usize| played.iter().filter(|(_, one)| one.number == number && one.void.is_none()).count() == 2;
        let of = |mode| Sums::of(played.iter().filter(|(m, one)| *m == mode && judged(one.number)).map(|(_, one)| one));
        let (auto, observe) = (of(Mode::Auto), of(Mode::Observe));
        let costly = costly(&played);
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
        let _ = write!(text, "{}", table(&auto, &observe, costly.len()));
        for told in &costly {
            let _ = write!(text, "\n{told}\n");
        }
        for (mode, one) in &played {
            let told = faults(one);
            if !told.is_empty() {
                let _ =
                    write!(text, "\nround {} ({}): {}\n  {}\n", one.number, mode.word(), one.plan, told.join("\n  "));
            }
        }
        let good = auto.rounds > 0
            && auto.wrong + auto.doubles + auto.unclosed + auto.messages + costly.len() == 0
            && observe.unclosed + observe.messages + observe.acted == 0;
        Verdict { text, good }
    }
}

/// Acknowledged writes by which two plays of one round differ without anybody's doing: a second of them.
const NOISE: usize = 200;

/// The rounds in which relinkd moved the group and more was lost than in the twin that only watched.
fn costly(played: &[(Mode, Played)]) -> Vec<String> {
    let moved = played.iter().filter(|(mode, one)| *mode == Mode::Auto && one.moved > 0 && one.void.is_none());
    let twin = |number: usize| {
        played.iter().find(|(mode, one)| *mode == Mode::Observe && one.number == number && one.void.is_none())
    };
    moved
        .filter_map(|(_, one)| {
            let (_, other) = twin(one.number)?;
            (one.lost > other.lost + NOISE).then(|| {
                let (number, plan) = (one.number, &one.plan);
                format!("round {number}: {} lost where relinkd moved the group, {} else: {plan}", one.lost, other.lost)
            })
        })
        .collect()
}

fn table(auto: &Sums, observe: &Sums, costly: usize) -> String {
    let seconds = |span: Duration| format!("{:.1} s", span.as_secs_f64());
    let count = |number: usize| number.to_string();
    let rows = [
        ("changes made", count(auto.acted), count(observe.acted)),
        ("wrong changes (aim 0)", count(auto.wrong), count(observe.wrong)),
        ("failovers requested", count(auto.requests), count(observe.requests)),
        ("rounds with a second request (aim 0)", count(auto.doubles), count(observe.doubles)),
        ("incidents never closed (aim 0)", count(auto.unclosed), count(observe.unclosed)),
        ("messages lost (aim 0)", count(auto.messages), count(observe.messages)),
        ("groups not whole again within a minute", count(auto.not_whole), count(observe.not_whole)),
        ("time without a primary", seconds(auto.without_primary), seconds(observe.without_primary)),
        ("time with a broken link, over all replicas", seconds(auto.broken_link), seconds(observe.broken_link)),
        ("writes acknowledged", count(auto.acked), count(observe.acked)),
        ("acknowledged writes lost", count(auto.lost), count(observe.lost)),
        ("rounds in which a move of ours lost more (aim 0)", count(costly), "-".to_owned()),
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
    use super::*;

    fn chaos() -> Chaos {
        Chaos { relinkd: "relinkd".into(), kind: crate::Kind::Redis70, rounds: 1, seed: 1, jobs: 1 }
    }

    fn whole() -> Played {
        Played { whole: true, ..Played::default() }
    }

    #[test]
    fn a_second_request_a_wrong_change_and_a_lost_message_each_spoil_it() {
        let judge = |auto: Played| Verdict::of(&chaos(), vec![(Mode::Auto, auto), (Mode::Observe, whole())]).good;
        assert!(judge(whole()));
        assert!(judge(Played { requests: 1, acted: 1, ..whole() }));
        assert!(!judge(Played { requests: 2, ..whole() }));
        assert!(!judge(Played { wrong: vec!["x".into()], ..whole() }));
        assert!(!judge(Played { lost_messages: vec!["x".into()], ..whole() }));
        assert!(!judge(Played { unclosed: vec!["x".into()], ..whole() }));
        assert!(judge(Played { moved: 1, lost: NOISE, ..whole() }));
        assert!(!judge(Played { moved: 1, lost: NOISE + 1, ..whole() }));
        assert!(judge(Played { lost: 5_000, ..whole() }), "nothing that relinkd did");
        assert!(!judge(Played { void: Some("x".into()), ..whole() }), "nothing judged is nothing proved");
    }
}
