//! Measures models: the loss of each token of a text, CORE, and tasks of conversations, whose answers are kept as
//! they come.

mod asked;
mod chat;
mod core;
mod journal;

pub(crate) use asked::{Asked, Conversing, Quiz};
pub use chat::{
    Answering, Asking, CHATCORE, Chat, ChatAnswer, ChatError, ChatScore, ChatTaskScore,
};
pub use core::{Answer, Core, CoreError, CoreScore, TaskScore};
pub use journal::{Journal, JournalError};

use gpt::{Model, ModelError, Parameters};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The checksum of a model: of its configuration and its weights.
pub fn model_checksum(parameters: &Parameters) -> String {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(parameters.config()).expect("plain data"));
    hash.update(bytemuck::cast_slice::<f32, u8>(&parameters.read()));
    hexadecimal(&hash.finalize())
}

/// The checksum of some bytes.
pub fn checksum(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// The checksum of tokens.
pub fn tokens_checksum(tokens: &[u32]) -> String {
    checksum(bytemuck::cast_slice(tokens))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

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

/// Calls `each` with the place and loss (nats) of every token but the first `1 + done`, in order and each
/// once: a window gives the losses of the tokens that no earlier one has predicted. `model` is compiled for
/// windows of `seq` tokens, has its weights, and reads several windows at once; results depend neither on
/// how many, nor on `done`.
///
/// # Errors
/// When the device fails or a token is not of the vocabulary, and those of `each`.
///
/// # Panics
/// If the stride is 0 or longer than the windows, or they are not those of the model.
pub fn token_losses<E: From<ModelError>>(
    model: &mut Model,
    tokens: &[u32],
    windows: Windows,
    done: usize,
    mut each: impl FnMut(usize, f64) -> Result<(), E>,
) -> Result<(), E> {
    let Windows { seq, stride } = windows;
    assert!((1..=seq).contains(&stride) && model.seq() == seq, "windows of the model");
    let targets = tokens.len().saturating_sub(1);
    let starts = windows.starts(tokens.len());
    let starts: Vec<usize> = starts.filter(|start| targets.min(start + seq) > done).collect();
    // The tokens up to here are predicted.
    let mut done = done;
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
                each(place + 1, losses[row * seq + place - start])?;
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
