//! Chains that stay in fp16: every operand is stored as f16 and every result is rounded to it, so the
//! tile registers are f16 as well. The same bits as in f32 registers, for half of the memory traffic
//! and a third of the passes.

use super::{Instruction, Sources, TILE, each_run, pair, read, truth_value, unary};
use crate::gemm::Elements;
use crate::plan::{Buffer, Chain, Nest, Rounding};
use crate::simd::{self, Round, halves};
use half::f16;
use mil::resolve::{Binary, Compare, Unary};
use std::cell::RefCell;

/// Elements widened at a time for functions with loops of their own.
const WIDE: usize = 256;

thread_local! {
    static REGISTERS: RefCell<Vec<f16>> = const { RefCell::new(Vec::new()) };
}

/// True if the chain can run here.
pub(super) fn suits(chain: &Chain, sources: &Sources<'_>) -> bool {
    let stored = |buffer: Buffer| matches!(sources.get(buffer), Elements::F16(_));
    chain.nest.operands.iter().all(|operand| stored(operand.buffer))
        && chain.code.iter().all(|instruction| match instruction {
            Instruction::Load { .. }
            | Instruction::Copy { .. }
            | Instruction::Compare { .. }
            | Instruction::Select { .. }
            | Instruction::Store { .. } => true,
            Instruction::Unary { rounding, .. }
            | Instruction::Power { rounding, .. }
            | Instruction::Binary { rounding, .. } => *rounding == Rounding::Half,
            // To fp16 or to fp32: the value is the same.
            Instruction::Cast { rounding, truth, .. } => {
                !truth && matches!(rounding, Rounding::Half | Rounding::None)
            }
            Instruction::Table { .. } | Instruction::Overflow { .. } => false,
        })
}

/// Lends `len` elements of unspecified content.
pub(super) fn with_registers(len: usize, f: impl FnOnce(&mut [f16])) {
    let mut registers = REGISTERS.take();
    if registers.len() < len {
        registers.resize(len, f16::ZERO);
    }
    f(&mut registers[..len]);
    REGISTERS.set(registers);
}

/// Runs a chain for `count` elements from flat position `start` on; `store` gets the number of a
/// result, a position from `start` on, and the elements there.
pub(super) fn run_chain(
    chain: &Chain,
    sources: &Sources<'_>,
    start: usize,
    count: usize,
    mut store: impl FnMut(usize, usize, &[f16]),
) {
    with_registers(chain.registers * TILE, |registers| {
        for done in (0..count).step_by(TILE) {
            let n = TILE.min(count - done);
            for instruction in &chain.code {
                match *instruction {
                    Instruction::Load { dst, from } => {
                        load(&chain.nest, from, sources, start + done, one(registers, dst, n));
                    }
                    Instruction::Store { src, to } => store(to, done, one(registers, src, n)),
                    _ => execute(instruction, n, registers),
                }
            }
        }
    });
}

fn one(registers: &mut [f16], dst: usize, n: usize) -> &mut [f16] {
    &mut registers[dst * TILE..dst * TILE + n]
}

/// Reads `to.len()` consecutive elements of operand `which` of a nest, from flat position `start`.
///
/// # Panics
/// If they are not f16.
pub(super) fn load(nest: &Nest, which: usize, sources: &Sources<'_>, start: usize, to: &mut [f16]) {
    let operand = &nest.operands[which];
    let Elements::F16(data) = sources.get(operand.buffer) else { unreachable!("f16 throughout") };
    let stride = operand.strides[nest.shape.len() - 1];
    let input = matches!(operand.buffer, Buffer::Input(_));
    each_run(&nest.shape, operand, start, to.len(), |done, at, run| {
        read(data, at, stride, &mut to[done..done + run], |from, to| match input {
            // The engine reads a NaN as +∞ (docs/ane-facts.md E.3); nothing computed here is one.
            true => halves::copy_without_nan(from, to),
            false => to.copy_from_slice(from),
        });
    });
}

fn execute(instruction: &Instruction, n: usize, registers: &mut [f16]) {
    match *instruction {
        Instruction::Copy { dst, src } => {
            let (x, y) = pair(registers, dst, src, n);
            x.copy_from_slice(y);
        }
        Instruction::Unary { dst, f, .. } => of_one(f, one(registers, dst, n)),
        Instruction::Power { dst, y, .. } => power(one(registers, dst, n), y),
        Instruction::Binary { dst, src, f, .. } => {
            let (x, y) = pair(registers, dst, src, n);
            of_two(f, x, y);
        }
        Instruction::Compare { dst, src, f } => {
            let (x, y) = pair(registers, dst, src, n);
            compare(f, x, y);
        }
        Instruction::Select { dst, cond, a, b } => {
            let whole = |r: usize| r * TILE..r * TILE + n;
            for ((to, cond), (a, b)) in whole(dst).zip(whole(cond)).zip(whole(a).zip(whole(b))) {
                let chosen = if registers[cond].to_f32() != 0.0 { a } else { b };
                registers[to] = registers[chosen];
            }
        }
        Instruction::Cast { .. } => {}
        _ => unreachable!("`suits` lets no other instruction through"),
    }
}

fn of_two(f: Binary, x: &mut [f16], y: &[f16]) {
    match f {
        Binary::Add => halves::zip(x, y, |x, y| x + y),
        Binary::Sub => halves::zip(x, y, |x, y| x - y),
        Binary::Mul => halves::zip(x, y, |x, y| x * y),
        Binary::Div => halves::zip(x, y, |x, y| x / y),
        Binary::Max => halves::zip(x, y, simd::larger),
        Binary::Min => halves::zip(x, y, simd::smaller),
        Binary::FloorDiv => halves::zip(x, y, |x, y| (x / y).floor()),
        Binary::Pow => halves::zip(x, y, f32::powf),
    }
}

fn compare(f: Compare, x: &mut [f16], y: &[f16]) {
    match f {
        Compare::Equal => halves::zip(x, y, |x, y| truth_value(x == y)),
        Compare::NotEqual => halves::zip(x, y, |x, y| truth_value(x != y)),
        Compare::Less => halves::zip(x, y, |x, y| truth_value(x < y)),
        Compare::LessEqual => halves::zip(x, y, |x, y| truth_value(x <= y)),
        Compare::Greater => halves::zip(x, y, |x, y| truth_value(x > y)),
        Compare::GreaterEqual => halves::zip(x, y, |x, y| truth_value(x >= y)),
    }
}

fn of_one(f: Unary, x: &mut [f16]) {
    match f {
        Unary::Square => halves::map(x, |v| v * v),
        Unary::Linear { alpha, beta } => {
            let (alpha, beta) = (alpha as f32, beta as f32);
            halves::map(x, |v| v * alpha + beta);
        }
        Unary::Sqrt => halves::map(x, f32::sqrt),
        _ => widened(x, |x| unary(f, x)),
    }
}

fn power(x: &mut [f16], y: f32) {
    match y {
        -0.5 => halves::map(x, |v| 1.0 / v.sqrt()),
        -1.0 => halves::map(x, |v| 1.0 / v),
        2.0 => halves::map(x, |v| v * v),
        _ => widened(x, |x| super::power(x, y)),
    }
}

/// x ← round(f(x)) for an `f` over slices of f32.
fn widened(x: &mut [f16], f: impl Fn(&mut [f32])) {
    let mut wide = [0.0; WIDE];
    for x in x.chunks_mut(WIDE) {
        let wide = &mut wide[..x.len()];
        simd::widen(x, wide);
        f(wide);
        simd::narrow(wide, x, Round::ELEMENTWISE);
    }
}
