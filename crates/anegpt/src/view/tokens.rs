//! The tokens of each step: events tell how many there were so far.

/// Counts the tokens of steps. Not all steps are alike: one of reinforcement learning may have none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StepTokens {
    /// Tokens of a usual step, where they are known.
    usual: Option<u64>,
    /// The step before, and the tokens up to it.
    before: Option<(u64, u64)>,
}

impl StepTokens {
    /// Begins after `step` steps.
    pub(crate) fn new(usual: usize, step: u64) -> Self {
        StepTokens { usual: Some(usual as u64), before: (step == 0).then_some((0, 0)) }
    }

    /// Returns the tokens of `step`, after which there were `tokens` in all; those of a usual step if the step before is
    /// not known.
    pub(crate) fn of(&mut self, step: u64, tokens: u64) -> Option<u64> {
        let before = self.before.replace((step, tokens));
        let before = before.filter(|(before, _)| before + 1 == step);
        before.and_then(|(_, before)| tokens.checked_sub(before)).or(self.usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_the_tokens_that_came_with_them() {
        let mut fresh = StepTokens::new(50, 0);
        assert_eq!([(1, 50), (2, 50), (3, 70)].map(|(s, t)| fresh.of(s, t)), [50, 0, 20].map(Some));
        let mut resumed = StepTokens::new(50, 7);
        assert_eq!([(8, 390), (9, 420)].map(|(s, t)| resumed.of(s, t)), [50, 30].map(Some));
        let mut torn = StepTokens::default();
        assert_eq!(
            [(8, 390), (9, 420), (11, 500)].map(|(s, t)| torn.of(s, t)),
            [None, Some(30), None]
        );
    }
}
