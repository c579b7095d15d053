//! Chips, operating systems and call paths: the machine that a program is checked against.
//!
//! Every number here is taken from published work named in its comment (section numbers are those
//! of docs/ane-facts.md); none was measured by us.

use std::fmt;
use std::str::FromStr;

/// Generation of the engine: limits of shapes and supported operations go with it.
///
/// M1 is A13, M2 A14, M3 A15, M4 and M5 A16 (AF:aneforge/_targets.py,
/// GUIDE:34-the-28-targets.md; the names are those of the compiler's targets). The M6 is given A16,
/// since its published limits of shapes are the M4's (751K's study of both).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Generation {
    /// M1.
    A13,
    /// M2.
    A14,
    /// M3.
    A15,
    /// M4 and later.
    A16,
}

impl Generation {
    /// Largest extent of the last two axes of any tensor: 16384 up to M3, 65536 from M4 on.
    ///
    /// Facts D "Tensor dims" (GUIDE:24-hal-gates.md); 16384 is confirmed to the element on an
    /// M3 Ultra (RUS#13: a width of 16384 compiles, 17920 does not).
    pub fn max_extent(self) -> usize {
        if self < Generation::A16 { 16_384 } else { 65_536 }
    }

    /// Widest convolution kernel: 13 on M1, else 15 (facts B.2, AF:aneforge/_capabilities.py:
    /// 13 on M1, 15 on A16; nobody reports M2 and M3, which are given A16's limit).
    pub fn max_kernel_width(self) -> usize {
        if self == Generation::A13 { 13 } else { 15 }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Most batches or channels of a tensor: 65536 on every chip (facts D, GUIDE:24-hal-gates.md).
pub const MAX_CHANNELS: usize = 65_536;

/// Largest middle axis of a five-axis tensor: 16384 (facts D, GUIDE:24-hal-gates.md).
pub const MAX_DEPTH: usize = 16_384;

/// Most axes of a tensor: 5 (facts A.3; the compiler says "Rank … must be between 0 and 5").
pub const MAX_RANK: usize = 5;

/// Most input channels of a convolution that is surely accepted: 32000 are refused (facts B.2,
/// MAD:training/ane_classifier.h); where between 16384 and 32000 the limit lies is not known.
pub const MAX_CONV_CHANNELS: usize = 16_384;

/// Bytes of constants above which a program is not loaded: about 1.5 GB load, about 3.4 GB do not
/// (facts D "Program bank size", AF:aneforge/llm.py; the device's address window is 3.5 GiB).
pub const MAX_PROGRAM_BYTES: u64 = 3_400_000_000;

/// An Apple chip with a Neural Engine, of M1 or later. Those of which too little is published take
/// limits and speed of another one ([`Chip::nearest`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the chips'")]
pub enum Chip {
    M1,
    M1Pro,
    M1Max,
    M1Ultra,
    M2,
    M2Pro,
    M2Max,
    M2Ultra,
    M3,
    M3Pro,
    M3Max,
    M3Ultra,
    M4,
    M4Pro,
    M4Max,
    M5,
    M5Pro,
    M5Max,
    M5Ultra,
    M6,
}

/// The facts about a chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChipFacts {
    /// Name on the command line, for instance `m4-pro`.
    pub name: &'static str,
    /// The engine's architecture in the compiler's terms, for instance `h16`.
    pub architecture: &'static str,
    /// Generation.
    pub generation: Generation,
    /// Number of engines: 2 on an Ultra, which is two dies, of which a process uses one unless told
    /// otherwise (facts D "Dual-ANE": OMLX#2781, RUS#12); 2 on the M6
    /// (751K/Apple-Neural-Engine-Microarchitecture-Study-M6: `numANEs`).
    pub engines: usize,
}

impl Chip {
    /// Every chip, oldest first.
    pub const ALL: [Chip; 20] = {
        use Chip::*;
        [
            M1, M1Pro, M1Max, M1Ultra, M2, M2Pro, M2Max, M2Ultra, M3, M3Pro, M3Max, M3Ultra, M4,
            M4Pro, M4Max, M5, M5Pro, M5Max, M5Ultra, M6,
        ]
    };

