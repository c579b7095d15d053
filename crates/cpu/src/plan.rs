//! The execution plan: what [`crate::lower`] makes of a function and [`crate::run`] carries out.
//!
//! A plan is a list of [`Step`]s over a fixed set of f32 buffers. Reshapes, transposes, slices and
//! broadcasts are not steps: they are [`View`]s, strides over a buffer that a later step reads.

use crate::exact::Table;
use half::f16;
use mil::resolve::{Binary, Compare, Reduce, Unary};
use std::sync::Arc;

/// Elements that a view can lie on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Buffer {
    /// An input of the function.
    Input(usize),
    /// A constant of the plan.
    Constant(usize),
    /// A temporary.
    Slot(usize),
    /// An output of the function.
    Output(usize),
}

/// A strided window on a buffer.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) buffer: Buffer,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<isize>,
}

impl View {
    pub(crate) fn contiguous(buffer: Buffer, shape: &[usize]) -> Self {
        View { buffer, offset: 0, shape: shape.to_vec(), strides: row_major(shape) }
    }

    pub(crate) fn is_contiguous(&self) -> bool {
        let natural = row_major(&self.shape);
        (0..self.shape.len()).all(|i| self.shape[i] == 1 || self.strides[i] == natural[i])
    }

    /// Strides for reading the view as `shape`, axes of extent 1 repeated.
    pub(crate) fn broadcast(&self, shape: &[usize]) -> Vec<isize> {
        let lead = shape.len() - self.shape.len();
        (0..shape.len())
            .map(|i| if i < lead || self.shape[i - lead] == 1 { 0 } else { self.strides[i - lead] })
            .collect()
    }

    /// The view, broadcast to `shape`, with its axes in the given order.
    pub(crate) fn permuted(&self, shape: &[usize], order: &[usize]) -> View {
        let strides = self.broadcast(shape);
        View {
            shape: order.iter().map(|&axis| shape[axis]).collect(),
            strides: order.iter().map(|&axis| strides[axis]).collect(),
            ..self.clone()
        }
    }

    /// The view with another shape of the same elements, if strides can express it.
    pub(crate) fn reshape(&self, shape: &[usize]) -> Option<View> {
        let old: Vec<(usize, isize)> =
            (self.shape.iter().copied().zip(self.strides.iter().copied()))
                .filter(|&(n, _)| n != 1)
                .collect();
        let mut strides = vec![0isize; shape.len()];
        let mut from = 0;
        let mut to = 0;
        while to < shape.len() {
            if shape[to] == 1 {
                to += 1;
                continue;
            }
            // Grow a run of old axes and a run of new axes until they hold the same elements.
            let (first_old, first_new) = (from, to);
            let (mut a, mut b) = (old.get(from)?.0, shape[to]);
            while a != b {
                if a < b {
                    from += 1;
                    a *= old.get(from)?.0;
                } else {
                    to += 1;
                    b *= *shape.get(to)?;
                }
            }
            let run = &old[first_old..=from];
            if run.windows(2).any(|w| w[0].1 != w[1].1 * w[1].0 as isize) {
                return None;
            }
            let mut stride = run.last()?.1;
            for i in (first_new..=to).rev() {
                strides[i] = stride;
                stride *= shape[i] as isize;
            }
            from += 1;
            to += 1;
        }
        Some(View { shape: shape.to_vec(), strides, ..self.clone() })
    }
}

pub(crate) fn row_major(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i] as isize;
    }
    strides
}

/// Strided operand of a loop nest whose shape is given elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Strided {
    pub(crate) buffer: Buffer,
    pub(crate) offset: usize,
    pub(crate) strides: Vec<isize>,
}

/// A loop nest with as few axes as its operands allow.
#[derive(Clone, Debug)]
pub(crate) struct Nest {
    pub(crate) shape: Vec<usize>,
    pub(crate) operands: Vec<Strided>,
}

