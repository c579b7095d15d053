//! How long a training step takes on a chip: kernels by [`chip::cost`], the host's share by
//! [`chip::cost::host`].
//!
//! [`forecast`] is for this project's own plans, whose steps run on two lanes ([`Lanes`]).
//! [`published_steps`] describes other trainers, whose steps are published, in the same terms and
//! holds the model against them. Nothing here was confirmed on hardware.

use crate::block::Memory;
use crate::config::GptConfig;
use crate::ops::Dims;
use crate::params::{Layout, Param};
use crate::plan::{
    BASELINE, Lanes, Part, Pass, Place, Plan, PlanError, Programs, Schedule, Sink, Source, Step,
    TimedStep,
};
use chip::cost::host::HostWork;
use chip::cost::{CONSTANTS, Silicon, estimate, estimate::error_bar, fit::is_tabled};
use chip::{Chip, Profile};
use mil::DType;

/// Forecast of one step. Not confirmed on hardware.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepEstimate {
    /// Seconds of the whole step.
    pub seconds: f64,
    /// Lower end of the error bar.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Forward kernels on the engine.
    pub engine_forward: f64,
    /// Backward kernels on the engine.
    pub engine_backward: f64,
    /// Copies between host and surfaces, but for weights.
    pub io: f64,
    /// Last norm, classifier, loss and their gradients.
    pub head: f64,
    /// Products that give weight gradients.
    pub weight_gradients: f64,
    /// Gradients of norms, embedding.
    pub elementwise: f64,
    /// The optimizer, with the copies of its weights to surfaces.
    pub optimizer: f64,
    /// Both lanes are busy for so long; the parts without this are the whole step.
    pub overlap: f64,
    /// Programs that the engine compiles.
    pub programs: usize,
    /// Requests that it gets.
    pub requests: usize,
}

impl StepEstimate {
    fn of(&mut self, part: Part) -> &mut f64 {
        match part {
            Part::EngineForward => &mut self.engine_forward,
            Part::EngineBackward => &mut self.engine_backward,
            Part::Io => &mut self.io,
            Part::Head => &mut self.head,
            Part::WeightGradients => &mut self.weight_gradients,
            Part::Elementwise => &mut self.elementwise,
            Part::Update => &mut self.optimizer,
        }
    }

    /// Seconds of the engine's lane.
    pub fn engine(&self) -> f64 {
        self.engine_forward + self.engine_backward
    }

    /// Seconds of the host's lane.
    pub fn host(&self) -> f64 {
        self.parts().iter().map(|(_, t)| t).sum::<f64>() - self.engine()
    }

