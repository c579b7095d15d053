//! LoRA: small trained factors beside frozen matrices (Hu et al. 2021).
//!
//! A matrix W [out, in] becomes W₀ + (α/r)·B·A with A [r, in] and B [out, r]. W₀ stays as it was; A begins with random
//! numbers, uniform within ±1/√in (PEFT's), and B with zeros, so that W begins as W₀. Everything else is frozen.
//!
//! The model computes with W, which every update merges anew, so programs, plans and forward and backward passes are
//! those of full finetuning. From the gradient G of W follow those of the factors:
//!
//! dA = (α/r)·Bᵀ·G, dB = (α/r)·G·Aᵀ,
//!
//! and AdamW updates them. A step takes about as long as in full finetuning: what LoRA saves is the state of the optimizer,
//! one copy of the targeted matrices (W₀) in place of two moments of every weight, and the size of what is learned.
//!
//! State of a targeted matrix: `base`, `lora_A` and `lora_B`, and AdamW's `m` and `v` of both factors.

use super::products::{as_it_lies, product, transposed};
use super::{AdamW, Optimizer, Update, Work, adamw};
use data::mix::{GOLDEN, mix};
use gpt::{Group, Param};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The matrices of a layer by their ports, each with its names in checkpoints.
const PORTS: [(&str, &[&str]); 7] = [
    ("wq", &["q_proj", "c_q", "c_attn"]),
    ("wk", &["k_proj", "c_k", "c_attn"]),
    ("wv", &["v_proj", "c_v", "c_attn"]),
    ("wo", &["o_proj", "c_proj"]),
    ("w1", &["gate_proj", "c_fc"]),
    ("w3", &["up_proj", "c_up"]),
    ("w2", &["down_proj", "c_proj"]),
];

/// The matrices that have factors, by their ports in every layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Targets([bool; PORTS.len()]);

impl Targets {
    /// All matrices of the layers.
    pub const ALL: Targets = Targets([true; PORTS.len()]);

    /// Returns the matrices that have one of these names in a checkpoint of Llama (`q_proj`), GPT-2 (`c_attn`) or nanochat
    /// (`c_q`).
    ///
    /// # Errors
    /// A name that no matrix has, with those that there are.
    pub fn named<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<Targets, String> {
        let mut targets = Targets([false; PORTS.len()]);
        for name in names {
            let mut known = false;
            for (target, (port, names)) in targets.0.iter_mut().zip(PORTS) {
                let is = port == name || names.contains(&name);
                (*target, known) = (*target || is, known || is);
            }
            if !known {
                return Err(format!(
                    "no matrix of a layer is called `{name}`: there are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj \
                     and down_proj (in GPT-2 c_attn, c_proj and c_fc, in nanochat c_q, c_k, c_v, c_proj and c_fc)"
                ));
            }
        }
        Ok(targets)
    }

    /// True if a parameter has factors.
    pub fn has(&self, param: &Param) -> bool {
        let at = PORTS.iter().position(|(port, _)| *port == param.port);
        param.group == Group::Matrix && at.is_some_and(|at| self.0[at])
    }
}

impl TryFrom<Vec<String>> for Targets {
    type Error = String;

    fn try_from(names: Vec<String>) -> Result<Self, String> {
        Targets::named(names.iter().map(String::as_str))
    }
}

impl From<Targets> for Vec<String> {
    fn from(targets: Targets) -> Self {
        let chosen = PORTS.iter().zip(targets.0).filter(|(_, chosen)| *chosen);
        chosen.map(|((port, _), _)| (*port).to_owned()).collect()
    }
}

/// LoRA with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// r: rows of A, columns of B.
    pub rank: usize,
    /// α: the change of a matrix is α/r times B·A.
    pub alpha: f64,
    /// The matrices that have factors.
    pub targets: Targets,
    /// Of the random numbers in A.
    pub seed: u64,
    /// For the factors. Its weight decay applies to them.
    pub adamw: AdamW,
}

