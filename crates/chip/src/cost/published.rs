//! Every published timing of a Neural Engine that names its shape: what the model is fitted to and
//! held against. Nothing here was measured by us.
//!
//! Sources are abbreviated as in docs/ane-facts.md. A range is its middle, with its ends in
//! [`Row::range`]. Left out because no shape is given: GUIDE's slopes and sustained rates, power,
//! the cost anchors of AF and the Espresso-IR rows of TMC (no chip).

use super::model::{Law, OpWork, Workload};

/// Where in docs/ane-facts.md a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Dispatch floor.
    Floor,
    /// Compute.
    Compute,
    /// Memory.
    Memory,
    /// Single operations of trainers (section B.2): shown, not fitted.
    Trainer,
}

impl Section {
    /// Its number in the facts.
    pub fn name(self) -> &'static str {
        match self {
            Section::Floor => "F.1",
            Section::Compute => "F.2",
            Section::Memory => "F.3",
            Section::Trainer => "B.2",
        }
    }
}

/// One published timing.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Section of the facts.
    pub section: Section,
    /// Chip, as in [`super::Silicon`].
    pub chip: &'static str,
    /// The program.
    pub what: String,
    /// The same, for the model.
    pub work: Workload,
    /// Published milliseconds (from a rate where a rate was published).
    pub ms: f64,
    /// Ends of the published range.
    pub range: (f64, f64),
    /// Who published it.
    pub source: &'static str,
}

const AF: &str = "AF:bench/results/rooflines, e5rt, with host copy";
const SHC: &str = "SHC PR110";
const MAD3: &str = "MAD#3, in-memory";
const ANEMLL: &str = "ANEMLL:Results.MD, Core ML";
const GEMV: &str = "AF:gemv_bandwidth_sweep_results.json, e5rt";

const SIX: [&str; 6] = ["m1", "m1-max", "m2-pro", "m4", "m5", "m5-pro"];

fn row(
    section: Section,
    chip: &'static str,
    what: impl Into<String>,
    work: Workload,
    ms: f64,
    source: &'static str,
) -> Row {
    Row { section, chip, what: what.into(), work, ms, range: (ms, ms), source }
}

fn ranged(mut row: Row, low: f64, high: f64) -> Row {
    row.range = (low, high);
    row.ms = (low + high) / 2.0;
    row
}

fn engine(ops: Vec<OpWork>) -> Workload {
    Workload { ops, ..Workload::default() }
}

/// All rows, in the order of the facts.
pub fn rows() -> Vec<Row> {
    let mut all = floors();
    all.extend(gemm());
    all.extend(convolutions());
    all.extend(chains());
    all.extend(streams());
    all.extend(activations());
    all.extend(notch());
    all.extend(trainers());
    all
}

fn floors() -> Vec<Row> {
    use Section::Floor;
    let conv256 = || engine(vec![OpWork::conv(64, 256, 256, 1)]);
    let hello = || engine(vec![OpWork::pass(Law::Elementwise, 256 * 64)]);
    let small = || engine(vec![OpWork::conv(16, 64, 64, 1)]);
    let megabyte = Workload {
        ops: vec![OpWork::pass(Law::Elementwise, 1 << 18)],
        bytes_in: 5e5,
        bytes_out: 5e5,
    };
    vec![
        row(Floor, "m1", "empty dispatch, e5rt", small(), 0.23, "GUIDE:09, 27, 29"),
        row(Floor, "m1", "family anchor", small(), 0.22, "AF:_cost.py"),
        row(Floor, "m1", "submit, raw driver on Linux", small(), 0.187, "JSW"),
        // Half in, half out: the source gives the sum. Copies go as after a product: the program is fused.
        row(
            Floor,
            "m1",
            "fused program, 1 MB of I/O",
            Workload { ops: vec![OpWork::conv(16, 64, 64, 1)], ..megabyte },
            0.76,
            "GUIDE:09",
        ),
        row(Floor, "m2-pro", "anchor", small(), 0.1, "AF:_cost.py"),
        ranged(row(Floor, "m4", "small evaluations", small(), 0.0, "MAD#3"), 0.084, 0.106),
        row(Floor, "m4-max", "hello, [1, 256, 1, 64]", hello(), 0.223, "ORI"),
        row(Floor, "m4-max", "empty dispatch", small(), 0.095, "RUS:README"),
        ranged(
            row(Floor, "m5", "conv 256x256, sp 64", conv256(), 0.0, "MAD:m5result.md"),
            0.06,
            0.07,
        ),
        row(Floor, "m5", "evaluateWithQoS", small(), 0.117, "INF"),
        row(Floor, "m5", "doEvaluateDirect", small(), 0.106, "INF"),
        row(Floor, "m5", "per procedure", small(), 0.103, "INF"),
        ranged(row(Floor, "m5-pro", "empty dispatch, fit", small(), 0.0, "AF"), 0.074, 0.076),
        row(Floor, "m5-pro", "empty dispatch", small(), 0.093, "MID"),
    ]
}