    /// Names (those of [`crate::Timings::parts`] where both have them) and seconds.
    pub fn parts(&self) -> [(&'static str, f64); 7] {
        [
            ("engine_fwd", self.engine_forward),
            ("engine_bwd", self.engine_backward),
            ("io", self.io),
            ("head", self.head),
            ("dw", self.weight_gradients),
            ("elementwise", self.elementwise),
            ("optimizer", self.optimizer),
        ]
    }
}

/// Bytes that a norm and its gradient move per element (a few passes over f32).
const NORM_BYTES: f64 = 40.0;

/// Bytes that softmax and loss move per logit: six passes over f32, read and write.
const LOSS_BYTES: f64 = 48.0;

/// Bytes that a cotangent of a logit moves when it is computed from a probability: both are in binary16, and
/// what is between them stays in the cache.
const COTANGENT_BYTES: f64 = 4.0;

/// Bytes that memory moves for one element alone.
const CACHE_LINE: f64 = 64.0;

/// Bytes that AdamW moves per parameter: value, gradient and two moments in, three of them out.
const ADAM_BYTES: f64 = 28.0;

/// Bytes that a new weight takes on its way to a surface, in binary16: the optimizer has it in the cache.
const WEIGHT_BYTES: f64 = 2.0;

/// Bytes that a SiLU gradient on the host moves per element, as a row of vDSP calls.
const SILU_BYTES: f64 = 120.0;

/// Half of the width of the error bar that the host's share adds to the engine's: the published
/// steps of [`published_steps`] lie within a quarter.
const STEP_BAR: f64 = 0.25;

/// The work of an optimizer's update of a parameter.
pub type UpdateWork<'u> = dyn Fn(&Param) -> HostWork + Sync + 'u;

/// The work of AdamW.
pub fn adamw(param: &Param) -> HostWork {
    HostWork { pass_bytes: ADAM_BYTES * param.count() as f64, ..HostWork::default() }
}

/// Forecast of a step of `accum` micro-batches of `batch` sequences of `seq` tokens by `plan` on `profile`:
/// micro-batch after micro-batch on two lanes. The first begins with the update of the step before, of which
/// `optimizer` tells the work.
///
/// # Errors
/// When the programs of the model cannot be derived.
pub fn forecast(
    plan: &Plan,
    config: &GptConfig,
    batch: usize,
    seq: usize,
    accum: usize,
    profile: &Profile,
    optimizer: &UpdateWork<'_>,
) -> Result<StepEstimate, PlanError> {
    let dims = Dims { config, batch, seq, dtype: DType::Fp16 };
    Ok(priced(plan, &dims, accum, profile, optimizer)?.0)
}

/// As [`forecast`], with the schedule of a micro-batch.
pub(crate) fn priced(
    plan: &Plan,
    dims: &Dims<'_>,
    accum: usize,
    profile: &Profile,
    optimizer: &UpdateWork<'_>,
) -> Result<(StepEstimate, Schedule), PlanError> {
    let pricing = Pricing::new(plan, dims, profile)?;
    let name = profile.chip.facts().name;
    let schedule = &pricing.schedule;
    let requests = schedule.steps().filter(|step| step.place() == Place::Engine).count();
    let mut parts = StepEstimate {
        programs: schedule.engine().count(),
        requests: accum * requests,
        ..StepEstimate::default()
    };
    let mut seconds = 0.0;
    for (times, update) in [(1.0, Some(optimizer)), (accum as f64 - 1.0, None)] {
        let mut end = 0f64;
        for step in pricing.timeline(update) {
            *parts.of(step.part) += times * step.seconds;
            end = end.max(step.start + step.seconds);
        }
        seconds += times * end;
    }
    parts.overlap = parts.parts().iter().map(|(_, t)| t).sum::<f64>() - seconds;
    let (low, high) = error_bar(is_tabled(name));
    let low = seconds * low.min(1.0 - STEP_BAR);
    let high = seconds * high.max(1.0 + STEP_BAR);
    Ok((StepEstimate { seconds, low, high, ..parts }, pricing.schedule))
}

/// The steps of one micro-batch of `batch` sequences of `seq` tokens on both lanes, in the order in
/// which they begin: of one that begins with an update, if `update` tells its work, or else of any other.
///
/// # Errors
/// When the programs of the model cannot be derived.
pub fn timeline(
    plan: &Plan,
    config: &GptConfig,
    batch: usize,
    seq: usize,
    profile: &Profile,
    update: Option<&UpdateWork<'_>>,
) -> Result<Vec<TimedStep>, PlanError> {
    let dims = Dims { config, batch, seq, dtype: DType::Fp16 };
    Ok(Pricing::new(plan, &dims, profile)?.timeline(update))
}

/// The prices of the steps of a schedule.
struct Pricing<'d> {
    dims: &'d Dims<'d>,
    silicon: &'static Silicon,
    layout: Layout,
    schedule: Schedule,
    /// Seconds of each program on the engine, floating-point operations of each on the host.
    programs: Vec<f64>,
}

