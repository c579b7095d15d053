//! The prompt of samples: found and checked before the first step.

use crate::usage;
use anyhow::Result;
use data::loader::Batches;
use tokenizer::Tokenizer;

/// The prompt of samples where the tokenizer can encode it.
const DEFAULT: &str = "Once upon a time";
/// Most characters of a prompt that is taken from the data.
const TAKEN: usize = 24;
/// Tokens of the data that are looked at for one.
const LOOKED_AT: usize = 64;

/// The prompt that is wanted.
pub(crate) struct Wanted {
    text: String,
    /// True if a flag asks for it.
    asked: bool,
}

impl Wanted {
    /// The flag's, else that of the resumed run, else the default.
    pub(super) fn new(flag: Option<&str>, before: Option<&str>) -> Self {
        let text = flag.or(before).unwrap_or(DEFAULT).to_owned();
        Wanted { text, asked: flag.is_some() }
    }

    /// A prompt that a model of `limit` tokens can take: what is wanted, or, where nobody asked for
    /// it and it cannot be used, the beginning of the validation part. `None` if that cannot either.
    ///
    /// # Errors
    /// When what was asked for cannot be used.
    pub(crate) fn choose(
        &self,
        tokenizer: &Tokenizer,
        loader: &dyn Batches,
        limit: usize,
    ) -> Result<Option<String>> {
        match fault(&self.text, tokenizer, limit) {
            None => return Ok(Some(self.text.clone())),
            Some(fault) if self.asked => {
                return Err(usage(format!(
                    "--prompt {:?} cannot be used: {fault}; give another one, or --sample-every 0 for \
                     no samples",
                    self.text
                )));
            }
            Some(_) => {}
        }
        let usable = |text: &String| fault(text, tokenizer, limit).is_none();
        let tokens = loader.beginning(LOOKED_AT)?;
        Ok(beginning(tokenizer, &tokens).filter(usable))
    }
}

/// Why a prompt cannot be used.
fn fault(text: &str, tokenizer: &Tokenizer, limit: usize) -> Option<String> {
    let tokens = match text.is_empty() {
        true => 0,
        false => match tokenizer.encode(text) {
            Ok(tokens) => tokens.len(),
            Err(error) => return Some(error.to_string()),
        },
    } + usize::from(tokenizer.prompt_bos().is_some());
    match tokens {
        0 => Some("it is empty, and the tokenizer has no token that begins a text".to_owned()),
        n if n >= limit => Some(format!("it has {n} tokens and the model reads {limit}")),
        _ => None,
    }
}

/// The first words of `tokens`, those of the validation part, which begins with a document where there are any.
fn beginning(tokenizer: &Tokenizer, tokens: &[u32]) -> Option<String> {
    let text = tokenizer.decode(tokens);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let taken: String = line.chars().take(TAKEN).collect();
    if taken.len() == line.len() {
        return Some(taken);
    }
    // Whole words, where there are any.
    let words = taken.rfind(char::is_whitespace).map_or(taken.as_str(), |end| &taken[..end]);
    Some(words.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vocabulary that has a token to begin texts and does not ask for it before a prompt.
    #[test]
    fn only_what_generation_puts_before_a_prompt_counts() {
        let directory = tempfile::tempdir().unwrap();
        let learned = Tokenizer::train_char(["abc"]).unwrap();
        let mut file: serde_json::Value =
            serde_json::from_str(&learned.to_json().unwrap()).unwrap();
        file["post_processor"] = serde_json::Value::Null;
        file["added_tokens"] = serde_json::json!([{
            "id": 3, "content": "<|bos|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }]);
        let path = directory.path().join("tokenizer.json");
        std::fs::write(&path, file.to_string()).unwrap();
        let silent = Tokenizer::load(&path).unwrap();
        assert!(silent.bos().is_some() && silent.prompt_bos().is_none());
        assert_eq!(fault("abc", &silent, 4), None);
        assert!(fault("abc", &silent, 3).is_some());
        assert!(fault("", &silent, 4).is_some(), "nothing begins a text");
    }
}
