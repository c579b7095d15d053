//! nanochat (Karpathy 2025), as of July and of February 2026: norms without gains, also of the embedding,
//! and of queries and keys after their rotation; relu²; value embeddings with gates; smear; factors for
//! the stream and for the first stream before each layer; backout; capped logits; sliding windows; an
//! own classifier; tables filled up to a multiple of 64 rows.

use super::Architecture;
use crate::block;
use crate::config::{Edition, FamilyName, FeedForward, GptConfig, Nanochat as Parts, Norm};
use crate::declare::{Declared, Init, Tensor};

pub(super) struct Nanochat;

/// A model whose extents follow from its number of layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Depth {
    /// Layers.
    pub depth: usize,
    /// Width of the stream per layer; it is then rounded up to whole heads.
    pub aspect_ratio: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Number of tokens.
    pub vocab_size: usize,
    /// Longest sequence.
    pub seq_len: usize,
    /// Windows of the layers, repeated: `S`hort or `L`ong, in the last layer always long.
    pub window_pattern: String,
    /// True if the values of every second layer get rows looked up by token.
    pub value_embeds: bool,
    /// The state of the model's code.
    pub edition: Edition,
}

impl Depth {
    /// A model of `depth` layers with nanochat's defaults.
    pub fn new(edition: Edition, depth: usize) -> Self {
        Depth {
            depth,
            aspect_ratio: 64,
            head_dim: 128,
            vocab_size: 32_768,
            seq_len: 2048,
            window_pattern: "SSSL".to_owned(),
            value_embeds: true,
            edition,
        }
    }

    /// The model of the preset called `name`; none if that is no preset of this family.
    pub fn preset(name: &str) -> Option<Self> {
        EDITIONS.iter().find_map(|&(start, edition)| {
            let digits = name.strip_prefix(start)?;
            let depth = digits.parse::<usize>().ok().filter(|n| n.to_string() == digits)?;
            (1..=Depth::MOST).contains(&depth).then(|| Depth::new(edition, depth))
        })
    }

    /// The most layers of a preset.
    pub const MOST: usize = 1 << 10;

    /// The configuration.
    pub fn config(&self) -> GptConfig {
        let n_head = (self.depth * self.aspect_ratio).div_ceil(self.head_dim);
        let n_embd = n_head * self.head_dim;
        let july = self.edition == Edition::July2026;
        GptConfig {
            family: FamilyName(Nanochat.name()),
            n_layer: self.depth,
            n_head,
            n_kv_head: n_head,
            n_embd,
            head_dim: self.head_dim,
            hidden: 4 * n_embd,
            vocab_size: self.vocab_size,
            seq_len: self.seq_len,
            rope_theta: Some(if july { 1e5 } else { 1e4 }),
            no_rope: vec![],
            learned_positions: false,
            norm: Norm::Plain,
            // The epsilon of single precision.
            norm_eps: f64::from(f32::EPSILON),
            feed_forward: FeedForward::Relu2,
            bias: false,
            tied: false,
            qk_norm: false,
            windows: self.windows(),
            nanochat: Parts {
                rope_reversed: true,
                qk_scale: Some(if july { 1.2 } else { 1.0 }),
                softcap: Some(15.0),
                vocab_multiple: 64,
                value_embeds: self.value_embeds,
                gate_channels: if july { 12 } else { 32 },
                gate_scale: if july { 3.0 } else { 2.0 },
                embedding_norm: true,
                smear_channels: if july { 24 } else { 0 },
                residual_scales: true,
                backout: july,
                initial: self.edition,
            },
        }
    }

    /// Tokens that each layer attends to, the token itself and a window before it; 0 where they are all.
    fn windows(&self) -> Vec<usize> {
        let before = match self.edition {
            Edition::July2026 => self.seq_len.div_ceil(4).next_multiple_of(128),
            Edition::February2026 => self.seq_len / 2,
        };
        let short = if before + 1 < self.seq_len { before + 1 } else { 0 };
        let pattern = self.window_pattern.chars().cycle().take(self.depth - 1);
        pattern.map(|window| if window == 'S' { short } else { 0 }).chain([0]).collect()
    }
}

/// Depths that are listed as presets; there is one for every depth.
const LISTED: [usize; 3] = [4, 12, 20];

