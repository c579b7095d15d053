//! Times training steps of a Llama-style model in candle: forward, backward, AdamW.

use candle_core::{DType, Device, Result, Tensor, D};
use candle_nn::{
    embedding, linear_no_bias, loss::cross_entropy, AdamW, Embedding, Linear, Module,
    Optimizer, ParamsAdamW, VarBuilder, VarMap,
};
use std::time::Instant;

struct Geometry {
    dim: usize,
    layers: usize,
    heads: usize,
    hidden: usize,
    vocab: usize,
    tied: bool,
    qk_norm: bool,
}

/// Root mean square normalisation from operations that can be differentiated.
struct Norm(Tensor);

impl Norm {
    fn new(dim: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Norm(vb.get_with_hints(dim, "gain", candle_nn::Init::Const(1.0))?))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?.recip()?;
        x.broadcast_mul(&scale)?.broadcast_mul(&self.0)
    }
}

struct Block {
    norms: [Norm; 2],
    heads: Option<[Norm; 2]>,
    qkvo: [Linear; 4],
    gate: Linear,
    up: Linear,
    down: Linear,
}

struct Rotary {
    cos: Tensor,
    sin: Tensor,
    mask: Tensor,
}

fn rotate(x: &Tensor, r: &Rotary) -> Result<Tensor> {
    let parts = x.chunk(2, D::Minus1)?;
    let (a, b) = (&parts[0], &parts[1]);
    let first = (a.broadcast_mul(&r.cos)? - b.broadcast_mul(&r.sin)?)?;
    let second = (a.broadcast_mul(&r.sin)? + b.broadcast_mul(&r.cos)?)?;
    Tensor::cat(&[first, second], D::Minus1)
}

impl Block {
    fn new(g: &Geometry, vb: VarBuilder) -> Result<Self> {
        let square = |name: &str| linear_no_bias(g.dim, g.dim, vb.pp(name));
        let head = |name: &str| Norm::new(g.dim / g.heads, vb.pp(name));
        Ok(Block {
            norms: [Norm::new(g.dim, vb.pp("n1"))?, Norm::new(g.dim, vb.pp("n2"))?],
            heads: if g.qk_norm { Some([head("nq")?, head("nk")?]) } else { None },
            qkvo: [square("q")?, square("k")?, square("v")?, square("o")?],
            gate: linear_no_bias(g.dim, g.hidden, vb.pp("w1"))?,
            up: linear_no_bias(g.dim, g.hidden, vb.pp("w3"))?,
            down: linear_no_bias(g.hidden, g.dim, vb.pp("w2"))?,
        })
    }

    fn forward(&self, x: &Tensor, heads: usize, r: &Rotary) -> Result<Tensor> {
        let (b, t, d) = x.dims3()?;
        let h = self.norms[0].forward(x)?;
        let split = |w: &Linear| w.forward(&h)?.reshape((b, t, heads, d / heads))?.transpose(1, 2)?.contiguous();
        let (mut q, mut k, v) = (split(&self.qkvo[0])?, split(&self.qkvo[1])?, split(&self.qkvo[2])?);
        if let Some([nq, nk]) = &self.heads {
            (q, k) = (nq.forward(&q)?, nk.forward(&k)?);
        }
        let (q, k) = (rotate(&q, r)?, rotate(&k, r)?);
        let scores = (q.matmul(&k.t()?.contiguous()?)? / ((d / heads) as f64).sqrt())?.broadcast_add(&r.mask)?;
        let y = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&v)?;
        let x = (x + self.qkvo[3].forward(&y.transpose(1, 2)?.reshape((b, t, d))?)?)?;
        let h = self.norms[1].forward(&x)?;
        let gated = (self.gate.forward(&h)?.silu()? * self.up.forward(&h)?)?;
        x + self.down.forward(&gated)?
    }
}

struct Model {
    heads: usize,
    embed: Embedding,
    blocks: Vec<Block>,
    norm: Norm,
    head: Option<Linear>,
    rotary: Rotary,
}

impl Model {
    fn new(g: &Geometry, seq: usize, vb: VarBuilder) -> Result<Self> {
        let e = g.dim / g.heads;
        let angle = |t: usize, i: usize| t as f64 * 10000f64.powf(-2.0 * i as f64 / e as f64);
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = (0..seq).flat_map(|t| (0..e / 2).map(move |i| f(angle(t, i)) as f32)).collect();
            Tensor::from_vec(values, (1, 1, seq, e / 2), &Device::Cpu)
        };
        let mask: Vec<f32> =
            (0..seq).flat_map(|i| (0..seq).map(move |j| if j > i { f32::NEG_INFINITY } else { 0.0 })).collect();
        Ok(Model {
            heads: g.heads,
            embed: embedding(g.vocab, g.dim, vb.pp("embed"))?,
            blocks: (0..g.layers).map(|i| Block::new(g, vb.pp(format!("block{i}")))).collect::<Result<_>>()?,
            norm: Norm::new(g.dim, vb.pp("norm"))?,
            head: if g.tied { None } else { Some(linear_no_bias(g.dim, g.vocab, vb.pp("head"))?) },
            rotary: Rotary {
                cos: table(f64::cos)?,
                sin: table(f64::sin)?,
                mask: Tensor::from_vec(mask, (1, 1, seq, seq), &Device::Cpu)?,
            },
        })
    }

    fn loss(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let mut h = self.embed.forward(x)?;
        for block in &self.blocks {
            h = block.forward(&h, self.heads, &self.rotary)?;
        }
        let h = self.norm.forward(&h)?.flatten_to(1)?;
        let logits = match &self.head {
            Some(head) => head.forward(&h)?,
            None => h.matmul(&self.embed.embeddings().t()?)?,
        };
        cross_entropy(&logits, &y.flatten_all()?)
    }
}

fn main() -> Result<()> {
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
    let vars = VarMap::new();
    let model = Model::new(&g, seq, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    let mut adam = AdamW::new(vars.all_vars(), ParamsAdamW { lr: 1e-4, weight_decay: 0.1, ..Default::default() })?;
    let mut state = 1u64;
    let mut tokens = || {
        let ids: Vec<u32> = (0..batch * seq)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((state >> 33) % g.vocab as u64) as u32
            })
            .collect();
        Tensor::from_vec(ids, (batch, seq), &Device::Cpu)
    };
    let (mut times, mut first) = (vec![], 0.0);
    for step in 0..=steps {
        let start = Instant::now();
        let mut loss = (model.loss(&tokens()?, &tokens()?)? / accum as f64)?;
        for _ in 1..accum {
            loss = (loss + (model.loss(&tokens()?, &tokens()?)? / accum as f64)?)?;
        }
        adam.backward_step(&loss)?;
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
    Ok(())
}
