//! `anegpt export`.

use crate::files::{self, ModelFile};
use crate::{number, progress, usage};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use formats::hugging_face::{self, Reader};
use formats::llama2c::{self, Version};
use formats::peft::{Adapter, Factors};
use formats::{Model, Precision, gguf};
use gpt::Layout;
use std::path::{Path, PathBuf};
use tokenizer::chat::nanochat_in_jinja;
use train::{OptimizerConfig, checkpoint};

/// Write a model in the format of another program
///
/// What the format cannot express is refused by name. Text and stop tokens are taken along:
/// other programs give the same tokens and end where anegpt generate does.
///
/// Of nanochat's models, transformers computes the plain one (hf). Every other is written with
/// Python code of its own (hf-code), which transformers runs with trust_remote_code=True.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt export out/run-1 --to gguf --dtype q8_0 --out mine.gguf
  anegpt export out/run-1 --to hf --dtype bf16 --out mine
  anegpt export out/nanochat --to hf-code --out mine
  anegpt export out/tuned --to llama2c --out mine.bin")]
pub(crate) struct Args {
    /// Model: a directory or a file (or --model)
    #[arg(value_name = "MODEL", conflicts_with = "model", required_unless_present = "model")]
    path: Option<PathBuf>,
    /// Model: a directory or a file
    #[arg(short, long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Format
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: Format,
    /// File or directory to write, which must not be there yet
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// How matrices are stored; each other than f32 rounds
    #[arg(long, value_enum, value_name = "TYPE", default_value = "f32")]
    dtype: Dtype,
    /// Most bytes of a file of weights; more are written beside it (hf, hf-code)
    #[arg(long, value_name = "N", value_parser = number::whole(1u64))]
    shard_bytes: Option<u64>,
    /// Tokenizer file, if the model comes without one
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
}

/// Formats of other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A Hugging Face directory: f32, f16, bf16
    Hf,
    /// The same with Python code of the model, for nanochat's: f32, f16, bf16
    HfCode,
    /// A GGUF file: f32, f16, bf16, q8_0
    Gguf,
    /// The factors of a model that was tuned with --lora, as PEFT's files: f32
    Peft,
    /// A llama2.c file: f32 (version 0), int8 (version 2)
    Llama2c,
    /// A llama2.c file with the newer header (version 1): f32
    Llama2cV1,
}

/// How matrices are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Dtype {
    F32,
    F16,
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
    Int8,
}

/// A format with a type that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    HuggingFace(Precision, Reader),
    Gguf(Precision),
    Llama2c(Version),
    Peft,
}

/// The types of a directory for `reader`.
const fn hugging_face_for(reader: Reader) -> [(Dtype, Target); 3] {
    [
        (Dtype::F32, Target::HuggingFace(Precision::F32, reader)),
        (Dtype::F16, Target::HuggingFace(Precision::F16, reader)),
        (Dtype::Bf16, Target::HuggingFace(Precision::Bf16, reader)),
    ]
}

