//! `anegpt eval`.

mod chat;
mod results;
mod samples;
mod table;
mod tasks;

use crate::engine::EngineArgs;
use crate::generation::{ToolArgs, Weights};
use crate::machine::{Machine, TextDevice};
use crate::{corpus, files, number, progress, usage};
use anyhow::Result;
use gpt::plan::BASELINE;
use gpt::{Model, ModelError, Parameters};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;
use tokenizer::Tokenizer;
use train::evaluate::{Windows, token_losses};

/// Context of a model that could read much more, unless told otherwise.
pub(crate) const LONGEST_DEFAULT: usize = 1024;
/// Tokens that are computed at once, unless told otherwise.
const TOKENS_AT_ONCE: usize = 2048;

const EXAMPLES: &str = "\
Examples:
  anegpt eval -m out/run-1 --data new.txt --stride 128
  anegpt eval -m out/run-1 --tasks core,sample --bundle eval_bundle
  anegpt eval -m out/sft --tasks spelling,counting,arithmetic --max-per-task 100
  anegpt eval -m out/sft --tasks mmlu,gsm8k --samples 8 --temperature 1
  anegpt eval -m stories260K.bin --tokenizer tok512.bin --data new.txt";

/// Measure a model: its loss on a text, CORE, samples
///
/// Without --tasks, eval measures the loss on the text of --data. The text is read as in
/// training: documents one after the other, each after the token that separates them.
/// Windows of --seq tokens are read, and every token but the first is predicted once. With --stride S a window begins S tokens after the one before it, and only
/// the tokens that no earlier window predicted count: they have more context. Without it,
/// windows lie side by side, as in the validation of `anegpt train`.
///
/// Nats per token compare models of one tokenizer; all predicted tokens count. Bits per byte
/// compare all models: the loss of the tokens that are text, in bits, over the UTF-8 bytes
/// of the documents. Of token files, and of a text cut by --max-tokens, the bytes of the
/// decoded text count. Without a separator the first token is not predicted, and its bytes
/// do not count.
///
/// --tasks bpb measures bits per byte of --data as nanochat does: the tokens that stand for
/// bytes, over those bytes. --tasks core asks the questions of CORE, 22 tasks with few-shot
/// prompts, from the bundle of --bundle, a directory with core.yaml, eval_meta_data.csv and
/// eval_data/. nanochat publishes it: download and unpack
/// <https://karpathy-public.s3.us-west-2.amazonaws.com/eval_bundle.zip>. Prompts that are
/// longer than the model reads keep their end, and are counted. --tasks sample continues 7
/// fixed prompts greedily and draws 8 texts.
///
/// The other tasks ask a model that answers in conversations. A choice is made by the
/// probability of its letters. Else the model writes --samples answers, and passes if any of
/// them is right. Some tasks are built in; the files of the
/// others are fetched from Hugging Face's hub into --task-data. ChatCORE,
/// the mean of centred accuracies, is told if all of arc-easy, arc-challenge, mmlu, gsm8k
/// and humaneval are asked. Every question is logged with its answers in --out.
///
/// All tasks but bpb are computed on the CPU.
///
/// Results of --tasks are written as they come, to --out. The same command goes on where one
/// that was interrupted stopped, and ends with the same table. An evaluation that is done is
/// shown again. What --json prints is also kept as eval/CHECKPOINT/TASKS.json in the directory
/// of the model's run, where anegpt report finds it.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("hardware_time", |arg| arg.hide(true)),
    after_help = chat::help(EXAMPLES)
)]
pub(crate) struct Args {
    /// Model: a directory, a file or an address
    #[arg(short, long, value_name = "MODEL", help_heading = "Model")]
    model: PathBuf,
    /// Tokenizer file, if the model comes without one
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    tokenizer: Option<PathBuf>,
    /// Text file, directory, token files, or `synthetic`
    #[arg(long, value_name = "DATA", help_heading = "Data")]
    data: Option<String>,
    /// Field of *.jsonl, or column of *.parquet, that holds the text [default: text]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    text_field: Option<String>,
    /// Tokens of a window [default: the model's length, at most 1024]
    #[arg(long, value_name = "N", help_heading = "Data")]
    #[arg(value_parser = number::whole(0usize))]
    seq: Option<usize>,
    /// Tokens from one window to the next [default: --seq]
    #[arg(long, value_name = "N", help_heading = "Data")]
    #[arg(value_parser = number::whole(0usize))]
    stride: Option<usize>,
    /// Windows computed at once, for speed [default: 2048 tokens]
    #[arg(long, value_name = "N", help_heading = "Data")]
    #[arg(value_parser = number::whole(1usize))]
    batch: Option<usize>,
    /// Read only the first N tokens
    #[arg(long, value_name = "N", help_heading = "Data")]
    #[arg(value_parser = number::whole(0usize))]
    max_tokens: Option<usize>,
    /// Seed of synthetic data and of samples
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Data")]
    #[arg(value_parser = number::whole(0u64))]
    seed: u64,
    /// Tasks to do, in this order: bpb, core, sample, or those listed below
    #[arg(long, value_name = "TASK,...", value_delimiter = ',', help_heading = "Tasks")]
    tasks: Vec<Task>,
    /// Directory of CORE's tasks: core.yaml, eval_meta_data.csv, eval_data/
    #[arg(long, value_name = "DIR", requires = "tasks", help_heading = "Tasks")]
    bundle: Option<PathBuf>,
    /// Ask at most N questions of each task, of CORE or of conversations
    #[arg(long, value_name = "N", requires = "tasks", help_heading = "Tasks")]
    #[arg(value_parser = number::whole(1usize))]
    max_per_task: Option<usize>,
    /// Only these tasks of CORE
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', requires = "tasks")]
    #[arg(help_heading = "Tasks")]
    core_tasks: Option<Vec<String>>,
    /// Directory of the tasks' Parquet files; those that it lacks are fetched
    /// [default: task_data]
    #[arg(long, value_name = "DIR", requires = "tasks", help_heading = "Tasks")]
    task_data: Option<PathBuf>,
    /// Answers written to a question, which passes if any is right [default: 1]
    #[arg(long, value_name = "N", requires = "tasks", help_heading = "Tasks")]
    #[arg(value_parser = number::whole(1usize))]
    samples: Option<usize>,
    /// Temperature of written answers; 0 always takes the most likely token [default: 0]
    #[arg(long, value_name = "T", requires = "tasks", help_heading = "Tasks")]
    temperature: Option<f32>,
    /// Draw only from the K most likely tokens; 0 from all [default: 50]
    #[arg(long, value_name = "K", requires = "tasks", help_heading = "Tasks")]
    #[arg(value_parser = number::whole(0usize))]
    top_k: Option<usize>,
    /// Longest written answer, in tokens [default: 512]
    #[arg(long, value_name = "N", requires = "tasks", help_heading = "Tasks")]
    #[arg(value_parser = number::whole(1usize))]
    max_new_tokens: Option<usize>,
    /// Run programs that the model writes, for humaneval: in a process of their own, with limits and,
    /// where the system can deny it, without network
    #[arg(long, requires = "tasks", help_heading = "Tasks")]
    allow_code_exec: bool,
    /// How all tasks but bpb store weights; int8 is for speed [default: f32]
    #[arg(long, value_enum, value_name = "FORMAT", requires = "tasks", help_heading = "Tasks")]
    weights: Option<Weights>,
    /// Directory of results [default: eval/ in the model's directory, by checkpoint]
    #[arg(long, value_name = "DIR", requires = "tasks", help_heading = "Output")]
    out: Option<PathBuf>,
    /// Forget the results in --out and begin anew
    #[arg(long, requires = "tasks", help_heading = "Output")]
    restart: bool,
    /// Also write the table of accuracies to FILE: Task, Accuracy, Centered
    #[arg(long, value_name = "FILE", requires = "tasks", help_heading = "Output")]
    csv: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    tools: ToolArgs,
    #[command(flatten)]
    device: TextDevice,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// Bits per byte of the text of --data.
    Bpb,
    /// CORE, of the tasks in --bundle.
    Core,
    /// Texts for reading.
    Sample,
    /// A task of conversations, by its name.
    Chat(&'static str),
}

impl Task {
    /// Its name in --tasks and in files.
    fn name(self) -> &'static str {
        match self {
            Task::Bpb => "bpb",
            Task::Core => "core",
            Task::Sample => "sample",
            Task::Chat(name) => name,
        }
    }
}

