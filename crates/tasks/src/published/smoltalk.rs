//! SmolTalk: conversations to learn from (Allal et al. 2025).

use super::{Judged, Published, Question, Row};
use crate::conversation::Conversation;
use crate::error::Result;
use crate::task::Kind;
use tokenizer::chat::Message;

pub(super) const TASK: Published = Published {
    name: "smoltalk",
    describe: "conversations about anything (smol-smoltalk), to learn from; the training part takes about 1 GB \
               of memory",
    kind: Kind::Training,
    baseline: 0.0,
    repository: "HuggingFaceTB/smol-smoltalk",
    subset: "default",
    train: Some("train"),
    test: Some("test"),
    columns: &["messages"],
    question,
};

fn question(row: &Row<'_>) -> Result<Question> {
    let message = |value: &serde_json::Value| serde_json::from_value::<Message>(value.clone());
    let messages = row.list("messages")?.iter().map(message).collect::<std::result::Result<_, _>>();
    let messages = messages.map_err(|error| row.fault(format!("`messages`: {error}")))?;
    Ok(Question { conversation: Conversation { messages }, judged: Judged::Never })
}
