//! Parameters as checkpoints of their families hold them, worked out by hand.

use gpt::{Family, FeedForward, GptConfig, Group, Layout, Norm, Parameters};
use std::convert::Infallible;

/// A GPT-2 of width 2 with 3 hidden channels, 4 tokens and 2 positions.
fn gpt2() -> GptConfig {
    GptConfig {
        family: Family::named("gpt2").unwrap().into(),
        n_layer: 1,
        n_head: 1,
        n_kv_head: 1,
        n_embd: 2,
        head_dim: 2,
        hidden: 3,
        vocab_size: 4,
        seq_len: 2,
        rope_theta: None,
        learned_positions: true,
        norm: Norm::Layer,
        feed_forward: FeedForward::Gelu,
        bias: true,
        ..GptConfig::default()
    }
}

/// Name, shape and elements of every tensor; the elements of the arena are their own indices.
const TENSORS: [(&str, &[usize], &[u8]); 16] = [
    ("wte.weight", &[4, 2], &[0, 1, 2, 3, 4, 5, 6, 7]),
    ("wpe.weight", &[2, 2], &[8, 9, 10, 11]),
    ("h.0.ln_1.weight", &[2], &[12, 13]),
    ("h.0.ln_1.bias", &[2], &[14, 15]),
    // Queries [[16, 17], [18, 19]], keys [[22, 23], [24, 25]] and values [[28, 29], [30, 31]].
    ("h.0.attn.c_attn.weight", &[2, 6], &[16, 18, 22, 24, 28, 30, 17, 19, 23, 25, 29, 31]),
    ("h.0.attn.c_attn.bias", &[6], &[20, 21, 26, 27, 32, 33]),
    ("h.0.attn.c_proj.weight", &[2, 2], &[34, 36, 35, 37]),
    ("h.0.attn.c_proj.bias", &[2], &[38, 39]),
    ("h.0.ln_2.weight", &[2], &[40, 41]),
    ("h.0.ln_2.bias", &[2], &[42, 43]),
    ("h.0.mlp.c_fc.weight", &[2, 3], &[44, 46, 48, 45, 47, 49]),
    ("h.0.mlp.c_fc.bias", &[3], &[50, 51, 52]),
    ("h.0.mlp.c_proj.weight", &[3, 2], &[53, 56, 54, 57, 55, 58]),
    ("h.0.mlp.c_proj.bias", &[2], &[59, 60]),
    ("ln_f.weight", &[2], &[61, 62]),
    ("ln_f.bias", &[2], &[63, 64]),
];

fn arena() -> Vec<f32> {
    (0u8..65).map(f32::from).collect()
}

#[test]
fn tensors_of_a_checkpoint_are_turned_and_joined() {
    let layout = Layout::new(&gpt2());
    assert_eq!(layout.count(), 65);
    assert_eq!(layout.tensors().len(), TENSORS.len());
    for (tensor, (name, shape, elements)) in layout.tensors().iter().zip(TENSORS) {
        assert_eq!((tensor.name.as_str(), &tensor.shape[..]), (name, shape));
        let elements: Vec<f32> = elements.iter().map(|&v| f32::from(v)).collect();
        assert_eq!(*layout.stored(tensor, &arena()), elements, "{name}");
        let mut restored = vec![0.0; 65];
        layout.restore(tensor, &elements, &mut restored);
        let own = |i: usize| elements.contains(&(i as f32));
        let expected: Vec<f32> = (0..65).map(|i| if own(i) { i as f32 } else { 0.0 }).collect();
        assert_eq!(restored, expected, "{name}");
        // What is neither turned nor joined lies in the arena as it is.
        let first = elements[0] as usize;
        let whole =
            shape.len() == 1 && shape[0] < 6 || ["wte.weight", "wpe.weight"].contains(&name);
        assert_eq!(layout.place(tensor), whole.then(|| first..first + elements.len()), "{name}");
    }
    let mut filled = vec![0.0; 65];
    let read = |tensors: Vec<(&gpt::params::Stored, &mut [f32])>| -> Result<(), Infallible> {
        assert_eq!(tensors.len(), TENSORS.len());
        for ((tensor, to), (name, _, elements)) in tensors.into_iter().zip(TENSORS) {
            assert_eq!((tensor.name.as_str(), to.len()), (name, elements.len()));
            to.iter_mut().zip(elements).for_each(|(to, &v)| *to = f32::from(v));
        }
        Ok(())
    };
    layout.fill(&mut filled, read).unwrap();
    assert_eq!(filled, arena());
}

#[test]
fn parameters_of_one_tensor_are_told_apart() {
    let layout = Layout::new(&gpt2());
    let name = |port, layer| layout.find(port, layer).unwrap().name.as_str();
    assert_eq!(name("wk", Some(0)), "h.0.attn.c_attn.weight[wk]");
    assert_eq!(name("bv", Some(0)), "h.0.attn.c_attn.bias[bv]");
    assert_eq!(name("wo", Some(0)), "h.0.attn.c_proj.weight");
    assert_eq!(layout.find("wk", None), None);
    assert_eq!(layout.find("wk", Some(1)), None);
    // The classifier is the embedding, unless it is its own.
    assert_eq!((layout.embedding(), layout.classifier()), (0..8, 0..8));
    let untied = Layout::new(&GptConfig { tied: false, ..gpt2() });
    assert_eq!((untied.embedding(), untied.classifier()), (0..8, 65..73));
}

#[test]
fn parameters_have_the_groups_of_their_roles() {
    let layout = Layout::new(&GptConfig { tied: false, ..gpt2() });
    let group = |port, layer| layout.find(port, layer).unwrap().group;
    assert_eq!([group("embedding", None), group("positions", None)], [Group::Embedding; 2]);
    assert_eq!([group("wq", Some(0)), group("w2", Some(0))], [Group::Matrix; 2]);
    assert_eq!([group("bq", Some(0)), group("ln", None)], [Group::Vector; 2]);
    assert_eq!(group("classifier", None), Group::Classifier);
}

#[test]
fn clones_are_the_same_weights() {
    let parameters = Parameters::new(&gpt2(), arena());
    let (clone, before) = (parameters.clone(), parameters.version());
    clone.update(|values| values[3] = -1.0);
    assert_ne!(parameters.version(), before);
    let mut changed = arena();
    changed[3] = -1.0;
    assert_eq!(clone.into_values(), changed, "copied: they are another's too");
    assert_eq!(parameters.into_values(), changed);
}
