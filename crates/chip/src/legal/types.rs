//! Rules of element types, at the ports and inside.

use super::context::{Found, Scope, Site};
use super::rule::{Check, Refusal, Rule, Severity};
use crate::confidence::Confidence;
use crate::machine::CallPath;
use mil::{Arg, DType, Kind, Op, Operation};

pub(super) static RULES: [Rule; 9] = [
    Rule {
        id: "ANE020",
        title: "ports are fp16 or fp32",
        applies: "in memory",
        does: "Refuses inputs and outputs of any other element type.",
        why: "No other type was ever seen to work at the ports of this path.",
        instead: "pass fp16 and convert on the CPU",
        evidence: "A.3 (MAD:inmem_peak.m, MAD:training/ane_mil_gen.h, IMP)",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::Medium,
        refusal: Some(Refusal::InvalidMilProgram),
        check: Check::Function(ports_in_memory),
    },
    Rule {
        id: "ANE021",
        title: "ports are fp16 on M1 and M2",
        applies: "M1, M2; in memory",
        does: "Refuses fp32 inputs and outputs.",
        why: "The engine converts between fp32 and fp16 with `cast`, which these chips lack.",
        instead: "declare the port fp16 and convert on the CPU",
        evidence: "A.3, B.2 (MAD#6)",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::InvalidMilProgram),
        check: Check::Function(ports_before_m3),
    },
    Rule {
        id: "ANE022",
        title: "ports are fp16 or small integers",
        applies: "e5rt",
        does: "Refuses inputs and outputs of fp32, int32, bool and other types.",
        why: "The compiler rejects them at the ports of this path.",
        instead: "declare the port fp16",
        evidence: "A.3 (AF:docs/mil-primer.md)",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::InvalidMilProgram),
        check: Check::Function(ports_e5rt),
    },
    Rule {
        id: "ANE023",
        title: "integer ports are uint8",
        applies: "e5rt",
        does: "Refuses int8, int16 and uint16 inputs and outputs.",
        why: "Sources disagree whether they are accepted.",
        instead: "declare the port uint8 or fp16",
        evidence: "A.3 (GUIDE ch. 4: fp16 or uint8 only)",
        conflict: "AF:docs/mil-primer.md lists int8, int16 and uint16 as accepted. GUIDE's reading is \
                   in force; allow ANE023 for AF's.",
        severity: Severity::Error,
        confidence: Confidence::Low,
        refusal: Some(Refusal::InvalidMilProgram),
        check: Check::Function(integer_ports),
    },
    Rule {
        id: "ANE024",
        title: "no conversion between fp32 and fp16 on M1 and M2",
        applies: "M1, M2",
        does: "Refuses `cast` between fp32 and fp16.",
        why: "These engines cannot execute it and the program is rejected.",
        instead: "stay in fp16 and convert on the CPU",
        evidence: "A.3, B.2 (MAD#6)",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::InvalidMilProgram),
        check: Check::Operation(float_cast),
    },
    Rule {
        id: "ANE025",
        title: "no conversion to wide integers",
        applies: "everywhere",
        does: "Refuses `cast` to int32, uint32, int64 and uint64.",
        why: "It is not implemented on the engine.",
        instead: "keep indices and counts on the CPU",
        evidence: "B.1 (AF:aneforge/full_mil_vocabulary_sweep.json), I.3; measured for int32",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::CompilationFailure),
        check: Check::Operation(wide_cast),
    },
    Rule {
        id: "ANE026",
        title: "arithmetic is in fp16",
        applies: "everywhere",
        does: "Refuses operations other than `cast` that compute in fp32.",
        why: "The engine multiplies and rounds in fp16; programs known to work cast to fp16 at their \
              inputs and back at their outputs. What fp32 inside gives is not published.",
        instead: "cast to fp16 first, or run the function on the CPU",
        evidence: "A.3 (MAD:training/ane_mil_gen.h), E.1; inference",
        conflict: "",
        severity: Severity::Silent,
        confidence: Confidence::Medium,
        refusal: None,
        check: Check::Operation(single_precision),
    },
    Rule {
        id: "ANE028",
        title: "constexpr operations of iOS 16 take attributes",
        applies: "everywhere",
        does: "Refuses constexpr_affine_dequantize and constexpr_cast, and constexpr_lut_to_dense and \
               constexpr_sparse_to_dense with `shape`, whose data are given as arguments.",
        why: "The compiler reports InvalidMILProgram.",
        instead: "write the data after the operation: constexpr_affine_dequantize()[axis = …, name = …, \
                  quantized_data = …, scale = …, zero_point = …]",
        evidence: "B.2 (LM:README and core/ane_runtime.cpp; CMT: load.py translate_constexpr writes \
                   attributes up to iOS 17)",
        conflict: "",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::InvalidMilProgram),
        check: Check::Operation(attributes_missing),
    },
    Rule {
        id: "ANE029",
        title: "constexpr operations of iOS 18 take arguments",
        applies: "everywhere",
        does: "Warns of constexpr_blockwise_shift_scale, and of constexpr_lut_to_dense and \
               constexpr_sparse_to_dense without `shape`, in functions for an earlier operation set or \
               with attributes.",
        why: "These operations are defined from ios18 on, and their one known writer gives arguments.",
        instead: "write func main<ios18>, and the data as arguments",
        evidence: "B.2 (CMT: load.py translate_constexpr, iOS18/compression.py)",
        conflict: "What the compiler says to them was not observed. Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Low,
        refusal: None,
        check: Check::Operation(arguments_missing),
    },
];