/// x [N, N] · Wᵀ [N, N].
fn square(n: usize) -> Workload {
    let io = 2.0 * (n * n) as f64;
    Workload { ops: vec![OpWork::product(Law::Matmul, n, n, n)], bytes_in: io, bytes_out: io }
}

fn gemm() -> Vec<Row> {
    const TABLE: [(usize, [f64; 6]); 6] = [
        (512, [0.756, 0.477, 0.582, 0.209, 0.127, 0.152]),
        (1024, [2.27, 0.998, 1.99, 0.746, 0.434, 0.375]),
        (2048, [10.2, 4.30, 7.48, 3.51, 1.97, 1.71]),
        (4096, [51.0, 30.0, 40.8, 25.3, 18.9, 16.6]),
        (6144, [0.0, 0.0, 0.0, 135.0, 0.0, 97.2]),
        (8192, [0.0, 0.0, 0.0, 314.0, 0.0, 226.0]),
    ];
    let mut all = vec![];
    for (n, times) in TABLE {
        for (chip, ms) in SIX.into_iter().zip(times).filter(|(_, ms)| *ms > 0.0) {
            let mut r = row(Section::Compute, chip, format!("GEMM {n}"), square(n), ms, AF);
            if (n, chip) == (512, "m5") {
                r = ranged(r, 0.117, 0.137);
            }
            all.push(r);
        }
    }
    // In memory there is no copy: the work is the product alone.
    for (n, ms) in [(256usize, 0.101), (2048, 17.180 / 5.7), (4096, 137.439 / 4.0)] {
        let work = engine(vec![OpWork::product(Law::Matmul, n, n, n)]);
        all.push(row(Section::Compute, "m4", format!("matmul {n}"), work, ms, "maderix pt 2"));
    }
    all
}

fn convolutions() -> Vec<Row> {
    const TABLE: [(usize, [f64; 6]); 4] = [
        (64, [4.05, 1.36, 3.21, 2.29, 0.506, 0.833]),
        (128, [7.80, 3.03, 6.34, 4.71, 1.11, 1.98]),
        (256, [10.2, 4.07, 7.21, 5.99, 1.54, 2.77]),
        (512, [11.2, 5.64, 8.36, 8.14, 2.23, 4.11]),
    ];
    let mut all = vec![];
    for (i, (c, times)) in TABLE.into_iter().enumerate() {
        for (chip, ms) in SIX.into_iter().zip(times) {
            let large = matches!(chip, "m4" | "m5-pro");
            let batch = [8, 8, 4, 2][i] * if large { 2 } else { 1 };
            let pixels = batch * 64 * 64;
            let io = 2.0 * (pixels * c) as f64;
            let ops = vec![OpWork::conv(pixels, c, c, 9)];
            let work = Workload { ops, bytes_in: io, bytes_out: io };
            let what = format!("conv 3x3, 64x64, {c} channels, batch {batch}");
            all.push(row(Section::Compute, chip, what, work, ms, AF));
        }
    }
    for (c, ms) in
        [(256, 0.106), (512, 0.084), (1024, 0.116), (2048, 0.237), (3072, 0.421), (4096, 1.012)]
    {
        let work = engine(vec![OpWork::conv(64, c, c, 1)]);
        let what = format!("one conv 1x1, {c} channels, sp 64");
        all.push(row(Section::Compute, "m4", what, work, ms, MAD3));
    }
    all
}

