//! `anegpt`: train, evaluate and sample GPT models on the Apple Neural Engine, or on
//! its emulator.
//!
//! Parses arguments, runs a command, and maps its result to an exit code: 0 success, 1 failure, 2 wrong
//! usage, 128 + N after signal N. Only this crate prints; the others return values and errors.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is what talks to people")]

#[macro_use]
mod output;

mod allocator;
mod arrays;
mod canary;
mod chart;
mod clock;
mod commands;
mod corpus;
mod dashboard;
mod engine;
mod files;
mod foreign;
mod generation;
#[cfg(test)]
mod help;
mod host_gemm;
mod hub;
mod machine;
mod memory;
mod number;
mod plan_choice;
mod plot;
mod power;
mod progress;
mod python_tool;
#[cfg(test)]
mod readme;
mod record;
mod report;
mod settings;
mod setup;
mod sooner;
mod stop;
mod svg;
mod task_data;
mod telemetry;
mod term;
mod timeline;
mod training;
mod view;
mod vitals;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};
use cpu::simd::Level;
use engine::EngineArgs;
use std::io::Write;
use tasks::TaskError;
use train::evaluate::CoreError;

#[global_allocator]
static ALLOCATOR: allocator::HugePages = allocator::HugePages;

/// Train, evaluate and sample GPT models on Apple's Neural Engine, or on its emulator
#[derive(Debug, Parser)]
#[command(
    name = "anegpt",
    version,
    max_term_width = 80,
    disable_help_flag = true,
    disable_version_flag = true,
    after_help = "\
Examples:
  anegpt train                          learn to tell stories, in a few minutes
  anegpt generate out/run-1 \"Once upon a time\"
  anegpt dashboard out/run-1            watch a run
  anegpt chat out/run-1                 talk with a model
  anegpt serve out/run-1                answer programs and a page, over HTTP
  anegpt eval -m out/run-1 --data text.txt
  anegpt help train                     all options of a command
  anegpt help engine                    how the Neural Engine is driven"
)]
struct Cli {
    /// When to use colour: auto, always, never
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value = "auto")]
    #[arg(help_heading = "General", hide_possible_values = true)]
    color: term::Color,
    /// Print help (-h: a summary)
    #[arg(short, long, global = true, action = ArgAction::Help, help_heading = "General")]
    help: Option<bool>,
    /// Print version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = "General")]
    version: Option<bool>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one, and it lives as long as the program")]
enum Command {
    Train(commands::train::Args),
    Sft(commands::sft::Args),
    Rl(commands::rl::Args),
    Generate(commands::generate::Args),
    Chat(commands::chat::Args),
    Serve(commands::serve::Args),
    Eval(commands::eval::Args),
    Export(commands::export::Args),
    Import(commands::import::Args),
    #[command(subcommand)]
    Data(commands::data::Command),
    #[command(subcommand)]
    Tokenizer(commands::tokenizer::Command),
    #[command(subcommand)]
    Mil(commands::mil::Command),
    Devices(commands::devices::Args),
    Doctor(commands::doctor::Args),
    Probe(commands::probe::Args),
    Report(commands::report::Args),
    Parity(commands::parity::Args),
    Dashboard(commands::dashboard::Args),
    Plan(commands::plan::Args),
    #[command(hide = true)]
    Pipe(commands::pipe::Args),
    Bench(commands::bench::Args),
    /// How the Neural Engine is driven
    #[command(hide = true, long_about = engine::TOPIC, help_template = "{about}")]
    Engine,
}

impl Command {
    /// Returns how the engine is to be driven, if the command opens a device.
    fn engine(&self) -> Option<&EngineArgs> {
        match self {
            Command::Train(args) => Some(&args.process.engine),
            Command::Sft(args) => Some(&args.process.engine),
            Command::Rl(args) => Some(&args.process.engine),
            Command::Generate(args) => Some(&args.engine),
            Command::Eval(args) => Some(&args.engine),
            Command::Devices(args) => Some(&args.engine),
            Command::Doctor(args) => Some(&args.engine),
            Command::Probe(args) => Some(&args.engine),
            Command::Bench(args) => Some(&args.engine),
            Command::Pipe(args) => Some(&args.engine),
            Command::Mil(commands::mil::Command::Run(args)) => Some(&args.engine),
            Command::Mil(_)
            | Command::Data(_)
            | Command::Tokenizer(_)
            | Command::Chat(_)
            | Command::Serve(_)
            | Command::Export(_)
            | Command::Import(_)
            | Command::Report(_)
            | Command::Parity(_)
            | Command::Dashboard(_)
            | Command::Plan(_)
            | Command::Engine => None,
        }
    }

