//! From a function to a [`Plan`]: fusion, views and memory.

use crate::arithmetic::{Arithmetic, Numerics};
use crate::constexpr::{Known, unpack};
use crate::error::CpuError;
use crate::exact::to_half;
use crate::plan::*;
use half::f16;
use mil::interp::NOT_EXECUTED;
use mil::resolve::{Constexpr, Reduce};
use mil::{
    DType, Data, Function, Kind, OpError, Resolved, TensorType, ValueId, Weights, blob, passes,
    resolve,
};
use std::collections::{BTreeMap, BTreeSet};

mod chains;
mod memory;
mod movement;
mod products;
mod windows;

/// Largest result, in elements, whose constant or index table is worth keeping (256 MiB of f32).
const LARGEST: usize = 1 << 26;

/// Largest magnitude that survives a slice from inside the last axis on M1 and M2, where it passes
/// through a path scaled by 16 (docs/ane-facts.md E.2; AF:bench/results/rooflines).
const SLICE_LIMIT: f32 = 4094.0;

/// Lowers `f`.
///
/// # Errors
/// When an operation breaks a rule of the language, a weight file is missing or malformed, or a
/// tensor is too large to hold.
pub(crate) fn lower(
    f: &Function,
    weights: &Weights,
    arithmetic: Arithmetic,
) -> Result<Plan, CpuError> {
    let f = passes::eliminate_dead(&passes::decompose(&passes::hoist_constants(f))?);
    let mut lowering = Lowering::new(&f, weights, arithmetic)?;
    lowering.emit_all()?;
    lowering.finish()
}

struct Lowering<'f> {
    f: &'f Function,
    weights: &'f Weights,
    arithmetic: Arithmetic,
    resolved: Vec<Resolved<'f>>,
    /// Group of every operation that is part of a fused chain.
    group: Vec<Option<usize>>,
    groups: Vec<Vec<usize>>,
    uses: Vec<Vec<usize>>,
    views: BTreeMap<ValueId, View>,
    constants: Vec<Constant>,
    /// Room of each virtual buffer.
    buffers: Vec<Space>,
    steps: Vec<Step>,
    /// Outputs already written in place.
    written: BTreeSet<usize>,
}

impl<'f> Lowering<'f> {
    fn new(
        f: &'f Function,
        weights: &'f Weights,
        arithmetic: Arithmetic,
    ) -> Result<Self, CpuError> {
        let resolved: Vec<_> = f.ops.iter().map(|op| resolve(f, op)).collect::<Result<_, _>>()?;
        // In reference precision inputs are only borrowed.
        let borrows = arithmetic.numerics == Numerics::F32;
        let borrowed = |i: usize| borrows && f.inputs().any(|id| id.index() == i);
        let mut large = f.values.iter().enumerate().filter(|(_, v)| v.ty.count() > LARGEST);
        if let Some((_, v)) = large.find(|&(i, _)| !borrowed(i)) {
            return Err(CpuError::TooLarge { name: v.name.clone(), ty: v.ty.clone() });
        }
        let mut uses = vec![vec![]; f.values.len()];
        for (i, op) in f.ops.iter().enumerate() {
            for id in op.operands() {
                uses[id.index()].push(i);
            }
        }
        let mut lowering = Lowering {
            f,
            weights,
            arithmetic,
            resolved,
            group: vec![None; f.ops.len()],
            groups: vec![],
            uses,
            views: BTreeMap::new(),
            constants: vec![],
            buffers: vec![],
            steps: vec![],
            written: BTreeSet::new(),
        };
        lowering.form_groups();
        Ok(lowering)
    }

    // ---- fusion ----

    fn is_elementwise(&self, op: usize) -> bool {
        let float_cast = || {
            let x = self.resolved[op].values()[0];
            self.f.ty(x).dtype != DType::String
        };
        match &self.resolved[op].kind {
            Kind::Unary(_) | Kind::Binary(_) | Kind::Compare(_) | Kind::Select => true,
            Kind::Cast => float_cast() && !self.is_widening(op),
            _ => false,
        }
    }