impl<'d> Pricing<'d> {
    fn new(plan: &Plan, dims: &'d Dims<'d>, profile: &Profile) -> Result<Self, PlanError> {
        let schedule = Schedule::new(plan, dims, Memory::Sequence)?;
        let programs = (schedule.programs.iter())
            .map(|kernel| match kernel.place {
                Place::Engine => Ok(estimate(&kernel.function, profile).engine_seconds()),
                Place::Host => Ok(mil::work(&kernel.function)?.flops()),
            })
            .collect::<Result<_, PlanError>>()?;
        let (layout, silicon) = (Layout::new(dims.config), Silicon::of(profile.chip));
        Ok(Pricing { dims, silicon, layout, schedule, programs })
    }

    fn timeline(&self, update: Option<&UpdateWork<'_>>) -> Vec<TimedStep> {
        let (lanes, steps): (Lanes, Vec<&Step>) = match update {
            Some(_) => {
                (Lanes::after_update(&self.schedule), self.schedule.steps_after_update().collect())
            }
            None => (Lanes::new(&self.schedule), self.schedule.steps().collect()),
        };
        let price = |step: &&Step| match (step, update) {
            (Step::Update { param, range, .. }, Some(work)) => {
                self.update(work(&self.layout.params()[*param]), range.start)
            }
            _ => self.seconds(step),
        };
        let seconds: Vec<f64> = steps.iter().map(price).collect();
        let starts = lanes.starts(&seconds);
        let steps = steps.into_iter().zip(starts.into_iter().zip(seconds));
        let mut timed: Vec<TimedStep> = steps
            .map(|(step, (start, seconds))| self.schedule.timed(step, start, seconds))
            .collect();
        timed.sort_by(|a, b| a.start.total_cmp(&b.start));
        timed
    }

    /// Elements of the residual stream.
    fn stream(&self) -> f64 {
        (self.dims.config.n_embd * self.dims.tokens()) as f64
    }

    /// A few passes over the stream, as a norm, a lookup or its gradient takes.
    fn pass(&self) -> HostWork {
        HostWork { pass_bytes: NORM_BYTES * self.stream(), ..HostWork::default() }
    }

    /// Between an array in f32 and a surface in f16.
    fn copy(elements: f64) -> HostWork {
        HostWork { copied_bytes: 6.0 * elements, locks: 1.0, ..HostWork::default() }
    }

    /// `products` products with the classifier, and the last norm.
    fn head(&self, products: f64) -> HostWork {
        let flops = 2.0 * self.dims.config.vocab_size as f64 * self.stream();
        HostWork { gemm_flops: products * flops, ..self.pass() }
    }

    fn seconds(&self, step: &Step) -> f64 {
        let work = match step {
            Step::Run { program, .. } => return self.programs[*program],
            Step::Update { .. } => unreachable!("an update is priced by its optimizer"),
            Step::Gather { .. } | Step::Scatter { .. } | Step::Join { .. } => self.pass(),
            Step::Load { .. } | Step::Add { .. } => Self::copy(self.stream()),
            Step::Append { value, .. } | Step::Accumulate { value, .. } => {
                Self::copy(self.schedule.values[*value].ty.count() as f64)
            }
            Step::Head { .. } => self.head(1.0).plus(self.loss()),
            Step::HeadBackward { .. } => self.head(2.0),
            Step::Losses { .. } => HostWork {
                pass_bytes: CACHE_LINE * self.dims.tokens() as f64,
                locks: 1.0,
                ..HostWork::default()
            },
            Step::Cotangents { .. } => self.cotangents(),
            Step::Unload { .. } => Self::copy(self.stream()),
            Step::Host { outputs, .. } if !outputs.iter().all(Sink::is_gradient) => self.pass(),
            Step::Host { program, inputs, .. } => {
                let read = inputs.iter().filter(|input| matches!(input, Source::Value(_))).count();
                let gemm_flops = self.programs[*program];
                HostWork { gemm_flops, locks: read as f64, ..HostWork::default() }
            }
        };
        work.seconds(self.silicon)
    }

