//! `anegpt chat`: a conversation with a model, in a terminal or through pipes.

mod input;
mod output;
mod slash;
mod talk;

use crate::files::Opened;
use crate::generation::{self, DraftArgs, ModelArgs, PythonArgs, SamplingArgs, ToolArgs, Weights};
use crate::{number, stop};
use anyhow::Result;
use infer::{Engine, EngineOptions, Tools, text_ends};
use input::{Input, Line};
use output::Output;
use std::sync::Arc;
use talk::{Settings, Talk};
use tokenizer::chat::{ChatTemplate, Message, Role};

/// Talk with a trained model
///
/// MODEL is what anegpt generate takes. Its conversations are rendered by its own chat
/// template, or by nanochat's tokens if its vocabulary has them. A base model, which has
/// neither, continues what you type.
///
/// In a terminal: Ctrl-C stops an answer, Ctrl-D leaves, /help lists commands. A line that
/// ends with \ goes on in the next one; """ begins and ends a longer text. With -p there is
/// one answer. If standard input is no terminal, each line of it is a message; answers go to
/// standard output, everything else to standard error.
///
/// A model with nanochat's chat tokens may call a calculator in the middle of an answer. A terminal shows
/// the call and its result, each on a line of its own; elsewhere they are left out.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt chat out/tuned
  anegpt chat hf://Qwen/Qwen3-0.6B --weights int8 --system \"Be brief.\"
  anegpt chat out/tuned -p \"Why is the sky blue?\" --temperature 0
  printf 'Hello\\nWhat did I say?\\n' | anegpt chat out/tuned")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// How weights are stored in memory
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "f32", help_heading = "Model")]
    weights: Weights,
    #[command(flatten)]
    draft: DraftArgs,
    /// Longest conversation, in tokens [default: what the model can read]
    #[arg(long, value_name = "N", value_parser = number::whole(2usize), help_heading = "Model")]
    context: Option<usize>,
    /// One message: print the answer and end
    #[arg(short, long, value_name = "TEXT", help_heading = "Conversation")]
    prompt: Option<String>,
    /// Instructions for the whole conversation
    #[arg(long, value_name = "TEXT", help_heading = "Conversation")]
    system: Option<String>,
    /// Maximum number of tokens of an answer
    #[arg(short = 'n', long, value_name = "N", default_value_t = 512, help_heading = "Sampling")]
    #[arg(value_parser = number::whole(1usize))]
    max_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    tools: ToolArgs,
    #[command(flatten)]
    programs: PythonArgs,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let settings = Settings {
        sampling: args.sampling.sampling()?,
        seed: args.sampling.seed,
        max_tokens: args.max_tokens,
    };
    let path = args.model.path("anegpt chat MODEL")?;
    let model = args.model.open(path)?;
    let mut talk = Talk::new(model_to_talk(model, args)?, settings);
    talk.set_system(args.system.as_deref());
    match &args.prompt {
        Some(prompt) => {
            let mut out = Output::plain();
            listen(&out, args.programs.python)?;
            introduce(&talk, &out);
            Ok(talk.ask(prompt, &mut out)?)
        }
        None => converse(&mut talk, args.programs.python),
    }
}

/// Listens for requests to stop. Without a terminal, Ctrl-C ends the program as it ends others.
fn listen(out: &Output, python: bool) -> Result<()> {
    match (out.is_terminal(), python) {
        (true, _) => stop::on_request(talk::interrupt()),
        (false, true) => stop::with_programs(),
        (false, false) => Ok(()),
    }
}

/// What a conversation is held with.
struct Speaker {
    engine: Engine,
    /// `None` for a base model.
    format: Option<ChatTemplate>,
    ends: Vec<u32>,
    tools: Option<Tools>,
    weights: Weights,
}

fn model_to_talk(model: Opened, args: &Args) -> Result<Speaker> {
    let Opened { parameters, tokenizer, mut ends, chat_template, .. } = model;
    let format = ChatTemplate::find(&tokenizer, chat_template.as_deref())?;
    match &format {
        Some(format) => ends.extend(format.ends()),
        None => ends.extend(text_ends(&tokenizer)),
    }
    let weights = args.weights.into();
    let options = EngineOptions {
        slots: 1,
        context: generation::context(args.context, parameters.config())?,
        weights,
        draft: args.draft.of(weights)?,
        ..EngineOptions::default()
    };
    let tools = args.tools.find_with(args.programs.python, &tokenizer)?;
    let engine = Engine::new(&parameters, Arc::new(tokenizer), options)?;
    Ok(Speaker { engine, format, ends, tools, weights: args.weights })
}

/// Takes messages until there are no more.
fn converse(talk: &mut Talk, python: bool) -> Result<()> {
    let mut input = Input::open()?;
    let mut out = if input.is_terminal() { Output::terminal() } else { Output::plain() };
    listen(&out, python)?;
    introduce(talk, &out);
    loop {
        let line = input.next()?;
        talk::go_on();
        let done = match line {
            Line::Message(text) => one(talk, &text, &mut out),
            Line::Interrupted => {
                out.say("Ctrl-D or /quit leaves; /help lists commands.");
                continue;
            }
            Line::End => return Ok(()),
        };
        match done {
            Ok(Next::Go) => {}
            Ok(Next::Leave) => return Ok(()),
            // Another message may do better, if someone is there to write one.
            Err(error) if out.is_terminal() && !error.is_fatal() => {
                out.error(&crate::message(&error.into()));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What is to happen after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Go,
    Leave,
}

fn one(talk: &mut Talk, text: &str, out: &mut Output) -> Result<Next, talk::Trouble> {
    match text.strip_prefix('/') {
        Some(rest) if rest.starts_with('/') => talk.ask(rest, out)?,
        Some(command) => return slash::run(command, talk, out),
        None if !text.trim().is_empty() => talk.ask(text, out)?,
        // A base model goes on by itself.
        None if out.is_terminal() && talk.continues() => talk.ask("", out)?,
        None => {}
    }
    Ok(Next::Go)
}

/// Says what one talks with.
fn introduce(talk: &Talk, out: &Output) {
    match (out.is_terminal(), talk.continues()) {
        (true, _) => out.say(&talk.describe()),
        (false, true) => out.note(talk::BASE),
        (false, false) => {}
    }
}

/// Takes conversations of JSON files: `{"messages": […]}`, or the list alone.
fn read_messages(json: &str) -> Result<Vec<Message>, serde_json::Error> {
    #[derive(serde::Deserialize)]
    struct File {
        messages: Vec<Message>,
    }
    match json.trim_start().starts_with('[') {
        true => serde_json::from_str(json),
        false => serde_json::from_str(json).map(|file: File| file.messages),
    }
}

/// True if the message is the system's.
fn is_system(message: &Message) -> bool {
    message.role == Role::System
}
