//! Scores given texts: how likely a model finds some of their tokens.

use crate::InferError;
use gpt::slots::{MOST_COLUMNS, WeightFormat};
use gpt::{Column, Parameters, SlotDecoder, SlotOptions};
use rayon::prelude::*;
use std::ops::Range;

/// Texts that are read side by side after their common beginning.
const TOGETHER: usize = 4;
/// Tokens that caches have room for before a longer text comes.
const ROOM: usize = 2048;

/// What a model makes of the tokens of a span.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpanScore {
    /// Sum of their losses, in nats.
    pub nats: f64,
    /// How many they are.
    pub tokens: usize,
    /// True if each of them is the most likely one after those before it, the first of equals.
    pub greedy: bool,
}

/// A model that scores texts on the CPU.
///
/// A text is read in passes of up to [`MOST_COLUMNS`] tokens. Programs exist for powers of two of them, so
/// texts of any lengths need no more than nine. What several texts begin with is read once, and logits are
/// computed for spans alone. None of this changes a score, bit for bit: see [`gpt::slots`].
#[derive(Debug)]
pub struct Scorer {
    parameters: Parameters,
    weights: WeightFormat,
    decoder: SlotDecoder,
    tokens: u64,
}

/// Tokens `at` of text `text`, of which the model read all up to it.
#[derive(Clone, Copy, Debug)]
struct Read {
    slot: usize,
    text: usize,
    at: usize,
}

impl Scorer {
    /// Packs the weights, which must not change while texts are scored.
    ///
    /// # Errors
    /// When the configuration is no model.
    pub fn new(parameters: &Parameters, weights: WeightFormat) -> Result<Self, InferError> {
        let parameters = parameters.clone();
        let decoder = decoder(&parameters, weights, ROOM)?;
        Ok(Scorer { parameters, weights, decoder, tokens: 0 })
    }

    /// Longest text, in tokens.
    pub fn context(&self) -> usize {
        self.decoder.config().seq_len
    }

    /// Tokens that were read so far.
    pub fn tokens_read(&self) -> u64 {
        self.tokens
    }

    /// The scores of one span of each text. Nothing precedes the first token of a text: no span has it.
    ///
    /// # Errors
    /// When a text is longer than the model can read, a token is not of the vocabulary, or logits are
    /// not finite.
    ///
    /// # Panics
    /// Unless there is one span for each text, inside of it and after its first token.
    pub fn score(
        &mut self,
        texts: &[Vec<u32>],
        spans: &[Range<usize>],
    ) -> Result<Vec<SpanScore>, InferError> {
        assert_eq!(texts.len(), spans.len(), "a span for each text");
        for (text, span) in texts.iter().zip(spans) {
            assert!(span.start > 0 && span.end <= text.len().max(1), "a span of predicted tokens");
        }
        self.make_room(texts.iter().map(Vec::len).max().unwrap_or(0))?;
        // The last token of a span is predicted, not read; what follows it does not matter.
        let read =
            |i: usize| if spans[i].is_empty() { &[][..] } else { &texts[i][..spans[i].end - 1] };
        let reads: Vec<&[u32]> = (0..texts.len()).map(read).collect();
        let mut asked = Asked { texts, spans, scores: vec![] };
        let empty = |span: &Range<usize>| SpanScore { nats: 0.0, tokens: span.len(), greedy: true };
        asked.scores = spans.iter().map(empty).collect();
        let shared = beginning(reads.iter().filter(|read| !read.is_empty()));
        let Some(longest) = (0..reads.len()).max_by_key(|&i| reads[i].len()) else {
            return Ok(vec![]);
        };
        self.decoder.truncate(0, 0);
        let common: Vec<Read> = (0..shared).map(|at| Read { slot: 0, text: longest, at }).collect();
        self.read(&common, &mut asked, true)?;
        let own: Vec<usize> = (0..reads.len()).filter(|&i| reads[i].len() > shared).collect();
        for group in own.chunks(TOGETHER) {
            let mut rest = vec![];
            for (slot, &text) in (1..).zip(group) {
                self.decoder.copy(0, slot, shared);
                rest.extend((shared..reads[text].len()).map(|at| Read { slot, text, at }));
            }
            self.read(&rest, &mut asked, false)?;
        }
        Ok(asked.scores)
    }

