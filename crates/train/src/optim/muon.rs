//! Muon for the matrices of the layers, AdamW for all other parameters.
//!
//! A matrix moves along the semi-orthogonal matrix nearest to its momentum, so that an update changes
//! all directions alike, whatever the gradient's singular values (Jordan et al. 2024). The variant is
//! nanochat's. One update of W [r, c], r outputs, with gradient G:
//!
//! 1. Momentum (Nesterov): M ← μM + (1−μ)G, U = μM + (1−μ)G.
//! 2. Every row of U is scaled to the same norm (MuonEq), and all of it to a Frobenius norm of 1/1.01.
//! 3. Five times X ← (aI + bA + cA²)X with A = XXᵀ, or X ← X(aI + bA + cA²) with A = XᵀX where r > c
//!    (Polar Express, Amsel et al. 2025): each singular value becomes about 1.
//! 4. X is scaled to the norm of a semi-orthogonal matrix, √min(r, c) (Muon+).
//! 5. Each line of X (row where r ≥ c, else column) is divided by the root of a running mean of its mean
//!    square, and all of it brought back to its norm (NorMuon, Li et al. 2025).
//! 6. W ← W − ρ(X + λW), ρ = lr·√max(1, r/c), without λW where it and X have opposite signs (cautious
//!    decay, Chen et al. 2025).
//!
//! As of February 2026, nanochat had neither the scaling of rows in 2 nor 4, and 1.02 in place of 1.01
//! (`equal_rows`, `rescale`, `margin`).
//!
//! State: `momentum` [r, c] and `second` [r, 1] or [1, c]. A gradient of zeros gives X = 0.

use super::products::{as_it_lies, product, transposed};
use super::{AdamWGroups, CHUNK, Optimizer, Update, Work, sum_of_squares, tell};
use crate::schedule::{Fade, Momentum};
use cpu::gemm::symmetric;
use gpt::{Done, Group, Param};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// a, b and c of the five iterations: each is the best odd polynomial of degree 5 for what the ones before
/// leave of the interval of singular values (Amsel et al. 2025, algorithm 1).
const COEFFICIENTS: [[f64; 3]; 5] = [
    [8.156554524902461, -22.48329292557795, 15.878769915207462],
    [4.042929935166739, -2.808917465908714, 0.5000178451051316],
    [3.8916678022926607, -2.772484153217685, 0.5060648178503393],
    [3.285753657755655, -2.3681294933425376, 0.46449024233003106],
    [2.3465413258596377, -1.7097828382687081, 0.42323551169305323],
];
/// Least divisors of norms, and the least second moment: zeros stay zeros.
const LEAST_NORM: f64 = 1e-6;
const LEAST_MOMENT: f64 = 1e-10;

/// Muon with its settings, and those of AdamW.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Muon {
    /// μ over the run.
    pub momentum: Momentum,
    /// Decay of the mean squares of lines.
    pub beta2: f32,
    /// λ: share of a weight that a step of rate 1 removes.
    pub weight_decay: f32,
    /// The course of λ over the run.
    pub fade: Fade,
    /// For all parameters but the matrices of the layers.
    pub adamw: AdamWGroups,
    /// The room that the first iteration leaves between the largest singular value and the end of its interval.
    #[serde(default = "usual_margin")]
    pub margin: f64,
    /// True if every row is first scaled to the same norm.
    #[serde(default = "yes")]
    pub equal_rows: bool,
    /// True if the result is scaled to the norm of a semi-orthogonal matrix.
    #[serde(default = "yes")]
    pub rescale: bool,
}

/// Runs from before there was a choice have July's.
fn usual_margin() -> f64 {
    1.01
}

fn yes() -> bool {
    true
}

impl Default for Muon {
    /// A constant momentum of 0.95 and nanochat's 0.9 for the second moment; the decay and the other
    /// parameters as with AdamW alone.
    fn default() -> Self {
        Muon {
            momentum: Momentum::Constant(0.95),
            beta2: 0.9,
            weight_decay: 0.1,
            fade: Fade::Constant,
            adamw: AdamWGroups::default(),
            margin: usual_margin(),
            equal_rows: true,
            rescale: true,
        }
    }
}

/// A matrix, or a batch of numbers for each of its rows or columns.
type Extents = [usize; 2];

/// True if the second moment is one number per row, false if per column.
fn by_rows([rows, columns]: Extents) -> bool {
    rows >= columns
}

impl Muon {
    /// Floating-point operations of the iterations on a matrix of `extents`. Of A and A², which are
    /// symmetric, one half is computed.
    pub fn flops([rows, columns]: [usize; 2]) -> f64 {
        let (long, short) = (rows.max(columns) as f64, rows.min(columns) as f64);
        COEFFICIENTS.len() as f64 * (3.0 * long * short * short + short.powi(3))
    }

