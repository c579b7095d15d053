//! Several measurements of one thing.

use serde::Serialize;

/// Median, least and 90th percentile of some rounds, in whatever unit the field's name says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    /// Nine of ten rounds are not above it.
    pub(super) p90: f64,
    pub(super) max: f64,
    pub(super) rounds: usize,
}

impl Spread {
    /// Of at least one value, none of them NaN.
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "something was measured");
        values.sort_by(f64::total_cmp);
        let n = values.len();
        let middle = (values[(n - 1) / 2] + values[n / 2]) / 2.0;
        Spread {
            median: middle,
            min: values[0],
            p90: values[(9 * n).div_ceil(10) - 1],
            max: values[n - 1],
            rounds: n,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_ranks_are_the_nearest() {
        let ten = Spread::of((1..=10).rev().map(f64::from).collect());
        assert_eq!((ten.median, ten.min, ten.p90, ten.max), (5.5, 1.0, 9.0, 10.0));
        let eleven = Spread::of((1..=11).map(f64::from).collect());
        assert_eq!((eleven.median, eleven.p90), (6.0, 10.0));
        let one = Spread::of(vec![3.0]);
        assert_eq!((one.median, one.min, one.p90, one.max, one.rounds), (3.0, 3.0, 3.0, 3.0, 1));
    }
}
