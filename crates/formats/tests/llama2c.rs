//! A llama2.c checkpoint of fewer key heads than query heads, against the formulas of `run.c` in
//! f64: the order of the file's tensors, and rotary pairs (2i, 2i+1), which reading moves.

use ane::Emulator;
use cpu::Numerics;
use formats::llama2c;
use gpt::{Decoder, GptConfig, Parameters};

const DIM: usize = 24;
const HIDDEN: usize = 20;
const LAYERS: usize = 2;
const HEADS: usize = 4;
const KEY_HEADS: usize = 2;
const HEAD: usize = DIM / HEADS;
const KEYS: usize = KEY_HEADS * HEAD;
const VOCAB: usize = 11;
const SEQ: usize = 8;

/// Numbers around 0, the same for the file and the formulas.
struct Stream(u64);

impl Stream {
    fn take(&mut self, n: usize, centre: f32, spread: f32) -> Vec<f32> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 40) as f32 / 16_777_216.0 - 0.5
        };
        (0..n).map(|_| centre + spread * next()).collect()
    }
}

/// Tensors as the file has them: each holds all layers.
struct Weights {
    embedding: Vec<f32>,
    rms_att: Vec<f32>,
    wq: Vec<f32>,
    wk: Vec<f32>,
    wv: Vec<f32>,
    wo: Vec<f32>,
    rms_ffn: Vec<f32>,
    w1: Vec<f32>,
    w2: Vec<f32>,
    w3: Vec<f32>,
    rms_final: Vec<f32>,
    classifier: Option<Vec<f32>>,
}

impl Weights {
    fn new(tied: bool) -> Self {
        let mut stream = Stream(7);
        let mut matrix = |n| stream.take(n, 0.0, 1.2);
        Weights {
            embedding: matrix(VOCAB * DIM),
            wq: matrix(LAYERS * DIM * DIM),
            wk: matrix(LAYERS * KEYS * DIM),
            wv: matrix(LAYERS * KEYS * DIM),
            wo: matrix(LAYERS * DIM * DIM),
            w1: matrix(LAYERS * HIDDEN * DIM),
            w2: matrix(LAYERS * DIM * HIDDEN),
            w3: matrix(LAYERS * HIDDEN * DIM),
            classifier: (!tied).then(|| matrix(VOCAB * DIM)),
            rms_att: stream.take(LAYERS * DIM, 1.0, 0.8),
            rms_ffn: stream.take(LAYERS * DIM, 1.0, 0.8),
            rms_final: stream.take(DIM, 1.0, 0.8),
        }
    }

    fn file(&self) -> Vec<u8> {
        let vocab = if self.classifier.is_some() { -(VOCAB as i32) } else { VOCAB as i32 };
        let size = |n: usize| n as i32;
        let header =
            [size(DIM), size(HIDDEN), size(LAYERS), size(HEADS), size(KEY_HEADS), vocab, size(SEQ)];
        let mut bytes: Vec<u8> = header.iter().flat_map(|v| v.to_le_bytes()).collect();
        let tables = vec![0.0f32; SEQ * HEAD];
        let tensors = [
            &self.embedding,
            &self.rms_att,
            &self.wq,
            &self.wk,
            &self.wv,
            &self.wo,
            &self.rms_ffn,
            &self.w1,
            &self.w2,
            &self.w3,
            &self.rms_final,
            &tables,
        ];
        for tensor in tensors.into_iter().chain(&self.classifier) {
            bytes.extend(tensor.iter().flat_map(|v| v.to_le_bytes()));
        }
        bytes
    }