    /// [`Muon::flops`] if all elements of A and A² were computed.
    pub fn flops_of_whole_products([rows, columns]: [usize; 2]) -> f64 {
        let (long, short) = (rows.max(columns) as f64, rows.min(columns) as f64);
        COEFFICIENTS.len() as f64 * (4.0 * long * short * short + 2.0 * short.powi(3))
    }

    /// One update of a matrix of `extents` [out, in] by the page above: `w` its elements, `g` their
    /// gradients, `momentum` and `second` its state.
    ///
    /// # Panics
    /// If a slice does not fit the extents.
    pub fn update(
        &self,
        update: &Update,
        extents: Extents,
        w: &mut [f32],
        g: &[f32],
        momentum: &mut [f32],
        second: &mut [f32],
    ) {
        let [rows, columns] = extents;
        let lines = if by_rows(extents) { rows } else { columns };
        assert!([w.len(), g.len(), momentum.len()] == [rows * columns; 3] && second.len() == lines);
        let mu = self.momentum.at(&update.progress);
        let mut x = nesterov(mu, update.scale, g, momentum);
        self.scale_rows(&mut x, columns);
        orthogonalise(&mut x, extents);
        let decay = f64::from(self.weight_decay) * self.fade.at(&update.progress);
        let rate = f64::from(update.lr) * (rows as f64 / columns as f64).max(1.0).sqrt();
        let factors = self.normalise_lines(&x, extents, second);
        let factors: Vec<f32> = factors.into_iter().map(|factor| (rate * factor) as f32).collect();
        descend(w, &x, extents, &factors, (rate * decay) as f32);
    }

    /// Step 2.
    fn scale_rows(&self, x: &mut [f32], columns: usize) {
        let norms: Vec<f64> = x.par_chunks(columns).map(|row| sum_of_squares(row).sqrt()).collect();
        let mean_square = norms.iter().map(|norm| norm * norm).sum::<f64>() / norms.len() as f64;
        let factor = |norm: &f64| match self.equal_rows {
            true => mean_square.sqrt() / norm.max(LEAST_NORM),
            false => 1.0,
        };
        let all = norms.iter().map(|norm| (norm * factor(norm)).powi(2)).sum::<f64>().sqrt();
        let share = 1.0 / (self.margin * all + LEAST_NORM);
        x.par_chunks_mut(columns).zip(&norms).for_each(|(row, norm)| {
            let factor = (factor(norm) * share) as f32;
            row.iter_mut().for_each(|x| *x *= factor);
        });
    }

    /// Steps 4 and 5: updates the second moments and returns a factor for each line of X.
    fn normalise_lines(&self, x: &[f32], extents: Extents, second: &mut [f32]) -> Vec<f64> {
        let squares = squares_of_lines(x, extents);
        let [rows, columns] = extents;
        let (lines, length) = (squares.len(), (rows * columns / squares.len()) as f64);
        let norm = squares.iter().sum::<f64>().sqrt();
        // A semi-orthogonal matrix has as many singular values of 1 as it has shorter lines.
        let unit = match self.rescale {
            true => (rows.min(columns) as f64).sqrt() / norm.max(LEAST_NORM),
            false => 1.0,
        };
        let (mut factors, mut before, mut after) = (Vec::with_capacity(lines), 0.0, 0.0);
        for (squares, moment) in squares.iter().zip(second) {
            let squares = squares * unit * unit;
            *moment += (1.0 - self.beta2) * ((squares / length) as f32 - *moment);
            let factor = f64::from(*moment).max(LEAST_MOMENT).sqrt().recip();
            before += squares;
            after += squares * factor * factor;
            factors.push(unit * factor);
        }
        let back = before.sqrt() / after.sqrt().max(LEAST_MOMENT);
        factors.iter_mut().for_each(|factor| *factor *= back);
        factors
    }
}

/// State of a matrix: `momentum` and `second`; of any other parameter, AdamW's.
impl Optimizer for Muon {
    fn state_of(&self, param: &Param) -> Vec<(&'static str, Vec<usize>)> {
        let [rows, columns] = param.shape[..] else { return self.adamw.state_of(param) };
        if param.group != Group::Matrix {
            return self.adamw.state_of(param);
        }
        let lines = if by_rows([rows, columns]) { vec![rows, 1] } else { vec![1, columns] };
        vec![("momentum", vec![rows, columns]), ("second", lines)]
    }

    fn work_of(&self, param: &Param) -> Work {
        match param.shape[..] {
            [rows, columns] if param.group == Group::Matrix => {
                let (elements, flops) = ((rows * columns) as f64, Muon::flops([rows, columns]));
                Work { flops, elementwise: FLOPS * elements, bytes: BYTES * elements }
            }
            _ => self.adamw.work_of(param),
        }
    }

    fn step(
        &self,
        update: &Update,
        param: &Param,
        w: &mut [f32],
        g: &[f32],
        state: &mut [&mut [f32]],
    ) {
        self.step_by_parts(update, param, w, g, state, &|_, _| ());
    }