    /// True if the command judges the engine or its speed, which includes compiling.
    fn judges_the_engine(&self) -> bool {
        matches!(
            self,
            Command::Devices(_) | Command::Doctor(_) | Command::Probe(_) | Command::Bench(_)
        )
    }
}

/// A request that makes no sense, as opposed to one that failed.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error that ends the program with exit code 2.
fn usage(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Usage(message.into()))
}

fn main() {
    let cli = arguments();
    term::configure(cli.color);
    let code = outcome(cli);
    // A closed pipe is no failure here either.
    let _ = std::io::stdout().flush();
    stop::at_once(code);
}

/// Reads the command line; ends the program where it is wrong or asks for help.
fn arguments() -> Cli {
    let matches = number::may_be_negative(Cli::command()).get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Runs a command; the exit code.
fn outcome(cli: Cli) -> i32 {
    // This thread computes too: handing every product to another one and waiting for it would cost
    // two context switches each.
    if let Err(error) = rayon::ThreadPoolBuilder::new().use_current_thread().build_global() {
        eprintln!("{} cannot start the threads that compute: {error}", error_label());
        return 1;
    }
    let engine = cli.command.engine().cloned().unwrap_or_default();
    let result = Level::asked()
        .map_err(usage)
        .and_then(|_| engine::configure(engine, cli.command.judges_the_engine()))
        .and_then(|()| run(cli.command));
    match result {
        Ok(()) => 0,
        Err(error) if is_closed_pipe(&error) => 0,
        Err(error) => match error.downcast_ref::<stop::EndedBy>() {
            Some(ended) => ended.0.exit_code(),
            None => {
                eprintln!("{} {}", error_label(), message(&error));
                if is_usage(&error) { 2 } else { 1 }
            }
        },
    }
}

/// True for a request that makes no sense; a name that no task has is one.
fn is_usage(error: &anyhow::Error) -> bool {
    let task = match error.downcast_ref::<CoreError>() {
        Some(CoreError::Bundle(task)) => Some(task),
        _ => error.downcast_ref::<TaskError>(),
    };
    let misnamed = matches!(
        task,
        Some(TaskError::Name { .. } | TaskError::Unknown { .. } | TaskError::Count { .. })
    );
    misnamed || error.is::<Usage>()
}

fn error_label() -> String {
    term::paint_error(term::Role::Error, "error:")
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Train(args) => commands::train::run(args),
        Command::Sft(args) => commands::sft::run(args),
        Command::Rl(args) => commands::rl::run(args),
        Command::Generate(args) => commands::generate::run(args),
        Command::Chat(args) => commands::chat::run(&args),
        Command::Serve(args) => commands::serve::run(args),
        Command::Eval(args) => commands::eval::run(args),
        Command::Export(args) => commands::export::run(&args),
        Command::Import(args) => commands::import::run(&args),
        Command::Data(command) => commands::data::run(command),
        Command::Tokenizer(command) => commands::tokenizer::run(command),
        Command::Mil(command) => commands::mil::run(command),
        Command::Devices(args) => commands::devices::run(args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Probe(args) => commands::probe::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Parity(args) => commands::parity::run(&args),
        Command::Dashboard(args) => commands::dashboard::run(&args),
        Command::Plan(args) => commands::plan::run(&args),
        Command::Pipe(args) => commands::pipe::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Engine => {
            print!("{}", engine::TOPIC);
            Ok(())
        }
    }
}

/// An error and its causes, each once: most errors carry the words of their cause already.
fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    text
}

/// True if the reader of our output went away (`anegpt … | head`), which is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}