    /// True if `op` turns fp16 into fp32, which changes no value: whoever reads it converts.
    fn is_widening(&self, op: usize) -> bool {
        let (x, result) = (self.resolved[op].values()[0], self.f.ops[op].results[0]);
        (self.f.ty(x).dtype, self.f.ty(result).dtype) == (DType::Fp16, DType::Fp32)
    }

    /// Joins each elementwise operation to the group of one of its producers of equal shape,
    /// unless another of its inputs needs that group to have run.
    fn form_groups(&mut self) {
        for op in 0..self.f.ops.len() {
            if !self.is_elementwise(op) {
                continue;
            }
            let shape = &self.resolved[op].results[0].shape;
            let inputs = self.resolved[op].values();
            let candidates: BTreeSet<usize> = (inputs.iter())
                .filter_map(|&id| self.group[self.f.definition(id)?])
                .filter(|&g| self.resolved[self.groups[g][0]].results[0].shape == *shape)
                .collect();
            let legal = |&g: &usize| {
                (inputs.iter())
                    .filter_map(|&id| self.f.definition(id))
                    .filter(|&d| self.group[d] != Some(g))
                    .all(|d| !self.depends_on(d, g))
            };
            let chosen = candidates.into_iter().rev().find(legal).unwrap_or(self.groups.len());
            if chosen == self.groups.len() {
                self.groups.push(vec![]);
            }
            self.groups[chosen].push(op);
            self.group[op] = Some(chosen);
        }
    }

    /// True if the unit of operation `op` has to run after group `g`.
    fn depends_on(&self, op: usize, g: usize) -> bool {
        let mut seen = BTreeSet::new();
        let mut stack = vec![op];
        while let Some(op) = stack.pop() {
            let members: &[usize] = match self.group[op] {
                Some(other) if other == g => return true,
                Some(other) => &self.groups[other],
                None => std::slice::from_ref(&op),
            };
            if !seen.insert(members[0]) {
                continue;
            }
            for &member in members {
                stack.extend(self.f.ops[member].operands().filter_map(|id| self.f.definition(id)));
            }
        }
        false
    }

    // ---- order ----

    /// Emits every unit after the units it needs, in order of first operation.
    fn emit_all(&mut self) -> Result<(), CpuError> {
        for (i, id) in self.f.inputs().enumerate() {
            let view = View::contiguous(Buffer::Input(i), &self.f.ty(id).shape);
            self.views.insert(id, view);
        }
        let unit_of = |op: usize| match self.group[op] {
            Some(g) => self.groups[g][0],
            None => op,
        };
        let units: BTreeSet<usize> = (0..self.f.ops.len()).map(unit_of).collect();
        let mut needs: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for op in 0..self.f.ops.len() {
            let unit = unit_of(op);
            let producers =
                self.f.ops[op].operands().filter_map(|id| self.f.definition(id)).map(unit_of);
            needs.entry(unit).or_default().extend(producers.filter(|&p| p != unit));
        }
        let mut wanted_by: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (&unit, producers) in &needs {
            producers.iter().for_each(|&p| wanted_by.entry(p).or_default().push(unit));
        }
        let mut missing: BTreeMap<usize, usize> =
            needs.iter().map(|(&unit, p)| (unit, p.len())).collect();
        let mut ready: BTreeSet<usize> =
            units.iter().copied().filter(|u| missing[u] == 0).collect();
        while let Some(unit) = ready.pop_first() {
            self.emit(unit)?;
            for &next in wanted_by.get(&unit).into_iter().flatten() {
                let left = missing.get_mut(&next).expect("every unit is counted");
                *left -= 1;
                if *left == 0 {
                    ready.insert(next);
                }
            }
        }
        self.copy_outputs()
    }

