//! `anegpt mil`.

mod diff;
mod replay;
mod run;

use anyhow::{Context, Result, anyhow, bail};
use mil::{Program, Weights};
use std::path::{Path, PathBuf};

/// Check, format, run and compare MIL programs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Parse and verify a program; every fault is shown with its place.
    Check {
        /// Program text.
        file: PathBuf,
        /// Also hold it against the rules of this chip, m1 … m5-max.
        #[arg(long)]
        chip: Option<ane::Chip>,
        /// The system whose rules hold, macos15 or macos26 [default: macos15].
        #[arg(long, requires = "chip")]
        os: Option<ane::Os>,
        /// One JSON object with the faults on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Print a program in canonical form.
    Fmt {
        /// Program text.
        file: PathBuf,
        /// Replace the file instead of printing.
        #[arg(long)]
        write: bool,
    },
    Run(run::Args),
    Replay(replay::Args),
    Diff(diff::Args),
}

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Check { file, chip, os, json } => check(&file, chip, os, json),
        Command::Fmt { file, write } => {
            let program = mil::parse(&read_text(&file)?)
                .map_err(|e| anyhow!("{} is not a program\n{e}", file.display()))?;
            let text = mil::text::print(&program);
            if write {
                return std::fs::write(&file, text)
                    .with_context(|| format!("cannot write {}", file.display()));
            }
            print!("{text}");
            Ok(())
        }
        Command::Run(args) => run::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Diff(args) => diff::run(&args),
    }
}

fn read_text(file: &Path) -> Result<String> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    String::from_utf8(bytes).map_err(|e| {
        anyhow!("{} is not UTF-8 text: byte {}", file.display(), e.utf8_error().valid_up_to())
    })
}

fn check(file: &Path, chip: Option<ane::Chip>, os: Option<ane::Os>, json: bool) -> Result<()> {
    let mut broken = vec![];
    let faults = match mil::check_text(&read_text(file)?) {
        Ok(program) => {
            if let Some(chip) = chip {
                let defaults = ane::Profile::default();
                let profile = ane::Profile { chip, os: os.unwrap_or(defaults.os), ..defaults };
                broken = ane::legal::violations(&program, &profile);
            }
            if !json {
                for f in &program.functions {
                    println!(
                        "{}: function {} is well formed: {} inputs, {} operations, {} outputs",
                        file.display(),
                        f.name,
                        f.params,
                        f.ops.iter().filter(|op| op.value.is_none()).count(),
                        f.outputs.len()
                    );
                }
            }
            vec![]
        }
        Err(faults) => faults,
    };
    if json {
        let list: Vec<_> = (faults.iter())
            .map(|d| {
                serde_json::json!({
                    "line": d.place.as_ref().map(|p| p.line),
                    "column": d.place.as_ref().map(|p| p.column),
                    "context": d.context,
                    "message": d.message,
                    "hint": d.hint,
                })
            })
            .collect();
        let rules: Vec<_> = broken.iter().map(|v| (v.rule.id, v.to_string())).collect();
        println!("{}", serde_json::json!({ "file": file, "faults": list, "rules": rules }));
    } else {
        broken.iter().for_each(|violation| eprintln!("{violation}"));
    }
    let refused =
        broken.iter().filter(|v| v.rule.severity != ane::legal::Severity::Warning).count();
    if refused > 0 {
        bail!("{}: {refused} rule(s) broken", file.display());
    }
    if faults.is_empty() {
        return Ok(());
    }
    if !json {
        faults.iter().for_each(|fault| eprintln!("{fault}\n"));
    }
    bail!("{}: {} fault(s)", file.display(), faults.len())
}

fn read_program(file: &Path) -> Result<Program> {
    mil::check_text(&read_text(file)?).map_err(|faults| {
        let list: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow!("{} is not a valid program\n{}", file.display(), list.join("\n\n"))
    })
}

/// The weight files a program names, `@model_path` being `base`.
fn read_weights(program: &Program, base: &Path) -> Result<Weights> {
    let mut weights = Weights::new();
    let literals = program.functions.iter().flat_map(|f| &f.ops).filter_map(|op| op.value.as_ref());
    for literal in literals {
        if let mil::Payload::Blob { path, .. } = &literal.payload
            && !weights.contains_key(path)
        {
            let place = base.join(path.strip_prefix("@model_path/").unwrap_or(path));
            let bytes = std::fs::read(&place)
                .with_context(|| format!("cannot read the weight file {}", place.display()))?;
            weights.insert(path.clone(), bytes);
        }
    }
    Ok(weights)
}