impl Nest {
    /// Row-major iteration over `shape`, reading `views` broadcast to it. Neighbouring axes that
    /// every operand walks evenly become one.
    pub(crate) fn new(shape: &[usize], views: &[View]) -> Self {
        let all: Vec<Vec<isize>> = views.iter().map(|v| v.broadcast(shape)).collect();
        let mut merged: Vec<usize> = vec![];
        let mut strides: Vec<Vec<isize>> = vec![vec![]; views.len()];
        for i in (0..shape.len()).filter(|&i| shape[i] != 1) {
            let joins = !merged.is_empty()
                && all.iter().zip(&strides).all(|(s, m)| {
                    *m.last().expect("as long as merged") == s[i] * shape[i] as isize
                });
            if joins {
                *merged.last_mut().expect("not empty") *= shape[i];
                strides.iter_mut().zip(&all).for_each(|(m, s)| {
                    *m.last_mut().expect("not empty") = s[i];
                });
            } else {
                merged.push(shape[i]);
                strides.iter_mut().zip(&all).for_each(|(m, s)| m.push(s[i]));
            }
        }
        if merged.is_empty() {
            merged.push(1);
            strides.iter_mut().for_each(|s| s.push(0));
        }
        let operands = (views.iter().zip(strides))
            .map(|(v, strides)| Strided { buffer: v.buffer, offset: v.offset, strides })
            .collect();
        Nest { shape: merged, operands }
    }

    pub(crate) fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// How results are brought to the grid of their element type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rounding {
    /// Left in f32.
    None,
    /// Rounded to binary16 after every operation, ties to even.
    Half,
    /// Rounded to binary16 as the engine rounds: halves away from zero.
    HalfAway,
    /// Truncated and limited to an integer type (or to 0 and 1).
    Integer { lo: f32, hi: f32 },
}

/// One operation on tile registers: `dst` holds x on entry where x is an input.
#[derive(Clone, Debug)]
pub(crate) enum Instruction {
    /// dst ← operand `from` of the nest.
    Load { dst: usize, from: usize },
    /// dst ← src.
    Copy { dst: usize, src: usize },
    /// dst ← f(dst).
    Unary { dst: usize, f: Unary, rounding: Rounding },
    /// dst ← table of dst.
    Table { dst: usize, table: Arc<Table> },
    /// dst ← ±∞ where |dst| > `beyond`.
    Overflow { dst: usize, beyond: f32 },
    /// dst ← dst^y.
    Power { dst: usize, y: f32, rounding: Rounding },
    /// dst ← f(dst, src).
    Binary { dst: usize, src: usize, f: Binary, rounding: Rounding },
    /// dst ← f(dst, src) ? 1 : 0.
    Compare { dst: usize, src: usize, f: Compare },
    /// dst ← cond ≠ 0 ? a : b.
    Select { dst: usize, cond: usize, a: usize, b: usize },
    /// dst ← dst in another element type.
    Cast { dst: usize, rounding: Rounding, truth: bool },
    /// Result `to` of the step ← src.
    Store { src: usize, to: usize },
}

/// A fused chain of elementwise operations over one nest.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) nest: Nest,
    pub(crate) code: Vec<Instruction>,
    pub(crate) registers: usize,
}

impl Chain {
    /// The chain that only reads `view`.
    pub(crate) fn load(view: &View) -> Self {
        Chain {
            nest: Nest::new(&view.shape, std::slice::from_ref(view)),
            code: vec![Instruction::Load { dst: 0, from: 0 }, Instruction::Store { src: 0, to: 0 }],
            registers: 1,
        }
    }
}

/// A chain whose results are kept.
#[derive(Clone, Debug)]
pub(crate) struct Elementwise {
    pub(crate) chain: Chain,
    /// Contiguous results.
    pub(crate) outputs: Vec<Buffer>,
}

/// A reduction of `reduced` axes for every element of `kept` axes.
#[derive(Clone, Debug)]
pub(crate) struct Reduction {
    pub(crate) f: Reduce,
    pub(crate) kept: Nest,
    /// Extents and strides of the reduced axes.
    pub(crate) reduced: Vec<(usize, isize)>,
    /// True if sums take their terms one after the other.
    pub(crate) ordered: bool,
    pub(crate) rounding: Rounding,
    pub(crate) output: Buffer,
}

