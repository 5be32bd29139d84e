//! What a rotation costs those who are at work: 50 of them by relinkd, 50 in which relinkd is killed at some step and
//! resumed, and beside them the order that guides recommend.
//!
//! Every run has clients that log in to each node with the old password and with the new, a writer on the primary, and
//! an eye on each link ([`crate::traffic`]); relinkd's daemon watches one replica all the while.
//!
//! Each row has groups and dice of its own, so rows may run side by side and in any order. The aims are zeroes, and
//! `run` says whether they were met. The usual order has no aims: it is there to compare with.

use std::collections::VecDeque;
use std::io::{Error, Result, Write};
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::group::Group;
use crate::kind::Kind;

mod relinkd;
mod tally;
mod usual;

use tally::Tally;

const KEY: &str = "lab:count";
const FIRST: &str = "word-0";

pub struct Rotations<'a> {
    pub relinkd: &'a Path,
    pub kinds: &'a [Kind],
    pub runs: usize,
    pub seed: u64,
    /// Rows at work at once.
    pub jobs: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Relinkd { kills: bool },
    Usual { cut: bool },
}

impl Order {
    const ALL: [Order; 4] = [
        Order::Relinkd { kills: false },
        Order::Relinkd { kills: true },
        Order::Usual { cut: false },
        Order::Usual { cut: true },
    ];

    const fn name(self) -> &'static str {
        match self {
            Order::Relinkd { kills: false } => "relinkd",
            Order::Relinkd { kills: true } => "relinkd, `kill -9` at a random step, `resume`",
            Order::Usual { cut: false } => "the usual order, no connection lost meanwhile",
            Order::Usual { cut: true } => "the usual order, the primary's connections cut once",
        }
    }

    const fn has_aims(self) -> bool {
        matches!(self, Order::Relinkd { .. })
    }
}

/// Runs it all, prints the table in Markdown, each row as soon as those above it are there, and says whether every aim
/// was met. A row that cannot be finished takes none of the others with it.
pub fn run(rotations: &Rotations<'_>, out: &mut dyn Write) -> Result<bool> {
    let began = Instant::now();
    let Rotations { runs, seed, jobs, .. } = rotations;
    let codes: Vec<&str> = rotations.kinds.iter().map(|kind| kind.code()).collect();
    writeln!(out, "lab rotations --runs {runs} --seed {seed} --kinds {} --jobs {jobs}\n", codes.join(","))?;
    writeln!(
        out,
        "| server | order | rotations | refused logins | link down ms | +sdown | failovers | full resyncs | \
         acknowledged writes lost | not finished | incidents |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )?;
    let rows: Vec<(Kind, Order)> =
        rotations.kinds.iter().flat_map(|kind| Order::ALL.map(|order| (*kind, order))).collect();
    let waiting: Mutex<VecDeque<(usize, (Kind, Order))>> = Mutex::new(rows.iter().copied().enumerate().collect());
    let (send, done) = mpsc::channel();
    let mut tallies: Vec<Option<Tally>> = rows.iter().map(|_| None).collect();
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..(*jobs).max(1) {
            let (send, waiting) = (send.clone(), &waiting);
            scope.spawn(move || {
                let take = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                while let Some((place, (kind, order))) = take() {
                    // Nobody reads any more where the table could not be printed.
                    if send.send((place, one(rotations, place, kind, order))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut printed = 0;
        for (place, tally) in done {
            if let Some(slot) = tallies.get_mut(place) {
                *slot = Some(tally);
            }
            while let (Some((kind, order)), Some(Some(tally))) = (rows.get(printed), tallies.get(printed)) {
                writeln!(out, "{}", tally.row(*kind, order.name()))?;
                out.flush()?;
                printed += 1;
            }
        }
        Ok(())
    })?;
    let whole =
        || rows.iter().zip(&tallies).filter_map(|((kind, order), tally)| Some((*kind, *order, tally.as_ref()?)));
    let notes: Vec<String> = whole().map(|(kind, order, tally)| tally.note(kind, order.name())).collect();
    let met = whole().all(|(_, order, tally)| match order.has_aims() {
        true => tally.meets_the_aims(),
        false => tally.broken.is_none(),
    });
    let whole_s = began.elapsed().as_secs_f64();
    writeln!(out, "\n{}\n\nin all {whole_s:.0} s, load {} at the end", notes.join("\n"), crate::figures::load())?;
    writeln!(out, "aims of relinkd's rows (0 in every column): {}", if met { "met" } else { "MISSED" })?;
    Ok(met)
}

fn one(rotations: &Rotations<'_>, place: usize, kind: Kind, order: Order) -> Tally {
    let mut tally = Tally::default();
    let ended = match order {
        Order::Relinkd { kills } => {
            let dice = Dice(rotations.seed.wrapping_add((place as u64) << 32));
            relinkd::row(rotations.relinkd, kind, kills, rotations.runs, dice, &mut tally)
        }
        Order::Usual { cut } => usual::row(kind, cut, rotations.runs.div_ceil(5), &mut tally),
    };
    tally.broken = ended.err().map(|error| error.to_string());
    tally
}

fn group(kind: Kind) -> Result<Group> {
    Group::builder(kind).replicas(2).sentinels(3).password(FIRST).start()
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::other(error.to_string())
}

/// How often the primary has changed, as the Sentinels logged it.
fn failovers(group: &Group) -> usize {
    group.sentinels().iter().map(|sentinel| sentinel.log_text().matches(" +switch-master ").count()).max().unwrap_or(0)
}

/// splitmix64: the same steps for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_throws_the_same() {
        let throws = |seed| {
            let mut dice = Dice(seed);
            (0..9).map(|_| dice.below(24)).collect::<Vec<_>>()
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
        assert!(throws(7).iter().all(|it| *it < 24));
    }
}