    fn loss(&self) -> HostWork {
        let logits = (self.dims.config.vocab_size * self.dims.tokens()) as f64;
        HostWork { pass_bytes: LOSS_BYTES * logits, ..HostWork::default() }
    }

    /// Cotangents of logits from probabilities in binary16.
    fn cotangents(&self) -> HostWork {
        let logits = (self.dims.config.vocab_size * self.dims.tokens()) as f64;
        HostWork { pass_bytes: COTANGENT_BYTES * logits, locks: 2.0, ..HostWork::default() }
    }

    /// An update of the parameter whose first element is `start`, that does `work`.
    fn update(&self, work: HostWork, start: usize) -> f64 {
        let copy = |elements: usize| HostWork {
            copied_bytes: WEIGHT_BYTES * elements as f64,
            locks: 1.0,
            ..HostWork::default()
        };
        let held = self.schedule.values_of(start).map(|(_, held)| copy(held.len()));
        held.fold(work, HostWork::plus).seconds(self.silicon)
    }
}

/// Sizes of a published trainer's model and micro-batch, as floating numbers.
struct Sizes {
    layers: f64,
    width: f64,
    hidden: f64,
    /// Weights of a layer.
    layer: f64,
    tokens: f64,
    vocab: f64,
    params: f64,
}

impl Sizes {
    fn new(c: &GptConfig, tokens: usize) -> Self {
        let layer = c.n_embd * (2 * c.q_dim() + 2 * c.kv_dim() + 3 * c.hidden);
        let embeddings = c.vocab_size * c.n_embd * if c.tied { 1 } else { 2 };
        Sizes {
            layers: c.n_layer as f64,
            width: c.n_embd as f64,
            hidden: c.hidden as f64,
            layer: layer as f64,
            tokens: tokens as f64,
            vocab: c.vocab_size as f64,
            params: (c.n_layer * layer + embeddings) as f64,
        }
    }

    fn stream(&self) -> f64 {
        self.width * self.tokens
    }

    /// One product with the classifier.
    fn classifier(&self) -> HostWork {
        HostWork { gemm_flops: 2.0 * self.vocab * self.stream(), ..HostWork::default() }
    }

    fn loss(&self) -> HostWork {
        HostWork { pass_bytes: LOSS_BYTES * self.vocab * self.tokens, ..HostWork::default() }
    }

    /// Products that give the weight gradients of all layers.
    fn weight_gradients(&self) -> HostWork {
        let gemm_flops = 2.0 * self.layers * self.layer * self.tokens;
        HostWork { gemm_flops, ..HostWork::default() }
    }

    fn norms(&self, n: f64) -> HostWork {
        HostWork { pass_bytes: n * NORM_BYTES * self.stream(), ..HostWork::default() }
    }

    fn adam(&self) -> HostWork {
        HostWork { pass_bytes: ADAM_BYTES * self.params, ..HostWork::default() }
    }
}

/// Seconds of one layer's forward and backward programs on the engine, host copies excluded.
fn engine(dims: &Dims<'_>, profile: &Profile) -> Result<[f64; 2], PlanError> {
    let programs = Programs::new(&BASELINE, dims, Memory::Sequence)?;
    let seconds = |pass| {
        let engine = programs.of(Place::Engine).filter(|kernel| kernel.pass == pass);
        engine.map(|kernel| estimate(&kernel.function, profile).engine_seconds()).sum()
    };
    Ok([seconds(Pass::Forward), seconds(Pass::Backward)])
}

/// How a published trainer is built (the seed, MAD).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishedTrainer {
    /// Weights are constants; six programs per layer; classifier and loss on the host.
    Static,
    /// The same with classifier and softmax on the engine.
    Offloaded,
    /// Weights packed behind the activations in f32, copied anew for every run; nine programs per
    /// layer; norms and SiLU gradients on the host; vocabulary compacted.
    PackedFp32,
    /// Packed in f16 and staged once per update; ten programs per layer.
    PackedFp16,
    /// The same with rotary embedding, whose gradient recomputes angles on the host.
    PackedFp16Rotary,
    /// Weights are inputs of their own: nothing is packed or sliced.
    Inputs,
}