    /// Returns the facts about this chip.
    ///
    /// Architectures: facts, head of the catalogue (h13 … h17; h13g and h15g for the larger
    /// M1 and M3), M5 Max from MAD#50; M3 Max, M5 Ultra and M6 by the compiler's table of targets
    /// (h15c, h17d, h18g). Sources name variants with an `s` for the larger M4 and M5
    /// without saying which chip has which, so that those are given their plain family name, except
    /// the M5 Pro, on which AF records h17s.
    pub const fn facts(self) -> ChipFacts {
        let (name, architecture, generation, engines) = match self {
            Chip::M1 => ("m1", "h13", Generation::A13, 1),
            Chip::M1Pro => ("m1-pro", "h13g", Generation::A13, 1),
            Chip::M1Max => ("m1-max", "h13g", Generation::A13, 1),
            Chip::M1Ultra => ("m1-ultra", "h13g", Generation::A13, 2),
            Chip::M2 => ("m2", "h14", Generation::A14, 1),
            Chip::M2Pro => ("m2-pro", "h14", Generation::A14, 1),
            Chip::M2Max => ("m2-max", "h14", Generation::A14, 1),
            Chip::M2Ultra => ("m2-ultra", "h14", Generation::A14, 2),
            Chip::M3 => ("m3", "h15", Generation::A15, 1),
            Chip::M3Pro => ("m3-pro", "h15", Generation::A15, 1),
            Chip::M3Max => ("m3-max", "h15c", Generation::A15, 1),
            Chip::M3Ultra => ("m3-ultra", "h15g", Generation::A15, 2),
            Chip::M4 => ("m4", "h16", Generation::A16, 1),
            Chip::M4Pro => ("m4-pro", "h16", Generation::A16, 1),
            Chip::M4Max => ("m4-max", "h16", Generation::A16, 1),
            Chip::M5 => ("m5", "h17", Generation::A16, 1),
            Chip::M5Pro => ("m5-pro", "h17s", Generation::A16, 1),
            Chip::M5Max => ("m5-max", "h17", Generation::A16, 1),
            Chip::M5Ultra => ("m5-ultra", "h17d", Generation::A16, 2),
            Chip::M6 => ("m6", "h18g", Generation::A16, 2),
        };
        ChipFacts { name, architecture, generation, engines }
    }

    /// The chip whose limits and speed this one is given because too little is published of its own;
    /// `None` if it has its own.
    ///
    /// It is of the same generation and, where that makes a difference, of the same published stream
    /// of weights (facts F.3, ANEMLL: M1 and M2 of every size 55 to 62 GB/s, M3 63, M3 Max 120,
    /// M5 Max 148, M6 152). An Ultra is two dies of a Max, of which a program uses one.
    pub const fn nearest(self) -> Option<Chip> {
        Some(match self {
            Chip::M1Pro | Chip::M1Ultra => Chip::M1Max,
            Chip::M2Max | Chip::M2Ultra => Chip::M2Pro,
            Chip::M3Pro => Chip::M3,
            Chip::M3Max => Chip::M3Ultra,
            Chip::M5Ultra | Chip::M6 => Chip::M5Max,
            _ => return None,
        })
    }

    /// The chip whose limits, arithmetic and speed are this one's: itself or its [nearest](Chip::nearest).
    pub const fn measured(self) -> Chip {
        match self.nearest() {
            Some(chip) => chip,
            None => self,
        }
    }

    /// Returns a note for figures of a chip that has none of its own; `None` for the others.
    pub fn note(self) -> Option<String> {
        let nearest = self.nearest()?;
        Some(format!("limits and speed of {nearest}: not measured on this chip"))
    }

    /// Generation of the chip's engine.
    pub const fn generation(self) -> Generation {
        self.facts().generation
    }

    /// True if the chip is an M5 of any size, or is taken for one.
    pub fn is_m5(self) -> bool {
        self.measured() >= Chip::M5
    }
}

/// In what a chip's arithmetic differs from the others'.
///
/// Every field names its row in [`crate::facts`]. What all chips share (the law of products, the
/// saturation at 2^15, the rules of NaN) is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChipNumerics {
    /// Slices that start inside the last axis pass through a path scaled by 16, in which
    /// |x| > 4094 becomes infinite (`E2-width-slice-gain`): M1 and M2.
    pub width_slice_gain: bool,
    /// `round` moves whole numbers from 1024 on: round(1024) = 1025 (`E3-round-fault`). Measured on
    /// M5; other chips were not tried and are taken to round rightly.
    pub round_fault: bool,
    /// 3×3 convolutions carry a relative error of 5.1e-4 in place of 3.7e-4, as if something were
    /// rounded to fp16 once more (`E1-conv3x3-m5`): M5.
    pub conv3x3_anomaly: bool,
    /// Which of the two known units computes reductions (`E4-reduction`).
    pub reduction: ReductionUnit,
}

