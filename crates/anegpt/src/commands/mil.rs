//! `anegpt mil`.

use crate::machine::{self, DeviceChoice, NumericsChoice};
use crate::{npy, usage};
use ane::Surface;
use anyhow::{Context, Result, anyhow, bail};
use mil::{Program, Weights};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Check, format and run MIL programs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Check(super::check::Args),
    /// Print a program in canonical form.
    Fmt {
        /// Program text.
        file: PathBuf,
        /// Replace the file instead of printing.
        #[arg(long)]
        write: bool,
    },
    /// Run a program's first function on arrays.
    Run {
        /// Program text.
        file: PathBuf,
        /// An input: NAME=FILE.npy.
        #[arg(long = "input", value_name = "NAME=FILE")]
        inputs: Vec<String>,
        /// Directory for the outputs: one NAME.npy each.
        #[arg(long)]
        output: PathBuf,
        /// Directory that stands for @model_path in BLOBFILE paths [default: that of FILE].
        #[arg(long)]
        weights: Option<PathBuf>,
        /// Where to compute.
        #[arg(long, value_enum, default_value = "auto")]
        device: DeviceChoice,
        /// Chip whose rules the emulator keeps [default: m4].
        #[arg(long)]
        chip: Option<ane::Chip>,
        /// Arithmetic of the emulator.
        #[arg(long, value_enum)]
        numerics: Option<NumericsChoice>,
    },
}

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Check(args) => super::check::run(&args),
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
        Command::Run { file, inputs, output, weights, device, chip, numerics } => {
            let machine = machine::open(device, chip, numerics)?;
            let program = read_program(&file)?;
            let base = weights.or_else(|| file.parent().map(Path::to_owned)).unwrap_or_default();
            let weights = read_weights(&program, &base)?;
            let given = named_inputs(&inputs)?;
            execute(&machine, &program, &weights, &given, &output)
        }
    }
}

pub(super) fn read_text(file: &Path) -> Result<String> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    String::from_utf8(bytes).map_err(|e| {
        anyhow!("{} is not UTF-8 text: byte {}", file.display(), e.utf8_error().valid_up_to())
    })
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

fn named_inputs(inputs: &[String]) -> Result<BTreeMap<&str, &Path>> {
    let mut named = BTreeMap::new();
    for input in inputs {
        let (name, path) = input
            .split_once('=')
            .ok_or_else(|| usage(format!("--input {input}: write NAME=FILE.npy")))?;
        named.insert(name, Path::new(path));
    }
    Ok(named)
}

fn execute(
    machine: &machine::Machine,
    program: &Program,
    weights: &Weights,
    given: &BTreeMap<&str, &Path>,
    output: &Path,
) -> Result<()> {
    let mut executable = machine.device.compile(program, weights)?;
    let ports = executable.inputs().iter().chain(executable.outputs());
    let largest = ports.map(|port| port.ty.bytes()).max().unwrap_or(0);
    let allocation = largest.max(machine.device.least_allocation());
    let surfaces = |ports: &[ane::Port]| -> Result<Vec<Surface>> {
        Ok(ports
            .iter()
            .map(|p| machine.device.surface(&p.ty, allocation))
            .collect::<Result<_, _>>()?)
    };
    let (inputs, outputs) = (surfaces(executable.inputs())?, surfaces(executable.outputs())?);
    for (port, surface) in executable.inputs().iter().zip(&inputs) {
        let path = given.get(port.name.as_str()).ok_or_else(|| {
            usage(format!(
                "input `{}` ({}) is missing: give --input {0}=FILE.npy",
                port.name, port.ty
            ))
        })?;
        let (shape, values) = npy::read(path)?;
        if shape != port.ty.shape {
            bail!(
                "{}: shape {shape:?}, but input `{}` is a {}",
                path.display(),
                port.name,
                port.ty
            );
        }
        surface.write(&values)?;
    }
    if let Some(name) =
        given.keys().find(|name| executable.inputs().iter().all(|p| p.name != **name))
    {
        return Err(usage(format!("the program has no input `{name}`")));
    }
    let report =
        executable.run(&inputs.iter().collect::<Vec<_>>(), &outputs.iter().collect::<Vec<_>>())?;
    std::fs::create_dir_all(output)
        .with_context(|| format!("cannot create {}", output.display()))?;
    for (port, surface) in executable.outputs().iter().zip(&outputs) {
        let mut values = vec![0.0; port.ty.count()];
        surface.read(&mut values)?;
        let path = output.join(format!("{}.npy", port.name));
        npy::write(&path, &port.ty.shape, &values)?;
        println!("{}  {}", path.display(), port.ty);
    }
    println!("ran in {:.3} ms on: {}", report.seconds * 1e3, machine.device.describe());
    Ok(())
}
