//! `anegpt data download`.

use crate::{number, progress, usage};
use anyhow::{Result, anyhow};
use data::download::{
    Dataset, Download, Downloaded, Hub, Overall, Stage, TinyStories, climbmix, fetch_all,
};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Before the name of a data set on the hub.
const SCHEME: &str = "hf://datasets/";
/// Shards of ClimbMix that are fetched unless told otherwise.
const SHARDS: u32 = 8;
/// Files that are fetched at the same time.
const AT_ONCE: usize = 4;

/// Download a data set, or resume the download
///
/// climbmix is what nanochat learns from: shards of 100 MB, each with 250 million characters of text, and one
/// more to validate with. hf://datasets/ORG/NAME/SUBSET/SPLIT is any data set on Hugging Face's hub, as Parquet
/// files; without SUBSET/SPLIT, its training split. An access token in HF_TOKEN (or where Hugging Face's programs
/// keep it) is shown to the hub alone.
///
/// Files that are there are checked and not fetched again, and partial ones are continued.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt data download climbmix -n 8
  anegpt data download hf://datasets/openai/gsm8k/main/train
  anegpt data download tinystories")]
pub(crate) struct Args {
    /// Data set: tinystories (text written by GPT-4, 2.2 GB), tinystories-tokens (such
    /// text as ids of Llama 2's vocabulary, 1 GB), climbmix, or hf://datasets/...
    #[arg(value_name = "DATA")]
    name: DataSet,
    /// Files: of climbmix besides the one to validate with [default: 8], of hf://... the
    /// first N [default: all]
    #[arg(short, long, value_name = "N")]
    #[arg(value_parser = number::whole(1u32))]
    number: Option<u32>,
    /// Directory to write to [default: data/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A data set that can be downloaded.
#[derive(Clone, Debug)]
enum DataSet {
    Stories(TinyStories),
    Climbmix,
    Hub(Dataset),
}

impl FromStr for DataSet {
    type Err = String;

    fn from_str(text: &str) -> Result<DataSet, String> {
        match text {
            "tinystories" => Ok(DataSet::Stories(TinyStories::Text)),
            "tinystories-tokens" => Ok(DataSet::Stories(TinyStories::Tokens)),
            "climbmix" => Ok(DataSet::Climbmix),
            _ => match text.strip_prefix(SCHEME) {
                Some(name) => {
                    Dataset::parse(name).map(DataSet::Hub).map_err(|error| error.to_string())
                }
                None => Err(format!(
                    "give tinystories, tinystories-tokens, climbmix, or {SCHEME}ORG/NAME"
                )),
            },
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let out = |name: &str| args.out.clone().unwrap_or_else(|| Path::new("data").join(name));
    let hub = Hub::from_environment();
    match &args.name {
        DataSet::Stories(_) if args.number.is_some() => {
            Err(usage("-n is for climbmix and hf://...: tinystories is fetched whole"))
        }
        DataSet::Stories(set) => stories(*set, &out("tinystories")),
        DataSet::Climbmix => {
            let out = out("climbmix");
            fetch(&climbmix(&hub, &out, args.number.unwrap_or(SHARDS)))?;
            report(&out);
            Ok(())
        }
        DataSet::Hub(set) => {
            let files = set.list(&hub)?;
            let name = set.directory().join(&files.subset).join(&files.split);
            let out = args.out.clone().unwrap_or_else(|| Path::new("data").join(name));
            let count = args.number.map_or(usize::MAX, |number| number as usize);
            fetch(&files.downloads(&hub, &out, count))?;
            report(&out);
            Ok(())
        }
    }
}

/// Fetches files, several at a time, and tells what became of each.
pub(crate) fn fetch(downloads: &[Download]) -> Result<()> {
    let bar = progress::bytes("fetching", 0);
    let result = fetch_all(downloads, AT_ONCE, &mut |overall: Overall| {
        bar.set_prefix(format!("{}/{}", overall.files, downloads.len()));
        bar.set_length(overall.total.unwrap_or(overall.done));
        bar.set_position(overall.done);
    });
    bar.finish_and_clear();
    let got = result.map_err(|error| match error {
        data::Error::Transfer { .. } => {
            anyhow!("{error}. Files that are complete are kept, and partial ones continued")
        }
        other => other.into(),
    })?;
    for (download, Downloaded { bytes, fetched, .. }) in downloads.iter().zip(got) {
        let how = if fetched { "fetched" } else { "there already" };
        println!("{}: {}, {how}", download.to.display(), progress::size(bytes));
    }
    Ok(())
}

fn report(out: &Path) {
    println!("To learn from it: anegpt train --data {} --packing bos-fit", out.display());
}

fn stories(set: TinyStories, out: &Path) -> Result<()> {
    let bar = progress::bytes("fetching", 0);
    let result = set.fetch(out, &mut |p| {
        bar.set_prefix(match p.stage {
            Stage::Transfer => "fetching",
            Stage::Verify => "verifying",
            Stage::Unpack => "unpacking",
        });
        bar.set_length(p.total.unwrap_or(p.done));
        bar.set_position(p.done);
    });
    bar.finish_and_clear();
    let files = result?;
    for (part, paths) in [("train", &files.train), ("validation", &files.validation)] {
        paths.iter().for_each(|path| println!("{part:10} {}", path.display()));
    }
    Ok(())
}
