//! What goes along with the weights of a model.

use gpt::GptConfig;
use tokenizer::Tokenizer;

/// A model as it is handed to another program: its shape, and what other programs need in order to
/// read, speak and stop as we do.
#[derive(Clone, Copy, Debug)]
pub struct Model<'m> {
    /// Shape of the model.
    pub config: &'m GptConfig,
    /// Its tokenizer.
    pub tokenizer: Option<&'m Tokenizer>,
    /// Tokens that end a text, besides those of the tokenizer.
    pub ends: &'m [u32],
    /// The template of its conversations, in Jinja.
    pub chat_template: Option<&'m str>,
}

impl<'m> Model<'m> {
    /// A model of this shape, and nothing more.
    pub fn new(config: &'m GptConfig) -> Self {
        Model { config, tokenizer: None, ends: &[], chat_template: None }
    }

    /// The same with a tokenizer.
    pub fn with_tokenizer(self, tokenizer: &'m Tokenizer) -> Self {
        Model { tokenizer: Some(tokenizer), ..self }
    }

    /// All tokens that end a text: first that of the tokenizer (one separator may both begin and end
    /// it), then the others.
    pub(crate) fn all_ends(&self) -> Vec<u32> {
        let own = self.tokenizer.and_then(|tokenizer| tokenizer.eos().or(tokenizer.bos()));
        let mut ends: Vec<u32> = own.into_iter().collect();
        self.ends.iter().for_each(|end| {
            if !ends.contains(end) {
                ends.push(*end);
            }
        });
        ends
    }
}