fn ports_in_memory(scope: &Scope<'_>) -> Vec<Found> {
    if !scope.in_memory() {
        return vec![];
    }
    scope.at_ports(|ty| {
        (!ty.dtype.is_float()).then(|| format!("expected fp16 or fp32, got {}", ty.dtype))
    })
}

fn ports_before_m3(scope: &Scope<'_>) -> Vec<Found> {
    if !scope.in_memory() || !scope.before_m3() {
        return vec![];
    }
    let chip = scope.profile.chip;
    scope.at_ports(|ty| {
        (ty.dtype == DType::Fp32).then(|| format!("expected fp16 on {chip}, got fp32"))
    })
}

const SMALL: [DType; 3] = [DType::Int8, DType::Int16, DType::UInt16];

fn ports_e5rt(scope: &Scope<'_>) -> Vec<Found> {
    if scope.profile.path != CallPath::E5rt {
        return vec![];
    }
    scope.at_ports(|ty| {
        let known = matches!(ty.dtype, DType::Fp16 | DType::UInt8) || SMALL.contains(&ty.dtype);
        (!known).then(|| format!("expected fp16 or uint8, got {}", ty.dtype))
    })
}

fn integer_ports(scope: &Scope<'_>) -> Vec<Found> {
    if scope.profile.path != CallPath::E5rt {
        return vec![];
    }
    scope.at_ports(|ty| {
        SMALL.contains(&ty.dtype).then(|| format!("expected fp16 or uint8, got {}", ty.dtype))
    })
}

/// Element types before and after a cast.
fn cast(scope: &Scope<'_>, site: &Site<'_>) -> Option<(DType, DType)> {
    if *site.kind() != Kind::Cast {
        return None;
    }
    let from = scope.operand_ty(site.resolved.inputs[0]).dtype;
    Some((from, site.resolved.results[0].dtype))
}

fn float_cast(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let (from, to) = cast(scope, site)?;
    let converts = from.is_float() && to.is_float() && from != to;
    (converts && scope.before_m3()).then(|| {
        format!("expected no cast of floats on {}, got {from} to {to}", scope.profile.chip)
    })
}

fn wide_cast(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let (from, to) = cast(scope, site)?;
    let wide = matches!(to, DType::Int32 | DType::UInt32 | DType::Int64 | DType::UInt64);
    wide.then(|| format!("expected a cast to a float or small integer, got {from} to {to}"))
}

fn single_precision(_: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    if site.is(&[Op::Const, Op::Cast]) || site.op.op.is_constexpr() {
        return None;
    }
    let ty = site.resolved.results.iter().find(|ty| ty.dtype == DType::Fp32)?;
    Some(format!("{} expected to give fp16, got {ty}", site.op.op))
}

/// True if a constexpr operation has the form of iOS 16 and 17.
fn is_early(op: &Operation) -> bool {
    let always = [Op::ConstexprAffineDequantize, Op::ConstexprCast].contains(&op.op);
    op.op.is_constexpr() && (always || op.arg("shape").is_some())
}

fn attributes_missing(_: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let mut args = site.op.args.iter().filter(|_| is_early(site.op));
    let (key, _) = args.find(|(_, arg)| !matches!(arg, Arg::Attribute(_)))?;
    Some(format!("expected `{key}` among the attributes of {}, got an argument", site.op.op))
}

fn arguments_missing(scope: &Scope<'_>, site: &Site<'_>) -> Option<String> {
    let op = site.op.op;
    if !op.is_constexpr() || is_early(site.op) {
        return None;
    }
    let opset = scope.function.opset.as_str();
    if matches!(opset, "ios15" | "ios16" | "ios17") {
        return Some(format!("expected {op} in a function for ios18, got {opset}"));
    }
    let (key, _) = site.op.args.iter().find(|(_, arg)| matches!(arg, Arg::Attribute(_)))?;
    Some(format!("expected `{key}` among the arguments of {op}, got an attribute"))
}
