//! nanochat's model and its gradients, token by token in f64, written from its formulas without MIL.

use gpt::{Edition, GptConfig};
use std::collections::BTreeMap;

/// Tensors by their names in nanochat's state dictionary.
pub(crate) type Tensors = BTreeMap<String, Vec<f64>>;

/// One row per token.
type Rows = Vec<Vec<f64>>;

pub(crate) struct Reference {
    pub(crate) c: GptConfig,
    pub(crate) w: Tensors,
    pub(crate) g: Tensors,
}

/// What a layer computed.
struct Layer {
    x: Rows,
    z: Rows,
    n: Rows,
    /// Queries and keys after rotation, and after their norm.
    rotated: [Rows; 2],
    normed: [Rows; 2],
    v: Rows,
    /// Value embeddings and their gates, one per head.
    values: Option<(Rows, Rows)>,
    /// By head and token.
    p: Vec<Rows>,
    y: Rows,
    h: Rows,
    m: Rows,
    f: Rows,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], scale: f64, x: &[f64]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += scale * x);
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn times(w: &[f64], x: &[f64]) -> Vec<f64> {
    w.chunks(x.len()).map(|row| dot(row, x)).collect()
}

/// Adds dy·xᵀ to the gradient of W, and returns Wᵀ·dy.
fn times_back(w: &[f64], x: &[f64], dy: &[f64], g: &mut [f64]) -> Vec<f64> {
    let mut dx = vec![0.0; x.len()];
    for (o, &d) in dy.iter().enumerate() {
        let row = o * x.len()..(o + 1) * x.len();
        add(&mut g[row.clone()], d, x);
        add(&mut dx, d, &w[row]);
    }
    dx
}

fn size(x: &[f64], eps: f64) -> f64 {
    (dot(x, x) / x.len() as f64 + eps).sqrt()
}

fn rms(x: &[f64], eps: f64) -> Vec<f64> {
    let size = size(x, eps);
    x.iter().map(|x| x / size).collect()
}

/// (dy − y·mean(dy·y))/size for y = rms(x).
fn rms_back(x: &[f64], dy: &[f64], eps: f64) -> Vec<f64> {
    let (y, size) = (rms(x, eps), size(x, eps));
    let mean = dot(dy, &y) / x.len() as f64;
    dy.iter().zip(&y).map(|(dy, y)| (dy - y * mean) / size).collect()
}

impl Reference {
    pub(crate) fn new(c: &GptConfig, w: Tensors) -> Self {
        let g = w.iter().map(|(name, w)| (name.clone(), vec![0.0; w.len()])).collect();
        Reference { c: c.clone(), w, g }
    }

    fn w(&self, name: &str) -> Vec<f64> {
        self.w[name].clone()
    }

    fn of(layer: usize, name: &str) -> String {
        format!("transformer.h.{layer}.{name}.weight")
    }

    fn g(&mut self, name: &str) -> &mut Vec<f64> {
        self.g.get_mut(name).unwrap()
    }

    fn row(&self, table: &str, token: u32, width: usize) -> Vec<f64> {
        self.w[table][token as usize * width..][..width].to_vec()
    }

    /// Turns channel j of each half by minus the angle of position t, or back.
    fn rotate(&self, x: &[f64], t: usize, back: bool) -> Vec<f64> {
        let (e, theta) = (self.c.head_dim, self.c.rope_theta.unwrap());
        let mut y = x.to_vec();
        for (from, to) in x.chunks(e).zip(y.chunks_mut(e)) {
            for j in 0..e / 2 {
                let angle = t as f64 * theta.powf(-2.0 * j as f64 / e as f64);
                let (cos, sin) = (angle.cos(), if back { -angle.sin() } else { angle.sin() });
                let (a, b) = (from[j], from[j + e / 2]);
                to[j] = a * cos + b * sin;
                to[j + e / 2] = -a * sin + b * cos;
            }
        }
        y
    }

    fn february(&self) -> bool {
        self.c.nanochat.initial == Edition::February2026
    }

    /// Largest factor of value embeddings, channels that their gates read, and the scale of queries.
    fn constants(&self) -> (f64, usize, f64) {
        if self.february() { (2.0, 32, 1.0) } else { (3.0, 12, 1.2) }
    }

