//! Lowering of pooling, resampling and ordering.

use super::{LARGEST, Lowering};
use crate::error::CpuError;
use crate::plan::*;
use mil::resolve::{Binary, PadMode, Pool, Reduce, Resample, Window};
use mil::{TensorType, ValueId};

impl Lowering<'_> {
    /// A reduction over windows: views of the input, padded where they reach over its end, that lie
    /// over each other.
    ///
    /// # Errors
    /// When the padded input is too large to hold.
    pub(super) fn pool(
        &mut self,
        x: ValueId,
        result: ValueId,
        pool: &Pool,
    ) -> Result<(), CpuError> {
        let shape = self.f.ty(result).shape.clone();
        let view = self.padded(x, &shape, pool)?;
        let kept = View {
            shape: shape.clone(),
            strides: (0..shape.len())
                .map(|i| view.strides[i] * if i < 2 { 1 } else { pool.strides[i - 2] as isize })
                .collect(),
            ..view.clone()
        };
        let reduced = pool.kernel.iter().copied().zip(view.strides[2..].iter().copied());
        let reduced: Vec<(usize, isize)> = reduced.filter(|&(n, _)| n != 1).collect();
        let f = match pool.window {
            Window::Max => Reduce::Max,
            Window::L2 => Reduce::L2Norm,
            Window::Average { exclude_padding } => {
                let from = self.f.ty(x).shape.clone();
                let counts = counts(pool, &from, &shape, exclude_padding);
                let all = pool.kernel.iter().product::<usize>() as f32;
                if counts.iter().any(|&n| n != all) {
                    self.quotient(kept, reduced, counts, result);
                    return Ok(());
                }
                Reduce::Mean
            }
        };
        let output = self.define(result);
        self.steps.push(Step::Reduction(Reduction {
            f,
            kept: Nest::new(&shape, &[kept]),
            reduced,
            ordered: self.arithmetic.ordered,
            rounding: self.rounding(self.f.ty(result)),
            output,
        }));
        Ok(())
    }

    /// Sums of windows, kept in f32, over the number of elements that count.
    fn quotient(
        &mut self,
        kept: View,
        reduced: Vec<(usize, isize)>,
        counts: Vec<f32>,
        result: ValueId,
    ) {
        let shape = kept.shape.clone();
        self.buffers.push(Space { elements: shape.iter().product(), half: false });
        let sums = Buffer::Slot(self.buffers.len() - 1);
        self.steps.push(Step::Reduction(Reduction {
            f: Reduce::Sum,
            kept: Nest::new(&shape, &[kept]),
            reduced,
            ordered: self.arithmetic.ordered,
            rounding: Rounding::None,
            output: sums,
        }));
        self.constants.push(Constant::F32(counts));
        let counts = View::contiguous(Buffer::Constant(self.constants.len() - 1), &shape[2..]);
        let rounding = self.rounding(self.f.ty(result));
        let output = self.define(result);
        let chain = Chain {
            nest: Nest::new(&shape, &[View::contiguous(sums, &shape), counts]),
            code: vec![
                Instruction::Load { dst: 0, from: 0 },
                Instruction::Load { dst: 1, from: 1 },
                Instruction::Binary { dst: 0, src: 1, f: Binary::Div, rounding },
                Instruction::Store { src: 0, to: 0 },
            ],
            registers: 2,
        };
        self.steps.push(Step::Elementwise(Elementwise { chain, outputs: vec![output] }));
    }

    /// x with as much padding as its windows reach.
    fn padded(&mut self, x: ValueId, shape: &[usize], pool: &Pool) -> Result<View, CpuError> {
        let from = self.f.ty(x).shape.clone();
        let mut pads = vec![(0, 0); from.len()];
        for i in 0..pool.kernel.len() {
            let before = pool.pads[i].0;
            let reach = (shape[i + 2] - 1) * pool.strides[i] + pool.kernel[i];
            pads[i + 2] = (before, reach.saturating_sub(before + from[i + 2]));
        }
        if pads.iter().all(|&p| p == (0, 0)) {
            return Ok(self.view(x));
        }
        let filler = if pool.window == Window::Max { f64::NEG_INFINITY } else { 0.0 };
        let to: Vec<usize> = from.iter().zip(&pads).map(|(n, (a, b))| n + a + b).collect();
        let ty = TensorType::new(self.f.ty(x).dtype, to.clone());
        if ty.count() > LARGEST {
            return Err(CpuError::TooLarge { name: self.f.value(x).name.clone(), ty });
        }
        let half = matches!(self.rounding(self.f.ty(x)), Rounding::Half | Rounding::HalfAway);
        self.buffers.push(Space { elements: to.iter().product(), half });
        let output = Buffer::Slot(self.buffers.len() - 1);
        let view = self.view(x);
        self.pad_into(view, &to, output, &pads, PadMode::Constant(filler));
        Ok(View::contiguous(output, &to))
    }

    pub(super) fn resample(&mut self, x: ValueId, result: ValueId, resample: Resample) {
        let view = self.contiguous(x);
        let shape = self.f.ty(result).shape.clone();
        let rank = shape.len();
        let along = |axis: usize| -> Vec<(u32, u32, f32)> {
            let one = |i| {
                let (a, b, part) = resample.neighbours(i, shape[axis], view.shape[axis]);
                (a as u32, b as u32, part as f32)
            };
            (0..shape[axis]).map(one).collect()
        };
        let (rows, columns) = (along(rank - 2), along(rank - 1));
        let output = self.define(result);
        self.steps.push(Step::Resampling(Resampling {
            x: view.buffer,
            images: shape[..rank - 2].iter().product(),
            from: [view.shape[rank - 2], view.shape[rank - 1]],
            rows,
            columns,
            rounding: self.rounding(self.f.ty(result)),
            output,
        }));
    }

    pub(super) fn topk(&mut self, x: ValueId, results: &[ValueId], axis: usize, ascending: bool) {
        let view = self.contiguous(x);
        let k = self.f.ty(results[0]).shape[axis];
        let outputs = results.iter().map(|&id| self.define(id)).collect();
        self.steps.push(Step::TopK(TopK {
            x: view.buffer,
            outer: view.shape[..axis].iter().product(),
            n: view.shape[axis],
            inner: view.shape[axis + 1..].iter().product(),
            k,
            ascending,
            outputs,
        }));
    }
}

/// Elements that count in each window, spatial axes only.
fn counts(pool: &Pool, from: &[usize], shape: &[usize], exclude_padding: bool) -> Vec<f32> {
    let mut counts = vec![1.0];
    for (i, &extent) in from[2..].iter().enumerate() {
        let along = |window| {
            let (real, padded) = pool.inside(i, extent, window);
            if exclude_padding { real as f32 } else { padded as f32 }
        };
        counts = (counts.iter())
            .flat_map(|&n: &f32| (0..shape[i + 2]).map(move |window| n * along(window)))
            .collect();
    }
    counts
}
