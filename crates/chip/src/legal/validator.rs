//! The lines that the compiler's validators log for a breach (docs/ane-facts.md B.3, from the
//! strings of the compiler: GUIDE:17, 22). They never reach the error object, which says
//! `InvalidMILProgram` or `CompilationFailure` only.
//!
//! Strings of that list which no program here can bring about have no entry: those about layers of
//! two or more bottoms (MIL names its arguments), about layouts and kernel memory (codegen's own
//! choices), and about engines older than M1.

use super::place::Place;
use super::violation::Violation;
use crate::machine::{Generation, Profile};
use mil::{Arg, Function, Op, Operation, Program};

/// The validator's words for a breach that [`super::violations`] found in `program`; `None` where
/// none are known.
pub fn validator_message(
    program: &Program,
    profile: &Profile,
    violation: &Violation,
) -> Option<String> {
    let function = program.functions.iter().find(|f| f.name == violation.function)?;
    let generation = profile.chip.generation();
    if violation.rule.id == "ANE012" && generation.max_extent() == Generation::A13.max_extent() {
        // Published once, for one family number; the limit is the same for all before M4.
        return Some(format!("exceeds ANE family 2's max dimension {}", generation.max_extent()));
    }
    let op = match &violation.place {
        Place::Operation { index, .. } => function.ops.get(*index)?,
        Place::Output(name) => function.ops.get(function.definition(function.find(name)?)?)?,
        Place::Whole | Place::Parameter(_) => return None,
    };
    let text = match (violation.rule.id, op.op) {
        ("ANE031", _) => {
            let width = operand(function, op, "weight")?.last()?;
            let limit = generation.max_kernel_width();
            return Some(format!(
                "Invalid conv kernel width = {width}, It should be in [1,{limit}]"
            ));
        }
        ("ANE001", Op::Conv | Op::ConvTranspose) if !groups_divide(function, op)? => {
            "input/output channels should be divisible by num group"
        }
        ("ANE001", Op::Concat) if constant_axis(function, op).is_none() => {
            "ANE Concat supports only supports const positive axis"
        }
        ("ANE010", Op::Reshape) => "Cannot reshape a tensor of rank > 5",
        ("ANE040", Op::Matmul) => "depth > 1 is not supported for MatMult",
        ("ANE042", _) => "ANE cannot support Linear with input rank >= 5",
        ("ANE061", _) => "Channel padding is not supported on ANE",
        _ => return None,
    };
    Some(text.to_owned())
}

fn operand<'f>(function: &'f Function, op: &Operation, key: &str) -> Option<&'f [usize]> {
    match op.arg(key)? {
        Arg::Value(id) => Some(&function.ty(*id).shape),
        Arg::Values(_) | Arg::Literal(_) | Arg::Attribute(_) => None,
    }
}

fn integer(function: &Function, arg: &Arg) -> Option<i64> {
    let literal = match arg {
        Arg::Literal(literal) | Arg::Attribute(literal) => literal,
        Arg::Value(id) => function.constant(*id)?,
        Arg::Values(_) => return None,
    };
    match &literal.payload {
        mil::Payload::Inline(mil::Data::Int(values)) => values.first().copied(),
        _ => None,
    }
}

/// True if the channels of x and the outputs of the weight are multiples of the groups.
fn groups_divide(function: &Function, op: &Operation) -> Option<bool> {
    let groups = op.arg("groups").map_or(Some(1), |arg| integer(function, arg))?;
    let groups = usize::try_from(groups).ok().filter(|&n| n > 0)?;
    let channels = operand(function, op, "x")?.get(1)?;
    let outputs = operand(function, op, "weight")?.first()?;
    Some(channels.is_multiple_of(groups) && outputs.is_multiple_of(groups))
}

fn constant_axis(function: &Function, op: &Operation) -> Option<i64> {
    integer(function, op.arg("axis")?)
}
