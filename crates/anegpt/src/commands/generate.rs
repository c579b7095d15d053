//! `anegpt generate`.

use crate::engine::EngineArgs;
use crate::files::Opened;
use crate::generation::{
    DraftArgs, ModelArgs, PythonArgs, SamplingArgs, ToolArgs, Weights, accepted,
};
use crate::machine::{Kind, Machine, TextDevice};
use crate::{number, term, usage};
use anyhow::Result;
use cpu::Numerics;
use gpt::Decoder;
use infer::{
    Draft, EngineOptions, Finish, Generated, Generator, Request, Stats, WeightFormat, prompt_tokens,
};
use std::io::Write;
use std::sync::Arc;

/// Generate text with a trained model
///
/// MODEL is a run of `anegpt train` (its newest checkpoint is used), a checkpoint, a Hugging
/// Face directory, a GGUF file, a llama2.c file, or hf://ORGANISATION/NAME, which is fetched.
/// Text goes to standard output, speeds to standard error.
///
/// A text ends at the token that separates documents in training, at an eos_token_id of
/// the model, before a --stop string, or after --max-tokens. When the context is full, generation goes on from the
/// newest half of the text; with --no-slide it stops.
///
/// A model with nanochat's chat tokens may call a calculator. Calls and results are among the tokens of --json, not
/// in the text.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("hardware_time", |arg| arg.hide(true)),
    after_help = "\
Examples:
  anegpt generate out/run-1 \"Once upon a time\"
  anegpt generate -m out/run-1 -p \"Once upon a time\" -n 100 --stop \"The end\"
  anegpt generate stories260K.bin --tokenizer tok512.bin"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Text to continue (or --prompt) [default: none, which begins a new text]
    #[arg(value_name = "PROMPT", conflicts_with = "prompt", help_heading = "Sampling")]
    text: Option<String>,
    /// Text to continue [default: none, which begins a new text]
    #[arg(short, long, value_name = "TEXT", help_heading = "Sampling")]
    prompt: Option<String>,
    /// Maximum number of new tokens
    #[arg(short = 'n', long, value_name = "N", default_value_t = 256, help_heading = "Sampling")]
    #[arg(value_parser = number::whole(0usize))]
    max_tokens: usize,
    /// End before this text, which is not printed; may be given several times
    #[arg(long, value_name = "TEXT", help_heading = "Sampling", allow_hyphen_values = true)]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    stop: Vec<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Stop when the context is full
    #[arg(long, help_heading = "Sampling")]
    no_slide: bool,
    #[command(flatten)]
    tools: ToolArgs,
    #[command(flatten)]
    programs: PythonArgs,
    /// Print one JSON object: text, tokens, speeds, why it ended
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    device: TextDevice,
    /// How the CPU stores weights; int8 is for speed: 32 weights share a scale, and so do 32 of
    /// the values that they multiply [default: f32]
    #[arg(long, value_enum, help_heading = "Device")]
    weights: Option<Weights>,
    #[command(flatten)]
    draft: DraftArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// Tokens for which a copy of the weights is made that guesses: making it takes about as long as it saves for 50.
const WORTH_DRAFTING: usize = 64;

pub(crate) fn run(args: Args) -> Result<()> {
    let sampling = args.sampling.sampling()?;
    let prompt = args.prompt.or(args.text).unwrap_or_default();
    let path = args.model.path("anegpt generate MODEL [PROMPT]")?;
    let machine = args.device.open()?;
    let model = args.model.open(path)?;
    let (max_tokens, seed, slide) = (args.max_tokens, args.sampling.seed, !args.no_slide);
    let tools = args.tools.find_with(args.programs.python, &model.tokenizer)?;
    let (stop, tools) = (&args.stop[..], tools.as_ref());
    let request = Request { max_tokens, sampling, seed, slide, stop, tools };
    let mut out = Output { prompt: &prompt, quiet: args.json, text: String::new(), failed: None };
    let context = model.parameters.config().seq_len;
    let (generated, stats) = match (machine.kind, machine.numerics) {
        (Kind::Cpu, Numerics::F32) => {
            let weights = args.weights.map_or(WeightFormat::F32, WeightFormat::from);
            let draft = match args.draft.into() {
                Draft::Auto if max_tokens < WORTH_DRAFTING => Draft::Off,
                draft => draft,
            };
            let options = EngineOptions { weights, draft, ..EngineOptions::default() };
            on_cpu(model, options, &prompt, request, &mut out)?
        }
        _ if args.weights.is_some() => {
            return Err(usage("--weights is for the CPU: add --device cpu, or leave it out"));
        }
        _ if args.draft.insists() => {
            return Err(usage("--draft on is for the CPU: add --device cpu, or leave it out"));
        }
        _ => (on_device(&model, &machine, &prompt, request, &mut out)?, Stats::default()),
    };
    match args.json {
        true => println!("{}", json(&prompt, &out.text, &generated, &stats, seed, &machine)),
        false => out.finish()?,
    }
    let summary = summary(&generated, &stats, context, &machine);
    let errors = console::Term::stderr();
    match errors.is_term() {
        true => eprintln!("{}", term::wrap(&summary, term::columns(&errors), "", "")),
        false => eprintln!("{summary}"),
    }
    Ok(())
}