impl Lora {
    /// α/r.
    fn factor(&self) -> f32 {
        (self.alpha / self.rank as f64) as f32
    }

    /// True if the factors of a matrix are no larger than itself.
    pub fn fits(&self, param: &Param) -> bool {
        let [rows, columns] = param.shape[..] else { return false };
        self.rank * (rows + columns) <= rows * columns
    }

    /// W ← W₀ + (α/r)·B·A.
    fn merge(
        &self,
        [rows, columns]: [usize; 2],
        base: &[f32],
        a: &[f32],
        b: &[f32],
        w: &mut [f32],
    ) {
        let (a, b) = (as_it_lies(a, columns), as_it_lies(b, self.rank));
        product([rows, columns, self.rank], b, a, w);
        let factor = self.factor();
        w.par_iter_mut().zip(base).for_each(|(w, base)| *w = base + factor * *w);
    }
}

impl Optimizer for Lora {
    fn state_of(&self, param: &Param) -> Vec<(&'static str, Vec<usize>)> {
        let [rows, columns] = param.shape[..] else { return vec![] };
        if !self.targets.has(param) {
            return vec![];
        }
        let (a, b) = (vec![self.rank, columns], vec![rows, self.rank]);
        vec![
            ("base", vec![rows, columns]),
            ("lora_A", a.clone()),
            ("lora_B", b.clone()),
            ("lora_A.m", a.clone()),
            ("lora_A.v", a),
            ("lora_B.m", b.clone()),
            ("lora_B.v", b),
        ]
    }

    /// The work of both gradients, of AdamW on the factors and of the merged matrix. A frozen parameter only
    /// costs zeroing its gradient.
    fn work_of(&self, param: &Param) -> Work {
        let elements = param.count() as f64;
        if !self.targets.has(param) {
            return Work { bytes: 4.0 * elements, ..Work::default() };
        }
        let factors = (self.rank * (param.shape[0] + param.shape[1])) as f64;
        Work {
            // dA, dB and B·A.
            flops: 3.0 * 2.0 * self.rank as f64 * elements,
            // α/r, and AdamW, for each element of a factor; α/r and W₀ for each of the matrix.
            elementwise: (1.0 + adamw::FLOPS) * factors + 2.0 * elements,
            // G is read twice and overwritten; B·A is written, read with W₀, and W is written. Of the factors: read by two
            // products each, gradients out and in twice, AdamW's four arrays in and three out.
            bytes: 4.0 * (7.0 * elements + (2.0 + 4.0 + 7.0) * factors),
        }
    }

    /// # Panics
    /// If the factors of a matrix are larger than itself ([`Lora::fits`]).
    fn begin(&self, index: usize, param: &Param, w: &[f32], state: &mut [&mut [f32]]) {
        let [base, a, ..] = state else { return };
        assert!(self.fits(param), "factors of rank {} of {}", self.rank, param.name);
        base.copy_from_slice(w);
        let bound = 1.0 / (param.shape[1] as f64).sqrt();
        let first = self.seed ^ (index as u64 + 1).wrapping_mul(GOLDEN);
        for (place, a) in (0u64..).zip(a.iter_mut()) {
            let bits = mix(first.wrapping_add(place.wrapping_mul(GOLDEN)));
            let unit = (bits >> 11) as f64 / (1u64 << 53) as f64;
            *a = (bound * (2.0 * unit - 1.0)) as f32;
        }
    }

    /// Puts dA and dB in place of G, one after the other, and zeros behind them: in place of the gradients of what is
    /// frozen, zeros alone.
    fn reduce(&self, param: &Param, g: &mut [f32], state: &mut [&mut [f32]]) {
        let [_, a, b, ..] = state else { return g.fill(0.0) };
        let ([rows, columns], r) = ([param.shape[0], param.shape[1]], self.rank);
        let (mut da, mut db) = (vec![0.0; r * columns], vec![0.0; rows * r]);
        let gradient = as_it_lies(g, columns);
        product([r, columns, rows], transposed(b, r), gradient, &mut da);
        product([rows, r, columns], gradient, transposed(a, columns), &mut db);
        let factor = self.factor();
        let both = da.iter().chain(&db).map(|g| g * factor).chain(std::iter::repeat(0.0));
        g.iter_mut().zip(both).for_each(|(to, from)| *to = from);
    }

