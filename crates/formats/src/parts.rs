//! The parts of a model, for formats that can hold no other ones.

use gpt::{FamilyName, FeedForward, GptConfig, Norm};

/// Refuses a model that is not made of a Llama's parts, whatever its extents, by the entry that says so.
pub(crate) fn require_llama(config: &GptConfig) -> Result<(), String> {
    let family = config.family.name();
    let reason = match config {
        c if c.family != FamilyName::default() => format!("`family` is {family}"),
        c if c.norm != Norm::Rms => "`norm` is layer".to_owned(),
        c if c.feed_forward != FeedForward::SwiGlu => "`feed_forward` is gelu".to_owned(),
        c if c.bias => "`bias` is true".to_owned(),
        c if c.learned_positions => "`learned_positions` is true".to_owned(),
        c if !c.no_rope.is_empty() => format!("`no_rope` is {:?}", c.no_rope),
        c if !c.windows.is_empty() => format!("`windows` is {:?}", c.windows),
        _ => return Ok(()),
    };
    Err(format!("{reason}, but it can only hold models made of a Llama's parts"))
}

/// True for GPT-2 as it was published, whatever its extents.
pub(crate) fn is_gpt2(config: &GptConfig) -> bool {
    let c = config;
    c.family.name() == "gpt2"
        && c.norm == Norm::Layer
        && c.feed_forward == FeedForward::Gelu
        && c.bias
        && c.learned_positions
        && c.no_rope.is_empty()
        && c.windows.is_empty()
        && !c.qk_norm
        && c.n_kv_head == c.n_head
        && c.q_dim() == c.n_embd
}
