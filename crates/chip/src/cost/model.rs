//! The cost model: what a piece of work costs on a chip, from a few constants.
//!
//! One evaluation costs
//!
//! ```text
//! floor + Σ_ops [ max(flops / roof, passes · weight bytes / stream) + elements · cycles / clock
//!                 + 44 cycles ] + bytes in / read + bytes out / write
//! ```
//!
//! - *roof* = 8192 flop per cycle × clock × the share of the operation's kind. 4096 multiply-adds per
//!   cycle at the published clocks give 11.7 (M1) … 17.7 TFLOP/s (M4), where sources report slopes
//!   of 12 and 18.6 (docs/ane-facts.md F.2).
//! - *passes*: a product keeps a block of its activations on chip and streams all weights past it;
//!   with more activations than the block holds the weights come again (facts F.3, working set).
//! - an elementwise pass over more than the working set streams its operands as weights do;
//! - *stream* falls by the notch factor where the weights' share per core is near a multiple of
//!   1 MiB (facts F.3, "1-MiB DMA notch"; M1 … M4).
//! - *read* and *write* are what the e5rt path moves between host arrays and ports, layout changes
//!   included; the in-memory path shares surfaces and pays the host's memory copies instead.

use super::silicon::Silicon;

/// Cycles a program spends per operation beside its work (facts F.1, GUIDE:18).
pub const CYCLES_PER_LAYER: f64 = 44.0;

/// Floating-point operations per cycle at full use: 4096 multiply-adds.
pub const FLOPS_PER_CYCLE: f64 = 8192.0;

/// Cores over which the weights of a convolution are divided (facts F.2, F.3).
pub const WEIGHT_CORES: usize = 16;

/// Which law of cost an operation follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Law {
    /// Product of two matrices.
    Matmul,
    /// Convolution with a kernel of one element.
    Conv1x1,
    /// Convolution with a larger kernel.
    Conv,
    /// One pass over elements: arithmetic, activation.
    Elementwise,
    /// Sum, mean, maximum over axes.
    Reduce,
    /// Softmax, one hardware operation.
    Softmax,
    /// Layer norm as the published rows run it: decomposed, several passes.
    LayerNorm,
    /// Data in another order: transpose, slice, concat.
    Move,
}

impl Law {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Law::Matmul => "matmul",
            Law::Conv1x1 => "conv 1x1",
            Law::Conv => "conv",
            Law::Elementwise => "elementwise",
            Law::Reduce => "reduce",
            Law::Softmax => "softmax",
            Law::LayerNorm => "layer_norm",
            Law::Move => "move",
        }
    }
}

/// One operation (or `count` equal ones) as the model sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpWork {
    /// Its law.
    pub law: Law,
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes of the operand that streams: weights, or the second factor of a product.
    pub weight_bytes: f64,
    /// Bytes of the operand that stays on chip in blocks.
    pub resident_bytes: f64,
    /// Elements passed through the elementwise units.
    pub elements: f64,
    /// Bytes that such a pass reads and writes; they stream when they do not fit on chip.
    pub pass_bytes: f64,
    /// Bytes of weights per core, for the DMA notch; 0 where the notch is not known to occur.
    pub core_payload: usize,
    /// 8-bit weights and activations.
    pub int8: bool,
    /// How many of them.
    pub count: f64,
}

impl OpWork {
    /// `elements` passing through `law`.
    pub fn pass(law: Law, elements: usize) -> Self {
        let n = elements as f64;
        let bytes = if law == Law::Reduce { 2.0 * n } else { 4.0 * n };
        OpWork { elements: n, pass_bytes: bytes, ..Self::product(law, 0, 0, 0) }
    }

    /// rows × inner by inner × cols in fp16, the second streaming.
    pub fn product(law: Law, rows: usize, inner: usize, cols: usize) -> Self {
        let (m, k, n) = (rows as f64, inner as f64, cols as f64);
        OpWork {
            law,
            flops: 2.0 * m * k * n,
            weight_bytes: 2.0 * k * n,
            resident_bytes: 2.0 * m * k,
            elements: 0.0,
            pass_bytes: 0.0,
            core_payload: 0,
            int8: false,
            count: 1.0,
        }
    }

    /// A convolution in fp16 with constant weights: `pixels` outputs (batch included), a kernel of
    /// `taps` elements.
    pub fn conv(pixels: usize, inputs: usize, outputs: usize, taps: usize) -> Self {
        let law = if taps == 1 { Law::Conv1x1 } else { Law::Conv };
        OpWork {
            resident_bytes: 2.0 * (pixels * inputs) as f64,
            core_payload: outputs.div_ceil(WEIGHT_CORES) * inputs * taps * 2,
            ..Self::product(law, pixels, inputs * taps, outputs)
        }
    }
}

/// One evaluation of a program.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Workload {
    /// Its operations.
    pub ops: Vec<OpWork>,
    /// Bytes that the e5rt path copies in.
    pub bytes_in: f64,
    /// Bytes that it copies out.
    pub bytes_out: f64,
}

/// Constants of one chip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChipConstants {
    /// Name, as in [`Silicon`].
    pub name: &'static str,
    /// Milliseconds of an empty dispatch.
    pub floor_ms: f64,
    /// GB/s from host arrays to e5rt ports.
    pub read: f64,
    /// GB/s from e5rt ports to host arrays.
    pub write: f64,
    /// GB/s of weights.
    pub stream: f64,
}