/// Softmax of [outer, n, inner] along the middle axis.
#[derive(Clone, Debug)]
pub(crate) struct Softmax {
    /// Its input: contiguous iteration over the whole tensor, one result.
    pub(crate) chain: Chain,
    pub(crate) n: usize,
    pub(crate) inner: usize,
    pub(crate) rounding: Rounding,
    pub(crate) output: Buffer,
}

/// A batch of matrix products.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    pub(crate) a: Buffer,
    pub(crate) a_strides: (usize, usize),
    pub(crate) b: Buffer,
    pub(crate) b_strides: (usize, usize),
    pub(crate) shape: crate::gemm::Shape,
    pub(crate) batch: Vec<crate::gemm::Offsets>,
    pub(crate) rounding: Rounding,
    /// True if sums end at the array's 2^15; a convolution of one channel is a plain
    /// multiplication.
    pub(crate) saturates: bool,
    pub(crate) output: Buffer,
}

/// Values side by side along an axis: [outer, Σ sizes · inner].
#[derive(Clone, Debug)]
pub(crate) struct Join {
    /// Contiguous iteration over each part, and elements per outer row.
    pub(crate) parts: Vec<(Nest, usize)>,
    pub(crate) outer: usize,
    pub(crate) output: Buffer,
}

/// Element i of the result is element `map[i]` of the input, or `fill` where that is out of range:
/// padding, tiling, backwards slices, interleaving.
#[derive(Clone, Debug)]
pub(crate) struct Gather {
    pub(crate) inputs: Vec<Buffer>,
    /// (input, element) per element of the result; `u32::MAX` fills.
    pub(crate) map: Vec<(u32, u32)>,
    pub(crate) fill: f32,
    pub(crate) output: Buffer,
}

/// A convolution that is not a plain matrix product.
#[derive(Clone, Debug)]
pub(crate) struct Convolution {
    pub(crate) x: Buffer,
    pub(crate) weight: Buffer,
    pub(crate) bias: Option<Buffer>,
    pub(crate) x_shape: Vec<usize>,
    pub(crate) weight_shape: Vec<usize>,
    pub(crate) y_shape: Vec<usize>,
    pub(crate) geometry: mil::resolve::ConvGeometry,
    pub(crate) transposed: bool,
    pub(crate) rounding: Rounding,
    pub(crate) output: Buffer,
}

/// Images [images, H, W] in another size: per row and column of the result, the two of the input that
/// are mixed and how much of the second.
#[derive(Clone, Debug)]
pub(crate) struct Resampling {
    /// Contiguous.
    pub(crate) x: Buffer,
    pub(crate) images: usize,
    /// H and W.
    pub(crate) from: [usize; 2],
    pub(crate) rows: Vec<(u32, u32, f32)>,
    pub(crate) columns: Vec<(u32, u32, f32)>,
    pub(crate) rounding: Rounding,
    pub(crate) output: Buffer,
}

/// The first `k` in order of [outer, n, inner] along the middle axis.
#[derive(Clone, Debug)]
pub(crate) struct TopK {
    /// Contiguous.
    pub(crate) x: Buffer,
    pub(crate) outer: usize,
    pub(crate) n: usize,
    pub(crate) inner: usize,
    pub(crate) k: usize,
    pub(crate) ascending: bool,
    /// Values and, if there are two, where they were.
    pub(crate) outputs: Vec<Buffer>,
}

/// One unit of work.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Elementwise(Elementwise),
    Reduction(Reduction),
    Softmax(Softmax),
    Product(Product),
    Join(Join),
    Gather(Gather),
    Convolution(Convolution),
    Resampling(Resampling),
    TopK(TopK),
}

impl Product {
    /// True if `input` is the left operand as it is, so that a packed matrix can take its place.
    fn takes_matrix(&self, input: usize) -> bool {
        let whole = |offset: &crate::gemm::Offsets| offset.a == 0;
        let (left, right) = (Buffer::Input(input), self.b);
        self.a == left
            && right != left
            && self.a_strides == (self.shape.k, 1)
            && matches!(&self.batch[..], [only] if whole(only))
            && self.rounding == Rounding::None
    }
}