    fn emit(&mut self, unit: usize) -> Result<(), CpuError> {
        match self.group[unit] {
            Some(g) => self.emit_group(g),
            None => self.emit_op(unit),
        }
    }

    // ---- buffers and views ----

    fn rounding(&self, ty: &TensorType) -> Rounding {
        match (ty.dtype, self.arithmetic.numerics) {
            (DType::Fp16, Numerics::Fast) => Rounding::Half,
            (DType::Fp16, Numerics::Exact) => Rounding::HalfAway,
            (DType::Bool, _) => Rounding::Integer { lo: 0.0, hi: 1.0 },
            (dtype, _) => match dtype.int_range() {
                Some((lo, hi)) => Rounding::Integer { lo: lo as f32, hi: hi as f32 },
                None => Rounding::None,
            },
        }
    }

    /// Room for the elements of `id`: two bytes each where the precision that is emulated has no
    /// more.
    fn buffer(&mut self, id: ValueId) -> Buffer {
        let ty = self.f.ty(id);
        let half = matches!(self.rounding(ty), Rounding::Half | Rounding::HalfAway);
        self.buffers.push(Space { elements: ty.count(), half });
        Buffer::Slot(self.buffers.len() - 1)
    }

    /// Where a computed value goes: straight to the output that it is, else to a buffer.
    fn destination(&mut self, id: ValueId) -> Buffer {
        match self.output_of(id) {
            Some(output) => {
                self.written.insert(output);
                Buffer::Output(output)
            }
            None => self.buffer(id),
        }
    }

    /// The one output that `id`, perhaps in another shape, is. Outputs to which results may be added
    /// cannot be read again: there it must be nothing else.
    fn output_of(&self, id: ValueId) -> Option<usize> {
        let (mut outputs, mut readers) = (vec![], 0);
        let mut ids = vec![id];
        while let Some(id) = ids.pop() {
            outputs.extend((0..self.f.outputs.len()).filter(|&i| self.f.outputs[i] == id));
            for &op in &self.uses[id.index()] {
                match self.resolved[op].kind {
                    Kind::Reshape => ids.push(self.f.ops[op].results[0]),
                    _ => readers += 1,
                }
            }
        }
        match outputs[..] {
            [only] if readers == 0 || !self.arithmetic.accumulates => Some(only),
            _ => None,
        }
    }

    /// Defines `id` as a contiguous result and returns its buffer.
    fn define(&mut self, id: ValueId) -> Buffer {
        let buffer = self.destination(id);
        self.views.insert(id, View::contiguous(buffer, &self.f.ty(id).shape));
        buffer
    }

    /// Defines `id` as a result whose axes lie in memory in the given order, slowest first.
    fn define_in(&mut self, id: ValueId, order: &[usize]) -> Buffer {
        let shape = self.f.ty(id).shape.clone();
        let extents: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        let mut strides = vec![0; shape.len()];
        order.iter().zip(row_major(&extents)).for_each(|(&axis, stride)| strides[axis] = stride);
        let buffer = self.destination(id);
        self.views.insert(id, View { buffer, offset: 0, shape, strides });
        buffer
    }

    fn view(&self, id: ValueId) -> View {
        self.views[&id].clone()
    }

    fn copy(&mut self, view: &View, output: Buffer) {
        self.steps.push(Step::Elementwise(Elementwise {
            chain: Chain::load(view),
            outputs: vec![output],
        }));
    }

    fn contiguous(&mut self, id: ValueId) -> View {
        let view = self.view(id);
        if view.is_contiguous() && view.offset == 0 {
            return view;
        }
        let buffer = self.buffer(id);
        self.copy(&view, buffer);
        View::contiguous(buffer, &view.shape)
    }

    fn copy_outputs(&mut self) -> Result<(), CpuError> {
        for i in 0..self.f.outputs.len() {
            if !self.written.contains(&i) {
                let view = self.view(self.f.outputs[i]);
                self.copy(&view, Buffer::Output(i));
            }
        }
        Ok(())
    }