/// `depth` 1×1 convolutions of 512 channels over `pixels`; the weights are one aliased block of 512
/// KB (facts A.5), so that they stay on chip.
fn chain(depth: usize, pixels: usize, int8: bool) -> Workload {
    let conv = OpWork::conv(pixels, 512, 512, 1);
    engine(vec![OpWork { weight_bytes: 0.0, core_payload: 0, int8, count: depth as f64, ..conv }])
}

fn chains() -> Vec<Row> {
    const PEAK: &str = "MAD:inmem_peak, MAD#3, #28, #42";
    let flops = |depth: usize, pixels: usize| (depth * pixels) as f64 * 2.0 * 512.0 * 512.0;
    let mut all = vec![];
    let mut add = |chip, depth: usize, pixels: usize, int8, tflops: (f64, f64), source| {
        let ms = |t: f64| flops(depth, pixels) / t / 1e9;
        let kind = if int8 { "W8A8" } else { "fp16" };
        let what = format!("{depth} convs 1x1 of 512, sp {pixels}, {kind}");
        let r = row(Section::Compute, chip, what, chain(depth, pixels, int8), 0.0, source);
        all.push(ranged(r, ms(tflops.1), ms(tflops.0)));
    };
    for (depth, t) in [(32, 6.73), (48, 8.46), (64, 9.63), (96, 10.67), (128, 11.74)] {
        add("m4", depth, 64, false, (t, t), PEAK);
    }
    // The depth is not stated with these: the deepest chain of the program is taken.
    for (chip, low, high) in [
        ("m4-pro", 12.57, 12.57),
        ("m4-max", 10.93, 11.14),
        ("m5", 12.17, 12.44),
        ("m3-pro", 9.98, 9.98),
        ("m3-ultra", 8.08, 8.08),
    ] {
        add(chip, 128, 64, false, (low, high), PEAK);
    }
    add("m3-pro", 128, 2048, false, (15.04, 16.77), PEAK);
    const INT8: &str = "MAD:README, ane_int8_bench.m";
    add("m4", 128, 4096, false, (18.6, 18.6), INT8);
    add("m4", 64, 4096, false, (18.4, 18.4), INT8);
    add("m4", 128, 4096, true, (35.1, 35.1), INT8);
    add("m4", 64, 4096, true, (34.1, 34.1), INT8);
    add("m5-max", 128, 4096, false, (19.27, 19.27), "MAD#50");
    add("m5-max", 128, 4096, true, (35.61, 35.61), "MAD#50");
    all
}

fn streams() -> Vec<Row> {
    const TABLE: [(&str, f64); 16] = [
        ("m1", 60.9),
        ("m1-pro", 54.9),
        ("m1-max", 54.6),
        ("m1-ultra", 54.7),
        ("m2", 60.5),
        ("m2-pro", 61.9),
        ("m2-max", 62.0),
        ("m2-ultra", 61.7),
        ("m3", 63.1),
        ("m3-max", 120.2),
        ("m4", 64.2),
        ("m4-pro", 126.4),
        ("m4-max", 118.9),
        ("m5", 70.2),
        ("m5-max", 148.4),
        ("m6", 152.0),
    ];
    // 128256 × 4096 fp16 are 1.05 GB; one token.
    let head = || engine(vec![OpWork::product(Law::Matmul, 1, 4096, 128_256)]);
    let bytes = 2.0 * 4096.0 * 128_256.0;
    let gb = |chip, rate: f64, source| {
        let what = format!("1.05 GB of weights, {rate} GB/s");
        row(Section::Memory, chip, what, head(), bytes / rate / 1e6, source)
    };
    let mut all: Vec<Row> = TABLE.into_iter().map(|(chip, rate)| gb(chip, rate, ANEMLL)).collect();
    all.push(gb("m3-max", 111.9, "LARQL#312"));
    for (k, n, ms) in [
        (512, 512, 0.0865),
        (1024, 1024, 0.0726),
        (2048, 2048, 0.111),
        (4096, 4096, 0.296),
        (6144, 6144, 0.582),
        (8192, 8192, 0.941),
        (4096, 11008, 0.659),
    ] {
        let work = Workload {
            ops: vec![OpWork::product(Law::Matmul, 1, k, n)],
            bytes_in: 2.0 * k as f64,
            bytes_out: 2.0 * n as f64,
        };
        all.push(row(Section::Memory, "m5-pro", format!("GEMV {k}x{n}"), work, ms, GEMV));
    }
    all
}