/// The two implementations of reductions that published errors tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReductionUnit {
    /// M1 and M2: relative error 7.2242e-4 of a sum over 4096. M3 was not measured and is given
    /// this one.
    A13,
    /// M4 and M5: 8.1929e-4 (M4, M5 Pro) and 8.0792e-4 (M5) in the same test.
    A16,
}

impl Chip {
    /// In what this chip's arithmetic differs from the others'.
    pub fn numerics(self) -> ChipNumerics {
        let generation = self.generation();
        ChipNumerics {
            width_slice_gain: generation <= Generation::A14,
            round_fault: self.is_m5(),
            conv3x3_anomaly: self.is_m5(),
            reduction: if generation < Generation::A16 {
                ReductionUnit::A13
            } else {
                ReductionUnit::A16
            },
        }
    }

    /// True if reading weights slows down when each core's share is near a multiple of 1 MiB
    /// (`F3-dma-notch`): M1 to M4; M5 appears free of it.
    pub fn dma_notch(self) -> bool {
        !self.is_m5()
    }

    /// Shapes that the chip accepts.
    pub fn limits(self) -> ChipLimits {
        let generation = self.generation();
        ChipLimits {
            rank: MAX_RANK,
            extent: generation.max_extent(),
            channels: MAX_CHANNELS,
            depth: MAX_DEPTH,
            kernel_width: generation.max_kernel_width(),
            conv_input_channels: MAX_CONV_CHANNELS,
            float_cast: generation > Generation::A14,
            trigonometry: generation > Generation::A14,
            reflect_padding: generation > Generation::A13,
        }
    }
}

/// Shapes and operations that a chip accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChipLimits {
    /// Most axes of a tensor ([`MAX_RANK`]).
    pub rank: usize,
    /// Longest last or second last axis ([`Generation::max_extent`]).
    pub extent: usize,
    /// Most batches or channels ([`MAX_CHANNELS`]).
    pub channels: usize,
    /// Longest middle axis of five ([`MAX_DEPTH`]).
    pub depth: usize,
    /// Widest convolution kernel ([`Generation::max_kernel_width`]).
    pub kernel_width: usize,
    /// Most input channels of a convolution that are surely accepted ([`MAX_CONV_CHANNELS`]).
    pub conv_input_channels: usize,
    /// True if `cast` converts between fp32 and fp16, and ports may be fp32 (ANE021, ANE024).
    pub float_cast: bool,
    /// True if `sin` and `cos` exist (ANE050).
    pub trigonometry: bool,
    /// True if `pad` mirrors (ANE060).
    pub reflect_padding: bool,
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().name)
    }
}

/// The operating system, which sets the rules of surfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Os {
    /// macOS 15: the stricter rules.
    MacOs15,
    /// macOS 26.
    MacOs26,
}

impl Os {
    /// Both.
    pub const ALL: [Os; 2] = [Os::MacOs15, Os::MacOs26];
}

impl fmt::Display for Os {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Os::MacOs15 => "macos15",
            Os::MacOs26 => "macos26",
        })
    }
}

/// By which door programs reach the engine (facts G.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallPath {
    /// `_ANEInMemoryModel`: MIL text from memory, surfaces bound by position.
    InMemory,
    /// `e5rt_program_library`: MIL files, ports bound by name.
    E5rt,
}

impl CallPath {
    /// Both.
    pub const ALL: [CallPath; 2] = [CallPath::InMemory, CallPath::E5rt];
}

impl fmt::Display for CallPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CallPath::InMemory => "in-memory",
            CallPath::E5rt => "e5rt",
        })
    }
}

/// The machine that a program is checked for. The default, M4 with macOS 15 and the in-memory
/// path, has the stricter rules wherever sources disagree.
///
/// Written `m4/macos15/in-memory`; parts may be left out or be in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Profile {
    /// The chip.
    pub chip: Chip,
    /// The operating system.
    pub os: Os,
    /// The door.
    pub path: CallPath,
}

