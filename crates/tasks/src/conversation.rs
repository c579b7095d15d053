//! Conversations, and lists of them.

use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use tokenizer::chat::Message;

/// A conversation to learn from: `{"messages": [{"role": "user", "content": "Hello"}, …]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// The messages, in their order.
    pub messages: Vec<Message>,
}

/// A list of conversations, always the same ones in the same order.
pub trait Conversations: Debug + Send + Sync {
    /// Returns the number of conversations.
    fn len(&self) -> usize;

    /// Returns a conversation. It may be read from a file, or generated, each time: several threads ask for every
    /// one before training, and training asks once in a pass.
    ///
    /// # Errors
    /// When its file cannot be read or is damaged.
    ///
    /// # Panics
    /// May panic if `index` is not below [`Conversations::len`].
    fn get(&self, index: usize) -> Result<Conversation>;

    /// Returns where a conversation stands, for errors.
    fn place(&self, index: usize) -> String {
        format!("conversation {}", index + 1)
    }

    /// True if there is no conversation.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
