//! What no table thinks of: the example, damaged at random, with a secret planted into one of its values.

use super::{CANARY, is_setting, parse, with_all_written};

/// SplitMix64: the same walk on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(sides.max(1)).unwrap()).unwrap()
    }
}

/// Puts the canary where a person might put a password: into some value.
fn planted(lines: &[&str], dice: &mut Dice) -> String {
    let settings: Vec<usize> = (0..lines.len()).filter(|at| is_setting(lines[*at])).collect();
    let chosen = settings[dice.roll(settings.len())];
    let mut out = String::new();
    for (at, line) in lines.iter().enumerate() {
        match line.split_once(" = ") {
            Some((key, _)) if at == chosen => out += &format!("{key} = \"{CANARY}\"\n"),
            _ => out += &format!("{line}\n"),
        }
    }
    out
}

fn mutated(text: String, dice: &mut Dice) -> String {
    const PIECES: [&str; 16] =
        ["\"", "'", "[", "]", "{", "}", "=", "\n", "#", ".", ",", "\\", "\u{0}", "é", "99999999999999999999", "\"\"\""];
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(chars.len());
        match dice.roll(4) {
            0 => drop(chars.drain(at..(at + 1 + dice.roll(12)).min(chars.len()))),
            1 => drop(chars.splice(at..at, PIECES[dice.roll(PIECES.len())].chars())),
            2 => chars[at] = char::from(u8::try_from(32 + dice.roll(95)).unwrap()),
            _ => {
                let copy: Vec<char> = chars[at..(at + dice.roll(80)).min(chars.len())].to_vec();
                let to = dice.roll(chars.len());
                drop(chars.splice(to..to, copy));
            }
        }
    }
    chars.into_iter().collect()
}

#[test]
fn no_damage_to_the_file_makes_it_panic_or_repeat_a_secret() {
    let text = with_all_written();
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")).collect();
    let mut dice = Dice(2026);
    let (mut refused, mut syntax) = (0, 0);
    for round in 0..4_000 {
        let text = mutated(planted(&lines, &mut dice), &mut dice);
        match parse(&text) {
            Ok(_) => {}
            Err(problems) => {
                let said = format!("{problems}\n{problems:?}\n{}", serde_json::to_string(&problems).unwrap());
                assert!(!said.contains(CANARY), "round {round}: {problems}\nin:\n{text}");
                let lines = text.lines().count() + 1;
                assert!(problems.iter().all(|problem| problem.line.is_none_or(|line| line <= lines)), "{problems}");
                refused += 1;
                syntax += usize::from(problems.to_string().contains("not valid TOML"));
            }
        }
    }
    // The walk was not vacuous: it met both stages, and got through both.
    assert!(
        refused > 2_000 && syntax > 500 && refused - syntax > 500,
        "{refused} refused, {syntax} of them for syntax"
    );
}
