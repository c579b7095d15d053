//! `anegpt pipe`: a model that answers requests, one JSON object a line, on standard input. The
//! Python package drives it.
//!
//! The first line of output describes the model. Requests are `{"generate": {…}}`, `{"loss": {…}}`,
//! `{"encode": {…}}` and `{"decode": {…}}`; each answer ends with a line `{"done": {…}}` or `{"error":
//! …}`, before which generation writes its pieces as lines `{"text": …}`. Calls of the calculator and their
//! results are among the `tokens` of an answer, not in its text. The end of standard input ends the program. An error's `kind` is `request` where another request would do better, `model` or
//! `device` where none would.

use super::eval::LONGEST_DEFAULT;
use crate::engine::EngineArgs;
use crate::files::{self, Opened};
use crate::generation::ToolArgs;
use crate::machine::{self, DeviceChoice, Machine, NumericsChoice};
use anyhow::{Context, Result, anyhow};
use chip::Chip;
use clap::ValueEnum;
use gpt::plan::BASELINE;
use gpt::{Decoder, Layout, Model, ModelError};
use infer::{Generator, InferError, Sampling, Tools};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::BufRead;
use std::path::PathBuf;
use tokenizer::Tokenizer;
use train::evaluate::{Windows, token_losses};

/// Tokens of the shortest window in which losses are computed: no engine takes narrower ports.
const SHORTEST: usize = 32;

/// Answer requests about a model, as JSON lines
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model, as generate takes it
    model: PathBuf,
    /// Tokenizer file, where the model comes without one
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    // What follows is read here and not by clap, so that a wrong name is an answer too.
    /// Where to compute
    #[arg(long, default_value = "auto")]
    device: String,
    /// Chip that the emulator is
    #[arg(long)]
    chip: Option<String>,
    /// Arithmetic of the emulator
    #[arg(long, value_name = "NUMERICS")]
    numerics: Option<String>,
    #[command(flatten)]
    tools: ToolArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Request {
    Generate(Generate),
    Loss { text: String },
    Encode { text: String },
    Decode { tokens: Vec<u32> },
}

#[derive(Debug, Deserialize)]
struct Generate {
    prompt: String,
    max_tokens: usize,
    temperature: f32,
    top_k: usize,
    top_p: f32,
    seed: u64,
    #[serde(default)]
    stop: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let machine = match open(args) {
        Ok(machine) => machine,
        Err(error) => return end("device", &error),
    };
    let model = match files::open_model(&args.model, args.tokenizer.as_deref()) {
        Ok(model) => model,
        Err(error) => return end("request", &error),
    };
    match Server::new(&model, &machine, args.tools) {
        Ok(server) => server.serve(),
        Err(error) => end("request", &error),
    }
}

/// Says why there will be no answers.
fn end(kind: &str, error: &anyhow::Error) -> Result<()> {
    println!("{}", refusal(kind, &crate::message(error)));
    Ok(())
}

fn refusal(kind: &str, error: &str) -> Value {
    json!({ "error": error, "kind": kind })
}

fn open(args: &Args) -> Result<Machine> {
    let choice = named::<DeviceChoice>("device", &args.device)?;
    let chip = args.chip.as_ref().map(|name| name.parse::<Chip>()).transpose()?;
    let numerics = args.numerics.as_ref().map(|name| named::<NumericsChoice>("numerics", name));
    machine::open_for_text(choice, chip, numerics.transpose()?)
}

/// The value called `name`.
fn named<T: ValueEnum>(what: &str, name: &str) -> Result<T> {
    T::from_str(name, true).map_err(|_| {
        let known = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let known: Vec<String> = known.map(|value| value.get_name().to_owned()).collect();
        anyhow!("no {what} is called `{name}`; known are: {}", known.join(", "))
    })
}

/// A loaded model.
struct Server<'m> {
    tokenizer: &'m Tokenizer,
    machine: &'m Machine,
    generator: Generator<'m>,
    tools: Option<Tools>,
    /// Computes losses in windows of one length; compiled for the first text of such a length.
    scorer: Option<Model>,
}

/// Why a request has no result.
enum Failure {
    /// Another request would do better.
    Request(String),
    /// None would.
    Model(String),
}

impl From<InferError> for Failure {
    fn from(error: InferError) -> Self {
        match error {
            InferError::Model(_) | InferError::NotFinite { .. } => {
                Failure::Model(error.to_string())
            }
            _ => Failure::Request(error.to_string()),
        }
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Failure::Model(error.to_string())
    }
}

impl From<tokenizer::Error> for Failure {
    fn from(error: tokenizer::Error) -> Self {
        Failure::Request(format!("the text cannot be encoded: {error}"))
    }
}

impl<'m> Server<'m> {
    fn new(model: &'m Opened, machine: &'m Machine, tools: ToolArgs) -> Result<Self> {
        let device = machine.device.as_ref();
        let (width, numerics) = (device.least_width(), machine.numerics);
        let decoder = Decoder::new(&model.parameters, width, device, numerics)?;
        let generator = Generator::new(decoder, &model.tokenizer)?.ending_at(&model.ends);
        let tokenizer = &model.tokenizer;
        Ok(Server { tokenizer, machine, generator, tools: tools.find(tokenizer), scorer: None })
    }