/// Continues the prompt with the engine for the CPU, in a cache that is as long as the text can become.
fn on_cpu(
    model: Opened,
    options: EngineOptions,
    prompt: &str,
    request: Request<'_>,
    out: &mut Output<'_>,
) -> Result<(Generated, Stats)> {
    let Opened { parameters, tokenizer, ends, .. } = model;
    let context = prompt_tokens(&tokenizer, prompt)?.len().saturating_add(request.max_tokens);
    let options = EngineOptions { slots: 1, context, ..options };
    let mut engine = infer::Engine::new(&parameters, Arc::new(tokenizer), options)?;
    drop(parameters);
    let generated = engine.generate(prompt, &ends, request, |piece| out.write(piece))?;
    Ok((generated, engine.stats()))
}

/// Continues the prompt on any device.
fn on_device(
    model: &Opened,
    machine: &Machine,
    prompt: &str,
    request: Request<'_>,
    out: &mut Output<'_>,
) -> Result<Generated> {
    let (device, numerics) = (machine.device.as_ref(), machine.numerics);
    let decoder = Decoder::new(&model.parameters, device.least_width(), device, numerics)?;
    let mut generator = Generator::new(decoder, &model.tokenizer)?.ending_at(&model.ends);
    Ok(generator.generate(prompt, request, |piece| out.write(piece))?)
}

/// The text as it comes.
struct Output<'p> {
    /// Repeated once the model has taken it.
    prompt: &'p str,
    /// Nothing is printed on the way.
    quiet: bool,
    text: String,
    failed: Option<std::io::Error>,
}

impl Output<'_> {
    fn write(&mut self, piece: &str) {
        self.text.push_str(piece);
        if !self.quiet {
            let before = std::mem::take(&mut self.prompt);
            let mut out = std::io::stdout().lock();
            let written = write!(out, "{before}{piece}").and_then(|()| out.flush());
            self.failed = self.failed.take().or(written.err());
        }
    }

    fn finish(self) -> Result<()> {
        match self.failed {
            Some(error) => Err(error.into()),
            None => Ok(writeln!(std::io::stdout().lock(), "{}", self.prompt)?),
        }
    }
}

/// Tokens per second; 0 for no time at all.
fn speed(tokens: usize, seconds: f64) -> f64 {
    if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 }
}

/// One line for people.
fn summary(g: &Generated, stats: &Stats, context: usize, machine: &Machine) -> String {
    let ended = match g.finish {
        Finish::EndOfText => "end of text".to_owned(),
        Finish::MaxTokens => "--max-tokens reached".to_owned(),
        Finish::ContextFull => format!("context full ({context})"),
        Finish::Stopped => "stopped".to_owned(),
        Finish::StopString => "stop string".to_owned(),
    };
    let slid = match g.slides {
        0 => String::new(),
        n => format!(" (context of {context} full, window slid {})", times(n)),
    };
    let drafted = accepted(stats.drafted_tokens, stats.accepted_tokens);
    let drafted = drafted.map_or(String::new(), |accepted| format!("; {accepted}"));
    format!(
        "{ended}{slid}; prompt {} at {:.1} tokens/s, generated {} at {:.1} tokens/s, on {}{}{drafted}",
        tokens(g.prompt),
        speed(g.prompt, g.prompt_seconds),
        tokens(g.tokens.len()),
        speed(g.tokens.len(), g.seconds),
        machine.kind.name(),
        if machine.emulated() { format!(" ({})", numerics(machine)) } else { String::new() },
    )
}

fn tokens(n: usize) -> String {
    if n == 1 { "1 token".to_owned() } else { format!("{n} tokens") }
}

fn times(n: usize) -> String {
    if n == 1 { "once".to_owned() } else { format!("{n} times") }
}

fn numerics(machine: &Machine) -> String {
    format!("{:?}", machine.numerics).to_lowercase()
}

fn json(
    prompt: &str,
    text: &str,
    g: &Generated,
    stats: &Stats,
    seed: u64,
    machine: &Machine,
) -> serde_json::Value {
    serde_json::json!({
        "prompt": prompt,
        "text": text,
        "tokens": g.tokens,
        "prompt_tokens": g.prompt,
        "generated_tokens": g.tokens.len(),
        "prompt_tokens_per_s": speed(g.prompt, g.prompt_seconds),
        "tokens_per_s": speed(g.tokens.len(), g.seconds),
        "drafted_tokens": stats.drafted_tokens,
        "accepted_tokens": stats.accepted_tokens,
        "finish_reason": g.finish.name(),
        "slides": g.slides,
        "seed": seed,
        "device": machine.device.describe(),
        "numerics": numerics(machine),
    })
}
