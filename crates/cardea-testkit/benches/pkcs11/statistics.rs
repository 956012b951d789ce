//! What the benchmarks print of their measurements.

use std::time::Duration;

/// Median and 95th percentile in microseconds.
pub(crate) fn percentiles(times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    let at =
        |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1e6;
    (at(50), at(95))
}

/// The one in the middle.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
