//! The work of a function: the floating-point operations of its products, and the bytes that enter
//! and leave it.

use crate::ir::Function;
use crate::passes::hoist_constants;
use crate::resolve::{Kind, OpError, Resolved, resolve};
use crate::types::TensorType;

/// Products of one shape, [m, k] · [k, n].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Terms of each sum.
    pub k: usize,
    /// True if the left and the right operand lie transposed in memory.
    pub transposed: [bool; 2],
    /// Products of this shape in one operation, such as the heads of attention.
    pub together: usize,
}

impl Product {
    /// Multiplications and additions.
    pub fn flops(&self) -> f64 {
        2.0 * self.m as f64 * self.n as f64 * self.k as f64 * self.together as f64
    }
}

/// The work of a function.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// Its matrix products and convolutions, in order.
    pub products: Vec<Product>,
    /// Bytes of its parameters.
    pub bytes_in: usize,
    /// Bytes of its outputs.
    pub bytes_out: usize,
}

impl Work {
    /// Floating-point operations of the products.
    pub fn flops(&self) -> f64 {
        self.products.iter().map(Product::flops).sum()
    }
}

/// Counts the products of `f`, and the bytes of its parameters and outputs. Elementwise work is not
/// counted.
///
/// ```
/// let b = mil::Builder::new("project");
/// let (w, x) = (mil::TensorType::fp16([8, 4]), mil::TensorType::fp16([4, 16]));
/// let y = b.input("w", w).matmul(b.input("x", x), false, false);
/// let work = mil::work(&b.finish(&[y])?)?;
/// assert_eq!(work.flops(), 2.0 * 8.0 * 4.0 * 16.0);
/// assert_eq!((work.bytes_in, work.bytes_out), (2 * (32 + 64), 2 * 128));
/// # Ok::<(), mil::OpError>(())
/// ```
///
/// # Errors
/// When an operation breaks a rule of the language.
pub fn work(f: &Function) -> Result<Work, OpError> {
    let f = hoist_constants(f);
    let mut products = vec![];
    for op in f.ops.iter().filter(|op| op.value.is_none()) {
        let resolved = resolve(&f, op)?;
        products.extend(product(&resolved, |i| f.ty(resolved.values()[i])));
    }
    let bytes = |ids: &mut dyn Iterator<Item = _>| ids.map(|id| f.ty(id).bytes()).sum();
    let (bytes_in, bytes_out) = (bytes(&mut f.inputs()), bytes(&mut f.outputs.iter().copied()));
    Ok(Work { products, bytes_in, bytes_out })
}

fn product<'f>(
    resolved: &Resolved<'_>,
    input: impl Fn(usize) -> &'f TensorType,
) -> Option<Product> {
    let result = &resolved.results[0];
    match resolved.kind {
        Kind::Matmul { transpose_x, transpose_y } => {
            let extent = |ty: &TensorType, from_end: usize| {
                ty.shape.len().checked_sub(from_end).map_or(1, |axis| ty.shape[axis])
            };
            let x = input(0);
            let k = if transpose_x { extent(x, 2) } else { extent(x, 1) };
            let m = if transpose_x { extent(x, 1) } else { extent(x, 2) };
            let n = if transpose_y { extent(input(1), 2) } else { extent(input(1), 1) };
            let together = result.count() / (m * n).max(1);
            Some(Product { m, n, k, transposed: [transpose_x, transpose_y], together })
        }
        Kind::Linear | Kind::Conv(_) => {
            let weight = input(1);
            let (m, k) = (weight.shape[0], weight.count() / weight.shape[0].max(1));
            let n = result.count() / m.max(1);
            Some(Product { m, n, k, transposed: [false, false], together: 1 })
        }
        _ => None,
    }
}