impl Plan {
    /// True if all that reads `input` are products of which it is the left operand, whole.
    pub(crate) fn takes_matrix(&mut self, input: usize) -> bool {
        let buffer = Buffer::Input(input);
        self.steps.iter_mut().all(|step| match step {
            Step::Product(product) if product.takes_matrix(input) => true,
            other => other.inputs_mut().into_iter().all(|read| *read != buffer),
        })
    }
}

impl Step {
    pub(crate) fn outputs_mut(&mut self) -> Vec<&mut Buffer> {
        match self {
            Step::Elementwise(s) => s.outputs.iter_mut().collect(),
            Step::Reduction(s) => vec![&mut s.output],
            Step::Softmax(s) => vec![&mut s.output],
            Step::Product(s) => vec![&mut s.output],
            Step::Join(s) => vec![&mut s.output],
            Step::Gather(s) => vec![&mut s.output],
            Step::Convolution(s) => vec![&mut s.output],
            Step::Resampling(s) => vec![&mut s.output],
            Step::TopK(s) => s.outputs.iter_mut().collect(),
        }
    }

    pub(crate) fn inputs_mut(&mut self) -> Vec<&mut Buffer> {
        fn nest(n: &mut Nest) -> impl Iterator<Item = &mut Buffer> {
            n.operands.iter_mut().map(|o| &mut o.buffer)
        }
        match self {
            Step::Elementwise(s) => nest(&mut s.chain.nest).collect(),
            Step::Reduction(s) => nest(&mut s.kept).collect(),
            Step::Softmax(s) => nest(&mut s.chain.nest).collect(),
            Step::Product(s) => vec![&mut s.a, &mut s.b],
            Step::Join(s) => s.parts.iter_mut().flat_map(|p| nest(&mut p.0)).collect(),
            Step::Gather(s) => s.inputs.iter_mut().collect(),
            Step::Resampling(s) => vec![&mut s.x],
            Step::TopK(s) => vec![&mut s.x],
            Step::Convolution(s) => [Some(&mut s.x), Some(&mut s.weight), s.bias.as_mut()]
                .into_iter()
                .flatten()
                .collect(),
        }
    }
}

/// Elements of a constant.
#[derive(Clone, Debug)]
pub(crate) enum Constant {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

/// Room for the elements of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) elements: usize,
    /// True if binary16 holds them; otherwise f32 does.
    pub(crate) half: bool,
}

