//! The steps of plans, against counts made by hand.

use ane::Emulator;
use chip::{Chip, Os, Profile, legal};
use cpu::Numerics;
use gpt::block::Memory;
use gpt::declare::Block;
use gpt::plan::Part::{EngineBackward, EngineForward, Head, WeightGradients};
use gpt::plan::{BASELINE, DECODE, FUSED, GRADIENTS, GROUPS, Kernel, LAYERS, OFFLOAD, PLANS};
use gpt::plan::{Part, Plan};
use gpt::plan::{Place, PlanError, flops_by_part};
use gpt::plan::{Programs, Schedule, Step};
use gpt::{Dims, GptConfig, Layout, MicroBatch, Model, Parameters, TokenWeights, initialise};
use mil::{DType, Product, Program, Work};
use std::collections::{BTreeMap, BTreeSet};

/// D = 24, Q = 4·8, K = 2·8, F = 40, V = 50.
fn small() -> GptConfig {
    GptConfig {
        n_layer: 2,
        n_head: 4,
        n_kv_head: 2,
        n_embd: 24,
        head_dim: 8,
        hidden: 40,
        vocab_size: 50,
        seq_len: 16,
        ..GptConfig::default()
    }
}

const QUERIES_KEYS_VALUES: usize = 24 * (32 + 16 + 16);
const OUT: usize = 24 * 32;
const NETWORK: usize = 3 * 24 * 40;
const WEIGHTS: usize = QUERIES_KEYS_VALUES + OUT + NETWORK;

/// Three sequences of 8 tokens, T = 24.
fn training(config: &GptConfig) -> Dims<'_> {
    Dims { config, batch: 3, seq: 8, dtype: DType::Fp16 }
}

#[test]
fn a_training_step_does_the_products_of_the_formulas() {
    let config = small();
    let dims = training(&config);
    // One of attention's products: 8·8 scores of 8 terms, for 4 heads and 3 sequences.
    let scores = 2 * 8 * 8 * 8 * 4 * 3;
    let tokens = 2 * 24;
    // Backward, attention computes the scores again, and takes two gradients of each of its products.
    let by_hand = BTreeMap::from([
        (EngineForward, 2 * (tokens * WEIGHTS + 2 * scores)),
        (EngineBackward, 2 * (tokens * WEIGHTS + 5 * scores)),
        (WeightGradients, 2 * tokens * WEIGHTS),
        (Head, 3 * tokens * 50 * 24),
    ]);
    let by_hand: BTreeMap<Part, f64> = by_hand.into_iter().map(|(p, n)| (p, n as f64)).collect();
    assert_eq!(flops_by_part(&BASELINE, &dims).unwrap(), by_hand);
    let schedule = Schedule::new(&BASELINE, &dims, Memory::Sequence).unwrap();
    assert_eq!(schedule.flops().unwrap(), by_hand.values().sum::<f64>());
}

#[test]
fn a_decoding_step_does_the_products_of_the_formulas() {
    let config = small();
    let dims = Dims { config: &config, batch: 1, seq: 2, dtype: DType::Fp16 };
    let schedule = Schedule::new(&DECODE, &dims, Memory::Cache { capacity: 14 }).unwrap();
    // Two tokens that attend to 16, for 4 heads.
    let scores = 2 * 2 * 16 * 8 * 4;
    let by_hand = 2 * (2 * 2 * WEIGHTS + 2 * scores) + 2 * 2 * 50 * 24;
    assert_eq!(schedule.flops().unwrap(), by_hand as f64);
    assert!(schedule.backward.is_empty());
}

