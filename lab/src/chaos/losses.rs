//! Acknowledged writes lost with relinkd acting, round by round against the twin in which it only watched. Pure.

use std::fmt::Write as _;

use super::Played;

/// Acknowledged writes by which two plays of one round differ without anybody's doing: a second of them.
pub const NOISE: usize = 200;

/// What relinkd did in a round: as much as it may have to do with the writes that were lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// It moved the group: that decides which server's writes are kept.
    Moved,
    /// It changed something at a server other than the primary, and left it to Sentinel which server's writes are kept.
    Else,
    /// It changed nothing, as in the twin: any difference is noise of timing.
    Nothing,
}

impl Part {
    const ALL: [Part; 3] = [Part::Moved, Part::Else, Part::Nothing];

    fn of(one: &Played) -> Part {
        match one.changes.as_slice() {
            [] => Part::Nothing,
            changes if changes.iter().any(|did| did.moves_the_group()) => Part::Moved,
            _ => Part::Else,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Part::Moved => "moved the group",
            Part::Else => "changed something else",
            Part::Nothing => "changed nothing: noise of timing",
        }
    }
}

/// Rounds, and the writes that they sum up to.
#[derive(Clone, Copy, Default)]
struct Tally {
    rounds: usize,
    writes: usize,
}

impl Tally {
    fn add(&mut self, writes: usize) {
        *self = Tally { rounds: self.rounds + 1, writes: self.writes + writes };
    }
}

/// What the losses of all rounds come to.
pub struct Losses {
    text: String,
    /// The rounds in which more was lost than in the twin, and relinkd may be why.
    pub costly: usize,
}

impl std::fmt::Display for Losses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Losses {
    /// Of each round that could be judged in both modes: acting, and watching.
    pub fn of(pairs: &[(&Played, &Played)]) -> Losses {
        let mut text = format!(
            "Acknowledged writes lost, each round against its twin; a second of writes ({NOISE}) more or less is no difference:\n\n\
             | {:<32} | {:>6} | {:>9} | {:>6} | {:>9} | {:>6} |\n|{:-<34}|{:->8}|{:->11}|{:->8}|{:->11}|{:->8}|\n",
            "relinkd", "rounds", "lost more", "by", "lost less", "by", "", "", "", "", "", ""
        );
        for part in Part::ALL {
            let (mut rounds, mut more, mut less) = (0, Tally::default(), Tally::default());
            for (auto, observe) in pairs.iter().filter(|(auto, _)| Part::of(auto) == part) {
                rounds += 1;
                let (with, without) = (auto.lost(), observe.lost());
                match with.abs_diff(without) {
                    0..=NOISE => {}
                    by if with > without => more.add(by),
                    by => less.add(by),
                }
            }
            let _ = writeln!(
                text,
                "| {:<32} | {rounds:>6} | {:>9} | {:>6} | {:>9} | {:>6} |",
                part.word(),
                more.rounds,
                more.writes,
                less.rounds,
                less.writes
            );
        }
        let mut costly = 0;
        for (auto, observe) in pairs.iter().filter(|(auto, observe)| auto.lost() > observe.lost() + NOISE) {
            let Some(told) = why(auto, observe) else { continue };
            costly += usize::from(counts(auto));
            let _ = write!(text, "\n{told}\n");
        }
        Losses { text, costly }
    }
}

/// Whether relinkd may be why a round lost more: it moved the group, or changed the server that had taken those writes.
fn counts(auto: &Played) -> bool {
    let took = |node: usize| auto.lost.get(node).is_some_and(|lost| *lost > 0);
    auto.changes.iter().any(|did| did.moves_the_group() || took(did.node))
}

/// One round that lost more and in which relinkd changed something, for whoever looks into it.
fn why(auto: &Played, observe: &Played) -> Option<String> {
    if auto.changes.is_empty() {
        return None;
    }
    let taken = auto.lost.iter().enumerate().filter(|(_, lost)| **lost > 0);
    let taken: Vec<String> = taken.map(|(node, lost)| format!("{lost} taken by node {node}")).collect();
    let did: Vec<String> = auto.changes.iter().map(|did| format!("{} at node {}", did.remedy, did.node)).collect();
    let verdict = if counts(auto) { "counts" } else { "not at the server that took them" };
    Some(format!(
        "round {}: {} lost ({}), {} in the twin; {} ({verdict}): {}",
        auto.number,
        auto.lost(),
        taken.join(", "),
        observe.lost(),
        did.join(", "),
        auto.plan
    ))
}

#[cfg(test)]
mod tests {
    use super::super::judge::Did;
    use super::*;

    fn did(remedy: &str, node: usize) -> Did {
        Did { node, remedy: remedy.to_owned(), what: String::new(), at: jiff::Timestamp::UNIX_EPOCH }
    }

    fn played(changes: Vec<Did>, lost: Vec<usize>) -> Played {
        Played { changes, lost, ..Played::default() }
    }

    #[test]
    fn more_lost_counts_where_relinkd_moved_the_group_or_touched_the_server_that_took_them() {
        let costly = |changes: Vec<Did>, lost: Vec<usize>| {
            Losses::of(&[(&played(changes, lost), &played(Vec::new(), vec![0, 10, 0]))]).costly
        };
        let far = vec![NOISE + 11, 0, 0];
        assert_eq!(costly(vec![did("request-failover", 1)], far.clone()), 1);
        assert_eq!(costly(vec![did("repoint", 2)], far.clone()), 1);
        assert_eq!(costly(vec![did("request-failover", 1)], vec![NOISE + 10, 0, 0]), 0, "noise");
        assert_eq!(costly(vec![did("realign-auth", 0)], far.clone()), 1);
        assert_eq!(costly(vec![did("realign-auth", 2)], far.clone()), 0, "another server's");
        assert_eq!(costly(Vec::new(), far), 0, "nothing that relinkd did");
    }

    #[test]
    fn each_round_is_told_under_what_relinkd_did_in_it() {
        let twin = played(Vec::new(), vec![0, 1_000, 0]);
        let (moved, nothing) = (played(vec![did("repoint", 2)], vec![0, 0, 0]), played(Vec::new(), vec![1_500, 0, 0]));
        let told = Losses::of(&[(&moved, &twin), (&nothing, &twin)]).to_string();
        let row = |word: &str| -> Vec<String> {
            let line = told.lines().find(|line| line.contains(word)).unwrap();
            line.split('|').skip(2).map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect()
        };
        assert_eq!(row("moved the group"), ["1", "0", "0", "1", "1000"]);
        assert_eq!(row("something else"), ["0", "0", "0", "0", "0"]);
        assert_eq!(row("changed nothing"), ["1", "1", "500", "0", "0"]);
    }
}