/// Beginnings of the names of presets, which end with a depth.
const EDITIONS: [(&str, Edition); 2] =
    [("nanochat-d", Edition::July2026), ("nanochat-2026-02-d", Edition::February2026)];

/// Names in nanochat's state dictionary; those of layers without the prefix `transformer.h.N.`.
const NAMES: &[(&str, &str)] = &[
    ("embedding", "transformer.wte.weight"),
    ("positions", "transformer.wpe.weight"),
    ("smear_gate", "smear_gate.weight"),
    ("smear_lambda", "smear_lambda"),
    ("rms1", "attn.norm.weight"),
    ("ln1", "attn.norm.weight"),
    ("ln1_bias", "attn.norm.bias"),
    ("wq", "attn.c_q.weight"),
    ("bq", "attn.c_q.bias"),
    ("wk", "attn.c_k.weight"),
    ("bk", "attn.c_k.bias"),
    ("wv", "attn.c_v.weight"),
    ("bv", "attn.c_v.bias"),
    ("value_gate", "attn.ve_gate.weight"),
    ("q_gain", "attn.q_norm.weight"),
    ("k_gain", "attn.k_norm.weight"),
    ("wo", "attn.c_proj.weight"),
    ("bo", "attn.c_proj.bias"),
    ("rms2", "mlp.norm.weight"),
    ("ln2", "mlp.norm.weight"),
    ("ln2_bias", "mlp.norm.bias"),
    ("w1", "mlp.c_fc.weight"),
    ("b1", "mlp.c_fc.bias"),
    ("w3", "mlp.c_up.weight"),
    ("b3", "mlp.c_up.bias"),
    ("w2", "mlp.c_proj.weight"),
    ("b2", "mlp.c_proj.bias"),
    ("backout_lambda", "backout_lambda"),
    ("rms", "transformer.norm.weight"),
    ("ln", "transformer.norm.weight"),
    ("ln_bias", "transformer.norm.bias"),
    ("classifier", "lm_head.weight"),
];

impl Architecture for Nanochat {
    fn name(&self) -> &'static str {
        "nanochat"
    }

    fn presets(&self) -> Vec<(String, GptConfig)> {
        let of = |(name, edition): (&str, Edition)| {
            LISTED.map(|depth| (format!("{name}{depth}"), Depth::new(edition, depth).config()))
        };
        EDITIONS.into_iter().flat_map(of).collect()
    }

    fn preset(&self, name: &str) -> Option<GptConfig> {
        Depth::preset(name).map(|depth| depth.config())
    }

    fn tensor(&self, port: &str, layer: Option<usize>) -> Tensor {
        let own = |name: String| Tensor { name, transposed: false };
        match (port, layer) {
            ("value_embeds", Some(layer)) => own(format!("value_embeds.{layer}.weight")),
            ("resid_lambda", _) => own("resid_lambdas".to_owned()),
            ("x0_lambda", _) => own("x0_lambdas".to_owned()),
            _ => Tensor::named(NAMES, port, layer.map(|layer| format!("transformer.h.{layer}."))),
        }
    }

    fn parameters(&self, config: &GptConfig) -> Vec<Declared> {
        let begin = |p: Declared| Declared { init: initial(config, &p), ..p };
        block::parameters(config).into_iter().map(begin).collect()
    }
}

