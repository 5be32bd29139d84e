//! Figures of measurements: quantiles that were seen, and what the machine was doing meanwhile.

use std::time::Duration;

/// The nearest rank; zero of nothing.
pub(crate) fn quantile(all: &[Duration], part: f64) -> Duration {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

pub(crate) fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

/// Median, least and most, in a line.
pub(crate) fn spread(all: &[Duration]) -> String {
    let at = |part| ms(quantile(all, part));
    format!("{:.1} ms median, {:.1} to {:.1} ms, {} looks", at(0.5), at(0.0), at(1.0), all.len())
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Others may be at work: a figure taken on a busy machine should say so.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let all: Vec<Duration> = (1..=20).rev().map(Duration::from_millis).collect();
        let at = |part| ms(quantile(&all, part));
        assert_eq!([at(0.0), at(0.5), at(0.9), at(1.0)], [1.0, 10.0, 18.0, 20.0]);
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
