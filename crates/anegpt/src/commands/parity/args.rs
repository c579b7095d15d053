//! The flags of `anegpt parity`.

use super::runs::Variant;
use crate::engine::EngineArgs;
use crate::machine::NumericsChoice;
use crate::number;
use crate::plan_choice::PlanChoice;
use crate::setup::RunArgs;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, FromArgMatches};
use gpt::plan::BASELINE;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Flags beside those of a run.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Own {
    /// Runs of each kind, with seeds that count up from --seed
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Comparison")]
    #[arg(value_parser = number::whole(1u64))]
    pub(super) seeds: u64,
    /// Steps between the checkpoints at which the layers of the first seed's runs are
    /// compared, besides the best; all of them are kept [default: a quarter of the run]
    #[arg(long, value_name = "N", help_heading = "Comparison")]
    #[arg(value_parser = number::whole(1u64))]
    pub(super) compare_every: Option<u64>,
    /// Relative difference of a layer's weights, or of a loss, that counts as a divergence
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, help_heading = "Comparison")]
    pub(super) divergence: f64,
}

/// A comparison.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(super) own: Own,
    pub(super) variants: Vec<Variant>,
    pub(super) first_seed: u64,
    pub(super) out: PathBuf,
    pub(super) flags: Flags,
}

/// Flags for every run, as they were typed.
#[derive(Clone, Debug, Default)]
pub(super) struct Flags {
    /// When it begins.
    pub(super) first: Vec<OsString>,
    /// When it goes on: what a run does not keep.
    pub(super) later: Vec<OsString>,
}

impl Flags {
    fn typed(matches: &ArgMatches) -> Self {
        let run = <RunArgs as clap::Args>::augment_args(Command::new("train"));
        let engine = <EngineArgs as clap::Args>::augment_args(Command::new("train"));
        let of = |command: &Command, wanted: &dyn Fn(&str) -> bool| -> Vec<OsString> {
            let arguments = command.get_arguments();
            arguments
                .filter(|arg| wanted(arg.get_id().as_str()))
                .flat_map(|arg| again(arg, matches))
                .collect()
        };
        let engine = of(&engine, &|_| true);
        Flags {
            first: [of(&run, &|id| !REPLACED.contains(&id) && !refuses(id)), engine.clone()]
                .concat(),
            later: [of(&run, &|id| id == "eval_every"), engine].concat(),
        }
    }
}

/// A flag as it was typed; nothing where it was not.
fn again(arg: &Arg, matches: &ArgMatches) -> Vec<OsString> {
    let id = arg.get_id().as_str();
    let (true, Some(long)) = (is_typed(matches, id), arg.get_long()) else { return vec![] };
    if !arg.get_action().takes_values() {
        return vec![format!("--{long}").into()];
    }
    let with = |value: &OsStr| {
        let mut flag = OsString::from(format!("--{long}="));
        flag.push(value);
        flag
    };
    matches.get_raw(id).into_iter().flatten().map(with).collect()
}

fn is_typed(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}

const EXAMPLES: &str = "\
Examples:
  anegpt parity                                  the default run, nine times
  anegpt parity --numerics f32,fast --seeds 5
  anegpt parity --plan baseline,fused --numerics fast --steps 200
  anegpt parity --preset stories15m --data stories.txt --out out/parity-15m";

/// Flags of a run that a comparison takes and does not pass on as they are.
const REPLACED: [&str; 4] = ["numerics", "plan", "seed", "out"];

/// Flags of a run that a comparison does not take, with the reason.
const REFUSED: [(&str, &str); 5] = [
    ("resume", "the same command, given again, goes on with a comparison that was interrupted"),
    (
        "checkpoint_every",
        "--compare-every N sets the steps between the checkpoints that are compared",
    ),
    ("keep", "it keeps the checkpoints that it compares, and the last one of every other run"),
    ("sample_every", "its runs write no samples"),
    ("prompt", "its runs write no samples"),
];

fn refuses(id: &str) -> bool {
    REFUSED.iter().any(|refused| refused.0 == id)
}

impl clap::Args for Args {
    fn augment_args(command: Command) -> Command {
        let command = EngineArgs::augment_args(RunArgs::augment_args(Own::augment_args(command)));
        let list = |arg: clap::Arg| arg.value_delimiter(',').help_heading("Comparison");
        let about = "Compare how a model learns under different arithmetic and plans";
        command
            .about(about)
            .long_about(LONG)
            .after_help(EXAMPLES)
            .mut_arg("numerics", |arg| {
                list(arg)
                    .default_value("f32,fast,exact")
                    .help("Kinds of arithmetic; the first one is what the others are compared with")
            })
            .mut_arg("plan", |arg| {
                list(arg).default_value(BASELINE.name).help("Plans, each with every --numerics")
            })
            .mut_arg("seed", |arg| arg.help("First seed [default: 42]"))
            .mut_arg("out", |arg| arg.help("Directory of the runs [default: out/parity]"))
            .mut_arg("hardware_time", |arg| arg.hide(true))
            .mut_args(|arg| match refuses(arg.get_id().as_str()) {
                true => arg.hide(true),
                false => arg,
            })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

const LONG: &str = "\
Compare how a model learns under different arithmetic and plans

Trains the same model on the same data in the same order once for each --numerics and --plan, with \
several seeds, and tells how far the results lie apart: validation losses and their gap to the first \
kind of run with its noise, the first step at which losses part, and the first checkpoint at which each \
layer's weights do.

The runs stay in --out with their logs and checkpoints, beside pictures and tables. A comparison that \
was interrupted goes on when the same command is given again.";

impl FromArgMatches for Args {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let refused = REFUSED.iter().find(|(id, _)| is_typed(matches, id));
        if let Some((id, instead)) = refused {
            let reason = format!("parity takes no --{}: {instead}\n", id.replace('_', "-"));
            return Err(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, reason));
        }
        let numerics = || matches.get_many::<NumericsChoice>("numerics").into_iter().flatten();
        let plans = || matches.get_many::<PlanChoice>("plan").into_iter().flatten();
        let mut variants: Vec<Variant> = vec![];
        for &plan in plans() {
            for &numerics in numerics() {
                let variant = Variant { numerics, plan };
                if !variants.contains(&variant) {
                    variants.push(variant);
                }
            }
        }
        Ok(Args {
            own: Own::from_arg_matches(matches)?,
            variants,
            first_seed: matches.get_one("seed").copied().unwrap_or(42),
            out: matches.get_one("out").cloned().unwrap_or_else(|| PathBuf::from("out/parity")),
            flags: Flags::typed(matches),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
