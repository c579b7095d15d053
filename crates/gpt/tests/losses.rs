//! Losses of single tokens, against the logits of a decoder.

use ane::Emulator;
use cpu::Numerics;
use gpt::plan::BASELINE;
use gpt::{Decoder, GptConfig, Model, Parameters, initialise};

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
