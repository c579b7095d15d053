//! The TinyStories data set (Eldan and Li, 2023; CDLA-Sharing-1.0): as text, and as the tokens
//! that the Stories models of llama2.c were trained on.

use super::{Download, Progress, unpack_tar_gz};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Directory of the unpacked tokens.
const SHARDS: &str = "TinyStories_tok32000";

/// The downloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TinyStories {
    /// 50 shards of 16-bit ids, tokenized with the 32,000 pieces of Llama 2; 1 GB as an archive.
    Tokens,
    /// The stories written by GPT-4, as text with separators; 2.2 GB.
    Text,
}

/// Files that are there, parts for training and validation being apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TinyStoriesFiles {
    /// To learn from.
    pub train: Vec<PathBuf>,
    /// Never to learn from: llama2.c keeps shard 0 for validation; the text has a file of its own.
    pub validation: Vec<PathBuf>,
}

impl TinyStories {
    /// Addresses and names of the files to fetch; for [`TinyStories::Text`] training first.
    pub fn urls(self) -> &'static [(&'static str, &'static str)] {
        match self {
            TinyStories::Tokens => &[(
                "https://huggingface.co/datasets/enio/TinyStories/resolve/main/tok32000/TinyStories_tok32000.tar.gz",
                "TinyStories_tok32000.tar.gz",
            )],
            TinyStories::Text => &[
                (
                    "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-train.txt",
                    "TinyStoriesV2-GPT4-train.txt",
                ),
                (
                    "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-valid.txt",
                    "TinyStoriesV2-GPT4-valid.txt",
                ),
            ],
        }
    }

    /// Fetches into `dir` what is not there yet, continuing what was begun. The archive of the
    /// tokens is removed once it is unpacked.
    pub fn fetch(self, dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<TinyStoriesFiles> {
        self.fetch_with(dir, &mut |url, to| Download::new(url, to), progress)
    }

    /// [`TinyStories::fetch`] with downloads made, from address and target, by `download`: other
    /// mirrors, retries, programs.
    pub fn fetch_with(
        self,
        dir: &Path,
        download: &mut dyn FnMut(&str, PathBuf) -> Download,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<TinyStoriesFiles> {
        match self {
            TinyStories::Tokens => {
                let shards = dir.join(SHARDS);
                if !shards.exists() {
                    let (url, name) = self.urls()[0];
                    let archive = dir.join(name);
                    download(url, archive.clone()).run(progress)?;
                    unpack_tar_gz(&archive, &shards, progress)?;
                    std::fs::remove_file(&archive).map_err(Error::io(&archive, "remove"))?;
                }
                split_shards(&shards)
            }
            TinyStories::Text => {
                let mut paths = Vec::new();
                for (url, name) in self.urls() {
                    download(url, dir.join(name)).run(progress)?;
                    paths.push(dir.join(name));
                }
                let validation = paths.split_off(1);
                Ok(TinyStoriesFiles { train: paths, validation })
            }
        }
    }
}

/// `dataNN.bin` below `dir`: number 0 for validation, the others for training.
fn split_shards(dir: &Path) -> Result<TinyStoriesFiles> {
    let mut files = Vec::new();
    find_shards(dir, &mut files)?;
    files.sort();
    let (validation, train): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|path| path.file_name().is_some_and(|n| n == "data00.bin"));
    if validation.len() != 1 || train.is_empty() {
        return Err(Error::Archive {
            path: dir.to_owned(),
            problem: format!(
                "expected data00.bin (validation) and more shards, found {} and {}; delete the \
                 directory and download again",
                validation.len(),
                train.len()
            ),
        });
    }
    Ok(TinyStoriesFiles { train, validation })
}

fn find_shards(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir, "list"))? {
        let entry = entry.map_err(Error::io(dir, "list"))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(Error::io(&path, "read"))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if kind.is_dir() {
            find_shards(&path, files)?;
        } else if name.starts_with("data") && name.ends_with(".bin") {
            files.push(path);
        }
    }
    Ok(())
}