    fn step(
        &self,
        update: &Update,
        param: &Param,
        w: &mut [f32],
        g: &[f32],
        state: &mut [&mut [f32]],
    ) {
        let [base, a, b, am, av, bm, bv] = state else { return };
        let (da, rest) = g.split_at(a.len());
        let Update { t, lr, scale, .. } = *update;
        self.adamw.update(t, lr, scale, true, a, da, am, av, &|_, _| ());
        self.adamw.update(t, lr, scale, true, b, &rest[..b.len()], bm, bv, &|_, _| ());
        self.merge([param.shape[0], param.shape[1]], base, a, b, w);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{State, count};
    use crate::schedule::Progress;
    use gpt::{GptConfig, Layout, initialise};

    const LORA: Lora = Lora {
        rank: 3,
        alpha: 5.0,
        targets: Targets([true, false, false, true, false, false, true]),
        seed: 9,
        adamw: AdamW { beta1: 0.8, beta2: 0.9, epsilon: 1e-3, weight_decay: 0.0 },
    };

    fn model() -> GptConfig {
        GptConfig {
            n_layer: 2,
            n_embd: 32,
            hidden: 48,
            ..GptConfig::preset("stories260k").unwrap()
        }
    }

    #[test]
    fn work_is_that_of_factors() {
        let layout = Layout::new(&model());
        let work = |param: &Param| LORA.work_of(param);
        for param in layout.params() {
            let (work, n) = (work(param), param.count() as f64);
            if !LORA.targets.has(param) {
                assert_eq!((work.flops, work.elementwise, work.bytes), (0.0, 0.0, 4.0 * n));
                continue;
            }
            let factors = (3 * (param.shape[0] + param.shape[1])) as f64;
            assert_eq!((work.flops, work.elementwise), (18.0 * n, 16.0 * factors + 2.0 * n));
            let state: usize = LORA.state_of(param).iter().map(|(_, s)| count(s)).sum();
            assert!(work.bytes >= 4.0 * (2.0 * n + 2.0 * state as f64), "all state is read");
        }
    }

    #[test]
    fn targets_are_named_as_checkpoints_name_them() {
        assert_eq!(Targets::named(["q_proj", "o_proj", "down_proj"]), Ok(LORA.targets));
        let of = |names: &[&str]| Targets::named(names.iter().copied()).unwrap();
        assert_eq!(of(&["c_attn", "c_proj", "c_fc", "c_up"]), Targets::ALL);
        assert_eq!(of(&["wq"]), of(&["c_q"]));
        let text = serde_json::to_string(&LORA).unwrap();
        assert!(text.contains(r#""targets":["wq","wo","w2"]"#), "{text}");
        assert_eq!(serde_json::from_str::<Lora>(&text).unwrap(), LORA);
        assert!(serde_json::from_str::<Lora>(&text.replace("wo", "wx")).is_err());
    }

    /// Two updates beside the formulas in f64, of every parameter of a model.
    #[test]
    fn updates_follow_the_formulas() {
        let layout = Layout::new(&model());
        let mut values = initialise(&model(), 3);
        let first = values.clone();
        let mut state = State::new(&LORA, &layout);
        let mut targeted = 0;
        for (index, param) in layout.params().iter().enumerate() {
            let w = &mut values[param.range()];
            LORA.begin(index, param, w, &mut state.of(index));
            let begun: Vec<Vec<f32>> = state.of(index).iter().map(|part| part.to_vec()).collect();
            let gradient = |t: u64| -> Vec<f32> {
                (0..param.count()).map(|i| (i as f32 * 0.37 + t as f32).sin()).collect()
            };
            let mut exact = begun.first().map(|_| Exact::new(param, &begun));
            for t in 1..=2 {
                let mut g = gradient(t);
                LORA.reduce(param, &mut g, &mut state.of(index));
                let update = Update { t, lr: 0.01, scale: 0.5, progress: Progress::default() };
                LORA.step(&update, param, w, &g, &mut state.of(index));
                let Some(exact) = &mut exact else {
                    assert!(g.iter().all(|&g| g == 0.0), "what is frozen has no gradient");
                    continue;
                };
                let (da, db) = exact.step(t, &gradient(t));
                let parts = g.iter().zip(da.iter().chain(&db));
                let largest = da.iter().chain(&db).fold(1.0f64, |most, g| most.max(g.abs()));
                for (got, want) in parts {
                    // Sums of up to 64 products in f32.
                    assert!(
                        (f64::from(*got) - want).abs() < 1e-5 * largest,
                        "{} {got} {want}",
                        param.name
                    );
                }
                assert!(g[da.len() + db.len()..].iter().all(|&g| g == 0.0));
            }
            match exact {
                None => assert_eq!(w, &first[param.range()], "{} is frozen", param.name),
                Some(exact) => {
                    targeted += 1;
                    for (got, want) in w.iter().zip(exact.merged()) {
                        assert!(
                            (f64::from(*got) - want).abs() < 1e-5,
                            "{} {got} {want}",
                            param.name
                        );
                    }
                }
            }
        }
        assert_eq!(targeted, 2 * 3);
    }

    /// A pair of factors in f64.
    struct Exact {
        extents: [usize; 2],
        base: Vec<f64>,
        a: Vec<f64>,
        b: Vec<f64>,
        moments: Vec<[f64; 2]>,
    }

    impl Exact {
        fn new(param: &Param, state: &[Vec<f32>]) -> Exact {
            let wide = |part: &Vec<f32>| part.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
            let bound = 1.0 / (param.shape[1] as f64).sqrt();
            let (a, b) = (wide(&state[1]), wide(&state[2]));
            assert!(a.iter().all(|a| a.abs() <= bound) && a.iter().any(|a| a.abs() > bound / 2.0));
            assert!(b.iter().all(|&b| b == 0.0) && state[3..].iter().flatten().all(|&m| m == 0.0));
            let moments = vec![[0.0; 2]; a.len() + b.len()];
            Exact {
                extents: [param.shape[0], param.shape[1]],
                base: wide(&state[0]),
                a,
                b,
                moments,
            }
        }

        /// The gradients of the factors as they are stored, before the factor 0.5 of the update.
        fn step(&mut self, t: u64, g: &[f32]) -> (Vec<f64>, Vec<f64>) {
            let [rows, columns] = self.extents;
            let (mut da, mut db) = (vec![0.0; self.a.len()], vec![0.0; self.b.len()]);
            for o in 0..rows {
                for i in 0..columns {
                    for k in 0..3 {
                        let g = f64::from(g[o * columns + i]) * 5.0 / 3.0;
                        da[k * columns + i] += self.b[o * 3 + k] * g;
                        db[o * 3 + k] += g * self.a[k * columns + i];
                    }
                }
            }
            let factors = self.a.iter_mut().chain(&mut self.b);
            let correct = |beta: f64| 1.0 - beta.powi(t as i32);
            for ((w, g), [m, v]) in factors.zip(da.iter().chain(&db)).zip(&mut self.moments) {
                let g = 0.5 * g;
                *m = 0.8 * *m + 0.2 * g;
                *v = 0.9 * *v + 0.1 * g * g;
                *w -= 0.01 * (*m / correct(0.8)) / ((*v / correct(0.9)).sqrt() + 1e-3);
            }
            (da, db)
        }

        fn merged(&self) -> Vec<f64> {
            let [rows, columns] = self.extents;
            let change = |o: usize, i: usize| {
                (0..3).map(|k| self.b[o * 3 + k] * self.a[k * columns + i]).sum::<f64>() * 5.0 / 3.0
            };
            (0..rows * columns)
                .map(|at| self.base[at] + change(at / columns, at % columns))
                .collect()
        }
    }
}
