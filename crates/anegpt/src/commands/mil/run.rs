//! `anegpt mil run`.

use super::source::{list, read_program, read_text};
use super::weights::{self, Files};
use crate::engine::EngineArgs;
use crate::machine::{self, DeviceChoice, Machine, NumericsChoice};
use crate::{arrays, files, term, usage};
use ane::{Executable, Port, Surface};
use anyhow::{Context, Result, bail};
use lab::array::Array;
use mil::text::parse_with_spans;
use mil::{DType, Program, TensorType, Weights};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Run a function of a program on arrays
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt mil run f.mil --input x=x.npy --input w=weights.npz --output out
  anegpt mil run f.mil --input inputs.npz --output outputs.npz --numerics f32
  anegpt mil run f.mil --input random:7 --output out --record f.anetrace")]
pub(crate) struct Args {
    /// Program (MIL text)
    file: PathBuf,
    /// An input: NAME=FILE.npy, NAME=FILE.npz or NAME=random:SEED; or all
    /// inputs: FILE.npz or random:SEED
    ///
    /// Of a .npz file, the array NAME is used, or its only one. Without a name, FILE.npz
    /// gives all inputs that it has, and random:SEED all that are left.
    #[arg(long = "input", value_name = "NAME=FILE", help_heading = "Data")]
    inputs: Vec<String>,
    /// Where to write outputs: a directory (NAME.npy each) or a file OUT.npz
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    output: PathBuf,
    /// Function to run [default: the first]
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Directory of weight files, @model_path [default: where FILE is]
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    weights: Option<PathBuf>,
    /// Where to compute
    #[arg(long, value_enum, default_value = "auto", help_heading = "Device")]
    device: DeviceChoice,
    /// Chip to emulate (list: anegpt devices) [default: m4]
    #[arg(long, help_heading = "Device")]
    chip: Option<chip::Chip>,
    /// System to emulate: macos15 or macos26 [default: macos15]
    #[arg(long, help_heading = "Device")]
    os: Option<chip::Os>,
    /// Arithmetic of the emulator [default: fast; on the CPU, f32]
    #[arg(long, value_enum, help_heading = "Device")]
    numerics: Option<NumericsChoice>,
    /// Also write a trace of the run, for mil replay
    #[arg(long, value_name = "FILE.anetrace", help_heading = "Data")]
    record: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    args.record.iter().try_for_each(|path| files::check_output("--record", path))?;
    let machine = machine::open_on(args.device, args.chip, args.os, args.numerics)?;
    let mut program = read_program(&args.file)?;
    let weights = read_weights(args, &program)?;
    if let Some(name) = &args.function {
        first(&mut program, name)?;
    }
    let (machine, recording) = match &args.record {
        Some(_) => {
            let (machine, recording) = machine.recorded(usize::MAX);
            (machine, Some(recording))
        }
        None => (machine, None),
    };
    let mut executable = machine.device.compile(&program, &weights)?;
    let given = Inputs::parse(&args.inputs)?;
    let (arrays, report) = execute(&machine, executable.as_mut(), &given)?;
    for (place, (_, array)) in arrays::write_all(&args.output, &arrays)?.iter().zip(&arrays) {
        println!("{place}  {}", array.ty);
    }
    let ran = format!("ran in {:.3} ms on: {}", report.seconds * 1e3, machine.device.describe());
    println!("{}", term::wrap(&ran, term::text_width(), "", "  "));
    if let Some(seconds) = report.hardware_seconds {
        println!("the hardware's own time: {:.3} ms", seconds * 1e3);
    }
    if let (Some(recording), Some(path)) = (recording, &args.record) {
        std::fs::write(path, recording.trace().to_bytes()?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("recorded in {}", path.display());
    }
    Ok(())
}

/// The weight files of a program; what is wrong with one of them is an error, what is odd a warning.
fn read_weights(args: &Args, program: &Program) -> Result<Weights> {
    let base = weights::base(&args.file, args.weights.as_ref());
    let weights = Files::read(program, &base).complete()?;
    let text = read_text(&args.file)?;
    let (program, spans) = parse_with_spans(&text)?;
    let findings = weights::findings(&text, &program, &spans, &weights);
    if !findings.faults.is_empty() {
        bail!("{}: a weight file cannot be read\n{}", args.file.display(), list(&findings.faults));
    }
    findings.warnings.iter().for_each(|warning| eprintln!("warning: {warning}\n"));
    Ok(weights)
}

/// Puts the function called `name` first, which is the one that devices compile.
fn first(program: &mut Program, name: &str) -> Result<()> {
    let Some(at) = program.functions.iter().position(|f| f.name == name) else {
        let known: Vec<&str> = program.functions.iter().map(|f| f.name.as_str()).collect();
        let known = known.join(", ");
        return Err(usage(format!("the program has no function `{name}`; it has: {known}")));
    };
    program.functions[..=at].rotate_right(1);
    Ok(())
}

/// Where an input comes from.
#[derive(Debug)]
enum Source {
    File(PathBuf),
    Random(u64),
}

/// The inputs given with `--input`.
#[derive(Debug, Default)]
struct Inputs {
    named: BTreeMap<String, Source>,
    archives: Vec<PathBuf>,
    rest: Option<u64>,
}

fn seed(text: &str) -> Option<Result<u64>> {
    let seed = text.strip_prefix("random:")?;
    let number =
        seed.parse().map_err(|_| usage(format!("random:{seed}: a seed is a whole number")));
    Some(number)
}

impl Inputs {
    fn parse(inputs: &[String]) -> Result<Self> {
        let mut all = Inputs::default();
        for input in inputs {
            if let Some(seed) = seed(input) {
                all.rest = Some(seed?);
            } else if let Some((name, source)) = input.split_once('=') {
                let source = match seed(source) {
                    Some(seed) => Source::Random(seed?),
                    None => Source::File(PathBuf::from(source)),
                };
                if all.named.insert(name.to_owned(), source).is_some() {
                    return Err(usage(format!("--input {name} is given twice")));
                }
            } else if arrays::is_npz(Path::new(input)) {
                all.archives.push(PathBuf::from(input));
            } else {
                return Err(usage(format!(
                    "--input {input}: write NAME=FILE.npy, FILE.npz or random:SEED"
                )));
            }
        }
        Ok(all)
    }

