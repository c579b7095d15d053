//! Which text lies in which slot, and which slot a new one takes.

use gpt::SlotDecoder;

/// What a slot holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// Tokens in the cache.
    pub(super) tokens: Vec<u32>,
    /// True if a job goes on with them.
    pub(super) busy: bool,
    /// When a job last did.
    pub(super) used: u64,
}

/// The slot for a new text, and what it finds there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) slot: usize,
    /// The slot whose first `cached` tokens are those of the prompt.
    pub(super) from: usize,
    pub(super) cached: usize,
}

/// The number of tokens that two texts begin with alike.
pub(super) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Chooses a slot for `prompt`, of whose tokens the first `most` may be found in a cache. `None` if all
/// slots are busy.
///
/// The longest beginning in any slot is taken over. If most of a free slot is of use, the text moves in;
/// else it is copied to the slot that was not used for longest.
pub(super) fn choose(
    places: &[Place],
    decoder: &SlotDecoder,
    prompt: &[u32],
    most: usize,
) -> Option<Choice> {
    let free = || (0..places.len()).filter(|&slot| !places[slot].busy);
    let oldest = free().min_by_key(|&slot| places[slot].used)?;
    let cached = |slot: usize| {
        let tokens = common(&places[slot].tokens, prompt).min(most);
        if decoder.keeps(slot, tokens) { tokens } else { 0 }
    };
    let all = (0..places.len()).map(|from| (cached(from), !places[from].busy, from));
    let (cached, own, from) = all.max()?;
    let moves = own && 2 * cached >= places[from].tokens.len();
    let slot = match cached {
        0 => oldest,
        _ if moves => from,
        _ => free()
            .filter(|&slot| slot != from)
            .min_by_key(|&slot| places[slot].used)
            .unwrap_or(oldest),
    };
    Some(Choice { slot, from, cached })
}