/// A published step of a trainer, with what the model says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedStep {
    /// How it is built.
    pub trainer: PublishedTrainer,
    /// Chip, as in [`chip::cost::SILICON`].
    pub chip: Chip,
    /// `stories110m` or `qwen3-0.6b`.
    pub model: &'static str,
    /// Published milliseconds per micro-batch of 256 tokens, ends of the range.
    pub range: (f64, f64),
    /// Who published it.
    pub source: &'static str,
    /// Forecast in milliseconds.
    pub forecast: f64,
}

impl PublishedStep {
    /// Relative error of the forecast against the middle of the range.
    pub fn error(&self) -> f64 {
        2.0 * self.forecast / (self.range.0 + self.range.1) - 1.0
    }
}

type StepRow = (PublishedTrainer, Chip, &'static str, (f64, f64), &'static str);

/// Rows of facts F.4 by trainers whose structure is known. The machine of maderix, where none is
/// named, is an M4.
const STEPS: &[StepRow] = {
    use Chip::*;
    use PublishedTrainer::*;
    const S: &str = "stories110m";
    const Q: &str = "qwen3-0.6b";
    &[
        (Static, M4, S, (106.7, 107.0), "seed README; maderix 20-step table"),
        (Offloaded, M4, S, (91.8, 93.0), "seed README; maderix 20-step table"),
        (Static, M1Max, S, (143.0, 167.0), "maderix ANE_BENCHMARK_REPORT"),
        (Static, M3Ultra, S, (81.2, 91.0), "maderix ANE_BENCHMARK_REPORT"),
        (Offloaded, M3Ultra, S, (71.4, 71.4), "maderix ANE_BENCHMARK_REPORT"),
        (Static, M4Pro, S, (69.0, 73.0), "maderix ANE_BENCHMARK_REPORT"),
        (Static, M4Max, S, (64.0, 72.4), "maderix ANE_BENCHMARK_REPORT"),
        (Offloaded, M4Max, S, (62.9, 62.9), "maderix ANE_BENCHMARK_REPORT"),
        (Static, M5, S, (101.0, 120.0), "maderix ANE_BENCHMARK_REPORT"),
        (PackedFp32, M4, S, (110.0, 111.0), "seed train_large_ane; maderix cb474e1"),
        (PackedFp16, M4, S, (87.0, 91.0), "maderix README"),
        (PackedFp16Rotary, M4, S, (115.0, 115.0), "maderix README"),
        (PackedFp16, M3Ultra, S, (115.4, 115.4), "MAD#28"),
        (PackedFp16Rotary, M5Max, S, (73.5, 73.5), "MAD#50"),
        (PackedFp16Rotary, M4, Q, (412.0, 412.0), "maderix README"),
        (PackedFp16Rotary, M5Max, Q, (320.0, 320.0), "MAD#50"),
        (Inputs, M4, S, (76.9, 76.9), "MAD#22"),
    ]
};

/// Every published step of a known trainer, with its forecast.
///
/// # Errors
/// As [`forecast`].
pub fn published_steps() -> Result<Vec<PublishedStep>, PlanError> {
    STEPS
        .iter()
        .map(|&(trainer, chip, model, range, source)| {
            let forecast = 1e3 * trainer_seconds(trainer, chip, model)?;
            Ok(PublishedStep { trainer, chip, model, range, source, forecast })
        })
        .collect()
}

/// Words of the vocabulary that its data use: the packed trainers compact to them (the seed).
const COMPACT_VOCABULARY: usize = 9_200;

