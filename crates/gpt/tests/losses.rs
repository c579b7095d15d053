//! Losses of single tokens from the decoder, against its own logits and against a training step's.

use ane::Emulator;
use cpu::Numerics;
use gpt::plan::BASELINE;
use gpt::{Decoder, GptConfig, Model, Parameters, initialise};

const TOKENS: usize = 21;

#[test]
fn losses_are_those_of_the_logits_and_of_a_step() {
    let config = GptConfig { n_layer: 2, seq_len: 32, ..GptConfig::preset("tiny").unwrap() };
    let parameters = Parameters::new(&config, initialise(&config, 3));
    let device = Emulator::cpu(Numerics::F32);
    let text: Vec<u32> =
        (0..=TOKENS).map(|i| ((i * i * 7 + 5) % config.vocab_size) as u32).collect();
    let (inputs, targets) = (&text[..TOKENS], &text[1..]);
    // Chunks that do not divide the text.
    let mut decoder = Decoder::new(&parameters, 8, &device, Numerics::F32).unwrap();
    let losses = decoder.losses(inputs, targets).unwrap();
    assert_eq!((losses.len(), decoder.position()), (TOKENS, TOKENS));

    decoder.reset();
    for (t, (&input, &target)) in inputs.iter().zip(targets).enumerate() {
        let logits = decoder.feed(&[input]).unwrap();
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        let want = sum.ln() - f64::from(logits[target as usize]);
        assert!((losses[t] - want).abs() < 1e-4, "token {t}: {} and {want}", losses[t]);
    }

    let mut model = Model::new(&BASELINE, &parameters, 1, TOKENS, &device, Numerics::F32).unwrap();
    let step = model.loss(inputs, targets).unwrap();
    let mean = losses.iter().sum::<f64>() / TOKENS as f64;
    assert!((mean - step).abs() < 1e-5, "{mean} and {step}");
    let of_the_step = model.token_losses(inputs, targets).unwrap();
    assert_eq!(of_the_step.len(), TOKENS);
    for (t, (got, want)) in of_the_step.iter().zip(&losses).enumerate() {
        assert!((got - want).abs() < 1e-4, "token {t}: {got} and {want}");
    }

    let unknown = [config.vocab_size as u32];
    assert!(decoder.losses(&text[..1], &unknown).is_err());
    assert!(decoder.losses(&text[..2], &text[..1]).is_err());
}
