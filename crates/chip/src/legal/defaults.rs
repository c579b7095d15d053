//! Arguments that may be left out of the language, but not for this compiler.

use mil::{DType, Literal, Op};

/// Values that the language gives to arguments left out, which this compiler wants to see: those
/// of coremltools' definitions of the operations.
pub(super) fn default_of(op: Op, key: &str, dtype: DType) -> Option<Literal> {
    Some(match (op, key) {
        (Op::Gelu, "mode") => Literal::string("EXACT"),
        (Op::Concat, "interleave") => Literal::bool(false),
        (Op::Rsqrt, "epsilon") => Literal::float(dtype, 1e-12),
        (Op::Log, "epsilon") => Literal::float(dtype, 1e-45),
        (Op::Inverse, "epsilon") => Literal::float(dtype, 1e-4),
        _ => return None,
    })
}