impl Format {
    /// The types that it has, and what is written for each.
    fn types(self) -> &'static [(Dtype, Target)] {
        use Target::{Gguf, Llama2c};
        match self {
            Format::Hf => &const { hugging_face_for(Reader::Transformers) },
            Format::HfCode => &const { hugging_face_for(Reader::TransformersWithCode) },
            Format::Gguf => &[
                (Dtype::F32, Gguf(Precision::F32)),
                (Dtype::F16, Gguf(Precision::F16)),
                (Dtype::Bf16, Gguf(Precision::Bf16)),
                (Dtype::Q8_0, Gguf(Precision::Q8_0)),
            ],
            Format::Llama2c => {
                &[(Dtype::F32, Llama2c(Version::V0)), (Dtype::Int8, Llama2c(Version::V2))]
            }
            Format::Peft => &[(Dtype::F32, Target::Peft)],
            Format::Llama2cV1 => &[(Dtype::F32, Llama2c(Version::V1))],
        }
    }

    fn target(self, dtype: Dtype) -> Result<Target> {
        let known = self.types().iter().find(|(known, _)| *known == dtype);
        known.map(|(_, target)| *target).ok_or_else(|| {
            let name = |(dtype, _): &(Dtype, Target)| {
                dtype.to_possible_value().map(|value| value.get_name().to_owned())
            };
            let names: Vec<String> = self.types().iter().filter_map(name).collect();
            usage(format!("--dtype: this format stores {}", names.join(", ")))
        })
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let target = args.to.target(args.dtype)?;
    if args.shard_bytes.is_some() && !matches!(target, Target::HuggingFace(..)) {
        return Err(usage("--shard-bytes is for --to hf and hf-code: other formats are one file"));
    }
    vacant(&args.out)?;
    let path = args.model.as_ref().or(args.path.as_ref());
    let path = path.ok_or_else(|| usage("no model given: anegpt export MODEL"))?;
    if target == Target::Peft {
        return adapter(path, &args.out);
    }
    let model = files::read_model(path)?;
    let given = args.tokenizer.as_deref();
    match target {
        Target::HuggingFace(precision, reader) => {
            expressible(&model, reader)?;
            let model = conversing(model.open(given)?);
            directory(model, &args.out, precision, args.shard_bytes, reader)
        }
        Target::Gguf(precision) => {
            let model = conversing(model.open(given)?);
            let values = model.parameters.read();
            in_place(&args.out, |path| {
                Ok(gguf::write(path, &model.described(), &values, precision)?)
            })?;
            report(&args.out, &model.described())
        }
        Target::Llama2c(version) => llama2c(model, given, &args.out, version),
        Target::Peft => unreachable!("it is written by now"),
    }
}

