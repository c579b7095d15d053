//! An overflow of binary16 in a backward pass must reach the gradients as something that is not
//! finite: the engine never emits a NaN (∞ − ∞ is 0), and the loss scale is steered by nothing else.

use ane::Emulator;
use chip::Profile;
use cpu::Numerics;
use gpt::plan::{PLANS, Plan};
use gpt::{GptConfig, MicroBatch, Model, Parameters, TokenWeights, initialise};

fn gradients(
    plan: &Plan,
    c: &GptConfig,
    params: &[f32],
    numerics: Numerics,
    scale: f32,
) -> Vec<f32> {
    const SEQ: usize = 24;
    let device = Emulator::engine(Profile::default(), numerics);
    let parameters = Parameters::new(c, params.to_vec());
    let mut model = Model::new(plan, &parameters, 2, SEQ, &device, numerics).unwrap();
    let inputs: Vec<u32> = (0..2 * SEQ).map(|i| (i * 31 % c.vocab_size) as u32).collect();
    let targets: Vec<u32> = inputs.iter().map(|t| (t * 7 + 1) % c.vocab_size as u32).collect();
    let mut grads = vec![0.0; params.len()];
    let weight = TokenWeights::Even(scale / (2 * SEQ) as f32);
    model.loss_and_grads(&inputs, &targets, weight, MicroBatch::First, &mut grads).unwrap();
    grads
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

/// Scales from 1 to 2^30, with weights from flat to sharp attention: up to some scale the gradient
/// is right, above it is not finite, and nothing lies between.
#[test]
fn an_overflow_never_passes_for_a_gradient() {
    let tiny = GptConfig::preset("tiny").unwrap();
    let c = GptConfig { n_layer: 3, n_kv_head: 2, vocab_size: 64, ..tiny };
    for (plan, sharpness) in PLANS.iter().flat_map(|plan| [1.0f32, 4.0, 12.0].map(|s| (plan, s))) {
        let mut params = initialise(&c, 5);
        params.iter_mut().filter(|w| **w != 1.0).for_each(|w| *w *= sharpness);
        let exact = gradients(plan, &c, &params, Numerics::F32, 1.0);
        let size = norm(exact.iter().map(|&g| f64::from(g)));
        let (mut right, mut overflowed) = (0, 0);
        for power in 0..=30 {
            let scale = 2f32.powi(power);
            let got = gradients(plan, &c, &params, Numerics::Fast, scale);
            if got.iter().any(|g| !g.is_finite()) {
                overflowed += 1;
                continue;
            }
            assert_eq!(overflowed, 0, "{}: 2^{power} is finite again", plan.name);
            right += 1;
            let error = norm(got.iter().zip(&exact).map(|(g, e)| f64::from(g / scale - e))) / size;
            // Errors of binary16 grow with the weights (0.1 %, 0.2 %, 2 %); an overflow that passed
            // would be an error of order one.
            let what = format!("{}, sharpness {sharpness}, scale 2^{power}", plan.name);
            assert!(error < 0.05, "{what}: {error}");
        }
        assert!(right > 12 && overflowed > 0, "{right} right, {overflowed} overflowed");
    }
}
