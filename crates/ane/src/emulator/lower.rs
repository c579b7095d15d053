//! From a function to a [`Plan`]: fusion, views and memory.

use super::constexpr::{Known, unpack};
use super::exact::{Table, to_half};
use super::gemm;
use super::plan::*;
use super::run::RESULTS;
use super::{Arithmetic, Numerics};
use crate::chip::Chip;
use crate::error::AneError;
use half::f16;
use mil::interp::NOT_EXECUTED;
use mil::resolve::{Binary, Constexpr, PadMode, Reduce};
use mil::{
    DType, Data, Function, Kind, OpError, Resolved, TensorType, ValueId, Weights, blob, passes,
    resolve,
};
use std::collections::{BTreeMap, BTreeSet};

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
) -> Result<Plan, AneError> {
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
    ) -> Result<Self, AneError> {
        let resolved: Vec<_> = f.ops.iter().map(|op| resolve(f, op)).collect::<Result<_, _>>()?;
        if let Some(v) = f.values.iter().find(|v| v.ty.count() > LARGEST) {
            return Err(AneError::TooLarge { name: v.name.clone(), ty: v.ty.clone() });
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

    /// Whether `op` turns fp16 into fp32, which changes no value: whoever reads it converts.
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

    /// Whether the unit of operation `op` has to run after group `g`.
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
    fn emit_all(&mut self) -> Result<(), AneError> {
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

    fn emit(&mut self, unit: usize) -> Result<(), AneError> {
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

    fn copy_outputs(&mut self) -> Result<(), AneError> {
        for i in 0..self.f.outputs.len() {
            if !self.written.contains(&i) {
                let view = self.view(self.f.outputs[i]);
                self.copy(&view, Buffer::Output(i));
            }
        }
        Ok(())
    }

    // ---- elementwise groups ----

    fn emit_group(&mut self, g: usize) -> Result<(), AneError> {
        if self.feeds_softmax(g) {
            return Ok(());
        }
        let Group { code, views, results } = self.group_code(g);
        let shape = self.f.ty(results[0]).shape.clone();
        let order = match results.iter().any(|&id| self.output_of(id).is_some()) {
            true => (0..shape.len()).collect(),
            false => common_order(&shape, &views),
        };
        let outputs: Vec<Buffer> =
            results.into_iter().map(|id| self.define_in(id, &order)).collect();
        let views: Vec<View> = views.iter().map(|v| v.permuted(&shape, &order)).collect();
        let shape: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        let nest = Nest::new(&shape, &views);
        for (part, buffers) in outputs.chunks(RESULTS).enumerate() {
            let first = part * RESULTS;
            let here = |i: &Instruction| match *i {
                Instruction::Store { src, to } => (first..first + buffers.len())
                    .contains(&to)
                    .then_some(Instruction::Store { src, to: to.wrapping_sub(first) }),
                ref other => Some(other.clone()),
            };
            self.steps.push(Step::Elementwise(Elementwise {
                chain: Chain {
                    nest: nest.clone(),
                    registers: code.next,
                    code: code.code.iter().filter_map(here).collect(),
                },
                outputs: buffers.to_vec(),
            }));
        }
        Ok(())
    }

    /// Whether all that is read of group `g` is the operand of one softmax, which then computes it.
    fn feeds_softmax(&self, g: usize) -> bool {
        let mut escaping =
            self.groups[g].iter().map(|&op| self.f.ops[op].results[0]).filter(|id| {
                self.f.outputs.contains(id)
                    || self.uses[id.index()].iter().any(|&u| self.group[u] != Some(g))
            });
        let (Some(only), None) = (escaping.next(), escaping.next()) else { return false };
        let reader = |op: usize| matches!(self.resolved[op].kind, Kind::Softmax { .. });
        !self.f.outputs.contains(&only) && matches!(self.uses[only.index()][..], [op] if reader(op))
    }

    /// The chain that gives the operand `x` of a softmax.
    fn softmax_operand(&self, x: ValueId) -> Chain {
        match self.f.definition(x).and_then(|op| self.group[op]) {
            Some(g) if self.feeds_softmax(g) => {
                let Group { code, views, .. } = self.group_code(g);
                let nest = Nest::new(&self.f.ty(x).shape, &views);
                Chain { nest, code: code.code, registers: code.next }
            }
            _ => Chain::load(&self.views[&x]),
        }
    }

    fn group_code(&self, g: usize) -> Group {
        let members = &self.groups[g];
        let inside: BTreeSet<ValueId> =
            members.iter().map(|&op| self.f.ops[op].results[0]).collect();
        let mut code = CodeGen::default();
        let mut last_use: BTreeMap<ValueId, usize> = BTreeMap::new();
        for (at, &op) in members.iter().enumerate() {
            self.resolved[op].values().iter().for_each(|&id| {
                last_use.insert(id, at);
            });
        }
        let mut results = vec![];
        let mut views = vec![];
        for (at, &op) in members.iter().enumerate() {
            let inputs = self.resolved[op].values();
            for &id in &inputs {
                if !inside.contains(&id) && !code.registers.contains_key(&id) {
                    code.load(id, views.len());
                    views.push(self.view(id));
                }
            }
            let result = self.f.ops[op].results[0];
            let dies = |id: ValueId| last_use.get(&id) == Some(&at);
            self.generate(&mut code, op, &inputs, result, &dies);
            let escapes = self.f.outputs.contains(&result)
                || self.uses[result.index()].iter().any(|&u| self.group[u] != Some(g));
            if escapes {
                code.code
                    .push(Instruction::Store { src: code.registers[&result], to: results.len() });
                results.push(result);
            }
            if !last_use.contains_key(&result) {
                code.release(result);
            }
            inputs.iter().filter(|&&id| dies(id)).for_each(|&id| code.release(id));
        }
        Group { code, views, results }
    }

    fn generate(
        &self,
        code: &mut CodeGen,
        op: usize,
        inputs: &[ValueId],
        result: ValueId,
        dies: &dyn Fn(ValueId) -> bool,
    ) {
        let rounding = self.rounding(self.f.ty(result));
        let kind = &self.resolved[op].kind;
        if let Kind::Select = kind {
            let [cond, a, b] = [0, 1, 2].map(|i| code.registers[&inputs[i]]);
            let dst = code.fresh();
            code.registers.insert(result, dst);
            code.code.push(Instruction::Select { dst, cond, a, b });
            return;
        }
        if let Kind::Binary(Binary::Pow) = kind
            && let Some(y) = self.scalar_constant(inputs[1])
        {
            let dst = code.take(inputs[0], result, dies(inputs[0]) && inputs[0] != inputs[1]);
            code.code.push(match rounding {
                Rounding::HalfAway => Instruction::Table { dst, table: Table::power(y) },
                _ => Instruction::Power { dst, y: y as f32, rounding },
            });
            return;
        }
        if let (Kind::Unary(f), Rounding::HalfAway) = (kind, rounding) {
            let dst = code.take(inputs[0], result, dies(inputs[0]));
            let chip = self.arithmetic.chip.unwrap_or(Chip::M4.numerics());
            code.code.push(Instruction::Table { dst, table: Table::unary(*f, chip) });
            return;
        }
        let alone = inputs.len() < 2 || inputs[0] != inputs[1];
        let src = inputs.get(1).map(|id| code.registers[id]);
        let dst = code.take(inputs[0], result, dies(inputs[0]) && alone);
        code.code.push(match (kind, src) {
            (Kind::Unary(f), _) => Instruction::Unary { dst, f: *f, rounding },
            (Kind::Binary(f), Some(src)) => Instruction::Binary { dst, src, f: *f, rounding },
            (Kind::Compare(f), Some(src)) => Instruction::Compare { dst, src, f: *f },
            (Kind::Cast, _) => {
                Instruction::Cast { dst, rounding, truth: self.f.ty(result).dtype == DType::Bool }
            }
            other => unreachable!("{other:?} is not elementwise"),
        });
    }

    fn scalar_constant(&self, id: ValueId) -> Option<f64> {
        let data = self.f.constant(id)?.data()?.to_f64()?;
        if data.len() == 1 { Some(data[0]) } else { None }
    }

    // ---- other operations ----

    fn emit_op(&mut self, op: usize) -> Result<(), AneError> {
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
            Kind::Pool(pool) => self.pool(inputs[0], result, &pool),
            Kind::Resample(resample) => self.resample(inputs[0], result, resample),
            Kind::TopK { axis, ascending } => {
                let results = self.f.ops[op].results.clone();
                self.topk(inputs[0], &results, axis, ascending);
            }
            Kind::Fill { value } => {
                self.numbers(result, &[value]);
                let view = self.views.get_mut(&result).expect("just written");
                *view = View { strides: vec![0; shape.len()], shape, ..view.clone() };
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

    fn constant(&mut self, op: usize, result: ValueId) -> Result<(), AneError> {
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
    ) -> Result<(), AneError> {
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

    fn fault(&self, op: usize, message: &str) -> AneError {
        let op = self.f.ops[op].op;
        AneError::Op(OpError { op, key: None, message: message.to_owned(), hint: String::new() })
    }

    fn slice(
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

    /// Whether slices of `x` that start inside the last axis pass through the scaled path.
    fn scales_slices(&self, x: ValueId) -> bool {
        self.f.ty(x).dtype == DType::Fp16
            && self.arithmetic.numerics != Numerics::F32
            && self.arithmetic.chip.is_some_and(|chip| chip.width_slice_gain)
    }

    /// Repeating an axis of extent 1 is a stride of 0; anything else is a gather.
    fn tile(&mut self, x: ValueId, result: ValueId, reps: &[usize]) {
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
            rounding: self.rounding(self.f.ty(result)),
            output,
        }));
    }

    /// A view whose last two strides are not negative (matrix products need that).
    fn matrix(&mut self, id: ValueId) -> View {
        let view = self.view(id);
        if view.strides.iter().any(|&s| s < 0) { self.contiguous(id) } else { view }
    }

    fn matmul(&mut self, x: ValueId, tx: bool, y: ValueId, ty: bool, result: ValueId) {
        let (a, b) = (self.matrix(x), self.matrix(y));
        let out = self.f.ty(result).shape.clone();
        let rank = out.len();
        let last = |v: &View, swap: bool| {
            let r = v.shape.len();
            let (rs, cs) = (v.strides[r - 2] as usize, v.strides[r - 1] as usize);
            if swap { (cs, rs) } else { (rs, cs) }
        };
        let k = if tx { a.shape[a.shape.len() - 2] } else { a.shape[a.shape.len() - 1] };
        let view = self.product_layout(result);
        let (rs_c, cs_c) = (view.strides[rank - 2] as usize, view.strides[rank - 1] as usize);
        let lead = |v: &View| {
            let head = View {
                shape: v.shape[..v.shape.len() - 2].to_vec(),
                strides: v.strides[..v.shape.len() - 2].to_vec(),
                ..v.clone()
            };
            head.broadcast(&out[..rank - 2])
        };
        let (la, lb, lc) = (lead(&a), lead(&b), view.strides[..rank - 2].to_vec());
        let mut batch = vec![];
        each_index(&out[..rank - 2], |index| {
            let at = |strides: &[isize], offset: usize| {
                offset + index.iter().zip(strides).map(|(&i, &s)| i * s as usize).sum::<usize>()
            };
            batch.push(gemm::Offsets { a: at(&la, a.offset), b: at(&lb, b.offset), c: at(&lc, 0) });
        });
        self.steps.push(Step::Product(Product {
            a: a.buffer,
            a_strides: last(&a, tx),
            b: b.buffer,
            b_strides: last(&b, ty),
            shape: gemm::Shape { m: out[rank - 2], n: out[rank - 1], k, rs_c, cs_c },
            batch,
            rounding: self.rounding(self.f.ty(result)),
            saturates: true,
            output: view.buffer,
        }));
        self.views.insert(result, view);
    }

    /// Layout of a product: when all that reads it is one transpose, the transposed value is the
    /// contiguous one, so that what follows needs no copy.
    fn product_layout(&mut self, result: ValueId) -> View {
        let shape = self.f.ty(result).shape.clone();
        if let [only] = self.uses[result.index()][..]
            && !self.f.outputs.contains(&result)
            && let Kind::Transpose { perm } = &self.resolved[only].kind
        {
            let natural = row_major(&self.resolved[only].results[0].shape);
            let mut strides = vec![0; shape.len()];
            perm.iter().enumerate().for_each(|(i, &axis)| strides[axis] = natural[i]);
            let rank = shape.len();
            let unit = |i: usize| strides[i] == 1 || shape[i] == 1;
            let rows_apart =
                strides[rank - 1] == 1 && strides[rank - 2] >= shape[rank - 1] as isize;
            let columns_apart =
                strides[rank - 2] == 1 && strides[rank - 1] >= shape[rank - 2] as isize;
            if (unit(rank - 1) && rows_apart) || (unit(rank - 2) && columns_apart) {
                let buffer = self.destination(self.f.ops[only].results[0]);
                return View { buffer, offset: 0, shape, strides };
            }
        }
        let buffer = self.destination(result);
        View::contiguous(buffer, &shape)
    }

    fn join(&mut self, inputs: &[ValueId], axis: usize, result: ValueId) {
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
    fn gather(
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

    fn pad(&mut self, x: ValueId, result: ValueId, pads: &[(usize, usize)], mode: PadMode) {
        let view = self.view(x);
        let shape = self.f.ty(result).shape.clone();
        let output = self.define(result);
        self.pad_into(view, &shape, output, pads, mode);
    }

    fn pad_into(
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

    fn conv(
        &mut self,
        inputs: &[ValueId],
        result: ValueId,
        geometry: mil::resolve::ConvGeometry,
        transposed: bool,
    ) {
        let views: Vec<View> = inputs.iter().map(|&id| self.contiguous(id)).collect();
        let y_shape = self.f.ty(result).shape.clone();
        let rounding = self.rounding(self.f.ty(result));
        let (x, w) = (&views[0], &views[1]);
        let pointwise = !transposed
            && geometry.groups == 1
            && w.shape[2..].iter().all(|&n| n == 1)
            && geometry.strides.iter().all(|&n| n == 1)
            && geometry.pads.iter().all(|&p| p == (0, 0))
            && views.len() == 2;
        let output = self.define(result);
        if pointwise {
            let (m, k) = (w.shape[0], w.shape[1]);
            let n: usize = x.shape[2..].iter().product();
            let batch = (0..x.shape[0])
                .map(|i| gemm::Offsets { a: 0, b: i * k * n, c: i * m * n })
                .collect();
            self.steps.push(Step::Product(Product {
                a: w.buffer,
                a_strides: (k, 1),
                b: x.buffer,
                b_strides: (n, 1),
                shape: gemm::Shape { m, n, k, rs_c: n, cs_c: 1 },
                batch,
                rounding,
                saturates: k > 1,
                output,
            }));
            return;
        }
        self.steps.push(Step::Convolution(Convolution {
            x: x.buffer,
            weight: w.buffer,
            bias: views.get(2).map(|b| b.buffer),
            x_shape: x.shape.clone(),
            weight_shape: w.shape.clone(),
            y_shape,
            geometry,
            transposed,
            rounding,
            output,
        }));
    }

    // ---- memory ----

    /// Lets buffers that are never alive together share a slot: best fit over the steps in order.
    fn finish(mut self) -> Result<Plan, AneError> {
        let mut last: Vec<usize> = vec![0; self.buffers.len()];
        for (at, step) in self.steps.iter_mut().enumerate() {
            let all = step.inputs_mut().into_iter().map(|b| *b).collect::<Vec<_>>();
            let outputs = step.outputs_mut().into_iter().map(|b| *b).collect::<Vec<_>>();
            for buffer in all.into_iter().chain(outputs) {
                if let Buffer::Slot(i) = buffer {
                    last[i] = at;
                }
            }
        }
        let mut slots: Vec<Space> = vec![];
        let mut home: Vec<Option<usize>> = vec![None; self.buffers.len()];
        let mut free: Vec<usize> = vec![];
        for at in 0..self.steps.len() {
            let step = &mut self.steps[at];
            let mut fresh = vec![];
            for buffer in step.outputs_mut() {
                if let Buffer::Slot(i) = buffer {
                    let Space { elements, half } = self.buffers[*i];
                    let same = || free.iter().enumerate().filter(|&(_, &s)| slots[s].half == half);
                    let fits = same()
                        .filter(|&(_, &s)| slots[s].elements >= elements)
                        .min_by_key(|&(_, &s)| slots[s].elements)
                        .or_else(|| same().max_by_key(|&(_, &s)| slots[s].elements));
                    let slot = match fits.map(|(position, _)| position) {
                        Some(position) => free.swap_remove(position),
                        None => {
                            slots.push(Space { elements, half });
                            slots.len() - 1
                        }
                    };
                    slots[slot].elements = slots[slot].elements.max(elements);
                    home[*i] = Some(slot);
                    fresh.push(*i);
                    *buffer = Buffer::Slot(slot);
                }
            }
            let mut dying: Vec<usize> = fresh.into_iter().filter(|&i| last[i] == at).collect();
            for buffer in step.inputs_mut() {
                if let Buffer::Slot(i) = buffer {
                    let slot = home[*i].expect("written before it is read");
                    if last[*i] == at {
                        dying.push(*i);
                    }
                    *buffer = Buffer::Slot(slot);
                }
            }
            dying.sort_unstable();
            dying.dedup();
            free.extend(dying.into_iter().map(|i| home[i].expect("has a slot")));
        }
        self.drop_unread();
        let count = |id: ValueId| self.f.ty(id).count();
        Ok(Plan {
            steps: self.steps,
            constants: self.constants,
            slots,
            inputs: self.f.inputs().map(count).collect(),
            outputs: self.f.outputs.iter().map(|&id| count(id)).collect(),
        })
    }
}

impl Lowering<'_> {
    /// Gives up constants that no step reads: attributes, and what other constants were made of.
    fn drop_unread(&mut self) {
        let mut read = vec![false; self.constants.len()];
        for buffer in self.steps.iter_mut().flat_map(Step::inputs_mut) {
            if let Buffer::Constant(i) = *buffer {
                read[i] = true;
            }
        }
        for (constant, _) in self.constants.iter_mut().zip(read).filter(|(_, read)| !read) {
            *constant = Constant::F32(vec![]);
        }
    }
}

/// The order of axes, slowest first, in which all of `views` that have as many elements as `shape`
/// lie in memory; the natural order where they disagree.
fn common_order(shape: &[usize], views: &[View]) -> Vec<usize> {
    let natural: Vec<usize> = (0..shape.len()).collect();
    let mut orders = (views.iter().filter(|v| v.shape.as_slice() == shape)).map(|v| {
        let mut order = natural.clone();
        // Axes of extent 1 have no place of their own: they stay where they are.
        let movable: Vec<usize> = natural.iter().copied().filter(|&i| shape[i] != 1).collect();
        let mut sorted = movable.clone();
        sorted.sort_by_key(|&axis| std::cmp::Reverse(v.strides[axis]));
        movable.iter().zip(sorted).for_each(|(&place, axis)| order[place] = axis);
        let dense = {
            let extents: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
            let strides = row_major(&extents);
            order.iter().zip(strides).all(|(&axis, s)| shape[axis] == 1 || v.strides[axis] == s)
        };
        dense.then_some(order)
    });
    match orders.next() {
        Some(Some(first)) if orders.all(|order| order.as_ref() == Some(&first)) => first,
        _ => natural,
    }
}

/// What a group of elementwise operations becomes: code, what it reads and what is read of it.
struct Group {
    code: CodeGen,
    views: Vec<View>,
    results: Vec<ValueId>,
}

/// Registers of a fused chain.
#[derive(Default)]
struct CodeGen {
    code: Vec<Instruction>,
    registers: BTreeMap<ValueId, usize>,
    free: Vec<usize>,
    next: usize,
}

impl CodeGen {
    fn fresh(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    fn load(&mut self, id: ValueId, from: usize) {
        let dst = self.fresh();
        self.registers.insert(id, dst);
        self.code.push(Instruction::Load { dst, from });
    }

    /// The register of `x` if it dies here, else a copy; it becomes that of `result`.
    fn take(&mut self, x: ValueId, result: ValueId, dies: bool) -> usize {
        let src = self.registers[&x];
        let dst = if dies {
            self.registers.remove(&x);
            src
        } else {
            let dst = self.fresh();
            self.code.push(Instruction::Copy { dst, src });
            dst
        };
        self.registers.insert(result, dst);
        dst
    }

    fn release(&mut self, id: ValueId) {
        if let Some(register) = self.registers.remove(&id) {
            self.free.push(register);
        }
    }
}

/// Calls `f` with every index of `shape`, last axis fastest.
fn each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    let mut index = vec![0; shape.len()];
    for _ in 0..shape.iter().product::<usize>() {
        f(&index);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}