    /// The array for port number `index`.
    fn array(
        &self,
        index: usize,
        port: &Port,
        archives: &BTreeMap<String, Array>,
    ) -> Result<Array> {
        match self.named.get(&port.name) {
            Some(Source::Random(seed)) => return Ok(random(*seed, &port.ty)),
            Some(Source::File(path)) => return read_named(path, &port.name),
            None => {}
        }
        if let Some(array) = archives.get(&port.name) {
            return Ok(array.clone());
        }
        match self.rest {
            // Every port has numbers of its own.
            Some(seed) => Ok(random(seed.wrapping_add((index as u64) << 32), &port.ty)),
            None => Err(usage(format!(
                "input `{}` ({}) is missing: give --input {0}=FILE.npy",
                port.name, port.ty
            ))),
        }
    }
}

/// The array for an input called `name`: a file's only one, or that of an archive with this name.
fn read_named(path: &Path, name: &str) -> Result<Array> {
    if !arrays::is_npz(path) {
        return arrays::read(path);
    }
    let mut all = arrays::read_npz(path)?;
    let only = all.len() == 1;
    match all.iter().position(|(n, _)| n == name || only) {
        Some(at) => Ok(all.swap_remove(at).1),
        None => {
            let names: Vec<String> = all.into_iter().map(|(n, _)| n).collect();
            bail!("{} has no array `{name}`; it has: {}", path.display(), names.join(", "))
        }
    }
}

/// Numbers of [-1, 1) that fp16 holds, or 0 and 1 for integers and truth values (SplitMix64).
fn random(seed: u64, ty: &TensorType) -> Array {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let values = (0..ty.count())
        .map(|_| match ty.dtype {
            DType::Fp16 | DType::Fp32 => (next() >> 53) as f32 / 1024.0 - 1.0,
            _ => (next() >> 63) as f32,
        })
        .collect();
    Array { ty: ty.clone(), values }
}

type Outputs = Vec<(String, Array)>;

fn execute(
    machine: &Machine,
    executable: &mut dyn Executable,
    given: &Inputs,
) -> Result<(Outputs, ane::RunReport)> {
    let unknown = (given.named.keys())
        .find(|name| executable.inputs().iter().all(|port| port.name != **name));
    if let Some(name) = unknown {
        return Err(usage(format!("the program has no input `{name}`")));
    }
    let mut archives = BTreeMap::new();
    for path in &given.archives {
        archives.extend(arrays::read_npz(path)?);
    }
    let ports = executable.inputs().iter().chain(executable.outputs());
    let largest = ports.map(|port| port.ty.bytes()).max().unwrap_or(0);
    let allocation = largest.max(machine.device.least_allocation());
    let surfaces = |ports: &[Port]| -> Result<Vec<Surface>> {
        let new = |port: &Port| Ok(machine.device.surface(&port.ty, allocation)?);
        ports.iter().map(new).collect()
    };
    let mut inputs = vec![];
    for (index, port) in executable.inputs().iter().enumerate() {
        let array = given.array(index, port, &archives)?;
        if array.ty.shape != port.ty.shape {
            let (name, shape) = (&port.name, &array.ty.shape);
            bail!("the array for input `{name}` has shape {shape:?}, but it is a {}", port.ty);
        }
        let surface = machine.device.surface(&port.ty, allocation)?;
        surface.write(&array.values)?;
        inputs.push(surface);
    }
    let outputs = surfaces(executable.outputs())?;
    let (i, o): (Vec<_>, Vec<_>) = (inputs.iter().collect(), outputs.iter().collect());
    let report = executable.run(&i, &o)?;
    let arrays = (executable.outputs().iter().zip(&outputs))
        .map(|(port, surface)| {
            let mut values = vec![0.0; port.ty.count()];
            surface.read(&mut values)?;
            // Numbers are written as float32, which holds whatever the device computed.
            let ty = TensorType::new(DType::Fp32, port.ty.shape.clone());
            Ok((port.name.clone(), Array { ty, values }))
        })
        .collect::<Result<_>>()?;
    Ok((arrays, report))
}