/// Seconds of a micro-batch of one sequence of 256 tokens, its share of an update (one in ten)
/// included.
///
/// Weight gradients run on a second thread from the end of the forward pass; the step waits for
/// them, so that the backward pass takes the longer of the two.
fn trainer_seconds(trainer: PublishedTrainer, chip: Chip, model: &str) -> Result<f64, PlanError> {
    const SEQ: usize = 256;
    let mut config = GptConfig::preset(model).expect("the rows name presets");
    (config.rope_theta, config.qk_norm) = (None, false);
    let full = Sizes::new(&config, SEQ);
    let packed = !matches!(trainer, PublishedTrainer::Static | PublishedTrainer::Offloaded);
    if packed {
        config.vocab_size = COMPACT_VOCABULARY.min(config.vocab_size);
    }
    let s = Sizes::new(&config, SEQ);
    let profile = Profile { chip, ..Profile::default() };
    let dims = Dims { config: &config, batch: 1, seq: SEQ, dtype: DType::Fp16 };
    let [forward, backward] = engine(&dims, &profile)?;
    let silicon = Silicon::of(chip);
    let of = |work: HostWork| work.seconds(silicon);
    let extra = packing_seconds(trainer, &s, chip);
    let mut forward = s.layers * (forward + extra[0]);
    let mut backward = s.layers * (backward + extra[1]);
    let mut head = s.classifier().times(2.0).plus(s.loss()).plus(s.norms(2.0));
    if trainer == PublishedTrainer::Offloaded {
        head = s.classifier().plus(s.loss().times(0.5)).plus(s.norms(1.0));
        forward += classifier_on_engine(&s, chip);
    }
    forward += of(host_io(trainer, &s).times(0.45));
    backward += of(host_io(trainer, &s).times(0.55));
    backward += of(s.norms(2.0 * s.layers));
    if packed {
        forward += of(s.norms(s.layers));
        let silu = SILU_BYTES * s.layers * s.hidden * s.tokens;
        backward += of(HostWork { pass_bytes: silu, ..HostWork::default() });
    }
    if trainer == PublishedTrainer::PackedFp16Rotary {
        let angles = s.layers * (config.q_dim() + config.kv_dim()) as f64 * s.tokens;
        backward += of(HostWork { trigonometric: angles, ..HostWork::default() });
    }
    let aside = of(s.weight_gradients().plus(s.classifier()));
    let staging = HostWork { copied_bytes: 6.0 * full.params, ..HostWork::default() };
    let update = of(full.adam().plus(staging)) / 10.0;
    Ok(forward + of(head) + backward.max(aside) + update)
}

/// Activations between arrays and surfaces in one micro-batch; with weights where they are copied.
fn host_io(trainer: PublishedTrainer, s: &Sizes) -> HostWork {
    // Forward taps (13 tensors) and backward operands: about 20 streams and 10 of the hidden width.
    let activations = s.layers * s.tokens * (20.0 * s.width + 10.0 * s.hidden);
    let copied_bytes = match trainer {
        // 1.13 GB for stories110m (the seed): two copies of the weights in f32, and activations.
        PublishedTrainer::PackedFp32 => 4.0 * activations + 2.0 * 4.0 * s.layers * s.layer,
        _ => 2.0 * activations,
    };
    // One surface in and one out per program.
    let programs = match trainer {
        PublishedTrainer::Static | PublishedTrainer::Offloaded => 6.0,
        PublishedTrainer::PackedFp32 => 9.0,
        PublishedTrainer::PackedFp16
        | PublishedTrainer::PackedFp16Rotary
        | PublishedTrainer::Inputs => 10.0,
    };
    HostWork { copied_bytes, locks: 2.0 * programs * s.layers, ..HostWork::default() }
}

