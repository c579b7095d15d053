//! Notices a run that diverges, from the losses of its steps.

/// Share of a step in the mean of recent losses.
const SHARE: f64 = 0.1;
/// Nats by which this mean must be above the loss at the start.
const FAR: f64 = 1.0;

/// The losses of a session so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Divergence {
    /// Validation loss before the first step, where it is known.
    validation: Option<f64>,
    /// The loss of the first step, and a mean of recent ones.
    losses: Option<(f64, f64)>,
    /// Learning rate at its peak.
    lr: f64,
    told: bool,
}

impl Divergence {
    /// Watches a run whose rates have this peak.
    pub(super) fn new(lr: f64) -> Self {
        Divergence { validation: None, losses: None, lr, told: false }
    }

    /// Begins before a session's first step, with the validation loss, where it is known.
    pub(super) fn begin(&mut self, validation: Option<f64>) {
        self.validation = validation;
    }

    /// Takes the loss of a step; returns a warning, once, if it is not finite. Where losses are in nats per token
    /// (`nats`), also if their recent mean is a nat above the start, of training and validation.
    pub(super) fn note(&mut self, step: u64, loss: f64, nats: bool) -> Option<String> {
        let (first, mean) = self.losses.unwrap_or((loss, loss));
        let mean = mean + SHARE * (loss - mean);
        self.losses = Some((first, mean));
        let start = self.validation.unwrap_or(first).max(first);
        let how = match loss.is_finite() {
            false => format!("the loss of step {step} is {loss}"),
            true if nats && mean > start + FAR => {
                format!("the loss has climbed from {start:.2} to {mean:.2} by step {step}")
            }
            true => return None,
        };
        if std::mem::replace(&mut self.told, true) {
            return None;
        }
        Some(format!("{how}: the run diverges. Begin again with a --lr below {}", self.lr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(validation: Option<f64>, nats: bool, losses: &[f64]) -> Vec<(usize, String)> {
        let mut watch = Divergence::new(0.01);
        watch.begin(validation);
        let note = |(at, &loss)| Some((at, watch.note(at as u64, loss, nats)?));
        (1..).zip(losses).filter_map(note).collect()
    }

    #[test]
    fn a_loss_that_climbs_is_told_once() {
        let climbing: Vec<f64> = (0..40).map(|step| 2.0 + 0.25 * f64::from(step)).collect();
        let told = warnings(Some(1.5), true, &climbing);
        assert_eq!(told.len(), 1, "{told:?}");
        let (_, text) = &told[0];
        assert!(text.starts_with("the loss has climbed from 2.00 to 3."), "{text}");
        assert!(text.ends_with("the run diverges. Begin again with a --lr below 0.01"), "{text}");
        assert!(warnings(None, false, &climbing).is_empty(), "rewards are no nats");
        assert!(warnings(Some(12.0), true, &climbing).is_empty(), "not yet above the start");
    }

    #[test]
    fn noise_is_not_told_and_what_is_not_finite_is() {
        let noise: Vec<f64> = (0..99).map(|step| 2.0 + 2.5 * f64::from(step).sin()).collect();
        assert!(warnings(None, true, &noise).is_empty());
        let told = warnings(None, false, &[2.0, f64::NAN, f64::INFINITY]);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].0, 2);
        assert!(told[0].1.starts_with("the loss of step 2 is NaN: "), "{told:?}");
    }
}