impl Default for Profile {
    fn default() -> Self {
        Profile { chip: Chip::M4, os: Os::MacOs15, path: CallPath::InMemory }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.chip, self.os, self.path)
    }
}

/// Limits of surfaces and of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Smallest allocation of a surface in bytes.
    ///
    /// In memory on macOS 15: 49152 (facts C.1, ORI #4, M4 Max). In memory on macOS 26: 2048, the
    /// stricter of IMP's figure on M1 and none at all; a program with 8192-byte surfaces ran on an
    /// M5 (MAD:training/m5result.md). By e5rt: none was seen (facts C.2).
    pub min_surface_bytes: usize,
    /// True if all input surfaces of a request, and all its output surfaces, need one allocation
    /// size (facts C.1: ORI #2 and #12; not seen by e5rt, facts C.2).
    pub uniform_surfaces: bool,
    /// Compiles per process: 119 in memory (facts D: MAD, ORI #5, ESP), whether programs are
    /// released or not. By e5rt thousands were seen, with releases (AF), so there is no limit.
    pub compiles: Option<usize>,
    /// Programs loaded at once in a process: 128 (facts D: AF, MID).
    pub loaded: usize,
    /// Requests in flight per program: 127, the depth of the queue (facts D: INF §1).
    pub in_flight: usize,
}

impl Profile {
    /// Returns the profile for people, with the chip's [note](Chip::note) behind it.
    pub fn described(&self) -> String {
        match self.chip.note() {
            Some(note) => format!("{self} ({note})"),
            None => self.to_string(),
        }
    }

    /// Limits of surfaces and of a process.
    pub fn limits(&self) -> Limits {
        let in_memory = self.path == CallPath::InMemory;
        Limits {
            min_surface_bytes: match (self.path, self.os) {
                (CallPath::InMemory, Os::MacOs15) => 49_152,
                (CallPath::InMemory, Os::MacOs26) => 2_048,
                (CallPath::E5rt, _) => 0,
            },
            uniform_surfaces: in_memory,
            compiles: in_memory.then_some(119),
            loaded: 128,
            in_flight: 127,
        }
    }

    /// Bytes to allocate for each of the surfaces that hold `sizes` bytes and are bound together,
    /// all inputs or all outputs of a request, in the order given.
    pub fn allocations(&self, sizes: &[usize]) -> Vec<usize> {
        let limits = self.limits();
        let largest = sizes.iter().copied().max().unwrap_or(0);
        let least = if limits.uniform_surfaces { largest } else { 0 };
        sizes.iter().map(|&n| n.max(least).max(limits.min_surface_bytes)).collect()
    }

    /// Checks the allocations of the surfaces bound together: all inputs or all outputs of a request.
    ///
    /// # Errors
    /// [`AllocationFault::TooSmall`] (ANE081) and [`AllocationFault::Uneven`] (ANE080).
    pub fn check_allocations(&self, sizes: &[usize]) -> Result<(), AllocationFault> {
        let limits = self.limits();
        let minimum = limits.min_surface_bytes;
        if let Some(index) = sizes.iter().position(|&n| n < minimum) {
            return Err(AllocationFault::TooSmall { index, minimum, got: sizes[index] });
        }
        if limits.uniform_surfaces && sizes.windows(2).any(|w| w[0] != w[1]) {
            return Err(AllocationFault::Uneven { sizes: sizes.to_vec() });
        }
        Ok(())
    }
}

/// How the allocations of a request's surfaces break a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllocationFault {
    /// A surface is below the minimum (ANE081).
    TooSmall {
        /// Its index among those bound together.
        index: usize,
        /// Bytes that it needs.
        minimum: usize,
        /// Bytes that it has.
        got: usize,
    },
    /// The surfaces have several sizes where one is needed (ANE080).
    Uneven {
        /// Bytes of each.
        sizes: Vec<usize>,
    },
}

/// A name that is not in a list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} called `{got}`; known are: {known}")]
pub struct UnknownName {
    /// The kind of name, for instance `chip`.
    pub what: &'static str,
    /// The name.
    pub got: String,
    /// The list, separated by commas.
    pub known: String,
}