    // ---- other operations ----

    fn emit_op(&mut self, op: usize) -> Result<(), CpuError> {
        let result = self.f.ops[op].results[0];
        let shape = self.resolved[op].results[0].shape.clone();
        let kind = self.resolved[op].kind.clone();
        let inputs = self.resolved[op].values();
        match kind {
            Kind::Const => self.constant(op, result)?,
            Kind::Constexpr(kind) => self.constexpr(op, kind, &inputs, result)?,
            Kind::Cast => {
                let view = self.view(inputs[0]);
                self.views.insert(result, view);
            }
            Kind::Reshape => {
                let view = self.view(inputs[0]);
                let view = match view.reshape(&shape) {
                    Some(view) => view,
                    None => {
                        let buffer = self.buffer(result);
                        self.copy(&view, buffer);
                        View::contiguous(buffer, &shape)
                    }
                };
                self.views.insert(result, view);
            }
            Kind::Transpose { perm } => {
                let view = self.view(inputs[0]);
                let strides = perm.iter().map(|&axis| view.strides[axis]).collect();
                self.views.insert(result, View { shape, strides, ..view });
            }
            Kind::Slice { begin, stride, sizes } => {
                self.slice(inputs[0], result, &begin, &stride, &sizes)
            }
            Kind::Split { axis, sizes } => {
                let view = self.view(inputs[0]);
                let mut start = 0;
                for (&id, n) in self.f.ops[op].results.iter().zip(sizes) {
                    let offset = view.offset + start * view.strides[axis] as usize;
                    let shape = self.f.ty(id).shape.clone();
                    self.views.insert(id, View { offset, shape, ..view.clone() });
                    start += n;
                }
            }
            Kind::Tile { reps } => self.tile(inputs[0], result, &reps),
            Kind::Reduce { reduce, axes, .. } => self.reduce(inputs[0], result, reduce, &axes),
            Kind::Softmax { axis } => {
                let chain = self.softmax_operand(inputs[0]);
                let output = self.define(result);
                self.steps.push(Step::Softmax(Softmax {
                    chain,
                    n: shape[axis],
                    inner: shape[axis + 1..].iter().product(),
                    rounding: self.rounding(self.f.ty(result)),
                    output,
                }));
            }
            Kind::Matmul { transpose_x, transpose_y } => {
                self.matmul(inputs[0], transpose_x, inputs[1], transpose_y, result);
            }
            Kind::Concat { axis, interleave: false } => self.join(&inputs, axis, result),
            Kind::Concat { axis, .. } => {
                let n = inputs.len();
                let views: Vec<View> = inputs.iter().map(|&id| self.view(id)).collect();
                self.gather(views, result, 0.0, |index, source| {
                    source.copy_from_slice(index);
                    source[axis] = index[axis] / n;
                    Some(index[axis] % n)
                });
            }
            // A new axis of extent 1 in each part changes no place.
            Kind::Stack { axis } => self.join(&inputs, axis, result),
            Kind::Pad { pads, mode } => self.pad(inputs[0], result, &pads, mode),
            Kind::Pool(pool) => self.pool(inputs[0], result, &pool)?,
            Kind::Resample(resample) => self.resample(inputs[0], result, resample),
            Kind::TopK { axis, ascending } => {
                let results = self.f.ops[op].results.clone();
                self.topk(inputs[0], &results, axis, ascending);
            }
            Kind::Fill { value } => {
                self.numbers(result, &[value]);
                let view = self.views.get_mut(&result).expect("just written");
                view.strides.fill(0);
            }
            Kind::Range { start, step } => {
                let values: Vec<f64> = (0..shape[0]).map(|i| start + step * i as f64).collect();
                self.numbers(result, &values);
            }
            Kind::NotExecuted => return Err(self.fault(op, NOT_EXECUTED)),
            Kind::Conv(geometry) => self.conv(&inputs, result, geometry, false),
            Kind::ConvTranspose(geometry) => self.conv(&inputs, result, geometry, true),
            other => unreachable!("{other:?} was decomposed or is elementwise"),
        }
        Ok(())
    }

