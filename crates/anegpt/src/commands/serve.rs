//! `anegpt serve`.

use crate::generation::{self, DraftArgs, ModelArgs, ToolArgs, Weights};
use crate::stop::{self, EndedBy, Signal};
use crate::{memory, number, term, usage};
use anyhow::{Context, Result, bail};
use infer::{Engine, EngineOptions, WeightFormat};
use serve::{Described, Options, ServeError, Stop};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tokenizer::chat::ChatTemplate;

/// Answer programs over HTTP, as OpenAI's interface does, and people on a page
///
/// MODEL is what `anegpt generate` takes. Programs find it at http://HOST:PORT/v1: chat/completions,
/// completions and models. There are also /health (generates a token), /metrics (Prometheus),
/// /tokenize, /detokenize, and a page to talk to the model at http://HOST:PORT.
///
/// A model with nanochat's chat tokens may call a calculator in chats; calls and results count as tokens, and are not in
/// the content of the answer.
///
/// Texts of many clients are continued together, on the CPU. Ctrl-C or SIGTERM ends the server once
/// answers that have begun are finished, after 30 seconds at the latest; a second one ends it at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt serve out/run-1
  anegpt serve hf://Qwen/Qwen3-0.6B --weights int8 --slots 4 --context 4096
  ANEGPT_API_KEY=secret anegpt serve out/run-1 --host 0.0.0.0")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Name of the model for programs [default: that of its file or directory]
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    name: Option<String>,
    /// How weights are stored
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "f32", help_heading = "Model")]
    weights: Weights,
    #[command(flatten)]
    draft: DraftArgs,
    /// Texts that are continued at once
    #[arg(long, value_name = "N", default_value_t = 8, help_heading = "Capacity")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    slots: u16,
    /// Longest text in tokens, prompt included [default: what the model can read]
    #[arg(long, value_name = "N", help_heading = "Capacity")]
    #[arg(value_parser = number::whole(2usize))]
    context: Option<usize>,
    /// Texts that may wait for a slot; more are refused (429)
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Capacity")]
    #[arg(value_parser = number::whole(0usize))]
    max_queue: usize,
    /// Address to listen on; any but this machine's own requires an API key
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1", help_heading = "Access")]
    host: String,
    /// Port to listen on; 0 = any that is free
    #[arg(long, value_name = "PORT", default_value_t = 8080, help_heading = "Access")]
    port: u16,
    /// Key that programs must send [default: $ANEGPT_API_KEY, which other users cannot see]
    #[arg(long, value_name = "KEY", help_heading = "Access")]
    api_key: Option<String>,
    /// Allow pages of this origin (scheme://host:port) to ask; * = all
    #[arg(long, value_name = "ORIGIN", help_heading = "Access")]
    cors: Vec<String>,
    #[command(flatten)]
    tools: ToolArgs,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let path = args.model.path("anegpt serve MODEL")?;
    // A port that is taken is found out before a large model is read.
    let listener = TcpListener::bind((args.host.as_str(), args.port))
        .with_context(|| format!("cannot listen on {}:{}", args.host, args.port))?;
    let options = options(&args);
    serve::check(&listener, &options).map_err(refused)?;
    let model = args.model.open(path)?;
    let weights = WeightFormat::from(args.weights);
    let template = ChatTemplate::find(&model.tokenizer, model.chat_template.as_deref())?;
    let chats = template.as_ref().map_or("written out as plain text", ChatTemplate::describe);
    let described = Described {
        ends: model.ends,
        template,
        tools: args.tools.find(&model.tokenizer),
        template_source: model.chat_template,
        weights: weights.name(),
        ..Described::new(args.name.clone().unwrap_or_else(|| name_of(path)))
    };
    let shape = model.parameters.config().to_string();
    let size = EngineOptions {
        slots: args.slots.into(),
        context: generation::context(args.context, model.parameters.config())?,
        weights,
        draft: args.draft.of(weights)?,
        queue: args.max_queue,
        ..EngineOptions::default()
    };
    let engine = Engine::new(&model.parameters, Arc::new(model.tokenizer), size)?;
    drop(model.parameters);
    let bytes = fits(&engine)?;
    println!("{}", term::labelled("model", &format!("{}: {shape}", described.name)));
    let capacity = format!(
        "{} texts at once, of {} tokens; weights in {}{}; at most {:.1} MiB",
        args.slots,
        engine.context(),
        weights.name(),
        if engine.drafts() { ", and in int8 for drafts" } else { "" },
        bytes / f64::from(1 << 20),
    );
    println!("{}", term::labelled("capacity", &capacity));
    println!("{}", term::labelled("chats", chats));
    println!("{}", term::labelled("serving", &format!("http://{}", listener.local_addr()?)));
    let (stop, signal) = stopped_by_signals()?;
    serve::serve(listener, engine, described, options, &stop).map_err(refused)?;
    match signal.get() {
        Some(&signal) => Err(EndedBy(signal).into()),
        None => Ok(()),
    }
}

fn options(args: &Args) -> Options {
    let key = args.api_key.clone().or_else(|| std::env::var("ANEGPT_API_KEY").ok());
    Options {
        api_key: key,
        origins: args.cors.clone(),
        queue: args.max_queue,
        ..Options::default()
    }
}

/// A server that may not start as it was asked to was asked for the wrong thing.
fn refused(error: ServeError) -> anyhow::Error {
    match error {
        ServeError::KeyRequired(_) => usage(format!(
            "{error}; give one with --api-key, or better in the variable ANEGPT_API_KEY"
        )),
        ServeError::Key => usage(error.to_string()),
        ServeError::Io(_) => error.into(),
    }
}

/// The name of a file or directory, or that of an address without its revision.
fn name_of(path: &Path) -> String {
    let text = path.to_string_lossy();
    if let Some(address) = text.strip_prefix("hf://") {
        return address.split('@').next().unwrap_or(address).to_owned();
    }
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    whole.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The bytes that the engine may come to use, if the machine has them.
fn fits(engine: &Engine) -> Result<f64> {
    let bytes = engine.bytes() as f64;
    let gib = |bytes: f64| bytes / f64::from(1 << 30);
    match memory::bytes() {
        Some(have) if bytes > have => bail!(
            "weights and texts may take {:.1} GiB, but there are {:.1} GiB of memory: give a shorter \
             --context, fewer --slots, --draft off, or --weights int8",
            gib(bytes),
            gib(have)
        ),
        _ => Ok(bytes),
    }
}

/// A switch that the first request to stop throws; the second ends the program.
fn stopped_by_signals() -> Result<(Stop, Arc<OnceLock<Signal>>)> {
    let (stop, first) = (Stop::new(), Arc::new(OnceLock::new()));
    let (thrown, noted) = (stop.clone(), Arc::clone(&first));
    stop::on_request(move |signal| {
        if noted.set(signal).is_err() {
            stop::at_once(signal.exit_code());
        }
        eprintln!("finishing the answers that have begun; a second signal ends the server at once");
        thrown.request();
    })?;
    Ok((stop, first))
}
