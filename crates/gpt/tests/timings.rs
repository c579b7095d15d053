//! The times that a model reports for its parts.

use ane::Emulator;
use cpu::Numerics;
use gpt::plan::BASELINE;
use gpt::{GptConfig, MicroBatch, Model, Parameters, TokenWeights, initialise};
use std::time::Instant;

const NAMES: [&str; 7] =
    ["engine_fwd", "engine_bwd", "io", "head", "dw", "elementwise", "optimizer"];

#[test]
fn every_part_of_a_step_takes_its_time() {
    let config = GptConfig { n_layer: 2, seq_len: 16, ..GptConfig::preset("tiny").unwrap() };
    let parameters = Parameters::new(&config, initialise(&config, 3));
    let mut model =
        Model::new(&BASELINE, &parameters, 2, 16, &Emulator::cpu(Numerics::F32), Numerics::F32)
            .unwrap();
    assert_eq!((model.batch(), model.seq(), model.programs()), (2, 16, 6));
    let start = Instant::now();
    let tokens = [7; 32];
    let mut grads = vec![0.0; parameters.layout().count()];
    let (weights, first) = (TokenWeights::Even(1.0), MicroBatch::First);
    model.loss_and_grads(&tokens, &tokens, weights, first, &mut grads).unwrap();
    let wall = start.elapsed().as_secs_f64();
    let parts = model.timings().take().parts();
    assert_eq!(parts.map(|part| part.0), NAMES);
    // There was no update.
    assert!(parts.iter().all(|part| (part.1 > 0.0) == (part.0 != "optimizer")), "{parts:?}");
    assert!(parts.iter().map(|part| part.1).sum::<f64>() <= wall, "{parts:?} in {wall}");
    // The sums start again, and a loss alone has no backward pass.
    assert_eq!(model.timings().take().parts(), NAMES.map(|name| (name, 0.0)));
    model.loss(&tokens, &tokens).unwrap();
    let idle = model.timings().take().parts().map(|part| part.1 == 0.0);
    assert_eq!(idle, [false, true, false, false, true, false, true]);
}
