//! Lowering of operations that move elements: views where strides can say it, tables where not.

use super::{Lowering, SLICE_LIMIT};
use crate::arithmetic::Numerics;
use crate::plan::*;
use mil::interp::each_index;
use mil::resolve::PadMode;
use mil::{DType, ValueId};

impl Lowering<'_> {
    pub(super) fn slice(
        &mut self,
        x: ValueId,
        result: ValueId,
        begin: &[usize],
        stride: &[i64],
        sizes: &[usize],
    ) {
        let view = self.view(x);
        let offset = (0..begin.len())
            .fold(view.offset as isize, |at, i| at + begin[i] as isize * view.strides[i]);
        let strides = (0..begin.len()).map(|i| view.strides[i] * stride[i] as isize).collect();
        let sliced =
            View { offset: offset as usize, shape: sizes.to_vec(), strides, buffer: view.buffer };
        let shape = &self.f.ty(result).shape;
        let squeezed = sliced.reshape(shape).expect("only axes of extent 1 are removed");
        if begin.last().is_some_and(|&first| first > 0) && self.scales_slices(x) {
            let output = self.define(result);
            let mut chain = Chain::load(&squeezed);
            chain.code.insert(1, Instruction::Overflow { dst: 0, beyond: SLICE_LIMIT });
            self.steps.push(Step::Elementwise(Elementwise { chain, outputs: vec![output] }));
            return;
        }
        self.views.insert(result, squeezed);
    }

    /// True if slices of `x` that start inside the last axis pass through the scaled path.
    fn scales_slices(&self, x: ValueId) -> bool {
        self.f.ty(x).dtype == DType::Fp16
            && self.arithmetic.numerics != Numerics::F32
            && self.arithmetic.quirks.width_slice_gain
    }

    /// Repeating an axis of extent 1 is a stride of 0; anything else is a gather.
    pub(super) fn tile(&mut self, x: ValueId, result: ValueId, reps: &[usize]) {
        let mut view = self.view(x);
        if reps.iter().zip(&view.shape).all(|(&r, &n)| r == 1 || n == 1) {
            for axis in (0..reps.len()).filter(|&axis| reps[axis] != 1) {
                (view.strides[axis], view.shape[axis]) = (0, reps[axis]);
            }
            self.views.insert(result, view);
            return;
        }
        let shape = view.shape.clone();
        self.gather(vec![view], result, 0.0, |index, source| {
            (0..index.len()).for_each(|i| source[i] = index[i] % shape[i]);
            Some(0)
        });
    }

    pub(super) fn join(&mut self, inputs: &[ValueId], axis: usize, result: ValueId) {
        let views: Vec<View> = inputs.iter().map(|&id| self.view(id)).collect();
        let output = self.define(result);
        let outer = views[0].shape[..axis].iter().product();
        let parts = (views.iter())
            .map(|v| {
                (Nest::new(&v.shape, std::slice::from_ref(v)), v.shape[axis..].iter().product())
            })
            .collect();
        self.steps.push(Step::Join(Join { parts, outer, output }));
    }

    /// Writes a table for `result`.
    pub(super) fn gather(
        &mut self,
        views: Vec<View>,
        result: ValueId,
        fill: f32,
        f: impl Fn(&[usize], &mut [usize]) -> Option<usize>,
    ) {
        let shape = self.f.ty(result).shape.clone();
        let output = self.define(result);
        self.gather_into(&views, &shape, output, fill, f);
    }

    /// Writes a table: `f` gives, for an index of `shape`, the input and fills in the index there.
    fn gather_into(
        &mut self,
        views: &[View],
        shape: &[usize],
        output: Buffer,
        fill: f32,
        f: impl Fn(&[usize], &mut [usize]) -> Option<usize>,
    ) {
        let mut map = Vec::with_capacity(shape.iter().product());
        let mut source = vec![0; shape.len()];
        each_index(shape, |index| {
            map.push(match f(index, &mut source) {
                Some(input) => {
                    let v = &views[input];
                    let at = (source.iter().zip(&v.strides))
                        .fold(v.offset as isize, |at, (&i, &s)| at + i as isize * s);
                    (input as u32, at as u32)
                }
                None => (u32::MAX, 0),
            });
        });
        let inputs = views.iter().map(|v| v.buffer).collect();
        self.steps.push(Step::Gather(Gather { inputs, map, fill, output }));
    }

    pub(super) fn pad(
        &mut self,
        x: ValueId,
        result: ValueId,
        pads: &[(usize, usize)],
        mode: PadMode,
    ) {
        let view = self.view(x);
        let shape = self.f.ty(result).shape.clone();
        let output = self.define(result);
        self.pad_into(view, &shape, output, pads, mode);
    }

    pub(super) fn pad_into(
        &mut self,
        view: View,
        to: &[usize],
        output: Buffer,
        pads: &[(usize, usize)],
        mode: PadMode,
    ) {
        let shape = view.shape.clone();
        let fill = if let PadMode::Constant(value) = mode { value as f32 } else { 0.0 };
        self.gather_into(&[view], to, output, fill, |index, source| {
            for axis in 0..index.len() {
                let (n, at) = (shape[axis] as i64, index[axis] as i64 - pads[axis].0 as i64);
                source[axis] = match mode {
                    PadMode::Constant(_) if !(0..n).contains(&at) => return None,
                    PadMode::Reflect if at < 0 => -at,
                    PadMode::Reflect if at >= n => 2 * (n - 1) - at,
                    _ => at.clamp(0, n - 1),
                } as usize;
            }
            Some(0)
        });
    }
}