    /// Logits after each token.
    fn logits(&self, tokens: &[usize]) -> Vec<Vec<f64>> {
        let (mut keys, mut values) = (vec![vec![]; LAYERS], vec![vec![]; LAYERS]);
        let mut all = vec![];
        for (position, &token) in tokens.iter().enumerate() {
            let mut x = wide(&self.embedding[token * DIM..][..DIM]);
            for layer in 0..LAYERS {
                let of = |w: &[f32], n: usize| wide(&w[layer * n..][..n]);
                let n = norm(&x, &of(&self.rms_att, DIM));
                let mut q = product(&of(&self.wq, DIM * DIM), &n);
                let mut k = product(&of(&self.wk, KEYS * DIM), &n);
                rotate(&mut q, position);
                rotate(&mut k, position);
                keys[layer].push(k);
                values[layer].push(product(&of(&self.wv, KEYS * DIM), &n));
                let o = attend(&q, &keys[layer], &values[layer]);
                add(&mut x, &product(&of(&self.wo, DIM * DIM), &o));
                let n = norm(&x, &of(&self.rms_ffn, DIM));
                let gate = product(&of(&self.w1, HIDDEN * DIM), &n);
                let up = product(&of(&self.w3, HIDDEN * DIM), &n);
                let hidden: Vec<f64> =
                    gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                add(&mut x, &product(&of(&self.w2, DIM * HIDDEN), &hidden));
            }
            let classifier = self.classifier.as_ref().unwrap_or(&self.embedding);
            all.push(product(&wide(classifier), &norm(&x, &wide(&self.rms_final))));
        }
        all
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

fn product(w: &[f64], x: &[f64]) -> Vec<f64> {
    w.chunks(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
}

fn norm(x: &[f64], gain: &[f64]) -> Vec<f64> {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    x.iter().zip(gain).map(|(x, g)| g * x / (mean + 1e-5).sqrt()).collect()
}

/// Neighbours are turned by position / 10000^(2i/HEAD).
fn rotate(x: &mut [f64], position: usize) {
    for (i, pair) in x.chunks_mut(2).enumerate() {
        let angle = position as f64 / 1e4f64.powf((2 * i % HEAD) as f64 / HEAD as f64);
        let [a, b] = [pair[0], pair[1]];
        pair[0] = a * angle.cos() - b * angle.sin();
        pair[1] = a * angle.sin() + b * angle.cos();
    }
}

fn attend(q: &[f64], keys: &[Vec<f64>], values: &[Vec<f64>]) -> Vec<f64> {
    let mut out = vec![0.0; DIM];
    for head in 0..HEADS {
        let shared = head / (HEADS / KEY_HEADS);
        let score = |k: &Vec<f64>| -> f64 {
            (0..HEAD).map(|i| q[head * HEAD + i] * k[shared * HEAD + i]).sum::<f64>()
                / (HEAD as f64).sqrt()
        };
        let weights: Vec<f64> = keys.iter().map(|k| score(k).exp()).collect();
        let total: f64 = weights.iter().sum();
        for (w, v) in weights.iter().zip(values) {
            for i in 0..HEAD {
                out[head * HEAD + i] += w / total * v[shared * HEAD + i];
            }
        }
    }
    out
}

#[test]
fn a_file_with_fewer_key_heads_computes_what_run_c_computes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.bin");
    for tied in [true, false] {
        let weights = Weights::new(tied);
        std::fs::write(&path, weights.file()).unwrap();
        let (config, params) = llama2c::read(&path).unwrap();
        let shape = GptConfig {
            n_layer: LAYERS,
            n_head: HEADS,
            n_kv_head: KEY_HEADS,
            n_embd: DIM,
            head_dim: HEAD,
            hidden: HIDDEN,
            vocab_size: VOCAB,
            seq_len: SEQ,
            rope_theta: Some(1e4),
            norm_eps: 1e-5,
            tied,
            ..GptConfig::default()
        };
        assert_eq!(config, shape);
        let device = Emulator::cpu(Numerics::F32);
        let parameters = Parameters::new(&config, params);
        let mut decoder = Decoder::new(&parameters, 1, &device, Numerics::F32).unwrap();
        let tokens = [3, 1, 4, 1, 5, 9, 2, 6];
        for (position, want) in weights.logits(&tokens).iter().enumerate() {
            let got = decoder.feed(&[tokens[position] as u32]).unwrap();
            let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            for (got, want) in got.iter().zip(want) {
                let near = (f64::from(*got) - want).abs() < 1e-4 * largest;
                assert!(near, "position {position}: {got} {want}");
            }
        }
    }
}
