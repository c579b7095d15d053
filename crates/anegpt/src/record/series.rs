//! A quantity by step in bounded memory: a million steps take no more room than a few thousand.

/// Most buckets of a series.
const CAPACITY: usize = 4096;

/// Neighbouring steps and what was measured at them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bucket {
    /// First and last step.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Sum, least and largest of the finite values, and how many there are.
    sum: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    count: u64,
    /// Values that are not finite.
    pub(crate) bad: u64,
}

impl Bucket {
    fn of(step: u64, value: f64) -> Self {
        let empty = Bucket {
            first: step,
            last: step,
            sum: 0.0,
            low: f64::INFINITY,
            high: f64::NEG_INFINITY,
            count: 0,
            bad: 0,
        };
        empty.with(&Bucket { sum: value, low: value, high: value, count: 1, ..empty })
    }

    /// Both together; a single value that is not finite is counted and nothing more.
    fn with(self, other: &Bucket) -> Self {
        if !other.sum.is_finite() {
            return Bucket { last: other.last, bad: self.bad + other.count + other.bad, ..self };
        }
        Bucket {
            first: self.first,
            last: other.last,
            sum: self.sum + other.sum,
            low: self.low.min(other.low),
            high: self.high.max(other.high),
            count: self.count + other.count,
            bad: self.bad + other.bad,
        }
    }

    /// Mean of the finite values, if there are any.
    pub(crate) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The step in the middle.
    pub(crate) fn middle(&self) -> f64 {
        (self.first + self.last) as f64 / 2.0
    }
}

/// Values by step, the oldest first.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    buckets: Vec<Bucket>,
    /// Steps that share a bucket: a power of two.
    width: u64,
    /// The newest value.
    newest: Option<(u64, f64)>,
}

/// A series of nothing.
pub(crate) static NOTHING: Series = Series::new();

impl Default for Series {
    fn default() -> Self {
        Series::new()
    }
}

impl Series {
    const fn new() -> Self {
        Series { buckets: vec![], width: 1, newest: None }
    }

    /// Adds the value of a step. A step before the newest one is that of a run that went back to a
    /// checkpoint: what stood behind it is forgotten, to within a bucket.
    pub(crate) fn push(&mut self, step: u64, value: f64) {
        while self.buckets.last().is_some_and(|bucket| bucket.first >= step) {
            self.buckets.pop();
        }
        self.newest = Some((step, value));
        let new = Bucket::of(step, value);
        match self.buckets.last_mut() {
            Some(last) if last.first / self.width == step / self.width => *last = last.with(&new),
            _ => self.buckets.push(new),
        }
        while self.buckets.len() > CAPACITY {
            self.halve();
        }
    }

    /// Joins neighbours.
    fn halve(&mut self) {
        self.width *= 2;
        let width = self.width;
        self.buckets.dedup_by(|next, bucket| {
            let same = next.first / width == bucket.first / width;
            if same {
                *bucket = bucket.with(next);
            }
            same
        });
    }

    pub(crate) fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// The newest value, finite or not, with its step.
    pub(crate) fn newest(&self) -> Option<(u64, f64)> {
        self.newest
    }

    /// The least finite value.
    pub(crate) fn least(&self) -> Option<f64> {
        self.buckets.iter().filter(|b| b.count > 0).map(|b| b.low).reduce(f64::min)
    }

    /// Means of the buckets that have one, with the steps in their middle.
    pub(crate) fn means(&self) -> Vec<(f64, f64)> {
        self.buckets.iter().filter_map(|b| Some((b.middle(), b.mean()?))).collect()
    }

    /// As [`Series::means`], by whole steps: the last of each bucket.
    pub(crate) fn by_step(&self) -> Vec<(u64, f64)> {
        self.buckets.iter().filter_map(|b| Some((b.last, b.mean()?))).collect()
    }

    /// Means that forget: a value of `horizon` steps ago counts for 1/e of the newest. The weights of
    /// what was seen so far add up to 1, so that the first mean is the first value.
    pub(crate) fn smoothed(&self, horizon: f64) -> Vec<(f64, f64)> {
        let (mut sum, mut weight, mut before) = (0.0, 0.0, None);
        let mut means = vec![];
        for bucket in &self.buckets {
            let Some(mean) = bucket.mean() else { continue };
            let at = bucket.middle();
            let kept = before.map_or(0.0, |before: f64| (-(at - before) / horizon).exp());
            let count = bucket.count as f64;
            (sum, weight) = (sum * kept + mean * count, weight * kept + count);
            before = Some(at);
            means.push((at, sum / weight));
        }
        means
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: impl IntoIterator<Item = (u64, f64)>) -> Series {
        let mut series = Series::default();
        values.into_iter().for_each(|(step, value)| series.push(step, value));
        series
    }

    #[test]
    fn a_million_steps_keep_their_mean_and_extremes() {
        let value = |step: u64| if step == 777_777 { -3.0 } else { (step % 10) as f64 };
        let long = series((1..=1_000_000).map(|step| (step, value(step))));
        assert!(
            (CAPACITY / 2..=CAPACITY).contains(&long.buckets().len()),
            "{}",
            long.buckets().len()
        );
        let count: u64 = long.buckets().iter().map(|b| b.count).sum();
        let sum: f64 = long.buckets().iter().map(|b| b.sum).sum();
        // Whole numbers below 2^53 add up exactly; step 777777 has -3 in place of 7.
        assert_eq!((count, sum), (1_000_000, 4.5e6 - 10.0));
        assert_eq!((long.least(), long.newest()), (Some(-3.0), Some((1_000_000, 0.0))));
        let buckets = long.buckets();
        assert!(buckets.windows(2).all(|pair| pair[0].last < pair[1].first));
        assert_eq!((buckets[0].first, buckets[buckets.len() - 1].last), (1, 1_000_000));
    }

    #[test]
    fn a_run_that_goes_back_forgets_what_came_after() {
        let mut back = series((1..=100).map(|step| (step, 1.0)));
        back.push(51, 9.0);
        assert_eq!(back.buckets().len(), 51);
        assert_eq!(back.means().last(), Some(&(51.0, 9.0)));
        // From the beginning again.
        back.push(0, 2.0);
        assert_eq!(back.means(), [(0.0, 2.0)]);
    }

    #[test]
    fn what_is_not_finite_is_counted_and_spoils_nothing() {
        let bad = series([(1, 1.0), (2, f64::NAN), (3, f64::INFINITY), (4, 3.0)]);
        assert_eq!(bad.means(), [(1.0, 1.0), (4.0, 3.0)]);
        assert_eq!(bad.buckets().iter().map(|b| b.bad).sum::<u64>(), 2);
        let mut joined = bad.clone();
        joined.halve();
        joined.halve();
        joined.halve();
        assert_eq!(joined.means(), [(2.5, 2.0)]);
        assert_eq!(joined.buckets()[0].bad, 2);
        assert_eq!((series([(5, f64::NAN)]).least(), joined.least()), (None, Some(1.0)));
    }

    #[test]
    fn smoothing_is_a_mean_of_what_was_seen() {
        let constant = series((1..50).map(|step| (step, 2.0)));
        assert!(constant.smoothed(5.0).iter().all(|point| (point.1 - 2.0).abs() < 1e-12));
        let jump = series([(1, 0.0), (2, 1.0)]);
        let kept = (-1.0f64 / 4.0).exp();
        assert_eq!(jump.smoothed(4.0), [(1.0, 0.0), (2.0, 1.0 / (1.0 + kept))]);
    }
}