#[test]
fn work_is_listed_in_the_order_of_the_steps() {
    let config = GptConfig { n_layer: 1, ..small() };
    let schedule = Schedule::new(&BASELINE, &training(&config), Memory::Sequence).unwrap();
    let work = schedule.work().unwrap();
    let steps: Vec<_> = work.iter().map(|step| (step.part, step.program.as_str())).collect();
    let weights = |ports: &[&'static str]| ports.iter().map(|&p| (WeightGradients, p)).collect();
    let expected = [
        vec![(EngineForward, "fwdAttn"), (EngineForward, "fwdFFN"), (Head, "head")],
        vec![(Head, "headBwd"), (EngineBackward, "ffnBwd")],
        weights(&["w1_grad", "w3_grad", "w2_grad"]),
        ["sdpaBwd1", "sdpaBwd2", "qkvBwd"].map(|program| (EngineBackward, program)).to_vec(),
        weights(&["wq_grad", "wk_grad", "wv_grad", "wo_grad"]),
    ];
    assert_eq!(steps, expected.concat());
    let one = |m, n, k, transposed| Product { m, n, k, transposed, together: 1 };
    // The stream [24, 24] and the classifier [50, 24], in f32.
    let bytes = 4 * (24 * 24 + 50 * 24);
    let head = Work { products: vec![one(50, 24, 24, [false; 2])], bytes_in: bytes, bytes_out: 0 };
    let products = vec![one(24, 24, 50, [true, false]), one(50, 24, 24, [false, true])];
    let backward = Work { products, bytes_in: 0, bytes_out: bytes };
    assert_eq!([&work[2].work, &work[3].work], [&head, &backward]);
    // d_ffn_out, h1, h3 and three weights go in; d_h1, d_h3 and d_x2norm come out; in binary16.
    let network = &work[4].work;
    assert_eq!(network.bytes_in, 2 * (24 * (24 + 40 + 40) + NETWORK));
    assert_eq!(network.bytes_out, 2 * 24 * (40 + 40 + 24));
}

#[test]
fn every_step_counts_to_a_part() {
    let config = GptConfig { n_layer: 1, ..small() };
    let parts = |schedule: &Schedule, steps: &[Step]| -> String {
        let names = steps.iter().map(|step| schedule.part(step).name());
        names.collect::<Vec<_>>().join(" ")
    };
    let schedule = Schedule::new(&BASELINE, &training(&config), Memory::Sequence).unwrap();
    let forward = "elementwise io engine_fwd io io engine_fwd io head";
    assert_eq!(parts(&schedule, &schedule.forward), forward);
    let network = "io engine_bwd dw dw dw elementwise";
    let attention = "io engine_bwd engine_bwd engine_bwd dw dw dw dw elementwise";
    let backward = format!("head {network} {attention} elementwise");
    assert_eq!(parts(&schedule, &schedule.backward), backward);
    // With norms of heads, the device gives two gradients itself.
    let normed = GptConfig { qk_norm: true, ..config.clone() };
    let schedule = Schedule::new(&BASELINE, &training(&normed), Memory::Sequence).unwrap();
    let attention = "io engine_bwd engine_bwd engine_bwd dw dw dw dw io io elementwise";
    let backward = format!("head {network} {attention} elementwise");
    assert_eq!(parts(&schedule, &schedule.backward), backward);
    // Decoding, new keys and values go into the cache.
    let dims = Dims { config: &config, batch: 1, seq: 1, dtype: DType::Fp16 };
    let schedule = Schedule::new(&DECODE, &dims, Memory::Cache { capacity: 15 }).unwrap();
    let decoding = "elementwise io engine_fwd io io io io engine_fwd io head";
    assert_eq!(parts(&schedule, &schedule.forward), decoding);
}

#[test]
fn layers_keep_what_the_backward_pass_reads_and_share_the_rest() {
    let config = GptConfig { n_layer: 3, windows: vec![4, 0], ..small() };
    let schedule = Schedule::new(&BASELINE, &training(&config), Memory::Sequence).unwrap();
    let layers = |name: &str| [0, 1, 2].map(|n| schedule.values[schedule.value(name, n)].layer);
    for kept in ["wq", "w2", "q", "k", "attn", "x2norm", "h1", "gate"] {
        assert_eq!(layers(kept), [Some(0), Some(1), Some(2)], "{kept}");
    }
    for shared in ["x", "x2", "o_out", "ffn_out", "probs", "d_q0", "d_xnorm", "rope_cos"] {
        assert_eq!(layers(shared), [None; 3], "{shared}");
    }
    // The third layer's window is the first's.
    assert_eq!(layers("mask"), [Some(0), Some(1), Some(0)]);
    assert_eq!(schedule.find("q", 3), None);
    assert_eq!(schedule.find("no such value", 0), None);
    // Scores, 8 by 8 for 4 heads and 3 sequences, are less than the weights of the network, 40 by 24.
    assert_eq!(schedule.allocations().into_iter().max(), Some(2 * 40 * 24));
    assert_eq!(schedule.head, [50, 24, 24]);
    // The table's rows in their order, then seven gradients of weights.
    let indices = |place: Vec<(usize, &Kernel)>| place.into_iter().map(|(n, _)| n).collect();
    let [engine, host]: [Vec<usize>; 2] =
        [indices(schedule.engine().collect()), indices(schedule.host().collect())];
    assert_eq!(engine, [0, 1, 2, 4, 5, 6]);
    assert_eq!(host, [3, 7, 8, 9, 10, 11, 12, 13, 14]);
}

/// Losses and gradients of one micro-batch.
fn trained(plan: &Plan, config: &GptConfig, numerics: Numerics) -> (Vec<f64>, Vec<f32>) {
    let (batch, seq) = (2, 16);
    let device = match numerics {
        Numerics::F32 => Emulator::cpu(numerics),
        _ => Emulator::engine(Profile::default(), numerics),
    };
    let parameters = Parameters::new(config, initialise(config, 5));
    let mut model = Model::new(plan, &parameters, batch, seq, &device, numerics).unwrap();
    let tokens: Vec<u32> = (0..=32).map(|n| n * 7 % config.vocab_size as u32).collect();
    let mut grads = vec![0.0; model.layout().count()];
    let weights = TokenWeights::Even(1.0);
    let (inputs, targets) = (&tokens[..32], &tokens[1..]);
    let losses = model.loss_and_grads(inputs, targets, weights, MicroBatch::First, &mut grads);
    (losses.unwrap().to_vec(), grads)
}

#[test]
fn layers_of_one_kind_share_programs() {
    let config = GptConfig { n_layer: 4, no_rope: vec![1, 3], ..small() };
    let schedule = Schedule::new(&BASELINE, &training(&config), Memory::Sequence).unwrap();
    let names: Vec<_> = schedule.engine().map(|(_, k)| k.function.name.as_str()).collect();
    let first = ["fwdAttn", "fwdFFN", "ffnBwd", "sdpaBwd1", "sdpaBwd2", "qkvBwd"];
    let second = first.map(|name| format!("{name}_1"));
    assert_eq!(names[..6], first);
    assert_eq!(names[6..], second);
    let attention = |layer| {
        let of_layer = |step: &&Step| matches!(step, Step::Run { layer: l, .. } if *l == layer);
        schedule.describe(schedule.forward.iter().find(of_layer).unwrap()).0
    };
    assert_eq!([0, 1, 2, 3].map(attention), ["fwdAttn", "fwdAttn_1", "fwdAttn", "fwdAttn_1"]);
    // Layers that do not rotate read no tables.
    assert_eq!([0, 1].map(|layer| schedule.find("rope_cos", layer).is_some()), [true, false]);
}

/// Every value is rounded where it is computed, in whichever program that is. What `offload` gives to the
/// engine is in f32 elsewhere: in the device's precision its gradients are others, which `parity.rs` holds
/// against the reference.
#[test]
fn plans_differ_in_their_programs_and_not_in_a_bit_of_what_they_compute() {
    let gpt2 = GptConfig { vocab_size: 50, seq_len: 16, ..GptConfig::preset("gpt2-tiny").unwrap() };
    let normed = GptConfig { qk_norm: true, ..small() };
    for config in [small(), normed, GptConfig { n_layer: 1, ..gpt2 }] {
        for numerics in [Numerics::F32, Numerics::Fast] {
            let (losses, grads) = trained(&BASELINE, &config, numerics);
            assert!(grads.iter().any(|&g| g != 0.0));
            for plan in [&BASELINE, &FUSED] {
                let (others, other_grads) = trained(plan, &config, numerics);
                assert_eq!(losses, others, "{} {config} {numerics:?}", plan.name);
                let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
                assert!(grads.iter().zip(&other_grads).all(same), "{}", plan.name);
            }
        }
    }
}

#[test]
fn every_plan_is_legal_and_does_the_same_work() {
    for name in ["tiny", "stories110m", "gpt2", "qwen3-0.6b", "nanochat-d6"] {
        let config = GptConfig::preset(name).unwrap();
        let dims = Dims { config: &config, batch: 1, seq: 256, dtype: DType::Fp16 };
        let [most, least] = [&BASELINE, &FUSED].map(|plan| {
            let schedule = Schedule::new(plan, &dims, Memory::Sequence).unwrap();
            let runs = schedule.backward.iter().filter(|step| matches!(step, Step::Run { .. }));
            (runs.count(), schedule.flops().unwrap())
        });
        assert_eq!((most.0, least.0), (4 * config.n_layer, 2 * config.n_layer));
        assert_eq!(most.1, least.1);
        for plan in PLANS {
            let programs = match Programs::new(plan, &dims, Memory::Sequence) {
                Err(PlanError::Unfit { plan, part }) => {
                    assert_eq!(["nanochat-d6", "a cap on their logits"], [name, part]);
                    assert!([OFFLOAD.name, GRADIENTS.name, LAYERS.name].contains(&plan), "{plan}");
                    continue;
                }
                programs => programs.unwrap(),
            };
            for kernel in programs.of(Place::Engine) {
                let program = Program::new(kernel.function.clone());
                for (chip, os) in Chip::ALL.into_iter().flat_map(|c| Os::ALL.map(|os| (c, os))) {
                    let profile = Profile { chip, os, ..Profile::default() };
                    let verdict = legal::check(&program, &profile);
                    assert!(
                        verdict.is_ok(),
                        "{name} {} on {profile}: {verdict:?}",
                        kernel.function.name
                    );
                }
            }
        }
    }
}

/// The kernels of the seed's second trainer, beside its six: their place in a step, what they exchange with the
/// host, and the surfaces they need.
#[test]
fn offload_gives_the_head_and_the_norms_to_the_engine() {
    let config = small();
    let schedule = Schedule::new(&OFFLOAD, &training(&config), Memory::Sequence).unwrap();
    let of = |steps: &[Step], names: &[&str]| -> Vec<String> {
        let all = steps.iter().map(|step| schedule.describe(step).0);
        all.filter(|name| names.contains(&&name[..])).collect()
    };
    let head = ["load x_last", "finalNorm", "classifier", "softmax", "losses"];
    assert_eq!(of(&schedule.forward, &head), head);
    let backward = ["cotangents", "classifierBwd", "finalNormBwd", "unload d_x_last"];
    let head = [&backward[..], &["wcls_grad", "accumulate d_rms"]].concat();
    assert_eq!(of(&schedule.backward, &head), head);
    let norms =
        ["norm2Bwd", "accumulate d_rms2", "add d_x2", "norm1Bwd", "accumulate d_rms1", "add d_x"];
    assert_eq!(of(&schedule.backward, &norms), [norms, norms].concat());
    // Only the surfaces of a request have one size: not those of the layers and the classifier's.
    let (values, bytes) = (&schedule.values, schedule.allocations());
    let of = |name: &str| bytes[values.iter().position(|value| value.name == name).unwrap()];
    let classifier = 2 * 50 * 24;
    assert_eq!([of("wcls"), of("xf"), of("token_probs")], [classifier; 3]);
    assert_eq!([of("x_last"), of("d_x_last")], [2 * 24 * 24; 2]);
    let network = 2 * 40 * 24;
    assert_eq!([of("w1"), of("x2"), of("h1"), of("d_h1")], [network; 4]);
    // Streams stay on the engine for the norms of their layers.
    let layers = |name: &str| [0, 1].map(|n| schedule.values[schedule.value(name, n)].layer);
    assert_eq!([layers("x"), layers("x2")], [[Some(0), Some(1)]; 2]);
}

/// Products move with their groups: from the CPU's programs to those of the engine, which give nothing that
/// nobody reads.
#[test]
fn weight_gradients_go_to_the_engine_by_groups() {
    let config = small();
    let [none, qkv, all] = ["gradients:none", "gradients:qkv", "gradients"].map(|name| {
        let plan = Plan::named(name).unwrap();
        (Schedule::new(plan, &training(&config), Memory::Sequence).unwrap(), plan)
    });
    let flops = |(schedule, plan): &(Schedule, &Plan)| {
        let of = flops_by_part(plan, &training(&config)).unwrap();
        let all = schedule.flops().unwrap();
        [of.get(&WeightGradients).copied().unwrap_or(0.0), of[&EngineBackward], all]
    };
    let [none_flops, qkv_flops, all_flops] = [&none, &qkv, &all].map(flops);
    let tokens = 2.0 * 24.0;
    assert_eq!(none_flops[0], tokens * (2 * WEIGHTS + 50 * 24) as f64);
    assert_eq!(qkv_flops[0], none_flops[0] - tokens * (2 * QUERIES_KEYS_VALUES) as f64);
    assert_eq!(all_flops[0], 0.0);
    assert!([qkv_flops, all_flops].iter().all(|flops| flops[2] == none_flops[2]));
    assert_eq!(all_flops[1], none_flops[1] + none_flops[0]);
    let outputs = |(schedule, _): &(Schedule, &Plan), name: &str| {
        let kernel = schedule.programs.iter().find(|k| k.function.name == name).unwrap();
        kernel.function.outputs.len()
    };
    // Cotangents of three projections, or three gradients in their place; that of the norm.
    assert_eq!(["attnBwd", "ffnBwd"].map(|name| outputs(&none, name)), [4, 3]);
    assert_eq!(["attnBwd", "ffnBwd"].map(|name| outputs(&qkv, name)), [4, 3]);
    assert_eq!(["attnBwd", "ffnBwd"].map(|name| outputs(&all, name)), [5, 4]);
    // The classifier's gradient has a program, whose surfaces make none larger of those that the norm uses.
    let sizes = |(schedule, _): &(Schedule, &Plan)| {
        let (values, bytes) = (&schedule.values, schedule.allocations());
        ["d_xf", "d_x_last", "d_wcls"].map(|name| {
            let value = values.iter().position(|value| value.name == name);
            value.map(|value| bytes[value])
        })
    };
    assert_eq!(sizes(&none), [Some(2 * 24 * 24), Some(2 * 24 * 24), None]);
    assert_eq!(sizes(&all), [Some(2 * 24 * 24), Some(2 * 24 * 24), Some(2 * 50 * 24)]);
    let names: BTreeSet<_> = GRADIENTS.variants().map(|plan| plan.name).collect();
    assert_eq!(names.len(), 1 << GROUPS.len());
    assert!(GRADIENTS.variants().all(|plan| Plan::named(plan.name) == Some(plan)));
}

/// Three layers whose first and last attend to few tokens.
fn three() -> GptConfig {
    GptConfig { n_layer: 3, windows: vec![4, 0, 4], ..small() }
}

/// The stream goes to the engine once and its cotangent comes back once. Programs of several layers have a port for
/// each value of each layer, and one for what layers share.
#[test]
fn layers_are_joined_to_programs() {
    let config = three();
    let plan = Plan::named("layers:3+2:qkv+o+up+classifier").unwrap();
    let schedule = Schedule::new(plan, &training(&config), Memory::Sequence).unwrap();
    let names = |steps: &[Step]| -> Vec<(String, Option<usize>)> {
        let known = ["load x", "add", "fwdLayers", "bwdLayers", "unload d_x", "w2_grad"];
        let all = steps.iter().map(|step| schedule.describe(step));
        all.filter(|(name, _)| known.iter().any(|start| name.starts_with(start))).collect()
    };
    let step = |name: &str, layer| (name.to_owned(), layer);
    assert_eq!(names(&schedule.forward), [step("load x", Some(0)), step("fwdLayers", Some(0))]);
    let backward = [
        step("bwdLayers_2", Some(2)),
        step("w2_grad", Some(2)),
        step("bwdLayers", Some(0)),
        step("w2_grad", Some(1)),
        step("w2_grad", Some(0)),
        step("unload d_x", None),
    ];
    assert_eq!(names(&schedule.backward), backward);
    let ports = |name: &str| {
        let kernel = schedule.programs.iter().find(|k| k.function.name == name).unwrap();
        let f = &kernel.function;
        let of = |ids: Vec<mil::ValueId>| -> BTreeSet<String> {
            ids.into_iter().map(|id| f.value(id).name.clone()).collect()
        };
        (of(f.inputs().collect()), of(f.outputs.clone()))
    };
    let (inputs, outputs) = ports("fwdLayers");
    // The stream, nine parameters of each layer, two tables, the masks of two windows.
    assert_eq!(inputs.len(), 1 + 3 * 9 + 2 + 2, "{inputs:?}");
    assert!(["x_0", "wq_2", "rope_cos", "mask_0", "mask_1"].iter().all(|&n| inputs.contains(n)));
    assert!(["x_1", "x2_0", "x_3", "gate_2"].iter().all(|&n| outputs.contains(n)), "{outputs:?}");
    let (inputs, outputs) = ports("bwdLayers");
    assert!(["d_x_2", "x_1", "w1_0"].iter().all(|&name| inputs.contains(name)), "{inputs:?}");
    // The gradient of w2 is the host's: it reads the cotangent of the stream after each layer.
    assert!(["d_x_0", "d_x_1", "d_rms2_1"].iter().all(|&name| outputs.contains(name)));
    assert!(["d_w2_0", "d_h1_0", "d_x2_0"].iter().all(|&name| !outputs.contains(name)));
    let at = |name: &str, layer| schedule.value(name, layer);
    assert_eq!([at("x_3", 0), at("d_x_1", 2)], [at("x_last", 0), at("d_x_last", 0)]);
    assert_ne!(at("mask_1", 0), at("mask_0", 0));
}

/// Where programs begin and end changes no bit: every value is rounded where it is computed.
#[test]
fn layers_of_a_program_change_no_bit() {
    for numerics in [Numerics::F32, Numerics::Fast] {
        let of = |name: &str| {
            let (losses, grads) = trained(Plan::named(name).unwrap(), &three(), numerics);
            let bits: Vec<u32> = grads.iter().map(|g| g.to_bits()).collect();
            assert!(bits.iter().any(|&bits| bits != 0));
            (losses, bits)
        };
        let one = of("layers:1+1");
        for name in ["layers", "layers:3+1", "layers:1+3", "layers:2+2", "layers:3+3"] {
            assert!(of(name) == one, "{name} {numerics:?}");
        }
    }
}

/// Probabilities of attention travel where no weight is smaller, and are computed again where they are larger.
#[test]
fn probabilities_are_saved_where_they_cost_no_memory() {
    let config = three();
    let saves = |seq: usize| {
        let dims = Dims { config: &config, batch: 1, seq, dtype: DType::Fp16 };
        let schedule = Schedule::new(&LAYERS, &dims, Memory::Sequence).unwrap();
        let of_layer = schedule.allocations()[schedule.value("x", 0)];
        (schedule.find("probs", 0).is_some(), of_layer)
    };
    // 4 heads of 8 by 8 are fewer than 40 by 24; of 16 by 16, more.
    assert_eq!([8, 16].map(saves), [(true, 2 * 40 * 24), (false, 2 * 40 * 24)]);
}

#[test]
fn variants_of_layers_are_found_by_their_names() {
    for name in ["layers", "layers:12+1", "layers:3+2:none", "layers:1+1:qkv+classifier"] {
        let plan = Plan::named(name).unwrap();
        assert_eq!(plan.name, name);
        assert!(std::ptr::eq(plan, Plan::named(name).unwrap()));
    }
    // Groups in any order; all of them are the plan without a choice.
    let same = [
        ("layers:2+1:classifier+qkv", "layers:2+1:qkv+classifier"),
        ("layers:2+1:all", "layers:2+1"),
        ("gradients:up+qkv", "gradients:qkv+up"),
        ("gradients:classifier+down+up+o+qkv", "gradients"),
    ];
    for (name, known) in same {
        assert_eq!(Plan::named(name).unwrap().name, known);
    }
    for name in ["layers:0+1", "layers:1", "layers:1+1:", "layers:1+1:w1", "layer", "gradients:"] {
        assert_eq!(Plan::named(name), None, "{name}");
    }
}

/// On the engine, a gradient is rounded to binary16 once per micro-batch, by half a unit: 2^-11 of it, or 2^-25
/// where it is subnormal. Sums in f32 in another order differ by what `parity.rs` allows them, 1e-5 of the
/// largest. Whatever is no weight gradient keeps its bits.
#[test]
fn weight_gradients_of_the_engine_are_those_of_the_host_rounded() {
    let gpt2 = GptConfig { vocab_size: 50, seq_len: 16, ..GptConfig::preset("gpt2-tiny").unwrap() };
    // A classifier of its own: in a tied one, the gradient of the embedding may cancel what was rounded.
    for config in [small(), GptConfig { n_layer: 1, ..gpt2 }] {
        let config = GptConfig { tied: false, ..config };
        let layout = Layout::new(&config);
        for (numerics, half) in [(Numerics::F32, 0.0), (Numerics::Fast, 2f32.powi(-11))] {
            let none = Plan::named("gradients:none").unwrap();
            let (losses, expected) = trained(none, &config, numerics);
            for plan in GRADIENTS.variants() {
                let (others, grads) = trained(plan, &config, numerics);
                assert_eq!(losses, others, "{}", plan.name);
                for param in layout.params() {
                    let (want, got) = (&expected[param.range()], &grads[param.range()]);
                    let kept = param.shape.len() == 1 || param.block == Block::Embedding;
                    let largest = want.iter().fold(0f32, |most, g| most.max(g.abs()));
                    assert!(largest > 0.0 && largest.is_finite());
                    for (want, got) in want.iter().zip(got) {
                        let bound = half * want.abs() + 2f32.powi(-25) + 1e-5 * largest;
                        let bound = if kept { 0.0 } else { bound };
                        assert!((got - want).abs() <= bound, "{} {}", plan.name, param.name);
                    }
                }
            }
        }
    }
}

#[test]
fn plans_are_named_in_configurations() {
    assert_eq!(Plan::named("fused"), Some(&FUSED));
    assert_eq!(serde_json::to_string(&FUSED).unwrap(), "\"fused\"");
    let read = |text: &str| serde_json::from_str::<&'static Plan>(text);
    assert_eq!(read("\"baseline\"").unwrap(), &BASELINE);
    let error = read("\"decode\"").unwrap_err().to_string();
    assert!(error.contains("no plan `decode`; use one of baseline, fused, offload, gradients"));
    assert_eq!(read("\"gradients:qkv+up\"").unwrap().left, ["d_wo", "d_w2", "d_wcls"]);
}