fn activations() -> Vec<Row> {
    const N: f64 = f64::NAN;
    let table: [(&str, Law, usize, [f64; 6]); 5] = [
        ("relu", Law::Elementwise, 2048, [39.2, 5.0, 34.7, 4.46, 1.74, 1.50]),
        ("relu", Law::Elementwise, 16384, [N, N, N, 35.0, N, 11.2]),
        ("softmax", Law::Softmax, 2048, [28.0, 6.4, 23.9, 5.31, 2.68, 2.30]),
        ("sum", Law::Reduce, 2048, [2.40, 1.51, 1.17, 1.63, 0.87, 0.86]),
        ("layer_norm", Law::LayerNorm, 2048, [N, N, N, 11.3, 8.36, 7.92]),
    ];
    let mut all = vec![];
    for (op, law, rows, times) in table {
        for (chip, ms) in SIX.into_iter().zip(times).filter(|(_, ms)| !ms.is_nan()) {
            let elements = rows * 4096;
            let out = if law == Law::Reduce { rows } else { elements };
            let work = Workload {
                ops: vec![OpWork::pass(law, elements)],
                bytes_in: 2.0 * elements as f64,
                bytes_out: 2.0 * out as f64,
            };
            all.push(row(Section::Memory, chip, format!("{op} [{rows}, 4096]"), work, ms, AF));
        }
    }
    all
}

fn notch() -> Vec<Row> {
    let mut all = vec![];
    // (outputs, inputs, notched ms, ms of the same weights kept off the notch, how).
    for (n, d, notched, clean, how) in [
        (2048, 4096, 0.840, 0.426, "2016 outputs"),
        (4096, 4096, 1.142, 0.697, "split"),
        (2048, 8192, 1.350, 0.698, "split"),
        (4096, 14336, 3.522, 1.989, "split"),
    ] {
        let on = OpWork::conv(1, d, n, 1);
        let off = match how {
            "split" => OpWork { core_payload: 0, ..on },
            _ => OpWork::conv(1, d, 2016, 1),
        };
        let what = format!("conv {n}x{d}");
        all.push(row(
            Section::Memory,
            "m4",
            format!("{what}, notch"),
            engine(vec![on]),
            notched,
            SHC,
        ));
        all.push(row(
            Section::Memory,
            "m4",
            format!("{what}, {how}"),
            engine(vec![off]),
            clean,
            SHC,
        ));
    }
    all
}

fn trainers() -> Vec<Row> {
    const MAD: &str = "MAD:training/README.md, M4";
    let logits = 32_000 * 256;
    let rms = vec![
        OpWork::pass(Law::Elementwise, 5 * 768 * 256),
        OpWork::pass(Law::Reduce, 2 * 768 * 256),
    ];
    vec![
        row(
            Section::Trainer,
            "m4",
            "classifier 768 to 32000, 256 tokens",
            engine(vec![OpWork::conv(256, 768, 32_000, 1)]),
            1.06,
            MAD,
        ),
        row(
            Section::Trainer,
            "m4",
            "softmax over 32000 channels, 256 tokens",
            engine(vec![OpWork::pass(Law::Softmax, logits)]),
            2.40,
            MAD,
        ),
        row(Section::Trainer, "m4", "RMSNorm backward, 768, 256 tokens", engine(rms), 0.21, MAD),
    ]
}
