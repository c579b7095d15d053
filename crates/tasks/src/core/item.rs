//! A question as a model reads it: tokens, and the spans whose probabilities decide.

use super::Scored;
use std::ops::Range;

/// The prompts of a question. A span is a range of a prompt's tokens; what the model predicts for each of
/// them from those before it is scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Tokens of each prompt.
    pub prompts: Vec<Vec<u32>>,
    /// One for each prompt.
    pub spans: Vec<Range<usize>>,
    /// The index of the right prompt; `None` if the only one has a single right continuation.
    pub gold: Option<usize>,
    /// True if a prompt was cut to what the model can read.
    pub truncated: bool,
    /// True if a span was cut as well.
    pub cut: bool,
    /// True if the tokens of a prompt without its continuation do not begin the prompt with it.
    pub merged: bool,
}

/// The judgement of a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// True if the answer is right.
    pub correct: bool,
    /// The prompt that was chosen, where there was a choice.
    pub chosen: Option<usize>,
}

impl Item {
    /// A choice between prompts: their spans are what follows their common beginning, or in a schema their
    /// common end.
    pub(super) fn choices(prompts: Vec<Vec<u32>>, gold: usize, schema: bool) -> Self {
        let span = |prompt: &Vec<u32>| match schema {
            true => prompt.len() - common(&prompts, true)..prompt.len(),
            false => common(&prompts, false)..prompt.len(),
        };
        Item::new(prompts.iter().map(span).collect(), prompts, Some(gold))
    }

    /// A single prompt: its span is what follows the tokens of the prompt without its continuation. Where
    /// a tokenizer joins the end of that with what follows, it is what follows the common beginning.
    pub(super) fn continuation(without: &[u32], with: Vec<u32>) -> Self {
        let shared = without.iter().zip(&with).take_while(|(a, b)| a == b).count();
        let span = shared..with.len();
        Item { merged: shared < without.len(), ..Item::new(vec![span], vec![with], None) }
    }

    fn new(spans: Vec<Range<usize>>, prompts: Vec<Vec<u32>>, gold: Option<usize>) -> Self {
        let mut item = Item { prompts, spans, gold, truncated: false, cut: false, merged: false };
        item.spare_the_first();
        item
    }

    /// Nothing precedes the first token of a prompt: it cannot be predicted.
    fn spare_the_first(&mut self) {
        for span in &mut self.spans {
            span.start = span.start.max(1).min(span.end.max(1));
            span.end = span.end.max(span.start);
        }
    }

    /// Keeps the last `context` tokens of each prompt: the model reads no more.
    ///
    /// # Panics
    /// If the model reads nothing.
    pub fn truncate(&mut self, context: usize) {
        assert!(context > 0, "a model reads something");
        for (prompt, span) in self.prompts.iter_mut().zip(&mut self.spans) {
            let cut = prompt.len().saturating_sub(context);
            self.truncated |= cut > 0;
            self.cut |= cut > 0 && span.start < cut + 1;
            prompt.drain(..cut);
            *span = span.start.saturating_sub(cut)..span.end - cut;
        }
        self.spare_the_first();
    }

    /// Judges by the spans of all prompts: the prompt with the lowest mean loss is chosen, the first of
    /// equals. Without a choice, every token must be the most likely one, and there must be one.
    ///
    /// # Panics
    /// Unless there is a score for each prompt.
    pub fn judge(&self, scores: &[Scored]) -> Verdict {
        assert_eq!(scores.len(), self.prompts.len(), "a score for each prompt");
        let Some(gold) = self.gold else {
            let correct = scores.iter().all(|score| score.greedy && score.tokens > 0);
            return Verdict { correct, chosen: None };
        };
        // A span without tokens has no mean, and is below nothing.
        let mut chosen = 0;
        for (i, score) in scores.iter().enumerate() {
            if score.mean() < scores[chosen].mean() {
                chosen = i;
            }
        }
        Verdict { correct: chosen == gold, chosen: Some(chosen) }
    }
}