/// Constants that all chips share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shared {
    /// Share of the peak that matmul reaches.
    pub matmul: f64,
    /// Share of the peak that 1×1 convolutions reach.
    pub conv1x1: f64,
    /// Share of the peak that larger convolutions reach up to M4.
    pub conv: f64,
    /// The same from M5 on, where their arithmetic is another (facts E.1: as if by Winograd).
    pub conv_m5: f64,
    /// MB of activations that a product keeps on chip per pass of its weights.
    pub block_mb: f64,
    /// Share of the weight stream that is left at the DMA notch.
    pub notch: f64,
    /// Cycles per element of one elementwise pass.
    pub elementwise: f64,
    /// Cycles per element of a reduction.
    pub reduce: f64,
    /// Cycles per element of softmax.
    pub softmax: f64,
    /// Cycles per element of a decomposed layer norm.
    pub layer_norm: f64,
    /// How much slower M1 and M2 write out a tensor that came from no product (facts F.3: 2-D
    /// tensors map to the width there).
    pub width_layout: f64,
    /// Speed of 8-bit products against fp16.
    pub int8: f64,
}

/// Milliseconds by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Milliseconds {
    /// Dispatch floor.
    pub dispatch: f64,
    /// Arithmetic roof.
    pub compute: f64,
    /// Weight stream, where it is the limit.
    pub weights: f64,
    /// Elementwise passes.
    pub activations: f64,
    /// Cycles per operation.
    pub layers: f64,
    /// Copies between host and ports.
    pub host_copy: f64,
}

impl Milliseconds {
    /// Their sum.
    pub fn total(&self) -> f64 {
        self.dispatch
            + self.compute
            + self.weights
            + self.activations
            + self.layers
            + self.host_copy
    }
}

/// Bytes that stay on chip between operations: 2 MB up to M4, 4.7 MB on M5 (facts F.3, GUIDE:21, 24:
/// threshold 2 MB, knees at 2.3 MB on M1 and 4.72 MB on M5; 24 to 32 MB elsewhere, a conflict).
pub fn working_set(silicon: &Silicon) -> f64 {
    if silicon.generation >= 5 { 4.7e6 } else { 2e6 }
}

/// True if `payload` bytes of weights per core fall into the notch: less than 16 KiB from a
/// multiple of 1 MiB (facts F.3, SHC: 2048×4096 collapses, 2016×4096, 16 KiB below, does not).
pub fn in_notch(payload: usize) -> bool {
    const MIB: usize = 1 << 20;
    const REACH: usize = 16 << 10;
    let rest = payload % MIB;
    payload + REACH > MIB && (rest < REACH || MIB - rest < REACH)
}

/// True if an operation pays the notch on this chip: M1 … M4 only (facts F.3: AF's GEMV of
/// 4096×4096 on an M5 Pro shows no collapse).
pub fn notched(op: &OpWork, silicon: &Silicon) -> bool {
    silicon.generation <= 4 && in_notch(op.core_payload)
}

/// Milliseconds of one operation, by cause.
pub fn op_ms(op: &OpWork, chip: &ChipConstants, silicon: &Silicon, s: &Shared) -> Milliseconds {
    let cycles_per_ms = silicon.clock * 1e6;
    let share = match op.law {
        Law::Matmul => s.matmul,
        Law::Conv if silicon.generation >= 5 => s.conv_m5,
        Law::Conv => s.conv,
        _ => s.conv1x1,
    };
    let roof = FLOPS_PER_CYCLE * share * if op.int8 { s.int8 } else { 1.0 };
    let compute = op.flops / roof / cycles_per_ms;
    let notch = if notched(op, silicon) { s.notch } else { 1.0 };
    let passes = (op.resident_bytes / (s.block_mb * 1e6)).max(1.0);
    let weights = op.weight_bytes * passes / (chip.stream * notch * 1e6);
    let per_element = match op.law {
        Law::Elementwise | Law::Move => s.elementwise,
        Law::Reduce => s.reduce,
        Law::Softmax => s.softmax,
        Law::LayerNorm => s.layer_norm,
        Law::Matmul | Law::Conv | Law::Conv1x1 => 0.0,
    };
    let spilled = if op.pass_bytes > working_set(silicon) { op.pass_bytes } else { 0.0 };
    let pass = (op.elements * per_element / cycles_per_ms).max(spilled / (chip.stream * 1e6));
    let mut ms = Milliseconds {
        activations: op.count * pass,
        layers: op.count * CYCLES_PER_LAYER / cycles_per_ms,
        ..Milliseconds::default()
    };
    if compute >= weights {
        ms.compute = op.count * compute;
    } else {
        ms.weights = op.count * weights;
    }
    ms
}

/// Milliseconds of one evaluation, by cause.
pub fn work_ms(
    work: &Workload,
    chip: &ChipConstants,
    silicon: &Silicon,
    s: &Shared,
) -> Milliseconds {
    let mut sum = Milliseconds { dispatch: chip.floor_ms, ..Milliseconds::default() };
    let mut product = false;
    for op in &work.ops {
        let ms = op_ms(op, chip, silicon, s);
        sum.compute += ms.compute;
        sum.weights += ms.weights;
        sum.activations += ms.activations;
        sum.layers += ms.layers;
        product |= op.flops > 0.0;
    }
    let slow = !product && silicon.generation <= 2 && !silicon.wide;
    let layout = if slow { s.width_layout } else { 1.0 };
    sum.host_copy =
        work.bytes_in / (chip.read * 1e6) + layout * work.bytes_out / (chip.write * 1e6);
    sum
}