/// How a parameter begins. Projections begin with the deviation 1/√D, those to the stream with 0.
fn initial(config: &GptConfig, p: &Declared) -> Init {
    let july = config.nanochat.initial == Edition::July2026;
    let bound = (3.0 / config.n_embd as f32).sqrt();
    let uniform = |bound: f32| Init::Uniform(-bound, bound);
    // From the first layer to the last.
    let line = |from: f32, by: f32| {
        let place = p.layer.unwrap_or(0) as f32 / (config.n_layer.max(2) - 1) as f32;
        Init::Constant(from - by * place)
    };
    match p.port {
        "embedding" => Init::Normal(if july { 0.8 } else { 1.0 }),
        "classifier" => Init::Normal(0.001),
        "wq" | "wk" | "wv" | "value_embeds" => uniform(bound),
        "wo" | "w2" => Init::Constant(0.0),
        "w1" => uniform(if july { 0.4 * bound } else { bound }),
        "resid_lambda" if july => line(1.15, 0.1),
        "resid_lambda" => Init::Constant(1.0),
        "x0_lambda" if july => line(0.2, 0.15),
        "x0_lambda" => Init::Constant(0.1),
        "smear_lambda" => Init::Constant(0.0),
        "backout_lambda" => Init::Constant(0.2),
        "smear_gate" | "value_gate" if july => Init::Uniform(0.0, 0.02),
        "smear_gate" | "value_gate" => Init::Constant(0.0),
        _ => p.init,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declare::Group;
    use crate::params::Layout;

    /// Depth, width, layers with value embeddings, all parameters, those of the blocks' matrices: counted
    /// in nanochat's own models, with its default vocabulary.
    const COUNTS: [[usize; 5]; 11] = [
        [2, 128, 1, 12_976_170, 393_228],
        [4, 256, 2, 36_700_242, 3_145_776],
        [6, 384, 3, 73_531_538, 10_616_940],
        [8, 512, 4, 125_829_354, 25_166_016],
        [10, 640, 5, 195_952_986, 49_152_300],
        [12, 768, 6, 286_261_730, 84_935_088],
        [16, 1024, 8, 536_871_738, 201_327_360],
        [20, 1280, 10, 896_533_746, 393_217_200],
        [24, 1536, 12, 1_384_122_122, 679_478_976],
        [26, 1664, 13, 1_681_786_938, 863_897_580],
        [32, 2048, 16, 2_818_575_450, 1_610_615_808],
    ];

    fn count(config: &GptConfig, groups: &[Group]) -> usize {
        let layout = Layout::new(config);
        let chosen = layout.params().iter().filter(|p| groups.contains(&p.group));
        chosen.map(|p| p.count()).sum()
    }

    #[test]
    fn parameters_are_as_many_as_nanochat_has() {
        for [depth, width, tables, all, matrices] in COUNTS {
            let config = GptConfig::preset(&format!("nanochat-d{depth}")).unwrap();
            assert_eq!((config.n_layer, config.n_embd), (depth, width));
            assert_eq!(Layout::new(&config).count(), all, "d{depth}");
            assert_eq!(count(&config, &[Group::Matrix]), matrices, "d{depth}");
            let rows = config.vocab_size * config.n_embd;
            assert_eq!(count(&config, &[Group::Classifier]), rows);
            assert_eq!(count(&config, &[Group::ValueEmbedding]), tables * rows);
            let scales = [Group::ResidualScale, Group::SkipScale, Group::Smear];
            assert_eq!(scales.map(|group| count(&config, &[group])), [depth, depth, 26]);
        }
        let february = GptConfig::preset("nanochat-2026-02-d12").unwrap();
        assert_eq!(Layout::new(&february).count(), 286_262_424);
        // Odd depths round the width up, and the vocabulary is filled up.
        let odd = GptConfig { vocab_size: 50, ..GptConfig::preset("nanochat-d5").unwrap() };
        assert_eq!((odd.n_embd, odd.n_head, odd.vocab_rows()), (384, 3, 64));
        assert_eq!(count(&odd, &[Group::Classifier]), 64 * 384);
    }

    #[test]
    fn windows_follow_the_pattern_and_end_long() {
        let windows = |edition, depth, seq_len| {
            let config = Depth { seq_len, ..Depth::new(edition, depth) }.config();
            (0..depth).map(|layer| config.window(layer).unwrap_or(0)).collect::<Vec<_>>()
        };
        let july = Edition::July2026;
        assert_eq!(windows(july, 6, 2048), [513, 513, 513, 0, 513, 0]);
        assert_eq!(windows(july, 2, 1024), [257, 0]);
        assert_eq!(windows(july, 3, 512), [129, 129, 0]);
        assert_eq!(windows(july, 2, 128), [0, 0]);
        assert_eq!(windows(Edition::February2026, 2, 2048), [1025, 0]);
    }

    #[test]
    fn every_depth_is_a_preset_and_no_other_name() {
        for name in ["nanochat-d1", "nanochat-d7", "nanochat-2026-02-d3"] {
            GptConfig::preset(name).unwrap().validate().unwrap();
        }
        for name in ["nanochat-d0", "nanochat-d", "nanochat-dx", "nanochat-d+4", "nanochat-d9999"] {
            let error = GptConfig::preset(name).unwrap_err().to_string();
            assert!(error.contains("nanochat-d4"), "{error}");
        }
    }

    #[test]
    fn value_embeddings_can_be_left_out() {
        let mut config = GptConfig::preset("nanochat-d4").unwrap();
        config.nanochat.value_embeds = false;
        config.validate().unwrap();
        let layout = Layout::new(&config);
        let gates = 2 * 2 * 12;
        assert_eq!(layout.count(), 36_700_242 - 2 * 32_768 * 256 - gates);
    }

    #[test]
    fn tensors_have_nanochats_names() {
        let layout = Layout::new(&GptConfig::preset("nanochat-d2").unwrap());
        let tensors: Vec<_> =
            layout.tensors().iter().map(|t| (t.name.as_str(), t.shape.clone())).collect();
        let of_layer = |i: usize| {
            let names =
                ["attn.c_q", "attn.c_k", "attn.c_v", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"];
            names.map(|name| format!("transformer.h.{i}.{name}.weight"))
        };
        for name in (0..2).flat_map(of_layer) {
            assert!(tensors.iter().any(|(known, _)| *known == name), "{name}");
        }
        for (name, shape) in [
            ("transformer.wte.weight", vec![32_768, 128]),
            ("transformer.h.1.attn.ve_gate.weight", vec![1, 12]),
            ("value_embeds.1.weight", vec![32_768, 128]),
            ("resid_lambdas", vec![2]),
            ("x0_lambdas", vec![2]),
            ("smear_gate.weight", vec![1, 24]),
            ("smear_lambda", vec![1]),
            ("backout_lambda", vec![1]),
            ("lm_head.weight", vec![32_768, 128]),
        ] {
            assert!(tensors.contains(&(name, shape)), "{name}");
        }
        assert_eq!(tensors.len(), 12 + 9);
        // Parameters of one tensor are told apart by their layers.
        assert_eq!(layout.find("resid_lambda", Some(1)).unwrap().name, "resid_lambdas[1]");
    }

    #[test]
    fn initial_values_are_nanochats() {
        let config = GptConfig {
            vocab_size: 4096,
            ..Depth { head_dim: 64, ..Depth::new(Edition::July2026, 4) }.config()
        };
        let (layout, values) = (Layout::new(&config), crate::initialise(&config, 1));
        let of = |port, layer| &values[layout.find(port, layer).unwrap().range()];
        for layer in 0..4 {
            assert!(
                [of("wo", Some(layer)), of("w2", Some(layer))].concat().iter().all(|&v| v == 0.0)
            );
            let place = layer as f32 / 3.0;
            assert!((of("resid_lambda", Some(layer))[0] - (1.15 - 0.1 * place)).abs() < 1e-6);
            assert!((of("x0_lambda", Some(layer))[0] - (0.2 - 0.15 * place)).abs() < 1e-6);
        }
        assert_eq!(
            (of("smear_lambda", None), of("backout_lambda", None)),
            (&[0.0][..], &[0.2][..])
        );
        // Bounds, and means and deviations within five standard errors.
        let bound = (3.0f64 / 256.0).sqrt();
        for (port, layer, low, high) in [
            ("wq", Some(0), -bound, bound),
            ("wk", Some(1), -bound, bound),
            ("wv", Some(2), -bound, bound),
            ("value_embeds", Some(3), -bound, bound),
            ("w1", Some(3), -0.4 * bound, 0.4 * bound),
            ("value_gate", Some(1), 0.0, 0.02),
            ("smear_gate", None, 0.0, 0.02),
        ] {
            let part: Vec<f64> = of(port, layer).iter().map(|&v| f64::from(v)).collect();
            assert!(part.iter().all(|v| (low - 1e-7..=high + 1e-7).contains(v)), "{port}");
            let (n, middle, deviation) =
                (part.len() as f64, (low + high) / 2.0, (high - low) / 12f64.sqrt());
            let mean = part.iter().sum::<f64>() / n;
            assert!((mean - middle).abs() < 5.0 * deviation / n.sqrt(), "{port}: {mean}");
            let variance = part.iter().map(|v| (v - middle).powi(2)).sum::<f64>() / n;
            let spread = (variance.sqrt() / deviation - 1.0).abs();
            assert!(spread < 5.0 / (2.0 * n).sqrt(), "{port}: {spread}");
        }
        for (port, deviation) in [("embedding", 0.8), ("classifier", 0.001)] {
            let part = of(port, None);
            let square =
                part.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / part.len() as f64;
            assert!((square.sqrt() / deviation - 1.0).abs() < 5e-3, "{port}");
        }
    }
}