    fn constant(&mut self, op: usize, result: ValueId) -> Result<(), CpuError> {
        let literal = self.f.ops[op].value.as_ref().expect("a const has a value");
        let constant = match blob::load(literal, self.weights)? {
            Data::Fp16(v) => Constant::F16(v),
            Data::String(_) => Constant::F32(vec![]),
            data => {
                let values = data.to_f64().expect("numbers convert");
                Constant::F32(values.iter().map(|&x| x as f32).collect())
            }
        };
        self.keep(constant, result);
        Ok(())
    }

    /// Keeps the elements of `result`.
    fn keep(&mut self, constant: Constant, result: ValueId) {
        self.constants.push(constant);
        let buffer = Buffer::Constant(self.constants.len() - 1);
        self.views.insert(result, View::contiguous(buffer, &self.f.ty(result).shape));
    }

    /// Computes a constant whose inputs are constants.
    fn constexpr(
        &mut self,
        op: usize,
        kind: Constexpr,
        inputs: &[ValueId],
        result: ValueId,
    ) -> Result<(), CpuError> {
        let elements = |id: &ValueId| match self.views[id].buffer {
            Buffer::Constant(i) => match &self.constants[i] {
                Constant::F16(v) => v.iter().map(|x| x.to_f64()).collect(),
                Constant::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            },
            other => unreachable!("{other:?} is no constant"),
        };
        let known: Vec<Known<'_>> =
            inputs.iter().map(|id| (self.f.ty(*id), elements(id))).collect();
        let ty = self.f.ty(result);
        let values = unpack(kind, &known, ty).map_err(|message| self.fault(op, &message))?;
        self.numbers(result, &values);
        Ok(())
    }

    /// Keeps numbers as the elements of `result`, in its precision.
    fn numbers(&mut self, result: ValueId, values: &[f64]) {
        let values = values.iter().copied();
        let constant = match self.rounding(self.f.ty(result)) {
            Rounding::Half => Constant::F16(values.map(f16::from_f64).collect()),
            Rounding::HalfAway => Constant::F16(values.map(to_half).collect()),
            _ => Constant::F32(values.map(|x| x as f32).collect()),
        };
        self.keep(constant, result);
    }

    fn fault(&self, op: usize, message: &str) -> CpuError {
        let op = self.f.ops[op].op;
        CpuError::Op(OpError { op, key: None, message: message.to_owned(), hint: String::new() })
    }

    fn reduce(&mut self, x: ValueId, result: ValueId, f: Reduce, axes: &[usize]) {
        let view = self.view(x);
        let keep: Vec<usize> = (0..view.shape.len()).filter(|axis| !axes.contains(axis)).collect();
        let kept = View {
            shape: keep.iter().map(|&axis| view.shape[axis]).collect(),
            strides: keep.iter().map(|&axis| view.strides[axis]).collect(),
            ..view.clone()
        };
        // Neighbouring reduced axes that are walked evenly become one.
        let mut reduced: Vec<(usize, isize)> = vec![];
        for &axis in axes.iter().filter(|&&axis| view.shape[axis] != 1) {
            let (n, stride) = (view.shape[axis], view.strides[axis]);
            match reduced.last_mut() {
                Some((m, s)) if *s == stride * n as isize => (*m, *s) = (*m * n, stride),
                _ => reduced.push((n, stride)),
            }
        }
        let output = self.define(result);
        self.steps.push(Step::Reduction(Reduction {
            f,
            kept: Nest::new(&kept.shape.clone(), &[kept]),
            reduced,
            ordered: self.arithmetic.ordered,
            rounding: self.rounding(self.f.ty(result)),
            output,
        }));
    }
}

#[cfg(test)]
mod tests;