/// Seconds per layer, forward and backward, that packing adds on the engine: more dispatches, and
/// slices (and casts) of all weights.
fn packing_seconds(trainer: PublishedTrainer, s: &Sizes, chip: Chip) -> [f64; 2] {
    let constants = CONSTANTS.of(chip);
    let floor = constants.floor_ms * 1e-3;
    let gbs = constants.stream * 1e9;
    // Programs beyond the six; bytes per weight that a slice reads and writes.
    let (more, bytes) = match trainer {
        PublishedTrainer::Static | PublishedTrainer::Offloaded => return [0.0, 0.0],
        PublishedTrainer::PackedFp32 => ([1.0, 2.0], 4.0 + 2.0 + 2.0 * 2.0),
        PublishedTrainer::PackedFp16 | PublishedTrainer::PackedFp16Rotary => {
            ([1.0, 3.0], 2.0 * 2.0)
        }
        PublishedTrainer::Inputs => ([1.0, 3.0], 0.0),
    };
    more.map(|n| n * floor + bytes * s.layer / gbs)
}

/// The classifier as a convolution, and softmax over its channels.
fn classifier_on_engine(s: &Sizes, chip: Chip) -> f64 {
    use chip::cost::model::{Law, OpWork, Workload, work_ms};
    let (tokens, vocab) = (s.tokens as usize, s.vocab as usize);
    let ops = vec![
        OpWork::conv(tokens, s.width as usize, vocab, 1),
        OpWork::pass(Law::Softmax, tokens * vocab),
    ];
    let work = Workload { ops, ..Workload::default() };
    let ms = work_ms(&work, CONSTANTS.of(chip), Silicon::of(chip), &CONSTANTS.shared);
    ms.total() * 1e-3
}

/// Why a row is missed by more than a quarter.
fn reason(step: &PublishedStep) -> &'static str {
    match (step.trainer, step.chip) {
        (PublishedTrainer::Static, Chip::M1Max) => {
            "the source gives 35 to 45 ms for the forward kernels alone, about twice what the \
             published floor and bandwidth of the chip allow"
        }
        (PublishedTrainer::PackedFp16, Chip::M3Ultra) => {
            "the source does not say which version ran; it reports the static trainer, which is slower on \
             the M4, as faster (81 to 91 ms) on this chip"
        }
        _ => "unexplained",
    }
}

/// Published steps against forecasts as Markdown: what `docs/step-forecast.md` holds.
///
/// # Errors
/// As [`forecast`].
pub fn markdown() -> Result<String, PlanError> {
    let steps = published_steps()?;
    let mut text = String::from(
        "# Forecasts of training steps\n\n\
         Written from `crates/gpt/src/forecast.rs`; do not edit. To write it anew: \
         `ANEGPT_BLESS=1 cargo test --release -p gpt --test forecast the_page_is_current`.\n\n\
         Published trainers, described by their programs and forecast with the cost model \
         of [the engine](cost-model.md) and the rates of the host in `crates/chip/src/cost/host.rs`. \
         Milliseconds per micro-batch of one sequence of 256 tokens. The host's rates come from parts of \
         steps on an M4, among them parts of the seed's, and its two scaling factors from the other chips \
         of this table: read it as a check that the parts add up, not as a test on unseen data. \
         **Nothing here was confirmed on hardware by this project.**\n\n\
         Not in the table, because what a step contains is not published in enough detail: ORI, RUS, \
         IMP, AF, MID. The M1 Pro (148 to 163 ms) has no figures of its own in the model: it is given the M1 Max's. TMC's 276.7 ms was measured on a loaded host.\n\n\
         | trainer | chip | model | published | forecast | error | source |\n|---|---|---|---|---|---|---|\n",
    );
    for s in &steps {
        let (low, high) = s.range;
        let published = if low < high { format!("{low} to {high}") } else { low.to_string() };
        text.push_str(&format!(
            "| {:?} | {} | {} | {published} | {:.1} | {:+.0} % | {} |\n",
            s.trainer,
            s.chip,
            s.model,
            s.forecast,
            100.0 * s.error(),
            s.source
        ));
    }
    text.push_str("\n## Missed by more than a quarter\n\n");
    for s in steps.iter().filter(|s| s.error().abs() > 0.25) {
        text.push_str(&format!("- {:?}, {}, {}: {}.\n", s.trainer, s.chip, s.model, reason(s)));
    }
    Ok(text)
}