impl FromStr for Task {
    type Err = String;

    fn from_str(text: &str) -> Result<Task, String> {
        let chat = ::tasks::all().into_iter().map(|task| Task::Chat(task.name));
        let all: Vec<Task> =
            [Task::Bpb, Task::Core, Task::Sample].into_iter().chain(chat).collect();
        let known = || all.iter().map(|task| task.name()).collect::<Vec<_>>().join(", ");
        let found = all.iter().find(|task| task.name() == text);
        found.copied().ok_or_else(|| format!("there are {}", known()))
    }
}

/// Sums over the predicted tokens.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// Predicted tokens.
    tokens: usize,
    nats: f64,
    /// Of the tokens that are text.
    text_nats: f64,
    bytes: u64,
}

impl Sums {
    fn nats_per_token(&self) -> f64 {
        self.nats / self.tokens as f64
    }

    /// None where no byte was predicted.
    fn bits_per_byte(&self) -> Option<f64> {
        let bits = self.text_nats / std::f64::consts::LN_2;
        (self.bytes > 0).then(|| bits / self.bytes as f64)
    }
}

/// A text as the model reads it.
struct Reading {
    machine: Machine,
    corpus: corpus::Corpus,
    tokens: Vec<u32>,
    /// Of the text that all tokens but the first stand for.
    bytes: u64,
    windows: Windows,
    compiled: Model,
}