/// The number of tokens that all prompts begin with alike, or end with.
fn common(prompts: &[Vec<u32>], at_end: bool) -> usize {
    let shortest = prompts.iter().map(Vec::len).min().unwrap_or(0);
    let token = |prompt: &Vec<u32>, i: usize| match at_end {
        true => prompt[prompt.len() - 1 - i],
        false => prompt[i],
    };
    let alike = |&i: &usize| prompts.iter().all(|prompt| token(prompt, i) == token(&prompts[0], i));
    (0..shortest).take_while(alike).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(nats: f64, tokens: usize) -> Scored {
        Scored { nats, tokens, greedy: false }
    }

    #[test]
    fn spans_of_choices_follow_the_common_beginning() {
        let item = Item::choices(vec![vec![9, 1, 2], vec![9, 1, 3, 2], vec![9, 1]], 1, false);
        assert_eq!(item.spans, [2..3, 2..4, 2..2]);
        let item = Item::choices(vec![vec![9, 1, 5, 2], vec![9, 3, 2]], 1, true);
        assert_eq!(item.spans, [3..4, 2..3]);
    }

    /// Prompts that are all alike, or begin with nothing in common: the first token is never predicted.
    #[test]
    fn the_first_token_is_not_predicted() {
        assert_eq!(Item::choices(vec![vec![1, 2], vec![1, 2]], 0, true).spans, [1..2, 1..2]);
        assert_eq!(Item::choices(vec![vec![1, 2], vec![3]], 0, false).spans, [1..2, 1..1]);
    }

    #[test]
    fn a_continuation_follows_the_prompt_without_it() {
        let item = Item::continuation(&[9, 1], vec![9, 1, 2, 3]);
        assert_eq!((&item.spans[0], item.merged), (&(2..4), false));
        let item = Item::continuation(&[9, 1, 4], vec![9, 1, 2]);
        assert_eq!((&item.spans[0], item.merged), (&(2..3), true));
    }

    #[test]
    fn prompts_are_cut_on_the_left() {
        let item = Item::continuation(&[9, 1, 2], vec![9, 1, 2, 3, 4]);
        let cut = |context| {
            let mut item = item.clone();
            item.truncate(context);
            (item.prompts[0].clone(), item.spans[0].clone(), item.truncated, item.cut)
        };
        assert_eq!(cut(5), (vec![9, 1, 2, 3, 4], 3..5, false, false));
        assert_eq!(cut(3), (vec![2, 3, 4], 1..3, true, false));
        // Of the answer too: its first token is left to read and cannot be predicted.
        assert_eq!(cut(2), (vec![3, 4], 1..2, true, true));
        assert_eq!(cut(1), (vec![4], 1..1, true, true));
    }

    #[test]
    fn the_lowest_mean_wins_and_the_first_of_equals() {
        let item = |gold| Item::choices(vec![vec![1]; 3], gold, false);
        let chosen = |scores: [Scored; 3]| item(0).judge(&scores).chosen.unwrap();
        assert_eq!(chosen([score(4.0, 1), score(6.0, 3), score(2.0, 1)]), 1);
        assert_eq!(chosen([score(4.0, 2), score(2.0, 1), score(1.0, 1)]), 2);
        assert_eq!(chosen([score(3.0, 1), score(2.0, 1), score(4.0, 2)]), 1);
        // A span without tokens is only chosen in the first place, as a minimum in Python does.
        assert_eq!(chosen([score(3.0, 1), score(0.0, 0), score(2.0, 1)]), 2);
        assert_eq!(chosen([score(0.0, 0), score(3.0, 1), score(2.0, 1)]), 0);
        let right = item(1).judge(&[score(4.0, 1), score(6.0, 3), score(2.0, 1)]);
        assert_eq!(right, Verdict { correct: true, chosen: Some(1) });
    }

    #[test]
    fn a_continuation_must_be_the_most_likely_one() {
        let item = Item::continuation(&[1], vec![1, 2]);
        let judge = |greedy, tokens| item.judge(&[Scored { nats: 1.0, tokens, greedy }]).correct;
        assert_eq!((judge(true, 1), judge(false, 1), judge(true, 0)), (true, false, false));
    }
}