fn unknown<T: fmt::Display>(what: &'static str, got: &str, known: &[T]) -> UnknownName {
    let known = known.iter().map(T::to_string).collect::<Vec<_>>().join(", ");
    UnknownName { what, got: got.to_owned(), known }
}

impl FromStr for Chip {
    type Err = UnknownName;

    /// Reads a name such as `m4-pro`, in any case, with `-`, `_`, a space or nothing between.
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let plain = |s: &str| s.to_ascii_lowercase().replace(['-', '_', ' '], "");
        let wanted = plain(text);
        (Chip::ALL.into_iter().find(|chip| plain(chip.facts().name) == wanted))
            .ok_or_else(|| unknown("chip", text, &Chip::ALL))
    }
}

impl FromStr for Os {
    type Err = UnknownName;

    /// Reads `macos15` or `macos26`, or the number alone; a point release such as `macOS 15.7.4` is
    /// its major version.
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let plain = text.to_ascii_lowercase().replace([' ', '-'], "");
        let version = plain.strip_prefix("macos").unwrap_or(&plain);
        match version.split('.').next() {
            Some("15") => Ok(Os::MacOs15),
            Some("26") => Ok(Os::MacOs26),
            _ => Err(unknown("operating system", text, &Os::ALL)),
        }
    }
}

impl FromStr for CallPath {
    type Err = UnknownName;

    /// Reads `in-memory` or `e5rt` (also called `espresso`).
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text.trim().to_ascii_lowercase().as_str() {
            "in-memory" | "inmemory" => Ok(CallPath::InMemory),
            "e5rt" | "espresso" => Ok(CallPath::E5rt),
            _ => Err(unknown("call path", text, &CallPath::ALL)),
        }
    }
}

impl FromStr for Profile {
    type Err = UnknownName;