impl Reading {
    /// Reads the text of `data`, and compiles the model for it.
    fn new(args: &Args, data: &str, parameters: &Parameters, tokenizer: Tokenizer) -> Result<Self> {
        let machine = args.device.open()?;
        let limit = parameters.config().seq_len;
        let seq = args.seq.unwrap_or(limit.min(LONGEST_DEFAULT));
        if !(1..=limit).contains(&seq) {
            return Err(usage(format!("--seq {seq}: the model reads 1 to {limit} tokens")));
        }
        let windows = Windows { seq, stride: args.stride.unwrap_or(seq) };
        if !(1..=seq).contains(&windows.stride) {
            return Err(usage(format!("--stride {}: it is 1 to --seq ({seq})", windows.stride)));
        }
        let field = args.text_field.as_deref();
        let wanted = corpus::Wanted { data, field, seed: args.seed };
        let corpus = corpus::load(wanted, None, Some(tokenizer))?;
        let (tokens, bytes) = text(&corpus, args.max_tokens);
        if tokens.len() < 2 {
            return Err(usage(format!("{data}: there is no second token to predict")));
        }
        let rows = (tokens.len() - 1).div_ceil(windows.stride);
        let batch = args.batch.unwrap_or(TOKENS_AT_ONCE / seq).clamp(1, rows);
        let device = machine.device.as_ref();
        let compiled = Model::new(&BASELINE, parameters, batch, seq, device, machine.numerics)?;
        Ok(Reading { machine, corpus, tokens, bytes, windows, compiled })
    }
}