    /// Reads tokens; `for_all` if they are those of every text.
    fn read(
        &mut self,
        reads: &[Read],
        asked: &mut Asked<'_>,
        for_all: bool,
    ) -> Result<(), InferError> {
        for pass in reads.chunks(MOST_COLUMNS) {
            // The texts that ask for the token after each of these, and that token.
            let wanted = |read: &Read| asked.wanted(read, for_all);
            let wanted: Vec<Vec<(usize, u32)>> = pass.iter().map(wanted).collect();
            let column = |(read, wanted): (&Read, &Vec<_>)| {
                let token = asked.texts[read.text][read.at];
                Column { slot: read.slot, token, logits: !wanted.is_empty() }
            };
            let columns: Vec<Column> = pass.iter().zip(&wanted).map(column).collect();
            let vocab = self.decoder.config().vocab_size;
            let logits = self.decoder.forward(&columns)?;
            let rows: Vec<_> =
                pass.iter().zip(&wanted).filter(|(_, wanted)| !wanted.is_empty()).collect();
            let losses: Vec<Option<Vec<(f64, bool)>>> =
                (rows.par_iter().zip(logits.par_chunks(vocab)))
                    .map(|((_, wanted), logits)| losses(logits, wanted))
                    .collect();
            for ((read, wanted), losses) in rows.into_iter().zip(losses) {
                let losses = losses.ok_or(InferError::NotFinite { tokens: read.at + 1 })?;
                for (&(text, _), (nats, greedy)) in wanted.iter().zip(losses) {
                    let score = &mut asked.scores[text];
                    score.nats += nats;
                    score.greedy &= greedy;
                }
            }
            self.tokens += pass.len() as u64;
        }
        Ok(())
    }

    /// Has the caches hold texts of `tokens` tokens.
    fn make_room(&mut self, tokens: usize) -> Result<(), InferError> {
        let limit = self.context();
        if tokens > limit {
            return Err(InferError::TooLong { tokens, limit });
        }
        if tokens > self.decoder.context() {
            self.decoder = decoder(&self.parameters, self.weights, tokens.next_power_of_two())?;
        }
        Ok(())
    }
}

/// A decoder with a slot for what texts have in common, and one for each that is read after it.
fn decoder(
    parameters: &Parameters,
    weights: WeightFormat,
    context: usize,
) -> Result<SlotDecoder, InferError> {
    let options = SlotOptions { slots: 1 + TOGETHER, context, weights };
    Ok(SlotDecoder::new(parameters, options)?)
}

/// The number of tokens that all texts begin with.
fn beginning<'t>(mut texts: impl Iterator<Item = &'t &'t [u32]>) -> usize {
    let Some(&first) = texts.next() else { return 0 };
    let alike = |text: &&[u32]| first.iter().zip(*text).take_while(|(a, b)| a == b).count();
    texts.map(alike).min().unwrap_or(first.len())
}

/// Texts with their spans, and what is known of them.
struct Asked<'a> {
    texts: &'a [Vec<u32>],
    spans: &'a [Range<usize>],
    scores: Vec<SpanScore>,
}

impl Asked<'_> {
    /// The texts whose span has the token after `read`, with that token.
    fn wanted(&self, read: &Read, for_all: bool) -> Vec<(usize, u32)> {
        let all = 0..self.texts.len();
        let of = all.filter(|&text| for_all || text == read.text);
        let next = read.at + 1;
        let asks = of.filter(|&text| self.spans[text].contains(&next));
        asks.map(|text| (text, self.texts[text][next])).collect()
    }
}

/// The loss of each wanted token in nats, and whether it is the most likely one; `None` if a logit is not
/// finite.
fn losses(logits: &[f32], wanted: &[(usize, u32)]) -> Option<Vec<(f64, bool)>> {
    let (mut best, mut finite) = (0, true);
    for (i, &logit) in logits.iter().enumerate() {
        finite &= logit.is_finite();
        if logit > logits[best] {
            best = i;
        }
    }
    let max = logits[best];
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
    let loss = |&(_, token): &(usize, u32)| {
        (sum.ln() - f64::from(logits[token as usize] - max), token as usize == best)
    };
    finite.then(|| wanted.iter().map(loss).collect())
}
