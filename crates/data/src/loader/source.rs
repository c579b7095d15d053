//! Where tokens come from: memory, or one or more mapped files read as one stream.

use crate::error::{Error, Result};
use crate::tokens::TokenFile;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A stream of tokens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TokenSource(Arc<Inner>);

#[derive(Debug)]
enum Inner {
    Memory(Vec<u32>),
    /// Files one after the other, each with the position of its first token.
    Files {
        files: Vec<(usize, TokenFile)>,
        len: usize,
    },
}

impl From<Vec<u32>> for TokenSource {
    fn from(tokens: Vec<u32>) -> TokenSource {
        TokenSource(Arc::new(Inner::Memory(tokens)))
    }
}

impl From<TokenFile> for TokenSource {
    fn from(file: TokenFile) -> TokenSource {
        TokenSource::from(vec![file])
    }
}

impl From<Vec<TokenFile>> for TokenSource {
    fn from(files: Vec<TokenFile>) -> TokenSource {
        let mut len = 0;
        let files = files
            .into_iter()
            .map(|file| {
                let start = len;
                len += file.len();
                (start, file)
            })
            .collect();
        TokenSource(Arc::new(Inner::Files { files, len }))
    }
}

impl TokenSource {
    /// A token file, or all `*.bin` files of a directory in the order of their names. Hidden files
    /// are passed over.
    pub fn open(path: impl AsRef<Path>) -> Result<TokenSource> {
        let path = path.as_ref();
        let files = if path.is_dir() { shards(path)? } else { vec![path.to_owned()] };
        if files.is_empty() {
            let problem = "no token files (*.bin) in this directory";
            return Err(Error::NoText { path: path.to_owned(), problem });
        }
        let files: Vec<TokenFile> = files.iter().map(TokenFile::open).collect::<Result<_>>()?;
        Ok(TokenSource::from(files))
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        match &*self.0 {
            Inner::Memory(tokens) => tokens.len(),
            Inner::Files { len, .. } => *len,
        }
    }

    /// True if there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The vocabulary size that the headers of the files state: the largest, if any does.
    pub fn vocab_size(&self) -> Option<u32> {
        match &*self.0 {
            Inner::Memory(_) => None,
            Inner::Files { files, .. } => {
                files.iter().filter_map(|(_, file)| file.format().vocab_size()).max()
            }
        }
    }

    /// Copies tokens `start .. start + out.len()`.
    ///
    /// # Panics
    /// When the range goes past [`TokenSource::len`].
    pub fn read(&self, start: usize, out: &mut [u32]) {
        match &*self.0 {
            Inner::Memory(tokens) => out.copy_from_slice(&tokens[start..start + out.len()]),
            Inner::Files { files, len } => {
                assert!(start + out.len() <= *len, "read past the end of the token files");
                let mut done = 0;
                let mut i = files.partition_point(|(first, _)| *first <= start).saturating_sub(1);
                while done < out.len() {
                    let (first, file) = &files[i];
                    let at = start + done - first;
                    let n = (file.len() - at).min(out.len() - done);
                    file.read(at, &mut out[done..done + n]);
                    done += n;
                    i += 1;
                }
            }
        }
    }

    /// Checks that every id is below `vocab_size`.
    ///
    /// # Errors
    /// [`Error::TokenId`] with the place and position of the first that is not.
    pub fn check_ids(&self, vocab_size: u32) -> Result<()> {
        match &*self.0 {
            Inner::Memory(tokens) => match tokens.iter().position(|&id| id >= vocab_size) {
                Some(i) => Err(self.bad_id(i, tokens[i], vocab_size)),
                None => Ok(()),
            },
            Inner::Files { files, .. } => {
                files.iter().try_for_each(|(_, file)| file.check_ids(vocab_size))
            }
        }
    }

    pub(super) fn bad_id(&self, at: usize, id: u32, vocab_size: u32) -> Error {
        let first = match &*self.0 {
            Inner::Memory(_) => 0,
            Inner::Files { files, .. } => files
                .iter()
                .map(|(first, _)| *first)
                .take_while(|first| *first <= at)
                .last()
                .unwrap_or(0),
        };
        Error::TokenId { place: self.place(at), position: (at - first) as u64, id, vocab_size }
    }

    /// Name of what holds token `at`, for errors.
    pub(super) fn place(&self, at: usize) -> String {
        match &*self.0 {
            Inner::Memory(_) => "the text".to_owned(),
            Inner::Files { files, .. } => files
                .iter()
                .take_while(|(first, _)| *first <= at)
                .last()
                .map_or_else(String::new, |(_, file)| file.path().display().to_string()),
        }
    }
}

/// True if the name is that of a token file: `*.bin`, and not hidden.
pub fn is_token_file(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "bin") && !crate::text::is_hidden(path)
}

fn shards(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir, "list"))? {
        let path = entry.map_err(Error::io(dir, "list"))?.path();
        if is_token_file(&path) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