pub(crate) fn run(args: Args) -> Result<()> {
    if !args.tasks.is_empty() {
        return tasks::run(&args);
    }
    let data = args.data.clone().ok_or_else(|| {
        usage("nothing to measure: give --data DATA for the loss on a text, or --tasks TASK,...")
    })?;
    let model = files::open_model(&args.model, args.tokenizer.as_deref())?;
    let mut reading = Reading::new(&args, &data, &model.parameters, model.tokenizer)?;
    let Reading { machine, corpus, tokens, bytes, windows, compiled } = &mut reading;
    let windows = *windows;
    let start = Instant::now();
    let bar = progress::steps("evaluating", tokens.len() as u64 - 1);
    let mut sums = Sums { bytes: *bytes, ..Sums::default() };
    token_losses(compiled, tokens, windows, 0, |place, loss| {
        sums.tokens += 1;
        sums.nats += loss;
        if !corpus.tokenizer.decode_bytes(tokens[place]).is_empty() {
            sums.text_nats += loss;
        }
        if place % 256 == 0 {
            bar.set_position(place as u64);
        }
        Ok::<(), ModelError>(())
    })?;
    bar.finish_and_clear();
    check_finite(sums.nats)?;
    let seconds = start.elapsed().as_secs_f64();
    match args.json {
        true => println!("{}", json(&args, &sums, windows, machine, seconds)),
        false => print(&sums, windows, machine, seconds),
    }
    Ok(())
}

/// Refuses a loss that is infinite or no number.
fn check_finite(nats: f64) -> Result<()> {
    if !nats.is_finite() {
        anyhow::bail!(
            "the loss is not finite: the weights are damaged, or too large for this arithmetic (try \
             --device cpu --numerics f32)"
        );
    }
    Ok(())
}

/// The tokens that are read, and the bytes of text that all of them but the first stand for.
fn text(corpus: &corpus::Corpus, most: Option<usize>) -> (Vec<u32>, u64) {
    let count = corpus.source.len().min(most.unwrap_or(usize::MAX));
    let mut tokens = vec![0; count];
    corpus.source.read(0, &mut tokens);
    let tokenizer: &Tokenizer = &corpus.tokenizer;
    let decoded = |tokens: &[u32]| tokenizer.decode(tokens).len() as u64;
    let bytes = match corpus.bytes {
        Some(bytes) if count == corpus.source.len() => bytes,
        _ => decoded(&tokens),
    };
    let first = decoded(&tokens[..count.min(1)]);
    (tokens, bytes.saturating_sub(first))
}

fn numerics(machine: &Machine) -> String {
    format!("{:?}", machine.numerics).to_lowercase()
}

fn print(sums: &Sums, windows: Windows, machine: &Machine, seconds: f64) {
    println!("nats per token  {:.6}", sums.nats_per_token());
    match sums.bits_per_byte() {
        Some(bits) => println!("bits per byte   {bits:.6}"),
        None => println!("bits per byte   none: no text was predicted"),
    }
    println!("perplexity      {:.4}", sums.nats_per_token().exp());
    println!("tokens          {} predicted, {} bytes of text", sums.tokens, sums.bytes);
    println!("context         {} tokens, stride {}", windows.seq, windows.stride);
    eprintln!(
        "{:.0} tokens/s on {} ({})",
        sums.tokens as f64 / seconds.max(1e-9),
        machine.kind.name(),
        numerics(machine)
    );
}

fn json(
    args: &Args,
    sums: &Sums,
    windows: Windows,
    machine: &Machine,
    seconds: f64,
) -> serde_json::Value {
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": args.model,
        "data": args.data,
        "nats_per_token": sums.nats_per_token(),
        "bits_per_byte": sums.bits_per_byte(),
        "perplexity": sums.nats_per_token().exp(),
        "tokens": sums.tokens,
        "bytes": sums.bytes,
        "seq": windows.seq,
        "stride": windows.stride,
        "device": machine.device.describe(),
        "numerics": numerics(machine),
        "tokens_per_s": sums.tokens as f64 / seconds.max(1e-9),
    })
}
