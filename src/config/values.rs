//! The small languages inside strings: durations and sizes. Pure.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const SIZE_UNITS: [(&str, u64); 10] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Whole numbers with units, the largest first: `250ms`, `1m 30s`, `2h`.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total_ms = 0_u64;
    let mut finer_than = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = number(rest)?;
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, unit_ms) = DURATION_UNITS.into_iter().find(|(name, _)| *name == unit)?;
        if unit_ms >= finer_than {
            return None;
        }
        finer_than = unit_ms;
        total_ms = total_ms.checked_add(number.checked_mul(unit_ms)?)?;
        rest = after.trim_start();
    }
    (finer_than != u64::MAX).then(|| Duration::from_millis(total_ms))
}

/// A duration as the configuration writes it.
pub(super) fn spell_duration(span: Duration) -> String {
    let mut left = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    for (unit, unit_ms) in DURATION_UNITS {
        let count = left / unit_ms;
        left %= unit_ms;
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// A whole number with a unit, or of bytes: `64MiB`, `1 GB`, `4096`.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = number(text.trim())?;
    let unit = unit.trim_start();
    let unit = if unit.is_empty() { "B" } else { unit };
    let (_, bytes) = SIZE_UNITS.into_iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(bytes)
}

/// A size as the configuration writes it.
pub(super) fn spell_size(bytes: u64) -> String {
    let whole = ["TiB", "GiB", "MiB", "KiB"].into_iter().find_map(|unit| {
        let (_, unit_bytes) = SIZE_UNITS.into_iter().find(|(name, _)| *name == unit)?;
        (bytes > 0 && bytes.is_multiple_of(unit_bytes)).then(|| format!("{}{unit}", bytes / unit_bytes))
    });
    whole.unwrap_or_else(|| format!("{bytes}B"))
}

fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_units_the_largest_first() {
        for (text, ms) in [
            ("250ms", 250),
            ("1m 30s", 90_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("90d", 7_776_000_000),
            ("1d 2h 3m 4s 5ms", 93_784_005),
            ("0s", 0),
            (" 1s ", 1_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text:?}");
        }
        for text in [
            "",
            " ",
            "90",
            "s",
            "1.5s",
            "-1s",
            "1S",
            "30s 1m",
            "1s 1s",
            "1s,2ms",
            "1 s",
            "1min",
            "١s",
            "99999999999999999999d",
            "18446744073709551615h",
            "1sé",
        ] {
            assert_eq!(duration(text), None, "{text:?} was taken");
        }
        for ms in [0, 1, 250, 90_000, 93_784_005, 7_776_000_000] {
            let span = Duration::from_millis(ms);
            assert_eq!(duration(&spell_duration(span)), Some(span));
        }
    }

    #[test]
    fn sizes_are_whole_numbers_of_bytes_or_of_a_unit() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("1GB", 1_000_000_000),
            ("1 GB", 1_000_000_000),
            ("4096", 4096),
            ("4096B", 4096),
            ("8kB", 8_000),
            ("0", 0),
        ] {
            assert_eq!(size(text), Some(bytes), "{text:?}");
        }
        for text in ["", "MiB", "1.5GB", "-1", "64mib", "64 M", "1GB 2MB", "99999999TiB", "1\u{b5}B"] {
            assert_eq!(size(text), None, "{text:?} was taken");
        }
        for bytes in [0, 1, 1_000, 4_096, 256 << 20, 3 << 40] {
            assert_eq!(size(&spell_size(bytes)), Some(bytes));
        }
    }
}
