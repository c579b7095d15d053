//! The unigram model of SentencePiece: the segmentation whose pieces have the greatest sum of
//! log-probabilities, by Viterbi's algorithm (Kudo 2018, "Subword regularization").

use rustc_hash::FxHashMap;

use crate::bpe::Fallback;
use crate::error::Result;

/// How much worse than the worst piece an unknown character is (`kUnkPenalty` of SentencePiece).
const UNKNOWN_PENALTY: f32 = 10.0;
/// When a sum of scores goes beyond this, it is moved back to zero to keep its precision; the value is
/// SentencePiece's, so that long texts are rounded as there.
const RESET_BEYOND: f32 = 100_000.0;

/// Pieces with their log-probabilities.
#[derive(Debug, Clone)]
pub(crate) struct UnigramModel {
    /// piece -> (id, score, user-defined)
    pieces: FxHashMap<Box<str>, (u32, f32, bool)>,
    longest: usize,
    unknown_score: f32,
    fallback: Fallback,
}

/// The best way to reach a position: where its last piece starts, and which piece it is.
#[derive(Clone, Copy)]
struct Node {
    score: f32,
    from: usize,
    /// `None` before anything reached the position; `Some(None)` for an unknown character.
    piece: Option<Option<u32>>,
}

impl UnigramModel {
    /// `pieces`: (text, id, score, user-defined), user-defined ones being preferred over any other.
    pub(crate) fn new(
        pieces: impl Iterator<Item = (String, u32, f32, bool)>,
        fallback: Fallback,
    ) -> Self {
        let (mut map, mut longest) = (FxHashMap::default(), 0);
        let mut low = f32::MAX;
        for (text, id, score, user_defined) in pieces {
            longest = longest.max(text.len());
            if !user_defined {
                low = low.min(score);
            }
            map.entry(text.into_boxed_str()).or_insert((id, score, user_defined));
        }
        let unknown_score = low - UNKNOWN_PENALTY;
        UnigramModel { pieces: map, longest, unknown_score, fallback }
    }

    /// Appends the tokens of `text` to `out`.
    pub(crate) fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        let nodes = self.best_paths(text);
        let mut path = Vec::new();
        let mut at = text.len();
        while at > 0 {
            let node = nodes[at];
            path.push((node.from, node.piece.flatten()));
            at = node.from;
        }
        for (from, piece) in path.into_iter().rev() {
            match piece {
                Some(id) => out.push(id),
                None => {
                    let c = text[from..].chars().next().expect("an unknown spans one character");
                    self.fallback.push(c, from, out)?;
                }
            }
        }
        Ok(())
    }

    /// All sums are f32, as SentencePiece's, to break ties as it does.
    fn best_paths(&self, text: &str) -> Vec<Node> {
        let mut nodes = vec![Node { score: 0.0, from: 0, piece: None }; text.len() + 1];
        let mut frontier = 0;
        for (start, c) in text.char_indices() {
            if nodes[start].score.abs() > RESET_BEYOND {
                let offset = nodes[start].score;
                nodes[start..=frontier].iter_mut().for_each(|node| node.score -= offset);
            }
            let reached = nodes[start].score;
            let mut relax = |end: usize, score: f32, piece: Option<u32>| {
                frontier = frontier.max(end);
                let node = &mut nodes[end];
                if node.piece.is_none() || reached + score > node.score {
                    *node = Node { score: reached + score, from: start, piece: Some(piece) };
                }
            };
            let mut single = false;
            let limit = text.len().min(start + self.longest);
            for end in (start + c.len_utf8()..=limit).filter(|&e| text.is_char_boundary(e)) {
                if let Some(&(id, score, user_defined)) = self.pieces.get(&text[start..end]) {
                    single |= end == start + c.len_utf8();
                    let score = if user_defined { user_defined_score(end - start) } else { score };
                    relax(end, score, Some(id));
                }
            }
            if !single {
                relax(start + c.len_utf8(), self.unknown_score, None);
            }
        }
        nodes
    }

    /// The token that a run of unknown characters shrinks to, if it does.
    pub(crate) fn fused_unknown(&self) -> Option<u32> {
        match self.fallback {
            Fallback::Unknown { id, fuse: true } => Some(id),
            _ => None,
        }
    }
}

/// User-defined pieces score above all others, the longer the better (SentencePiece's formula).
pub(crate) fn user_defined_score(bytes: usize) -> f32 {
    0.1 * (bytes as f32 - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[u32]) {
        let pieces = [("a", -3.0), ("b", -3.0), ("ab", -5.0), ("ba", -2.0), ("bab", -2.5)];
        let pieces =
            pieces.iter().enumerate().map(|(i, &(p, s))| (p.to_string(), i as u32 + 1, s, false));
        let model = UnigramModel::new(pieces, Fallback::Unknown { id: 0, fuse: true });
        let mut out = vec![];
        model.encode(text, &mut out).unwrap();
        assert_eq!(out, want, "{text}");
    }

    #[test]
    fn the_best_sum_wins() {
        check("", &[]);
        check("ab", &[3]); // -5 beats -3 - 3
        check("aba", &[1, 4]); // -3 - 2 ties with -5 - 3: no, -5 beats -8
        check("abab", &[1, 5]); // -5.5 beats ab+ab = -10 and a+ba+b = -8
        check("a漢b", &[1, 0, 2]);
    }
}
