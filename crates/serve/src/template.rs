//! Conversations as prompts: by the model's own format, or as plain text where it has none.

use crate::error::{ApiError, Result};
use tokenizer::Tokenizer;
use tokenizer::chat::{ChatTemplate, Message, Role};

/// A conversation as the prompt of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// The prompt.
    pub(crate) tokens: Vec<u32>,
    /// Tokens that end the answer, besides those of the model.
    pub(crate) ends: Vec<u32>,
    /// Strings that end the answer.
    pub(crate) stop: Vec<String>,
}

/// The prompt of the answer to a conversation. A last message of the assistant is continued.
pub(crate) fn render(
    template: Option<&ChatTemplate>,
    tokenizer: &Tokenizer,
    messages: &[Message],
) -> Result<Rendered> {
    let fault = |reason: String| ApiError::field("messages", reason);
    let Some(template) = template else {
        let tokens = infer::prompt_tokens(tokenizer, &plain(messages));
        let tokens = tokens.map_err(|error| fault(error.to_string()))?;
        return Ok(Rendered { tokens, ends: vec![], stop: vec!["\nUser:".to_owned()] });
    };
    let tokens = template.render_for_completion(messages, tokenizer);
    let tokens = tokens.map_err(|error| fault(error.to_string()))?;
    Ok(Rendered { tokens, ends: template.ends().to_vec(), stop: vec![] })
}

/// A conversation written out, for models that were tuned for none.
fn plain(messages: &[Message]) -> String {
    let name = |role: Role| match role {
        Role::System => "System",
        Role::Assistant => "Assistant",
        Role::User | Role::Tool => "User",
    };
    let turns = messages.iter().map(|m| format!("{}: {}", name(m.role), m.text()));
    let turns: Vec<String> = turns.collect();
    let open = messages.last().is_some_and(|message| message.role == Role::Assistant);
    turns.join("\n") + if open { "" } else { "\nAssistant:" }
}
