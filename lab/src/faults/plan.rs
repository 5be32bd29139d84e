//! Which fault comes when: pure, and the same for the same seed.

use std::time::Duration;

use super::recipe::Recipe;
use super::stage::Stage;
use crate::kind::Kind;

/// One injection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Index into the recipes.
    pub recipe: usize,
    /// Counted from 1.
    pub round: usize,
    /// Before it, so that it meets relinkd and the server at any moment of their own periods.
    pub wait: Duration,
    /// How long the fault stays after its firm verdict, which has to stand.
    pub stay: Duration,
}

/// Trials that follow each other in one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub kind: Kind,
    pub stage: Stage,
    pub trials: Vec<Trial>,
}

/// Every recipe once a round on every server, in random order; a round is over before the next begins.
pub fn plan(seed: u64, kinds: &[Kind], recipes: &[&Recipe], rounds: usize) -> Vec<Block> {
    let mut dice = Dice(seed);
    let mut blocks = Vec::new();
    for round in 1..=rounds {
        let mut of_round = Vec::new();
        for kind in kinds {
            for stage in Stage::ALL {
                let here = recipes.iter().enumerate().filter(|(_, recipe)| recipe.stage == stage);
                let mut trials: Vec<Trial> = here
                    .map(|(recipe, _)| Trial {
                        recipe,
                        round,
                        wait: dice.span(100, 2_100),
                        stay: dice.span(500, 1_500),
                    })
                    .collect();
                dice.shuffle(&mut trials);
                if !trials.is_empty() {
                    of_round.push(Block { kind: *kind, stage, trials });
                }
            }
        }
        dice.shuffle(&mut of_round);
        blocks.append(&mut of_round);
    }
    blocks
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end.max(1)
    }

    fn span(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        Duration::from_millis(least_ms + self.below(most_ms - least_ms))
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap_or(last);
            all.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::recipes;

    #[test]
    fn a_seed_gives_one_plan_and_another_seed_another() {
        let all = recipes::all();
        let all: Vec<&Recipe> = all.iter().collect();
        let of = |seed| plan(seed, &Kind::ALL, &all, 2);
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn each_fault_comes_once_a_round_on_each_server() {
        let all = recipes::all();
        let all: Vec<&Recipe> = all.iter().collect();
        let mut seen = Vec::new();
        for block in plan(1, &Kind::ALL, &all, 3) {
            for trial in &block.trials {
                assert_eq!(all[trial.recipe].stage, block.stage);
                assert!(trial.wait >= Duration::from_millis(100) && trial.stay >= Duration::from_millis(500));
                seen.push((trial.round, block.kind, trial.recipe));
            }
        }
        assert!(seen.is_sorted_by_key(|(round, ..)| *round), "round by round");
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 3 * Kind::ALL.len() * all.len());
    }
}
