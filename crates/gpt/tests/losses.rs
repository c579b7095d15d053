//! Losses of single tokens, against the logits of a decoder.

use ane::Emulator;
use cpu::Numerics;
use gpt::plan::BASELINE;
use gpt::{Decoder, GptConfig, MicroBatch, Model, Parameters, TokenWeights, initialise};

const TOKENS: usize = 21;

#[test]
fn losses_are_those_of_the_logits() {
    let config = GptConfig { n_layer: 2, seq_len: 32, ..GptConfig::preset("tiny").unwrap() };
    let parameters = Parameters::new(&config, initialise(&config, 3));
    let device = Emulator::cpu(Numerics::F32);
    let text: Vec<u32> =
        (0..=TOKENS).map(|i| ((i * i * 7 + 5) % config.vocab_size) as u32).collect();
    let (inputs, targets) = (&text[..TOKENS], &text[1..]);
    let mut model = Model::new(&BASELINE, &parameters, 1, TOKENS, &device, Numerics::F32).unwrap();
    let losses = model.token_losses(inputs, targets).unwrap().to_vec();
    assert_eq!(losses.len(), TOKENS);

    // Chunks that do not divide the text, and single tokens.
    for chunk in [8, 1] {
        let mut decoder = Decoder::new(&parameters, 8, &device, Numerics::F32).unwrap();
        for (t, tokens) in inputs.chunks(chunk).enumerate() {
            let logits = decoder.feed(tokens).unwrap();
            let last = t * chunk + tokens.len() - 1;
            let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            let want = sum.ln() - f64::from(logits[targets[last] as usize]);
            assert!((losses[last] - want).abs() < 1e-4, "{last}: {} and {want}", losses[last]);
        }
        assert_eq!(decoder.position(), TOKENS);
    }

    let step = model.loss(inputs, targets).unwrap();
    let mean = losses.iter().sum::<f64>() / TOKENS as f64;
    assert!((mean - step).abs() < 1e-12, "{mean} and {step}");

    let unknown = vec![config.vocab_size as u32; TOKENS];
    assert!(model.token_losses(inputs, &unknown).is_err());
    assert!(model.token_losses(&inputs[..2], &targets[..2]).is_err());
}

/// A micro-batch of three sequences, which the head works on in two sections: losses and gradients are those of its sequences,
/// one by one.
#[test]
fn sections_of_the_head_add_up() {
    const SEQ: usize = 400;
    let tiny = GptConfig::preset("tiny").unwrap();
    let config = GptConfig { n_layer: 1, seq_len: 512, vocab_size: 700, ..tiny };
    let parameters = Parameters::new(&config, initialise(&config, 3));
    let device = Emulator::cpu(Numerics::F32);
    let tokens = |offset: usize| -> Vec<u32> {
        (0..3 * SEQ).map(|i| ((i * i * 7 + 5 * i + offset) % config.vocab_size) as u32).collect()
    };
    let (inputs, targets) = (tokens(1), tokens(2));
    let weights: Vec<f32> = (0..3 * SEQ).map(|i| [1.0, 0.0, -0.5][i % 3] / SEQ as f32).collect();
    let model =
        |batch| Model::new(&BASELINE, &parameters, batch, SEQ, &device, Numerics::F32).unwrap();
    assert_eq!(gpt::tokens_at_once(3 * SEQ), 600);

    let (mut all, mut one) = (model(3), model(1));
    let mut grads = vec![f32::NAN; all.layout().count()];
    let each = TokenWeights::Each(&weights);
    let first = MicroBatch::First;
    let losses = all.loss_and_grads(&inputs, &targets, each, first, &mut grads).unwrap().to_vec();
    assert_eq!(all.token_losses(&inputs, &targets).unwrap(), losses);

    let mut sum = vec![f32::NAN; grads.len()];
    let mut alone = vec![];
    for (i, (inputs, targets)) in inputs.chunks(SEQ).zip(targets.chunks(SEQ)).enumerate() {
        let place = if i == 0 { MicroBatch::First } else { MicroBatch::Later };
        let each = TokenWeights::Each(&weights[i * SEQ..(i + 1) * SEQ]);
        alone.extend(one.loss_and_grads(inputs, targets, each, place, &mut sum).unwrap());
    }
    let gap = losses.iter().zip(&alone).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    // Some hundred roundings of logits below 8.
    assert!(gap < 100.0 * 8.0 * 2f64.powi(-24), "{gap}");
    let squares = |g: &[f32]| g.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>();
    let apart: Vec<f32> = grads.iter().zip(&sum).map(|(a, b)| a - b).collect();
    let relative = (squares(&apart) / squares(&sum)).sqrt();
    // Sums of 1200 terms in another order.
    assert!(relative < 1200f64.sqrt() * 2f64.powi(-24) * 4.0, "{relative}");
    assert!(squares(&sum) > 1e-6);
}
