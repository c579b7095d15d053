//! In which arithmetic a function is computed.

/// The grid that results are rounded to, and the law of products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Numerics {
    /// Reference precision: every value is f32, surfaces included.
    F32,
    /// The engine's grid: binary16 at every operation boundary, f32 sums rounded once, products
    /// saturating at 2^15, no NaN ever emitted (docs/ane-facts.md E).
    Fast,
    /// The engine's arithmetic as far as it is documented, bit for bit: the law of the
    /// multiply-accumulate array, halves rounded away from zero, tabulated activations, its
    /// reductions. Slower. docs/numerics.md says what is approximated.
    Exact,
}

/// Deviations that some engines have and others do not. The default is an engine without any; they
/// make no difference in [`Numerics::F32`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Quirks {
    /// Slices that start inside the last axis pass through a path scaled by 16, in which
    /// |x| > 4094 becomes infinite (docs/ane-facts.md E.2).
    pub width_slice_gain: bool,
    /// `round` moves whole numbers from 1024 on, in [`Numerics::Exact`]: round(1024) = 1025
    /// (docs/ane-facts.md E.3).
    pub round_fault: bool,
}

/// How a function is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arithmetic {
    /// Grid and law of products.
    pub numerics: Numerics,
    /// Deviations of the engine that is imitated.
    pub quirks: Quirks,
    /// True if results may be added to what an output holds.
    pub accumulates: bool,
    /// True if sums take their terms in order, whatever the shape: those of a tensor with one column are
    /// then the same bits as those of a column among many.
    pub ordered: bool,
}

impl Arithmetic {
    /// Reference precision; outputs can be added to.
    pub const REFERENCE: Self = Arithmetic {
        numerics: Numerics::F32,
        quirks: Quirks { width_slice_gain: false, round_fault: false },
        accumulates: true,
        ordered: false,
    };

    /// Reference precision in which no column of a tensor depends on the number of columns.
    pub const COLUMNWISE: Self = Arithmetic { ordered: true, ..Self::REFERENCE };

    /// An engine with these numerics and quirks; outputs are replaced.
    pub fn engine(numerics: Numerics, quirks: Quirks) -> Self {
        Arithmetic { numerics, quirks, accumulates: false, ordered: false }
    }
}
