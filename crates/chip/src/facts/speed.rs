//! Facts of section F: how long things take.

use super::fact::{Basis::*, Fact};
use crate::confidence::Confidence::*;
use crate::machine::{Chip, Generation};

const BEFORE_M5: &[Chip] = &[
    Chip::M1,
    Chip::M1Max,
    Chip::M2,
    Chip::M2Pro,
    Chip::M3,
    Chip::M3Ultra,
    Chip::M4,
    Chip::M4Pro,
    Chip::M4Max,
];

pub(super) const FACTS: &[Fact] = &[
    // ---- F.1 floor of a request ----
    Fact::new(
        "F1-floor-m1",
        "F.1",
        "A request takes at least 0.19 to 0.23 ms.",
        "GUIDE:09, 27, 29; AF:aneforge/_cost.py (220 µs)",
        Measured,
        High,
    )
    .generations(&[Generation::A13]),
    Fact::new(
        "F1-floor-m2",
        "F.1",
        "A request takes at least about 0.10 ms.",
        "AF:aneforge/_cost.py (M2 Pro)",
        Measured,
        Medium,
    )
    .generations(&[Generation::A14]),
    Fact::new(
        "F1-floor-m4",
        "F.1",
        "A request takes at least 0.084 to 0.106 ms.",
        "MAD#3; RUS:README (M4 Max 0.095 ms)",
        Measured,
        High,
    )
    .chips(&[Chip::M4, Chip::M4Pro, Chip::M4Max])
    .against(&["F1-floor-m4-max"]),
    Fact::new(
        "F1-floor-m4-max",
        "F.1",
        "A request takes at least 0.223 ms on M4 Max.",
        "ORI",
        Measured,
        Low,
    )
    .chips(&[Chip::M4Max])
    .option(&["F1-floor-m4"]),
    Fact::new(
        "F1-floor-m5",
        "F.1",
        "A request takes at least 0.06 to 0.12 ms, depending on the call.",
        "MAD:training/m5result.md, INF (117 and 106 µs)",
        Measured,
        High,
    )
    .chips(&[Chip::M5]),
    Fact::new(
        "F1-floor-m5-pro",
        "F.1",
        "A request takes at least 70 to 80 µs by e5rt.",
        "AF (smallest product 72.6 µs); MID gives 93 µs",
        Measured,
        High,
    )
    .chips(&[Chip::M5Pro]),
    Fact::new(
        "F1-layer-cycles",
        "F.1",
        "Each layer inside a program costs 44 cycles.",
        "GUIDE:18",
        Derived,
        Medium,
    ),
    // ---- F.2 compute ----
    Fact::new(
        "F2-gemm",
        "F.2",
        "Square products of 4096 take 51.0 ms on M1, 40.8 on M2 Pro, 25.3 on M4, 18.9 on M5 and 16.6 \
         on M5 Pro, copies included.",
        "AF:bench/results/rooflines",
        Measured,
        High,
    ),
    Fact::new(
        "F2-conv3x3",
        "F.2",
        "3×3 convolutions of 512 channels reach 3.5 TFLOP/s on M1, 4.6 on M2 Pro, 9.5 on M4, 17.4 on \
         M5 and 18.8 on M5 Pro.",
        "AF:bench/results/rooflines",
        Measured,
        High,
    ),
    Fact::new(
        "F2-peak",
        "F.2",
        "128 convolutions of 512 channels in one program reach 18.6 TFLOP/s on M4 and 19.3 on M5 Max.",
        "MAD:README, MAD#50",
        Measured,
        High,
    ),
    Fact::new(
        "F2-int8",
        "F.2",
        "8-bit weights and activations reach 35.1 TOPS on M4, 1.88 times the fp16 rate.",
        "MAD:ane_int8_bench.m",
        Measured,
        High,
    )
    .against(&["F2-int8-no-gain"]),
    Fact::new(
        "F2-int8-no-gain",
        "F.2",
        "8-bit weights alone do not speed up computing.",
        "maderix part 2, ORI; of weights only, so that both may hold",
        Measured,
        Medium,
    )
    .option(&["F2-int8"]),
    Fact::new(
        "F2-single-convolution",
        "F.2",
        "One 1×1 convolution with 64 tokens takes 0.084 ms for 512 channels and 0.237 ms for 2048 on \
         M4.",
        "MAD#3",
        Measured,
        High,
    ),
    // ---- F.3 memory ----
    Fact::new(
        "F3-weight-stream",
        "F.3",
        "Weights stream at 60.9 GB/s on M1, 60.5 on M2, 63.1 on M3, 64.2 on M4, 126.4 on M4 Pro, 118.9 \
         on M4 Max, 70.2 on M5 and 148.4 on M5 Max.",
        "ANEMLL:Results.MD",
        Measured,
        High,
    ),
    Fact::new(
        "F3-activation-stream",
        "F.3",
        "relu over [2048, 4096] takes 39.2 ms on M1, 34.7 on M2 Pro, 4.46 on M4, 1.74 on M5 and 1.50 \
         on M5 Pro.",
        "AF:bench/results/rooflines",
        Measured,
        High,
    ),
    Fact::new(
        "F3-dma-notch",
        "F.3",
        "Reading weights falls from 40 to 60 GB/s to 17 to 25 where a core's share is within 16 KiB \
         of a multiple of 1 MiB.",
        "SHC#110, eiln; AF sees none on M5 Pro",
        Measured,
        High,
    )
    .chips(BEFORE_M5)
    .tests(&["crates/chip/src/machine.rs::numerics_differ_where_published"]),
    Fact::new(
        "F3-working-set",
        "F.3",
        "Programs slow down when their live data pass 2 MB (M1 to M4) or 4.7 MB (M5).",
        "GUIDE:21, 24 (M1: 2.28 to 2.34 MB; M5: 4.72 MB)",
        Measured,
        Medium,
    )
    .against(&["F3-sram-32-mb"]),
    Fact::new(
        "F3-sram-32-mb",
        "F.3",
        "The engine has 24 to 32 MB of fast memory.",
        "maderix, ORI, ESP; what they saw is better explained by F3-dma-notch",
        Asserted,
        Low,
    )
    .option(&["F3-working-set"]),
    // ---- F.4 training ----
    Fact::new(
        "F4-training",
        "F.4",
        "A step of Stories110M with 256 tokens takes 148 to 163 ms on M1 Pro, 91 to 115 on M4 and 73.5 \
         on M5 Max.",
        "MAD:README, MAD#28, MAD#50",
        Measured,
        Medium,
    ),
];
