//! The loss of a model on a text.

use gpt::{Model, ModelError};

/// How a text is cut into what the model reads at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Tokens that predict one another.
    pub seq: usize,
    /// Tokens from the beginning of a window to that of the next; at most `seq`. A shorter stride
    /// gives tokens more context and takes more time.
    pub stride: usize,
}

impl Windows {
    /// The first token of every window over `tokens` tokens; the last window reaches the end.
    fn starts(self, tokens: usize) -> impl Iterator<Item = usize> {
        let last = (tokens.saturating_sub(1 + self.seq)).div_ceil(self.stride) * self.stride;
        (0..=last).step_by(self.stride)
    }
}

/// Calls `each` with the place and loss (nats) of every token but the first, in order and each once:
/// a window gives the losses of the tokens that no earlier one has predicted. `model` is compiled for
/// windows of `seq` tokens, has its weights, and reads several windows at once; results do not depend
/// on how many.
///
/// # Errors
/// When the device fails or a token is not of the vocabulary.
///
/// # Panics
/// If the stride is 0 or longer than the windows, or they are not those of the model.
pub fn token_losses(
    model: &mut Model,
    tokens: &[u32],
    windows: Windows,
    mut each: impl FnMut(usize, f64),
) -> Result<(), ModelError> {
    let Windows { seq, stride } = windows;
    assert!((1..=seq).contains(&stride) && model.seq() == seq, "windows of the model");
    let targets = tokens.len().saturating_sub(1);
    if targets == 0 {
        return Ok(());
    }
    let starts: Vec<usize> = windows.starts(tokens.len()).collect();
    // The tokens up to here are predicted.
    let mut done = 0;
    for group in starts.chunks(model.batch()) {
        let mut inputs = vec![0; model.batch() * seq];
        let mut wanted = inputs.clone();
        for (row, &start) in group.iter().enumerate() {
            // Later positions are invisible to earlier ones: the rest of a short row may be anything.
            let count = seq.min(targets - start);
            inputs[row * seq..][..count].copy_from_slice(&tokens[start..start + count]);
            wanted[row * seq..][..count].copy_from_slice(&tokens[start + 1..=start + count]);
        }
        let losses = model.token_losses(&inputs, &wanted)?;
        for (row, &start) in group.iter().enumerate() {
            let end = targets.min(start + seq);
            for place in done..end {
                each(place + 1, losses[row * seq + place - start]);
            }
            done = end;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every token but the first is predicted by exactly one window, whatever the lengths.
    #[test]
    fn windows_cover_every_target_once() {
        for tokens in 1..40 {
            for seq in 1..9 {
                for stride in 1..=seq {
                    let targets = tokens - 1;
                    let mut done = 0;
                    for start in (Windows { seq, stride }).starts(tokens) {
                        assert!(
                            start <= done && (targets == 0 || done < targets),
                            "no gap, none idle"
                        );
                        done = targets.min(start + seq);
                    }
                    assert_eq!(done, targets, "{tokens} {seq} {stride}");
                }
            }
        }
    }
}
