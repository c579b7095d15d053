//! Times training steps of a Llama-style model in burn on its CPU backend: forward, backward, AdamW.

use burn::module::{Module, Param};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::optim::{AdamWConfig, GradientsAccumulator, GradientsParams};
use burn::tensor::activation::{silu, softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::time::Instant;

const INITIALIZER: Initializer = Initializer::Normal { mean: 0.0, std: 0.02 };

struct Geometry {
    dim: usize,
    layers: usize,
    heads: usize,
    hidden: usize,
    vocab: usize,
    tied: bool,
    qk_norm: bool,
}

struct Tables {
    cos: Tensor<4>,
    sin: Tensor<4>,
    mask: Tensor<4>,
}

#[derive(Module, Debug)]
struct Block {
    n1: RmsNorm,
    n2: RmsNorm,
    heads: Option<(RmsNorm, RmsNorm)>,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    gate: Linear,
    up: Linear,
    down: Linear,
}

fn linear(from: usize, to: usize, device: &Device) -> Linear {
    LinearConfig::new(from, to).with_bias(false).with_initializer(INITIALIZER).init(device)
}

fn norm(dim: usize, device: &Device) -> RmsNorm {
    RmsNormConfig::new(dim).init(device)
}

fn rotate(x: Tensor<4>, tables: &Tables) -> Tensor<4> {
    let mut parts = x.chunk(2, 3).into_iter();
    let (a, b) = (parts.next().expect("two parts"), parts.next().expect("two parts"));
    let first = a.clone() * tables.cos.clone() - b.clone() * tables.sin.clone();
    let second = a * tables.sin.clone() + b * tables.cos.clone();
    Tensor::cat(vec![first, second], 3)
}

impl Block {
    fn new(g: &Geometry, device: &Device) -> Self {
        let square = || linear(g.dim, g.dim, device);
        let head = || norm(g.dim / g.heads, device);
        Block {
            n1: norm(g.dim, device),
            n2: norm(g.dim, device),
            heads: g.qk_norm.then(|| (head(), head())),
            q: square(),
            k: square(),
            v: square(),
            o: square(),
            gate: linear(g.dim, g.hidden, device),
            up: linear(g.dim, g.hidden, device),
            down: linear(g.hidden, g.dim, device),
        }
    }

    fn forward(&self, x: Tensor<3>, heads: usize, tables: &Tables) -> Tensor<3> {
        let [b, t, d] = x.dims();
        let h = self.n1.forward(x.clone());
        let split = |w: &Linear| w.forward(h.clone()).reshape([b, t, heads, d / heads]).swap_dims(1, 2);
        let (mut q, mut k, v) = (split(&self.q), split(&self.k), split(&self.v));
        if let Some((nq, nk)) = &self.heads {
            (q, k) = (nq.forward(q), nk.forward(k));
        }
        let (q, k) = (rotate(q, tables), rotate(k, tables));
        let scores = q.matmul(k.swap_dims(2, 3)) / ((d / heads) as f32).sqrt() + tables.mask.clone();
        let y = softmax(scores, 3).matmul(v).swap_dims(1, 2).reshape([b, t, d]);
        let x = x + self.o.forward(y);
        let h = self.n2.forward(x.clone());
        x + self.down.forward(silu(self.gate.forward(h.clone())) * self.up.forward(h))
    }
}

#[derive(Module, Debug)]
struct Model {
    embed: Embedding,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: Option<Param<Tensor<2>>>,
}

impl Model {
    fn new(g: &Geometry, device: &Device) -> Self {
        Model {
            embed: EmbeddingConfig::new(g.vocab, g.dim).with_initializer(INITIALIZER).init(device),
            blocks: (0..g.layers).map(|_| Block::new(g, device)).collect(),
            norm: norm(g.dim, device),
            head: (!g.tied).then(|| INITIALIZER.init([g.vocab, g.dim], device)),
        }
    }

    fn loss(&self, x: Tensor<2, Int>, y: Tensor<2, Int>, heads: usize, tables: &Tables, device: &Device) -> Tensor<1> {
        let mut h = self.embed.forward(x);
        for block in &self.blocks {
            h = block.forward(h, heads, tables);
        }
        let [b, t, d] = h.dims();
        let h = self.norm.forward(h).reshape([b * t, d]);
        let classifier = self.head.as_ref().unwrap_or(&self.embed.weight).val();
        let logits = h.matmul(classifier.transpose());
        CrossEntropyLossConfig::new().init(device).forward(logits, y.reshape([b * t]))
    }
}

fn tables(g: &Geometry, seq: usize, device: &Device) -> Tables {
    let e = g.dim / g.heads;
    let angle = |t: usize, i: usize| t as f64 * 10000f64.powf(-2.0 * i as f64 / e as f64);
    let table = |f: fn(f64) -> f64| {
        let values: Vec<f32> = (0..seq).flat_map(|t| (0..e / 2).map(move |i| f(angle(t, i)) as f32)).collect();
        Tensor::<4>::from_data(TensorData::new(values, [1, 1, seq, e / 2]), device)
    };
    let mask: Vec<f32> = (0..seq).flat_map(|i| (0..seq).map(move |j| if j > i { -1e9 } else { 0.0 })).collect();
    Tables {
        cos: table(f64::cos),
        sin: table(f64::sin),
        mask: Tensor::from_data(TensorData::new(mask, [1, 1, seq, seq]), device),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|a| a == name).unwrap_or_else(|| panic!("{name} is missing"));
        arguments[at + 1].clone()
    };
    let number = |name: &str| value(name).parse::<usize>().expect("a number");
    let json: serde_json::Value = serde_json::from_str(&value("--geometry")).expect("JSON");
    let field = |name: &str| json[name].as_u64().expect("a number") as usize;
    let g = Geometry {
        dim: field("dim"),
        layers: field("layers"),
        heads: field("heads"),
        hidden: field("hidden"),
        vocab: field("vocab"),
        tied: json["tied"] == true,
        qk_norm: json["qk_norm"] == true,
    };
    let (batch, accum, seq, steps) = (number("--batch"), number("--accum"), number("--seq"), number("--steps"));
    let begin = Instant::now();
    let device = Device::flex().autodiff();
    let mut model = Model::new(&g, &device);
    let tables = tables(&g, seq, &device);
    let mut adam = AdamWConfig::new().with_weight_decay(0.1).init();
    let mut state = 1u64;
    let mut tokens = || {
        let ids: Vec<i64> = (0..batch * seq)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((state >> 33) % g.vocab as u64) as i64
            })
            .collect();
        Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, seq]), &device)
    };
    let (mut times, mut first) = (vec![], 0.0);
    for step in 0..=steps {
        let start = Instant::now();
        let mut sum = GradientsAccumulator::new();
        for _ in 0..accum {
            let loss = model.loss(tokens(), tokens(), g.heads, &tables, &device) / accum as f32;
            let grads = GradientsParams::from_grads(loss.backward(), &model);
            sum.accumulate(&model, grads);
        }
        model = adam.step(1e-4, model, sum.grads());
        match step {
            0 => first = begin.elapsed().as_secs_f64(),
            _ => times.push(start.elapsed().as_secs_f64() * 1e3),
        }
    }
    // SAFETY: the structure is plain data that the call fills in.
    let peak = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage.ru_maxrss as f64 / 1024.0
    };
    println!("{}", serde_json::json!({"ms": times, "first_step_s": first, "peak_mb": peak}));
}
