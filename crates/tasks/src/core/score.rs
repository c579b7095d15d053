//! What a model makes of a span, and what tasks make of accuracies.

/// What a model makes of the tokens of a span.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Sum of their losses, in nats.
    pub nats: f64,
    /// How many they are.
    pub tokens: usize,
    /// True if each of them is the most likely one after those before it.
    pub greedy: bool,
}

impl Scored {
    /// Loss of a token in nats; NaN for a span without any.
    pub fn mean(&self) -> f64 {
        self.nats / self.tokens as f64
    }
}

/// An accuracy on a scale where guessing, which gives `baseline` percent, is 0 and perfection 1.
pub fn centred(accuracy: f64, baseline: f64) -> f64 {
    let guessing = 0.01 * baseline;
    (accuracy - guessing) / (1.0 - guessing)
}

/// The mean of centred accuracies; `None` if there are none.
pub fn core_metric(centred: &[f64]) -> Option<f64> {
    let mean = centred.iter().sum::<f64>() / centred.len() as f64;
    (!centred.is_empty()).then_some(mean)
}
