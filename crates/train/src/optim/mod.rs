//! Optimizers, and the norm of the gradients.

mod adamw;

pub use adamw::AdamW;

use rayon::prelude::*;

/// Elements of one task; the grid is fixed, so results do not depend on the number of threads.
const CHUNK: usize = 1 << 15;

/// √Σg², summed in f64 over a fixed grid; not finite when any element is not.
pub fn global_norm(g: &[f32]) -> f64 {
    let parts: Vec<f64> = g.par_chunks(CHUNK).map(sum_of_squares).collect();
    parts.iter().sum::<f64>().sqrt()
}

/// Σx², in sums side by side: one after the other, each addition would wait for the one before.
fn sum_of_squares(x: &[f32]) -> f64 {
    let mut sums = [0.0; 16];
    let (whole, rest) = x.as_chunks::<16>();
    for chunk in whole {
        sums.iter_mut().zip(chunk).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
    }
    sums.iter_mut().zip(rest).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norm_sees_every_element() {
        let mut g = vec![0.0f32; 3 * CHUNK + 5];
        g[0] = 3.0;
        g[3 * CHUNK + 4] = 4.0;
        assert_eq!(global_norm(&g), 5.0);
        g[CHUNK] = f32::NAN;
        assert!(!global_norm(&g).is_finite());
    }
}