    /// Answers until nobody asks any more.
    fn serve(mut self) -> Result<()> {
        println!("{}", self.ready());
        for line in std::io::stdin().lock().lines() {
            let line = line.context("cannot read requests")?;
            let answer = match serde_json::from_str(&line) {
                Ok(request) => self.answer(request),
                Err(error) => Err(Failure::Request(format!("invalid request: {error}"))),
            };
            match answer {
                Ok(done) => println!("{}", json!({ "done": done })),
                Err(Failure::Request(error)) => println!("{}", refusal("request", &error)),
                Err(Failure::Model(error)) => println!("{}", refusal("model", &error)),
            }
        }
        Ok(())
    }

    fn ready(&mut self) -> Value {
        let config = self.generator.decoder().config();
        json!({
            "anegpt": env!("CARGO_PKG_VERSION"),
            "model": config.to_string(),
            "parameters": Layout::new(config).count(),
            "vocab_size": config.vocab_size,
            "context": config.seq_len,
            "device": self.machine.device.describe(),
        })
    }

    fn answer(&mut self, request: Request) -> Result<Value, Failure> {
        match request {
            Request::Generate(settings) => self.generate(&settings),
            Request::Loss { text } => self.loss(&text),
            Request::Encode { text } => Ok(json!({ "tokens": self.tokenizer.encode(&text)? })),
            Request::Decode { tokens } => self.decode(&tokens),
        }
    }

    fn generate(&mut self, settings: &Generate) -> Result<Value, Failure> {
        let Generate { temperature, top_k, top_p, max_tokens, seed, .. } = *settings;
        let sampling = Sampling { temperature, top_k, top_p, ..Sampling::default() };
        let tools = self.tools.as_ref();
        let request =
            infer::Request { max_tokens, sampling, seed, slide: true, stop: &settings.stop, tools };
        let done = self.generator.generate(&settings.prompt, request, |piece| {
            println!("{}", json!({ "text": piece }));
        })?;
        Ok(json!({
            "tokens": done.tokens,
            "prompt_tokens": done.prompt,
            "finish_reason": done.finish.name(),
            "seconds": done.seconds,
        }))
    }

    /// The loss of each token of `text` but the first, which is the one that begins a text if the
    /// tokenizer puts one there. Windows lie side by side, as `anegpt eval` reads a text by default.
    fn loss(&mut self, text: &str) -> Result<Value, Failure> {
        let begin = self.tokenizer.prompt_bos();
        let mut tokens: Vec<u32> = begin.into_iter().collect();
        tokens.extend(self.tokenizer.encode(text)?);
        if tokens.len() < 2 {
            let none = "the text has no token that could be predicted from one before it";
            return Err(Failure::Request(none.to_owned()));
        }
        let scorer = self.scorer(tokens.len() - 1)?;
        let windows = Windows { seq: scorer.seq(), stride: scorer.seq() };
        let mut losses = Vec::with_capacity(tokens.len());
        token_losses(scorer, &tokens, windows, 0, |_, loss| {
            losses.push(loss);
            Ok::<(), ModelError>(())
        })?;
        let total: f64 = losses.iter().sum();
        if !total.is_finite() {
            let damaged = "the loss is not finite: the weights are damaged, or too large for this \
                           arithmetic";
            return Err(Failure::Model(damaged.to_owned()));
        }
        let bytes = match begin {
            Some(_) => text.len(),
            None => text.len() - first_bytes(text, &self.tokenizer.decode_bytes(tokens[0])),
        };
        Ok(json!({
            "nats_per_token": total / losses.len() as f64,
            "bits_per_byte": total / std::f64::consts::LN_2 / bytes.max(1) as f64,
            "losses": losses,
            "bytes": bytes,
        }))
    }

    /// The model, compiled for a window of `count` tokens or for the longest windows.
    fn scorer(&mut self, count: usize) -> Result<&mut Model, Failure> {
        let parameters = self.generator.decoder().parameters();
        let longest = parameters.config().seq_len.min(LONGEST_DEFAULT);
        let seq = count.min(longest).next_power_of_two().max(SHORTEST).min(longest);
        if self.scorer.as_ref().is_none_or(|model| model.seq() != seq) {
            let Machine { device, numerics, .. } = self.machine;
            self.scorer =
                Some(Model::new(&BASELINE, parameters, 1, seq, device.as_ref(), *numerics)?);
        }
        Ok(self.scorer.as_mut().expect("it was just made"))
    }

    fn decode(&self, tokens: &[u32]) -> Result<Value, Failure> {
        let size = self.tokenizer.vocab_size();
        match tokens.iter().find(|&&token| token as usize >= size) {
            Some(token) => Err(Failure::Request(format!(
                "token {token} is not of the vocabulary, which has {size} tokens"
            ))),
            None => Ok(json!({ "text": self.tokenizer.decode(tokens) })),
        }
    }
}

/// Bytes of `text` that its first token stands for; SentencePiece's may begin with a space that the
/// text does not have.
fn first_bytes(text: &str, token: &[u8]) -> usize {
    match text.as_bytes().starts_with(token) {
        true => token.len(),
        false => token.strip_prefix(b" ").unwrap_or(token).len().min(text.len()),
    }
}