/// A lowered function.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) constants: Vec<Constant>,
    /// The temporary buffers, shared by values that are not alive together.
    pub(crate) slots: Vec<Space>,
    /// Elements of every input and output.
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places of the elements of `view`, read as `shape` with `strides`, in row-major order.
    fn places(offset: usize, shape: &[usize], strides: &[isize]) -> Vec<isize> {
        let mut found = vec![offset as isize];
        for (&n, &stride) in shape.iter().zip(strides) {
            let all = found.iter().flat_map(|&at| (0..n as isize).map(move |i| at + i * stride));
            found = all.collect();
        }
        found
    }

    fn of(view: &View) -> Vec<isize> {
        places(view.offset, &view.shape, &view.strides)
    }

    fn view(shape: &[usize], strides: &[isize]) -> View {
        let buffer = Buffer::Slot(3);
        View { buffer, offset: 7, shape: shape.to_vec(), strides: strides.to_vec() }
    }

    /// Every way to write 24 elements as up to three axes.
    fn shapes() -> Vec<Vec<usize>> {
        let mut all = vec![vec![24]];
        for a in 1..=24 {
            for b in (1..=24).filter(|b| 24 % (a * b) == 0) {
                all.push(vec![a, b, 24 / (a * b)]);
            }
        }
        all
    }

    /// Another shape of a view has its elements in their order, and is found if strides can say it.
    #[test]
    fn a_reshaped_view_has_the_same_elements() {
        let contiguous = View::contiguous(Buffer::Slot(3), &[2, 3, 4]);
        let transposed = view(&[4, 6], &[1, 4]);
        let gaps = view(&[2, 3, 4], &[40, 10, 2]);
        let half_gaps = view(&[2, 3, 4], &[50, 8, 2]);
        let repeated = view(&[2, 12], &[0, 1]);
        let backwards = view(&[4, 6], &[-6, -1]);
        let with_ones = view(&[1, 2, 1, 12], &[99, 12, 77, 1]);
        for v in [contiguous, transposed, gaps, half_gaps, repeated, backwards, with_ones] {
            for shape in shapes() {
                let found = v.reshape(&shape);
                // Strides of each axis are the distance to its second element, if there are any.
                let flat = of(&v);
                let mut after: usize = 24;
                let wanted: Vec<isize> = (shape.iter())
                    .map(|&n| {
                        after /= n;
                        if n == 1 { 0 } else { flat[after] - flat[0] }
                    })
                    .collect();
                let possible = places(7, &shape, &wanted)
                    == flat.iter().map(|at| at - flat[0] + 7).collect::<Vec<_>>();
                assert_eq!(found.is_some(), possible, "{v:?} as {shape:?}");
                if let Some(found) = found {
                    assert_eq!((found.buffer, found.offset), (v.buffer, v.offset));
                    assert_eq!((&found.shape, of(&found)), (&shape, flat), "{v:?} as {shape:?}");
                }
            }
        }
        assert!(view(&[4, 6], &[6, 1]).reshape(&[4, 5]).is_none());
        assert!(view(&[4, 6], &[6, 1]).reshape(&[4, 7]).is_none());
    }

    #[test]
    fn a_view_is_contiguous_if_its_elements_follow_each_other() {
        for (v, contiguous) in [
            (view(&[2, 3], &[3, 1]), true),
            (view(&[2, 1, 3], &[3, 99, 1]), true),
            (view(&[2, 3], &[4, 1]), false),
            (view(&[3, 2], &[1, 3]), false),
            (view(&[2, 3], &[0, 1]), false),
        ] {
            assert_eq!(v.is_contiguous(), contiguous, "{v:?}");
        }
    }

    /// Axes of extent 1 are repeated, missing ones in front too; and axes change places.
    #[test]
    fn views_are_repeated_and_permuted() {
        let v = view(&[1, 3], &[9, 2]);
        assert_eq!(v.broadcast(&[5, 4, 3]), [0, 0, 2]);
        let p = v.permuted(&[4, 3], &[1, 0]);
        assert_eq!((p.shape, p.strides, p.offset), (vec![3, 4], vec![2, 0], 7));
    }

    /// A nest walks its operands as they are written, in as few axes as they all allow.
    #[test]
    fn a_nest_has_as_few_axes_as_its_operands_allow() {
        let shape = [2, 3, 4];
        let whole = View::contiguous(Buffer::Slot(3), &shape);
        let row = View::contiguous(Buffer::Slot(3), &[1, 1, 4]);
        let column = view(&[2, 3, 1], &[3, 1, 1]);
        for (views, extents) in [
            (vec![whole.clone()], vec![24]),
            (vec![whole.clone(), row.clone()], vec![6, 4]),
            (vec![whole.clone(), column.clone()], vec![6, 4]),
            (vec![row, column], vec![6, 4]),
            (vec![view(&shape, &[1, 2, 6])], vec![2, 3, 4]),
            (vec![view(&shape, &[30, 8, 2])], vec![2, 12]),
        ] {
            let nest = Nest::new(&shape, &views);
            assert_eq!((&nest.shape, nest.count()), (&extents, 24), "{views:?}");
            for (operand, view) in nest.operands.iter().zip(&views) {
                let want = places(view.offset, &shape, &view.broadcast(&shape));
                assert_eq!(places(operand.offset, &nest.shape, &operand.strides), want);
            }
        }
        let one = Nest::new(&[1, 1], &[view(&[1, 1], &[5, 6])]);
        assert_eq!((one.shape, &one.operands[0].strides[..]), (vec![1], &[0][..]));
    }
}
