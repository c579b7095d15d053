//! Lowering of elementwise groups to chains of instructions.

use super::Lowering;
use crate::error::CpuError;
use crate::exact::Table;
use crate::plan::*;
use crate::run::RESULTS;
use mil::resolve::Binary;
use mil::{DType, Kind, ValueId};
use std::collections::{BTreeMap, BTreeSet};

impl Lowering<'_> {
    pub(super) fn emit_group(&mut self, g: usize) -> Result<(), CpuError> {
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

    /// True if all that is read of group `g` is the operand of one softmax, which then computes it.
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
    pub(super) fn softmax_operand(&self, x: ValueId) -> Chain {
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
            let dst = code.take(inputs[0], result, dies(inputs[0]));
            code.code.push(match rounding {
                Rounding::HalfAway => Instruction::Table { dst, table: Table::power(y) },
                _ => Instruction::Power { dst, y: y as f32, rounding },
            });
            return;
        }
        if let (Kind::Unary(f), Rounding::HalfAway) = (kind, rounding) {
            let dst = code.take(inputs[0], result, dies(inputs[0]));
            let table = Table::unary(*f, self.arithmetic.quirks);
            code.code.push(Instruction::Table { dst, table });
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
}

/// The order of axes, slowest first, in which all of `views` that have as many elements as `shape`
/// lie in memory; the natural order where they disagree.
pub(super) fn common_order(shape: &[usize], views: &[View]) -> Vec<usize> {
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

/// The lowered form of a group of elementwise operations: code, inputs and outputs.
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
