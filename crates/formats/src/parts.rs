//! The parts of a model, for formats that can hold no other ones.

use gpt::{FamilyName, FeedForward, GptConfig, Norm};

/// Refuses a model that is not made of a Llama's parts, whatever its extents, by the entry that says so.
pub(crate) fn require_llama(config: &GptConfig) -> Result<(), String> {
    let c = config;
    let (no_rope, windows) = (format!("{:?}", c.no_rope), format!("{:?}", c.windows));
    let (entry, found, needed) = match config {
        _ if c.family != FamilyName::default() => ("family", c.family.name(), "llama"),
        _ if c.norm != Norm::Rms => ("norm", c.norm.name(), "rms"),
        _ if c.feed_forward != FeedForward::SwiGlu => {
            ("feed_forward", c.feed_forward.name(), "swiglu")
        }
        _ if c.bias => ("bias", "true", "false"),
        _ if c.learned_positions => ("learned_positions", "true", "false"),
        _ if !c.no_rope.is_empty() => ("no_rope", &no_rope[..], "[]"),
        _ if !c.windows.is_empty() => ("windows", &windows[..], "[]"),
        _ => return Ok(()),
    };
    Err(format!(
        "`{entry}` is {found} and would have to be {needed}: it holds only models made of a Llama's parts"
    ))
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
