//! Figures of several turns. Pure.

/// The middle one, or the mean of the two in the middle; 0 of none.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// The smallest value that at least `percent` of all do not exceed (nearest rank); 0 of none.
pub(super) fn percentile(values: &[f64], percent: u8) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * usize::from(percent)).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// To three decimals, for people and for JSON.
pub(super) fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_ranks() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([]), 0.0);
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!([1, 50, 99, 100].map(|p| percentile(&hundred, p)), [1.0, 50.0, 99.0, 100.0]);
        assert_eq!([50, 99].map(|p| percentile(&[7.0, 5.0], p)), [5.0, 7.0]);
        assert_eq!(percentile(&[], 50), 0.0);
    }
}
