//! Scores of given texts: those of the programs for training, and the same bits however texts are read.

use ane::Emulator;
use cpu::Numerics;
use gpt::plan::BASELINE;
use gpt::{GptConfig, Model, Parameters, initialise};
use infer::{InferError, Scorer, SpanScore, WeightFormat};
use std::ops::Range;

const VOCAB: usize = 60;
const CONTEXT: usize = 2400;

/// A model of two layers, the first of which sees 100 tokens.
fn parameters() -> Parameters {
    let mut config = GptConfig::preset("tiny").unwrap();
    (config.n_layer, config.vocab_size, config.seq_len) = (2, VOCAB, CONTEXT);
    config.windows = vec![100, 0];
    let mut values = initialise(&config, 42);
    // Larger weights than at the start of training: predictions differ from each other.
    values.iter_mut().for_each(|value| *value *= 3.0);
    Parameters::new(&config, values)
}

fn scorer(parameters: &Parameters) -> Scorer {
    Scorer::new(parameters, WeightFormat::F32).unwrap()
}

/// The score of one span of one text.
fn score_one(
    scorer: &mut Scorer,
    text: Vec<u32>,
    span: Range<usize>,
) -> Result<SpanScore, InferError> {
    Ok(scorer.score(&[text], std::slice::from_ref(&span))?[0])
}

/// Tokens in no order.
fn text(seed: u32, len: usize) -> Vec<u32> {
    let next = |x: &u32| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(seed), next)
        .skip(1)
        .take(len)
        .map(|x| (x >> 9) % VOCAB as u32)
        .collect()
}

/// Texts with a common beginning of `shared` tokens, and `rest` more each.
fn texts(shared: usize, rest: &[usize]) -> Vec<Vec<u32>> {
    let own = |(seed, len): (u32, &usize)| [text(1, shared), text(seed, *len)].concat();
    (2..).zip(rest).map(own).collect()
}

/// As the programs for training have it: no cache, no passes, all positions at once.
fn by_training(parameters: &Parameters, text: &[u32], span: &Range<usize>) -> f64 {
    let (device, seq) = (Emulator::cpu(Numerics::F32), text.len() - 1);
    let mut model = Model::new(&BASELINE, parameters, 1, seq, &device, Numerics::F32).unwrap();
    model.take_parameters().unwrap();
    let losses = model.token_losses(&text[..seq], &text[1..]).unwrap();
    losses[span.start - 1..span.end - 1].iter().sum()
}

/// Logits are below 20 in magnitude here, and sums of up to 600 terms of f32 (attention over a window, products
/// over the width) may be off by 600·2^−24·20 < 1e-3 in the worst case, the same way for no two tokens.
#[test]
fn losses_are_those_of_training() {
    let parameters = parameters();
    let texts = texts(300, &[30, 1, 290, 7, 5, 60]);
    let spans = [300..330, 290..301, 310..590, 1..307, 300..300, 359..360];
    let scores = scorer(&parameters).score(&texts, &spans).unwrap();
    for ((text, span), score) in texts.iter().zip(&spans).zip(&scores) {
        let right = by_training(&parameters, text, span);
        assert_eq!(score.tokens, span.len());
        assert!((score.nats - right).abs() <= 1e-3 * span.len() as f64, "{score:?} {right}");
    }
    assert!(
        scores.iter().any(|score| (score.nats / score.tokens.max(1) as f64 - (VOCAB as f64).ln())
            .abs()
            > 0.1)
    );
}

/// Alone, together, after other texts, and in caches that had to grow.
#[test]
fn how_texts_are_read_changes_no_bit() {
    let parameters = parameters();
    let texts = texts(270, &[40, 3, 300, 7, 9, 2]);
    let spans = [270..310, 100..273, 271..570, 269..277, 270..279, 271..272];
    let together = scorer(&parameters).score(&texts, &spans).unwrap();
    let mut one = scorer(&parameters);
    for i in 0..texts.len() {
        let alone = one.score(&texts[i..=i], &spans[i..=i]).unwrap();
        assert_eq!(alone, together[i..=i], "text {i}");
    }
    score_one(&mut one, text(3, CONTEXT), CONTEXT - 1..CONTEXT).unwrap();
    assert_eq!(one.score(&texts, &spans).unwrap(), together, "after the caches grew");
    let mut turned = (texts.clone(), spans.clone());
    turned.0.reverse();
    turned.1.reverse();
    let mut reversed = scorer(&parameters).score(&turned.0, &turned.1).unwrap();
    reversed.reverse();
    assert_eq!(reversed, together, "in another order");
}

/// What texts begin with is read once.
#[test]
fn the_common_beginning_is_read_once() {
    let mut scorer = scorer(&parameters());
    let texts = texts(270, &[10, 4, 6, 1, 8]);
    let spans: Vec<Range<usize>> = texts.iter().map(|text| 270..text.len()).collect();
    scorer.score(&texts, &spans).unwrap();
    // The last token of each text is not read; that of the fourth is its only one.
    assert_eq!(scorer.tokens_read(), 270 + 9 + 3 + 5 + 7);
}

/// The most likely token of each place, and another one.
#[test]
fn greedy_means_every_token_is_the_most_likely() {
    let parameters = parameters();
    let mut scorer = scorer(&parameters);
    let mut best = |text: &[u32]| -> u32 {
        let with = |token| [text, &[token]].concat();
        let all: Vec<Vec<u32>> = (0..VOCAB as u32).map(with).collect();
        let scores = scorer.score(&all, &vec![text.len()..text.len() + 1; VOCAB]).unwrap();
        let greedy: Vec<usize> = (0..VOCAB).filter(|&i| scores[i].greedy).collect();
        let least = (0..VOCAB).min_by(|&a, &b| scores[a].nats.total_cmp(&scores[b].nats)).unwrap();
        assert_eq!(greedy, [least], "one token is the most likely, and it costs least");
        let total: f64 = scores.iter().map(|score| (-score.nats).exp()).sum();
        assert!((total - 1.0).abs() < 1e-9, "probabilities of all tokens add up to {total}");
        least as u32
    };
    let mut text = text(5, 20);
    for _ in 0..4 {
        text.push(best(&text));
    }
    let mut greedy =
        |text: &[u32], span| score_one(&mut scorer, text.to_vec(), span).unwrap().greedy;
    assert!(greedy(&text, 20..24));
    assert!(!greedy(&text, 1..24));
    text[21] = (text[21] + 1) % VOCAB as u32;
    assert!(!greedy(&text, 20..24) && greedy(&text, 20..21));
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let parameters = parameters();
    let mut scorer = scorer(&parameters);
    assert_eq!(scorer.score(&[], &[]).unwrap(), []);
    let nothing = SpanScore { nats: 0.0, tokens: 0, greedy: true };
    assert_eq!(score_one(&mut scorer, vec![1], 1..1).unwrap(), nothing);
    let long = score_one(&mut scorer, text(1, CONTEXT + 1), 1..2).unwrap_err();
    assert!(matches!(long, InferError::TooLong { tokens: 2401, limit: CONTEXT }), "{long}");
    let unknown = score_one(&mut scorer, vec![1, 60, 2], 1..3).unwrap_err().to_string();
    assert!(unknown.contains("60"), "{unknown}");
    parameters.update(|values| values[7 * 128] = f32::NAN);
    let mut damaged = self::scorer(&parameters);
    let error = score_one(&mut damaged, text(1, 40), 1..40).unwrap_err();
    assert!(matches!(error, InferError::NotFinite { .. }), "{error}");
}
