//! Muon in f64, with plain loops.

const COEFFICIENTS: [[f64; 3]; 5] = [
    [8.156554524902461, -22.48329292557795, 15.878769915207462],
    [4.042929935166739, -2.808917465908714, 0.5000178451051316],
    [3.8916678022926607, -2.772484153217685, 0.5060648178503393],
    [3.285753657755655, -2.3681294933425376, 0.46449024233003106],
    [2.3465413258596377, -1.7097828382687081, 0.42323551169305323],
];

/// A matrix of f64, row by row.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) values: Vec<f64>,
}

impl Matrix {
    pub(crate) fn of(rows: usize, columns: usize, value: impl Fn(usize, usize) -> f64) -> Matrix {
        let values = (0..rows * columns).map(|i| value(i / columns, i % columns)).collect();
        Matrix { rows, columns, values }
    }

    pub(crate) fn at(&self, i: usize, j: usize) -> f64 {
        self.values[i * self.columns + j]
    }

    pub(crate) fn map(&self, value: impl Fn(usize, usize, f64) -> f64) -> Matrix {
        Matrix::of(self.rows, self.columns, |i, j| value(i, j, self.at(i, j)))
    }

    pub(crate) fn transposed(&self) -> Matrix {
        Matrix::of(self.columns, self.rows, |i, j| self.at(j, i))
    }

    pub(crate) fn times(&self, other: &Matrix) -> Matrix {
        let mut product = Matrix::of(self.rows, other.columns, |_, _| 0.0);
        for i in 0..self.rows {
            for k in 0..self.columns {
                for j in 0..other.columns {
                    product.values[i * other.columns + j] += self.at(i, k) * other.at(k, j);
                }
            }
        }
        product
    }

    pub(crate) fn norm(&self) -> f64 {
        self.values.iter().map(|v| v * v).sum::<f64>().sqrt()
    }
}

/// The optimizer's page, line by line.
pub(crate) struct Twin {
    pub(crate) w: Matrix,
    momentum: Matrix,
    second: Vec<f64>,
    /// True for the formulas of February 2026.
    pub(crate) february: bool,
}

impl Twin {
    pub(crate) fn new(w: Matrix) -> Twin {
        let momentum = w.map(|_, _, _| 0.0);
        let second = vec![0.0; w.rows.max(w.columns)];
        Twin { w, momentum, second, february: false }
    }

    pub(crate) fn step(&mut self, g: &Matrix, [mu, lr, beta2, wd]: [f64; 4]) {
        let Matrix { rows: r, columns: c, .. } = *g;
        self.momentum = self.momentum.map(|i, j, buf| buf + (1.0 - mu) * (g.at(i, j) - buf));
        let u = self.momentum.map(|i, j, buf| (1.0 - mu) * g.at(i, j) + mu * buf);
        let row_norm = |i| (0..c).map(|j| u.at(i, j).powi(2)).sum::<f64>().sqrt().max(1e-6);
        let mean = u.norm() / (r as f64).sqrt();
        let norms: Vec<f64> = (0..r).map(row_norm).collect();
        let (mut x, margin) = match self.february {
            true => (u, 1.02),
            false => (u.map(|i, _, v| v * mean / norms[i]), 1.01),
        };
        let norm = margin * x.norm() + 1e-6;
        x = x.map(|_, _, v| v / norm);
        for [a, b, cc] in COEFFICIENTS {
            let turned = x.transposed();
            let gram = if r > c { turned.times(&x) } else { x.times(&turned) };
            let square = gram.times(&gram);
            let both = gram.map(|i, j, v| b * v + cc * square.at(i, j));
            let product = if r > c { x.times(&both) } else { both.times(&x) };
            x = x.map(|i, j, v| a * v + product.at(i, j));
        }
        if !self.february {
            let unit = (r.min(c) as f64).sqrt() / x.norm().max(1e-6);
            x = x.map(|_, _, v| v * unit);
        }
        let line = |i, j| if r >= c { i } else { j };
        let mut q = vec![0.0; r.max(c)];
        let n = r.min(c) as f64;
        for i in 0..r {
            (0..c).for_each(|j| q[line(i, j)] += x.at(i, j).powi(2) / n);
        }
        self.second.iter_mut().zip(&q).for_each(|(v, q)| *v += (1.0 - beta2) * (q - *v));
        let s: Vec<f64> = self.second.iter().map(|v| v.max(1e-10).sqrt().recip()).collect();
        let before = (n * q.iter().sum::<f64>()).sqrt();
        let after = (n * q.iter().zip(&s).map(|(q, s)| q * s * s).sum::<f64>()).sqrt().max(1e-10);
        x = x.map(|i, j, v| v * s[line(i, j)] * before / after);
        let lr = lr * (r as f64 / c as f64).max(1.0).sqrt();
        self.w = self.w.map(|i, j, p| {
            let mask = if x.at(i, j) * p >= 0.0 { 1.0 } else { 0.0 };
            p - (lr * x.at(i, j) + lr * wd * p * mask)
        });
    }
}
