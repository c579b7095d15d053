//! The fit of the model's constants to the published rows, and the rules that stand in for a chip
//! without rows.
//!
//! Damped least squares (Levenberg, Marquardt) on the logarithm of predicted over published time,
//! outliers weighed down as Huber does, from fixed starting values: the same result every time.

use super::model::{ChipConstants, Shared, work_ms};
use super::published::{Row, Section};
use super::silicon::{SILICON, Silicon};
use crate::machine::Chip;

/// Chips whose floor, read and write rates are fitted: those with a table of rows.
const TABLED: [&str; 6] = ["m1", "m1-max", "m2-pro", "m4", "m5", "m5-pro"];

/// True if a chip's constants are fitted to a table of its own rows.
pub fn is_tabled(name: &str) -> bool {
    TABLED.contains(&name)
}

/// Quantities of a chip, in the order of [`ChipConstants`].
const QUANTITIES: usize = 4;

/// Residual, as a logarithm, above which a row counts less.
const HUBER: f64 = 0.15;

/// Weight of staying near the starting values: decides only what no row decides.
const PRIOR: f64 = 0.03;

/// Shrinkage of the rules' slopes, in rows.
const RIDGE: f64 = 0.3;

const ITERATIONS: usize = 60;

/// Everything the model needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Constants {
    /// The parameters that all chips share.
    pub shared: Shared,
    /// One per [`SILICON`], in its order.
    pub chips: [ChipConstants; SILICON.len()],
}

/// A constant to be fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Parameter {
    Shared(usize),
    /// Index into [`SILICON`], quantity.
    Chip(usize, usize),
}

const SHARED: usize = 12;

/// Starting values: matmul, conv1x1, conv, conv_m5, block_mb, notch, elementwise, reduce, softmax,
/// layer_norm, width_layout, int8.
const START: [f64; SHARED] = [1.0, 1.0, 1.0, 1.5, 1.0, 0.45, 0.25, 0.1, 0.25, 1.8, 2.4, 1.9];

/// Starting values of floor, read, write, stream.
const CHIP_START: [f64; QUANTITIES] = [0.1, 12.0, 6.0, 70.0];

fn shared(v: &[f64; SHARED]) -> Shared {
    Shared {
        matmul: v[0],
        conv1x1: v[1],
        conv: v[2],
        conv_m5: v[3],
        block_mb: v[4],
        notch: v[5],
        elementwise: v[6],
        reduce: v[7],
        softmax: v[8],
        layer_norm: v[9],
        width_layout: v[10],
        int8: v[11],
    }
}

/// The parameters that `rows` can decide.
fn parameters(rows: &[Row]) -> Vec<Parameter> {
    let mut all: Vec<Parameter> = (0..SHARED).map(Parameter::Shared).collect();
    for (i, silicon) in SILICON.iter().enumerate() {
        let mine: Vec<&Row> = rows.iter().filter(|r| r.chip == silicon.name).collect();
        if mine.is_empty() {
            continue;
        }
        if TABLED.contains(&silicon.name) {
            all.extend((0..3).map(|q| Parameter::Chip(i, q)));
        }
        if mine.iter().any(|r| r.section == Section::Memory) {
            all.push(Parameter::Chip(i, 3));
        }
    }
    all
}

/// The inputs of the scaling rules for a chip: generation and width, and nothing of its timings.
fn features(silicon: &Silicon, quantity: usize) -> [f64; 3] {
    let wide = if quantity == 3 { silicon.two_ports() } else { silicon.wide };
    [1.0, f64::from(silicon.generation) - 3.0, f64::from(u8::from(wide))]
}

/// Ridge regression of ln(quantity) on [`features`] over the chips that have it fitted.
fn rule(known: &[Option<f64>], quantity: usize) -> [f64; 3] {
    let mut normal = [[0.0; 4]; 3];
    for (silicon, value) in SILICON.iter().zip(known) {
        let Some(value) = value else { continue };
        let f = features(silicon, quantity);
        for i in 0..3 {
            (0..3).for_each(|j| normal[i][j] += f[i] * f[j]);
            normal[i][3] += f[i] * value.ln();
        }
    }
    normal[0][0] += 1e-9;
    normal[1][1] += RIDGE;
    normal[2][2] += RIDGE;
    let mut rows: Vec<Vec<f64>> = normal.iter().map(|r| r.to_vec()).collect();
    let x = solve(&mut rows);
    [x[0], x[1], x[2]]
}

/// Solves the augmented system by elimination with pivots.
fn solve(a: &mut [Vec<f64>]) -> Vec<f64> {
    let n = a.len();
    for i in 0..n {
        let pivot = (i..n).max_by(|&p, &q| a[p][i].abs().total_cmp(&a[q][i].abs())).unwrap_or(i);
        a.swap(i, pivot);
        let head = a[i].clone();
        for row in a.iter_mut().skip(i + 1) {
            let factor = row[i] / head[i];
            (i..=n).for_each(|j| row[j] -= factor * head[j]);
        }
    }
    let mut x = vec![0.0; n];
    for i in (0..n).rev() {
        let rest: f64 = (i + 1..n).map(|j| a[i][j] * x[j]).sum();
        x[i] = (a[i][n] - rest) / a[i][i];
    }
    x
}

