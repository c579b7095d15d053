//! The published data of an engine's silicon, timings apart: the inputs of the scaling rules.

use crate::machine::Chip;

/// An Apple chip as published timings name it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Silicon {
    /// Name in the form of the command line, `m4-pro`.
    pub name: &'static str,
    /// 1 for M1 … 6 for M6.
    pub generation: u8,
    /// True if it has more than the four "cores" that the compiler's cost tables give the smallest
    /// engine of a generation (h13g 8, h15c 32, h16s 16, h17s 16; facts F.2, AF:costmodel_curves.json).
    pub wide: bool,
    /// Clock in GHz of its architecture (facts F.2, AF:costmodel_curves.json).
    pub clock: f64,
}

const fn silicon(name: &'static str, generation: u8, wide: bool, clock: f64) -> Silicon {
    Silicon { name, generation, wide, clock }
}

/// Every chip with a published timing.
///
/// Clocks: h13 1.428, h13g 1.464, h14 1.938, h15 2.064, h16 2.160, h16s 2.364, h17 2.172, h17s 2.364.
/// Which M4 is h16s is not published: the Pro and the Max are taken to be, because their
/// weight streams are twice the plain M4's. The M2 Pro and larger M2s are plain h14 (facts, head).
/// The clock of h15c (M3 Max, M3 Ultra) and of the M6 is not published: they get h15's and h17's.
pub const SILICON: &[Silicon] = &[
    silicon("m1", 1, false, 1.428),
    silicon("m1-pro", 1, true, 1.464),
    silicon("m1-max", 1, true, 1.464),
    silicon("m1-ultra", 1, true, 1.464),
    silicon("m2", 2, false, 1.938),
    silicon("m2-pro", 2, false, 1.938),
    silicon("m2-max", 2, false, 1.938),
    silicon("m2-ultra", 2, false, 1.938),
    silicon("m3", 3, false, 2.064),
    silicon("m3-pro", 3, false, 2.064),
    silicon("m3-max", 3, true, 2.064),
    silicon("m3-ultra", 3, true, 2.064),
    silicon("m4", 4, false, 2.160),
    silicon("m4-pro", 4, true, 2.364),
    silicon("m4-max", 4, true, 2.364),
    silicon("m5", 5, false, 2.172),
    silicon("m5-pro", 5, true, 2.364),
    silicon("m5-max", 5, true, 2.364),
    silicon("m6", 6, true, 2.172),
];

impl Silicon {
    /// The chip called `name`.
    ///
    /// # Panics
    /// If [`SILICON`] has no such row: names come from tables of this crate.
    pub fn named(name: &str) -> &'static Silicon {
        let found = SILICON.iter().find(|s| s.name == name);
        found.unwrap_or_else(|| panic!("`{name}` is in the table of silicon"))
    }

    /// The silicon of `chip`, or of the one that stands for it ([`Chip::nearest`]).
    pub fn of(chip: Chip) -> &'static Silicon {
        Silicon::named(chip.measured().facts().name)
    }

    /// The arithmetic roof in TFLOP/s, before the share that a kind of operation reaches.
    pub fn peak_tflops(&self) -> f64 {
        super::model::FLOPS_PER_CYCLE * self.clock * 1e-3
    }

    /// True if weights come over two ports: every larger chip from the M3 on streams twice what
    /// the smallest of its generation does (facts F.3, ANEMLL: 60 against 120 GB/s).
    pub fn two_ports(&self) -> bool {
        self.wide && self.generation >= 3
    }
}