/// Writes the adapter of a run that was tuned with LoRA.
fn adapter(path: &Path, out: &Path) -> Result<()> {
    let (found, _) = checkpoint::newest(path)?;
    let (config, notes) = train::run::saved(&found)?;
    let OptimizerConfig::Lora(lora) = config.optimizer else {
        bail!("{} was not tuned with sft --lora: it has no adapter", path.display());
    };
    let layout = Layout::new(&config.model);
    let mut factors = vec![];
    for (index, param) in layout.params().iter().enumerate().filter(|(_, p)| lora.targets.has(p)) {
        let stored = layout.tensors().iter().find(|tensor| tensor.parts.contains(&index));
        let stored = stored.expect("every parameter is stored");
        if stored.parts.len() > 1 {
            bail!(
                "`{}` has one matrix for several, for which PEFT has one pair of factors and this run several: export \
                 the merged model (--to hf), or tune without this target",
                stored.name
            );
        }
        let (rows, columns) = (param.shape[0], param.shape[1]);
        let (mut a, mut b) = (vec![0.0; lora.rank * columns], vec![0.0; rows * lora.rank]);
        let name = |factor: &str| format!("{}.lora_{factor}", param.name);
        found.read_tensors(
            "optimizer.safetensors",
            [
                (name("A"), vec![lora.rank, columns], &mut a[..]),
                (name("B"), vec![rows, lora.rank], &mut b[..]),
            ],
        )?;
        let module = stored.name.strip_suffix(".weight").unwrap_or(&stored.name);
        // Hugging Face's class of GPT-2 keeps its layers in a part of its own.
        let inner = if config.model.family.name() == "gpt2" { "transformer." } else { "" };
        factors.push(Factors {
            module: format!("{inner}{module}"),
            extents: [rows, columns],
            a,
            b,
        });
    }
    let base = notes.get("base").and_then(|base| base.as_str()).map(str::to_owned);
    let base = base.map(|base| base.strip_prefix("hf://").unwrap_or(&base).to_owned());
    let adapter = Adapter { base, rank: lora.rank, alpha: lora.alpha, factors };
    in_place(out, |path| {
        std::fs::create_dir(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(adapter.write(path)?)
    })?;
    report(out, &Model::new(&config.model))
}

/// Refuses a model that the reader of a directory does not compute; names the other kind, if that is for it.
fn expressible(model: &ModelFile, reader: Reader) -> Result<()> {
    let config = model.parameters.config();
    let Err(refused) = hugging_face::expressible(config, reader) else { return Ok(()) };
    let (other, name) = match reader {
        Reader::TransformersWithCode => {
            (Reader::Transformers, "--to hf writes it for transformers' own class")
        }
        _ => (
            Reader::TransformersWithCode,
            "--to hf-code writes it with code of its own, which transformers runs with trust_remote_code=True",
        ),
    };
    match hugging_face::expressible(config, other) {
        Ok(()) => bail!("{refused}; {name}"),
        Err(_) => Err(refused.into()),
    }
}

/// The model with what other programs need in order to talk by nanochat's tokens, if it has these and no template: a
/// template, and the token that ends an answer.
fn conversing(mut model: files::Opened) -> files::Opened {
    if model.chat_template.is_none()
        && let Some((template, end)) = nanochat_in_jinja(&model.tokenizer)
    {
        model.chat_template = Some(template.to_owned());
        model.ends.push(end);
    }
    model
}

/// Writes a directory in the layout of Hugging Face, which is that of our checkpoints.
pub(super) fn directory(
    model: files::Opened,
    out: &Path,
    precision: Precision,
    shard_bytes: Option<u64>,
    reader: Reader,
) -> Result<()> {
    let values = model.parameters.read();
    in_place(out, |path| {
        std::fs::create_dir(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(hugging_face::write(path, &model.described(), &values, precision, shard_bytes, reader)?)
    })?;
    report(out, &model.described())
}

/// Writes the weights, and beside them the tokenizer if the format can express it.
fn llama2c(model: ModelFile, given: Option<&Path>, out: &Path, version: Version) -> Result<()> {
    let (parameters, own) = (model.parameters, model.tokenizer);
    let values = parameters.read();
    in_place(out, |path| Ok(llama2c::write(path, parameters.config(), &values, version)?))?;
    report(out, &Model::new(parameters.config()))?;
    if given.or(own.as_deref()).is_none() {
        return Ok(());
    }
    let tokenizer = files::read_tokenizer(given, own.as_deref())?;
    let beside = out.with_extension("tokenizer.bin");
    let vocab = parameters.config().vocab_size;
    match llama2c::write_tokenizer(&beside, &tokenizer, vocab) {
        Ok(()) => println!("{}: the tokenizer, for -z", beside.display()),
        Err(error) => {
            eprintln!("note: no tokenizer was written, which run.c needs for texts: {error}")
        }
    }
    Ok(())
}

/// Refuses a place where something is.
pub(super) fn vacant(out: &Path) -> Result<()> {
    if out.symlink_metadata().is_ok() {
        bail!("{} is there already: choose another --out, or remove it", out.display());
    }
    Ok(())
}

/// Has `write` write to a temporary place beside `out`, which becomes `out` when all of it is written.
fn in_place(out: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let cannot = || format!("cannot write {}", out.display());
    std::fs::create_dir_all(parent).with_context(cannot)?;
    let scratch =
        tempfile::Builder::new().prefix(".anegpt-").tempdir_in(parent).with_context(cannot)?;
    let written = scratch.path().join("out");
    write(&written)?;
    vacant(out)?;
    std::fs::rename(&written, out).with_context(cannot)
}

/// Says what was written.
fn report(out: &Path, model: &Model<'_>) -> Result<()> {
    let size = |path: &Path| path.metadata().map(|data| data.len());
    let bytes = match out.is_dir() {
        false => size(out)?,
        true => std::fs::read_dir(out)?
            .map(|entry| entry.and_then(|entry| size(&entry.path())))
            .sum::<std::io::Result<u64>>()?,
    };
    println!("{}: {}, {}", out.display(), model.config, progress::size(bytes));
    Ok(())
}