    fn has_values(&self, layer: usize) -> bool {
        self.c.nanochat.value_embeds && layer % 2 == (self.c.n_layer - 1) % 2
    }

    fn attends(&self, layer: usize, i: usize, j: usize) -> bool {
        // A window of W tokens before the token is written W + 1.
        j <= i && (self.c.windows[layer] == 0 || i - j < self.c.windows[layer])
    }

    fn layer(&self, i: usize, tokens: &[u32], x: Rows, x0: &Rows) -> (Layer, Rows) {
        let (c, e, eps) = (&self.c, self.c.head_dim, self.c.norm_eps);
        let (most, channels, scale) = self.constants();
        let (a, b) = (self.w["resid_lambdas"][i], self.w["x0_lambdas"][i]);
        let mix = |(x, x0): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
            x.iter().zip(x0).map(|(x, x0)| a * x + b * x0).collect()
        };
        let z: Rows = x.iter().zip(x0).map(mix).collect();
        let n: Rows = z.iter().map(|z| rms(z, eps)).collect();
        let project = |name: &str, x: &Rows| -> Rows {
            let w = self.w(&Self::of(i, name));
            x.iter().map(|x| times(&w, x)).collect()
        };
        let mut v = project("attn.c_v", &n);
        let values = self.has_values(i).then(|| {
            let gate_weights = self.w(&Self::of(i, "attn.ve_gate"));
            let gate = |n: &Vec<f64>| -> Vec<f64> {
                times(&gate_weights, &n[..channels])
                    .into_iter()
                    .map(|g| most * sigmoid(g))
                    .collect()
            };
            let gates: Rows = n.iter().map(gate).collect();
            let table = format!("value_embeds.{i}.weight");
            let rows: Rows = tokens.iter().map(|&t| self.row(&table, t, c.kv_dim())).collect();
            for (v, (row, gate)) in v.iter_mut().zip(rows.iter().zip(&gates)) {
                for (h, &gate) in gate.iter().enumerate() {
                    add(&mut v[h * e..][..e], gate, &row[h * e..][..e]);
                }
            }
            (rows, gates)
        });
        let rotated = ["attn.c_q", "attn.c_k"].map(|name| -> Rows {
            let rows = project(name, &n);
            rows.iter().enumerate().map(|(t, x)| self.rotate(x, t, false)).collect()
        });
        let normed = [0, 1].map(|which| -> Rows {
            let head = |x: &[f64]| -> Vec<f64> { rms(x, eps).iter().map(|x| scale * x).collect() };
            rotated[which].iter().map(|x| x.chunks(e).flat_map(head).collect()).collect()
        });
        let share = c.n_head / c.n_kv_head;
        let (mut p, mut y) = (vec![], vec![vec![0.0; c.q_dim()]; tokens.len()]);
        for h in 0..c.n_head {
            let (own, shared) = (h * e, h / share * e);
            let mut of_head = vec![];
            for t in 0..tokens.len() {
                let score = |s: usize| match self.attends(i, t, s) {
                    true => {
                        let product =
                            dot(&normed[0][t][own..own + e], &normed[1][s][shared..shared + e]);
                        (product / (e as f64).sqrt()).exp()
                    }
                    false => 0.0,
                };
                let scores: Vec<f64> = (0..tokens.len()).map(score).collect();
                let sum: f64 = scores.iter().sum();
                let row: Vec<f64> = scores.iter().map(|score| score / sum).collect();
                for (s, &p) in row.iter().enumerate() {
                    add(&mut y[t][own..own + e], p, &v[s][shared..shared + e]);
                }
                of_head.push(row);
            }
            p.push(of_head);
        }
        let mut h = z.clone();
        for (h, out) in h.iter_mut().zip(project("attn.c_proj", &y)) {
            add(h, 1.0, &out);
        }
        let m: Rows = h.iter().map(|h| rms(h, eps)).collect();
        let f = project("mlp.c_fc", &m);
        let act: Rows = f.iter().map(|f| f.iter().map(|f| f.max(0.0).powi(2)).collect()).collect();
        let mut next = h.clone();
        for (next, out) in next.iter_mut().zip(project("mlp.c_proj", &act)) {
            add(next, 1.0, &out);
        }
        (Layer { x, z, n, rotated, normed, v, values, p, y, h, m, f }, next)
    }

    /// Logits after each token of a sequence; the gradient of Σ weight·loss over its tokens is added to g.
    pub(crate) fn sequence(
        &mut self,
        tokens: &[u32],
        targets: &[u32],
        weights: &[f64],
    ) -> (Rows, f64) {
        let (c, eps) = (self.c.clone(), self.c.norm_eps);
        let d = c.n_embd;
        let e: Rows = tokens.iter().map(|&t| self.row("transformer.wte.weight", t, d)).collect();
        let u: Rows = e.iter().map(|e| rms(e, eps)).collect();
        let mut x = u.clone();
        let smear = (!self.february()).then(|| {
            let (w, lambda) = (self.w("smear_gate.weight"), self.w["smear_lambda"][0]);
            let gates: Vec<f64> = u.iter().map(|u| sigmoid(dot(&w, &u[..24]))).collect();
            for t in 1..tokens.len() {
                add(&mut x[t], lambda * gates[t], &u[t - 1]);
            }
            (w, lambda, gates)
        });
        let x0 = x.clone();
        let (mut layers, mut middle) = (vec![], vec![]);
        for i in 0..c.n_layer {
            let (layer, next) = self.layer(i, tokens, x, &x0);
            layers.push(layer);
            x = next;
            if i == c.n_layer / 2 {
                middle = x.clone();
            }
        }
        let backout = if self.february() { 0.0 } else { self.w["backout_lambda"][0] };
        for (x, middle) in x.iter_mut().zip(&middle) {
            add(x, -backout, middle);
        }

        // Loss, and the gradient down to the last stream.
        let head = self.w("lm_head.weight")[..c.vocab_size * d].to_vec();
        let (mut logits, mut loss, mut dx) = (vec![], 0.0, vec![]);
        for ((x, &target), &weight) in x.iter().zip(targets).zip(weights) {
            let o = rms(x, eps);
            let row: Vec<f64> =
                times(&head, &o).iter().map(|raw| 15.0 * (raw / 15.0).tanh()).collect();
            let sum: f64 = row.iter().map(|l| l.exp()).sum();
            loss += weight * (sum.ln() - row[target as usize]);
            let raw: Vec<f64> = (row.iter().enumerate())
                .map(|(v, l)| {
                    let one = f64::from(u8::from(v == target as usize));
                    weight * (l.exp() / sum - one) * (1.0 - (l / 15.0).powi(2))
                })
                .collect();
            let back =
                times_back(&head, &o, &raw, &mut self.g("lm_head.weight")[..c.vocab_size * d]);
            dx.push(rms_back(x, &back, eps));
            logits.push(row);
        }

        let mut d_middle = vec![vec![0.0; d]; tokens.len()];
        for t in 0..tokens.len() {
            add(&mut d_middle[t], -backout, &dx[t]);
            if !self.february() {
                self.g("backout_lambda")[0] -= dot(&dx[t], &middle[t]);
            }
        }
        let mut dx0 = vec![vec![0.0; d]; tokens.len()];
        for i in (0..c.n_layer).rev() {
            if i == c.n_layer / 2 {
                dx.iter_mut().zip(&d_middle).for_each(|(dx, middle)| add(dx, 1.0, middle));
            }
            dx = self.layer_back(i, tokens, &layers[i], &x0, dx, &mut dx0);
        }
        dx.iter_mut().zip(&dx0).for_each(|(dx, dx0)| add(dx, 1.0, dx0));
        let mut du = dx.clone();
        if let Some((w, lambda, gates)) = smear {
            for t in 1..tokens.len() {
                let (gate, product) = (gates[t], dot(&dx[t], &u[t - 1]));
                add(&mut du[t - 1], lambda * gate, &dx[t]);
                self.g("smear_lambda")[0] += gate * product;
                let pre = lambda * product * gate * (1.0 - gate);
                add(self.g("smear_gate.weight"), pre, &u[t][..24]);
                add(&mut du[t][..24], pre, &w);
            }
        }
        for (t, &token) in tokens.iter().enumerate() {
            let back = rms_back(&e[t], &du[t], eps);
            add(&mut self.g("transformer.wte.weight")[token as usize * d..][..d], 1.0, &back);
        }
        (logits, loss)
    }

    fn layer_back(
        &mut self,
        i: usize,
        tokens: &[u32],
        l: &Layer,
        x0: &Rows,
        dx: Rows,
        dx0: &mut Rows,
    ) -> Rows {
        let (c, e, eps) = (self.c.clone(), self.c.head_dim, self.c.norm_eps);
        let (most, channels, scale) = self.constants();
        let project_back = |r: &mut Self, name: &str, x: &[f64], dy: &[f64]| {
            let name = Self::of(i, name);
            let w = r.w(&name);
            times_back(&w, x, dy, r.g(&name))
        };
        let (share, count) = (c.n_head / c.n_kv_head, tokens.len());
        let mut dh = dx.clone();
        let mut dy = vec![];
        for t in 0..count {
            let act: Vec<f64> = l.f[t].iter().map(|f| f.max(0.0).powi(2)).collect();
            let mut df = project_back(self, "mlp.c_proj", &act, &dx[t]);
            df.iter_mut().zip(&l.f[t]).for_each(|(df, f)| *df *= 2.0 * f.max(0.0));
            let dm = project_back(self, "mlp.c_fc", &l.m[t], &df);
            add(&mut dh[t], 1.0, &rms_back(&l.h[t], &dm, eps));
            dy.push(project_back(self, "attn.c_proj", &l.y[t], &dh[t]));
        }
        let mut dv = vec![vec![0.0; c.kv_dim()]; count];
        let mut d_normed = [vec![vec![0.0; c.q_dim()]; count], vec![vec![0.0; c.kv_dim()]; count]];
        for h in 0..c.n_head {
            let (own, shared) = (h * e..h * e + e, h / share * e..h / share * e + e);
            for t in 0..count {
                let p = &l.p[h][t];
                let dp: Vec<f64> =
                    l.v.iter().map(|v| dot(&dy[t][own.clone()], &v[shared.clone()])).collect();
                let mean = dot(p, &dp);
                for s in 0..count {
                    add(&mut dv[s][shared.clone()], p[s], &dy[t][own.clone()]);
                    let ds = p[s] * (dp[s] - mean) / (e as f64).sqrt();
                    let [dq, dk] = &mut d_normed;
                    add(&mut dq[t][own.clone()], ds, &l.normed[1][s][shared.clone()]);
                    add(&mut dk[s][shared.clone()], ds, &l.normed[0][t][own.clone()]);
                }
            }
        }
        let mut next = vec![];
        for t in 0..count {
            let mut dn = project_back(self, "attn.c_v", &l.n[t], &dv[t]);
            for (which, name) in ["attn.c_q", "attn.c_k"].into_iter().enumerate() {
                let heads = l.rotated[which][t].chunks(e).zip(d_normed[which][t].chunks(e));
                let back: Vec<f64> = heads
                    .flat_map(|(x, dy)| {
                        let dy: Vec<f64> = dy.iter().map(|dy| scale * dy).collect();
                        rms_back(x, &dy, eps)
                    })
                    .collect();
                let back = self.rotate(&back, t, true);
                add(&mut dn, 1.0, &project_back(self, name, &l.n[t], &back));
            }
            if let Some((rows, gates)) = &l.values {
                let mut pre = vec![];
                for (h, &gate) in gates[t].iter().enumerate() {
                    let range = h * e..h * e + e;
                    let start = tokens[t] as usize * c.kv_dim() + h * e;
                    let table = self.g(&format!("value_embeds.{i}.weight"));
                    add(&mut table[start..start + e], gate, &dv[t][range.clone()]);
                    let open = gate / most;
                    let product = dot(&dv[t][range.clone()], &rows[t][range]);
                    pre.push(most * product * open * (1.0 - open));
                }
                let back = project_back(self, "attn.ve_gate", &l.n[t][..channels], &pre);
                add(&mut dn[..channels], 1.0, &back);
            }
            let mut dz = dh[t].clone();
            add(&mut dz, 1.0, &rms_back(&l.z[t], &dn, eps));
            self.g("resid_lambdas")[i] += dot(&dz, &l.x[t]);
            self.g("x0_lambdas")[i] += dot(&dz, &x0[t]);
            add(&mut dx0[t], self.w["x0_lambdas"][i], &dz);
            let a = self.w["resid_lambdas"][i];
            next.push(dz.iter().map(|dz| a * dz).collect());
        }
        next
    }
}