/// All constants from the logarithms of the parameters; what has no parameter comes from the rules.
fn constants(parameters: &[Parameter], logs: &[f64]) -> Constants {
    let mut common = START;
    let mut known = [const { [None::<f64>; SILICON.len()] }; QUANTITIES];
    for (parameter, log) in parameters.iter().zip(logs) {
        match *parameter {
            Parameter::Shared(i) => common[i] = log.exp(),
            Parameter::Chip(i, q) => known[q][i] = Some(log.exp()),
        }
    }
    let rules: Vec<[f64; 3]> = (0..QUANTITIES).map(|q| rule(&known[q], q)).collect();
    let chips = std::array::from_fn(|i| {
        let silicon = &SILICON[i];
        let value = |q: usize| {
            known[q][i].unwrap_or_else(|| {
                let f = features(silicon, q);
                (0..3).map(|j| f[j] * rules[q][j]).sum::<f64>().exp()
            })
        };
        ChipConstants {
            name: silicon.name,
            floor_ms: value(0),
            read: value(1),
            write: value(2),
            stream: value(3),
        }
    });
    Constants { shared: shared(&common), chips }
}

impl Constants {
    /// Constants of the chip called `name`.
    ///
    /// # Panics
    /// If [`SILICON`] has no such chip.
    pub fn chip(&self, name: &str) -> &ChipConstants {
        let found = self.chips.iter().find(|c| c.name == name);
        found.unwrap_or_else(|| panic!("`{name}` is in the table of silicon"))
    }

    /// Constants of `chip`, or of the one that stands for it ([`Chip::nearest`]).
    pub fn of(&self, chip: Chip) -> &ChipConstants {
        self.chip(chip.measured().facts().name)
    }

    /// Milliseconds that the model gives for `row`.
    pub fn predict(&self, row: &Row) -> f64 {
        let silicon = Silicon::named(row.chip);
        work_ms(&row.work, self.chip(row.chip), silicon, &self.shared).total()
    }

    /// ln(predicted / published) of `row`.
    pub fn residual(&self, row: &Row) -> f64 {
        (self.predict(row) / row.ms).ln()
    }
}

/// Fits all constants to `rows`, those of trainers excepted.
pub fn fit(rows: &[Row]) -> Constants {
    let rows: Vec<Row> = rows.iter().filter(|r| r.section != Section::Trainer).cloned().collect();
    let parameters = parameters(&rows);
    let start: Vec<f64> = (parameters.iter())
        .map(|p| match *p {
            Parameter::Shared(i) => START[i].ln(),
            Parameter::Chip(_, q) => CHIP_START[q].ln(),
        })
        .collect();
    let residuals = |x: &[f64]| -> Vec<f64> {
        let c = constants(&parameters, x);
        let prior = x.iter().zip(&start).map(|(a, b)| PRIOR * (a - b));
        rows.iter().map(|row| c.residual(row)).chain(prior).collect()
    };
    let cost = |r: &[f64]| r.iter().map(|&r| huber(r)).sum::<f64>();
    let mut x = start.clone();
    let mut best = residuals(&x);
    let mut damping = 1e-2;
    for _ in 0..ITERATIONS {
        let step = newton_step(&x, &best, &residuals, damping);
        let next: Vec<f64> = x.iter().zip(&step).map(|(a, b)| a + b.clamp(-1.0, 1.0)).collect();
        let found = residuals(&next);
        if cost(&found) < cost(&best) {
            (x, best, damping) = (next, found, (damping * 0.4).max(1e-9));
        } else {
            damping = (damping * 4.0).min(1e6);
        }
    }
    constants(&parameters, &x)
}

fn huber(r: f64) -> f64 {
    if r.abs() <= HUBER { 0.5 * r * r } else { HUBER * (r.abs() - 0.5 * HUBER) }
}

/// The damped, reweighted Gauss–Newton step from `x`, where the residuals are `r`.
fn newton_step(
    x: &[f64],
    r: &[f64],
    residuals: &impl Fn(&[f64]) -> Vec<f64>,
    damping: f64,
) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let n = x.len();
    let columns: Vec<Vec<f64>> = (0..n)
        .map(|i| {
            let mut moved = x.to_vec();
            moved[i] += STEP;
            residuals(&moved).iter().zip(r).map(|(a, b)| (a - b) / STEP).collect()
        })
        .collect();
    let weights: Vec<f64> = r.iter().map(|r| (HUBER / r.abs().max(1e-12)).min(1.0)).collect();
    let dot = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).zip(&weights).map(|((a, b), w)| a * b * w).sum()
    };
    let mut system: Vec<Vec<f64>> = (0..n)
        .map(|i| {
            let mut row: Vec<f64> = (0..n).map(|j| dot(&columns[i], &columns[j])).collect();
            row[i] *= 1.0 + damping;
            row[i] += 1e-12;
            row.push(-dot(&columns[i], r));
            row
        })
        .collect();
    solve(&mut system)
}

/// Constants fitted without any row of `chip`.
pub fn fit_without(rows: &[Row], chip: &str) -> Constants {
    let others: Vec<Row> = rows.iter().filter(|r| r.chip != chip).cloned().collect();
    fit(&others)
}

/// The two factors of the forecast between which nine of ten published times lie, from `residuals` (logarithms of forecast over published).
pub fn error_bar(residuals: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let mut factors: Vec<f64> = residuals.into_iter().map(|r| (-r).exp()).collect();
    factors.sort_by(f64::total_cmp);
    let at = |share: f64| factors[(share * (factors.len() - 1) as f64).round() as usize];
    if factors.is_empty() { (1.0, 1.0) } else { (at(0.05).min(1.0), at(0.95).max(1.0)) }
}

/// Middle of the absolute relative errors of `residuals` (logarithms).
pub fn median_error(residuals: impl IntoIterator<Item = f64>) -> f64 {
    let mut errors: Vec<f64> = residuals.into_iter().map(|r| (r.exp() - 1.0).abs()).collect();
    errors.sort_by(f64::total_cmp);
    match errors.len() {
        0 => 0.0,
        n if n % 2 == 1 => errors[n / 2],
        n => (errors[n / 2 - 1] + errors[n / 2]) / 2.0,
    }
}