    /// Reads `m4/macos15/in-memory`; what is left out is the default's.
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let mut profile = Profile::default();
        for part in text.split('/').map(str::trim).filter(|part| !part.is_empty()) {
            if let Ok(chip) = part.parse() {
                profile.chip = chip;
            } else if let Ok(os) = part.parse() {
                profile.os = os;
            } else if let Ok(path) = part.parse() {
                profile.path = path;
            } else {
                let chips = Chip::ALL.iter().map(Chip::to_string);
                let oses = Os::ALL.iter().map(Os::to_string);
                let paths = CallPath::ALL.iter().map(CallPath::to_string);
                let known: Vec<String> = chips.chain(oses).chain(paths).collect();
                return Err(unknown("part of a profile", part, &known));
            }
        }
        Ok(profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_read_back() {
        for chip in Chip::ALL {
            assert_eq!(chip.to_string().parse::<Chip>().unwrap(), chip);
            for os in Os::ALL {
                for path in CallPath::ALL {
                    let profile = Profile { chip, os, path };
                    assert_eq!(profile.to_string().parse::<Profile>().unwrap(), profile);
                }
            }
        }
        assert_eq!("".parse::<Profile>().unwrap(), Profile::default());
        let profile = "espresso/M5 Pro/macOS 26.3".parse::<Profile>().unwrap();
        assert_eq!(profile.to_string(), "m5-pro/macos26/e5rt");
        assert_eq!("15".parse::<Os>().unwrap(), Os::MacOs15);
        assert_eq!("26.2".parse::<Os>().unwrap(), Os::MacOs26);
        assert!("".parse::<Os>().is_err() && "150".parse::<Os>().is_err());
        let error = "m9".parse::<Profile>().unwrap_err().to_string();
        assert!(error.contains("`m9`") && error.contains("m5-max"), "{error}");
    }

    #[test]
    fn chips_come_in_order_of_generation() {
        assert!(
            Chip::ALL.windows(2).all(|w| w[0] < w[1] && w[0].generation() <= w[1].generation())
        );
        assert!(Chip::M5.is_m5() && Chip::M5Max.is_m5() && !Chip::M4Max.is_m5());
    }

    #[test]
    fn a_chip_without_figures_has_those_of_a_measured_one_of_its_generation() {
        for chip in Chip::ALL {
            let like = chip.measured();
            assert_eq!((like.measured(), like.nearest(), like.note()), (like, None, None));
            assert_eq!(
                (chip.limits(), chip.numerics()),
                (like.limits(), like.numerics()),
                "{chip}"
            );
            assert_eq!(chip.dma_notch(), like.dma_notch(), "{chip}");
            let generation = |chip: Chip| chip.facts().name.as_bytes()[1];
            assert!(generation(chip) == generation(like) || chip == Chip::M6, "{chip}");
        }
        // The twelve that published tables or training steps describe.
        assert_eq!(Chip::ALL.into_iter().filter(|chip| chip.nearest().is_none()).count(), 12);
        let note = Chip::M3Pro.note().unwrap();
        assert_eq!(note, "limits and speed of m3: not measured on this chip");
        for name in ["m2-max", "M1 Ultra", "m6", "m5-ultra"] {
            assert!(name.parse::<Chip>().unwrap().note().is_some(), "{name}");
        }
    }

    #[test]
    fn numerics_differ_where_published() {
        let gain: Vec<_> =
            Chip::ALL.into_iter().filter(|c| c.numerics().width_slice_gain).collect();
        use Chip::*;
        assert_eq!(gain, [M1, M1Pro, M1Max, M1Ultra, M2, M2Pro, M2Max, M2Ultra]);
        for chip in [Chip::M5, Chip::M5Pro, Chip::M5Max] {
            let n = chip.numerics();
            assert!(n.round_fault && n.conv3x3_anomaly && !chip.dma_notch());
        }
        for chip in [Chip::M1, Chip::M2Pro, Chip::M4, Chip::M4Max] {
            let n = chip.numerics();
            assert!(!n.round_fault && !n.conv3x3_anomaly && chip.dma_notch());
        }
        assert_eq!(Chip::M2Pro.numerics().reduction, ReductionUnit::A13);
        assert_eq!(Chip::M4.numerics().reduction, ReductionUnit::A16);
    }

    #[test]
    fn limits_differ_where_published() {
        let row = |chip: Chip| {
            let l = chip.limits();
            (l.extent, l.kernel_width, l.float_cast, l.trigonometry, l.reflect_padding)
        };
        assert_eq!(row(Chip::M1), (16_384, 13, false, false, false));
        assert_eq!(row(Chip::M2), (16_384, 15, false, false, true));
        assert_eq!(row(Chip::M3Ultra), (16_384, 15, true, true, true));
        assert_eq!(row(Chip::M4), (65_536, 15, true, true, true));
        assert_eq!(row(Chip::M5Max), (65_536, 15, true, true, true));
    }

    #[test]
    fn the_default_is_the_strictest_of_its_chip() {
        let strict = Profile::default().limits();
        for os in Os::ALL {
            for path in CallPath::ALL {
                let limits = Profile { os, path, ..Profile::default() }.limits();
                assert!(limits.min_surface_bytes <= strict.min_surface_bytes);
                assert!(limits.uniform_surfaces <= strict.uniform_surfaces);
                assert!(limits.compiles.is_none_or(|n| n >= strict.compiles.unwrap()));
                assert!(limits.loaded >= strict.loaded && limits.in_flight >= strict.in_flight);
            }
        }
    }

    #[test]
    fn allocations_satisfy_their_own_check() {
        for os in Os::ALL {
            for path in CallPath::ALL {
                let profile = Profile { os, path, ..Profile::default() };
                for sizes in [&[][..], &[2], &[2, 100_000, 49_152]] {
                    let bytes = profile.allocations(sizes);
                    assert!(bytes.iter().zip(sizes).all(|(a, n)| a >= n));
                    assert_eq!(profile.check_allocations(&bytes), Ok(()));
                }
            }
        }
        let strict = Profile::default();
        assert_eq!(strict.allocations(&[8, 4]), [49_152, 49_152]);
        assert!(matches!(
            strict.check_allocations(&[49_152, 49_151]),
            Err(AllocationFault::TooSmall { index: 1, .. })
        ));
        assert!(matches!(
            strict.check_allocations(&[49_152, 65_536]),
            Err(AllocationFault::Uneven { .. })
        ));
    }

    #[test]
    fn an_unknown_name_is_told_with_those_that_are_known() {
        let known = "x, y".to_owned();
        let error = UnknownName { what: "port", got: "z".to_owned(), known };
        assert_eq!(error.to_string(), "there is no port called `z`; known are: x, y");
    }
}