    fn step_by_parts(
        &self,
        update: &Update,
        param: &Param,
        w: &mut [f32],
        g: &[f32],
        state: &mut [&mut [f32]],
        done: &Done<'_>,
    ) {
        if param.group != Group::Matrix {
            return self.adamw.step_by_parts(update, param, w, g, state, done);
        }
        let [rows, columns] = param.shape[..] else { unreachable!("a matrix has two extents") };
        let [momentum, second] = state else { unreachable!("a matrix has two tensors") };
        self.update(update, [rows, columns], w, g, momentum, second);
        tell(w, done);
    }
}

/// Operations per element besides the products: scale, momentum and its mean with the gradient; squares of rows, their
/// scaling, squares of lines; weight and decay.
const FLOPS: f64 = 1.0 + 3.0 + 3.0 + 2.0 + 1.0 + 2.0 + 5.0;
/// Bytes per element of the passes besides the products: momentum and gradient in, momentum and U out; U in
/// twice and out once; X in; weight and X in, weight out.
const BYTES: f64 = 16.0 + 12.0 + 4.0 + 12.0;

/// Step 1: brings the gradients, times `scale`, into the momentum and returns U.
fn nesterov(mu: f64, scale: f32, g: &[f32], momentum: &mut [f32]) -> Vec<f32> {
    let (mu, rest) = (mu as f32, (1.0 - mu) as f32);
    let mut u = vec![0.0; g.len()];
    let chunks = u.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK));
    chunks.zip(momentum.par_chunks_mut(CHUNK)).for_each(|((u, g), momentum)| {
        for ((u, g), m) in u.iter_mut().zip(g).zip(momentum) {
            let g = *g * scale;
            *m += rest * (g - *m);
            *u = rest * g + mu * *m;
        }
    });
    u
}

/// Step 3: X becomes a matrix whose singular values are about 1, with the same singular vectors.
fn orthogonalise(x: &mut Vec<f32>, [rows, columns]: Extents) {
    let (side, tall) = (rows.min(columns), rows > columns);
    let mut next = vec![0.0; x.len()];
    let (mut gram, mut polynomial) = (vec![0.0; side * side], vec![0.0; side * side]);
    for coefficients in COEFFICIENTS {
        let (own, turned) = (as_it_lies(x, columns), transposed(x, columns));
        match tall {
            true => symmetric(side, rows, turned, own, &mut gram),
            false => symmetric(side, columns, own, turned, &mut gram),
        }
        let square = as_it_lies(&gram, side);
        symmetric(side, side, square, square, &mut polynomial);
        combine(coefficients.map(|c| c as f32), &gram, &mut polynomial, side);
        let polynomial = as_it_lies(&polynomial, side);
        match tall {
            true => product([rows, columns, side], own, polynomial, &mut next),
            false => product([rows, columns, side], polynomial, own, &mut next),
        }
        std::mem::swap(x, &mut next);
    }
}

/// aI + bA + cA², where `square` holds A².
fn combine([a, b, c]: [f32; 3], gram: &[f32], square: &mut [f32], side: usize) {
    square.par_chunks_mut(side).zip(gram.par_chunks(side)).enumerate().for_each(
        |(i, (to, from))| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = b * *from + c * *to);
            to[i] += a;
        },
    );
}

/// Columns whose squares one task adds up.
const COLUMNS: usize = 64;

/// The sum of squares of every row (every column, where there are more of them).
fn squares_of_lines(x: &[f32], extents: Extents) -> Vec<f64> {
    let [_, columns] = extents;
    if by_rows(extents) {
        return x.par_chunks(columns).map(sum_of_squares).collect();
    }
    let mut sums = vec![0.0; columns];
    sums.par_chunks_mut(COLUMNS).enumerate().for_each(|(chunk, sums)| {
        for row in x.chunks(columns) {
            let part = &row[chunk * COLUMNS..];
            sums.iter_mut().zip(part).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
        }
    });
    sums
}

/// Step 6: `factors` holds ρ times the factor of each line, `decay` is ρλ.
fn descend(w: &mut [f32], x: &[f32], extents: Extents, factors: &[f32], decay: f32) {
    let [_, columns] = extents;
    let chunk = (CHUNK / columns).max(1);
    let chunks = w.par_chunks_mut(chunk * columns).zip(x.par_chunks(chunk * columns));
    chunks.enumerate().for_each(|(first, (w, x))| {
        for (i, (w, x)) in w.chunks_mut(columns).zip(x.chunks(columns)).enumerate() {
            match by_rows(extents) {
                true => {
                    let factor = factors[first * chunk + i];
                    w.iter_mut().zip(x).for_each(|(w, x)| move_weight(w, factor * x, decay));
                }
                false => {
                    let moved = w.iter_mut().zip(x).zip(factors);
                    moved.for_each(|((w, x), factor)| move_weight(w, factor * x, decay));
                }
            }
        }
    });
}

fn move_weight(w: &mut f32, step: f32, decay: f32) {
    let shrink = if step * *w >= 0.0 { decay * *w } else { 0.0 };
    *w -= step + shrink;
}
