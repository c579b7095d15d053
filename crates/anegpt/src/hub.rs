//! Models by the address `hf://organisation/name[@revision]`: fetched once into the user's cache.
//!
//! ```text
//! CACHE/anegpt/models/ORGANISATION/NAME/COMMIT/config.json …   the files of a commit
//!                                       COMMIT/complete        written when all of them are there
//!                                       refs/REVISION          the commit that it was last time
//! ```

use crate::{engine, progress, term};
use anyhow::{Context, Result, anyhow, bail};
use data::download::{Hub, Listing, Progress, Repository, Stage};
use formats::hugging_face;
use std::path::{Path, PathBuf};

/// With which addresses begin.
const SCHEME: &str = "hf://";

/// Text files of a model, those that it must have first.
const TEXTS: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "chat_template.jinja",
];

/// The address in a path that is one.
pub(crate) fn address(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix(SCHEME)
}

/// Fetches a model, or continues to; returns its directory, or its file if the address names one that ends
/// in `.gguf`. Without a network, what was fetched before is used.
pub(crate) fn fetch(address: &str) -> Result<PathBuf> {
    let (repository, file) = parse(address)?;
    let caches = engine::caches().ok_or_else(|| {
        anyhow!("there is no directory for what is downloaded: set HOME, or XDG_CACHE_HOME")
    })?;
    let place = caches.join("anegpt").join("models").join(&repository.name);
    let noted = place.join("refs").join(repository.revision_component());
    let listing = match repository.list(&Hub::from_environment()) {
        Ok(listing) => listing,
        Err(error) => return earlier(&place, &noted, file.as_deref(), error.into()),
    };
    let directory = place.join(&listing.commit);
    let complete = directory.join(file.as_deref().unwrap_or("complete"));
    if !complete.exists() {
        match &file {
            Some(file) => get(&listing, file, &directory)?,
            None => model(&repository, &listing, &directory)?,
        }
    }
    write(&noted, &listing.commit)?;
    Ok(if file.is_some() { complete } else { directory })
}

/// The repository of an address, and the file in it if it names one.
fn parse(address: &str) -> Result<(Repository, Option<String>)> {
    let (name, revision) = address.split_once('@').unwrap_or((address, ""));
    let gguf = name.rsplit_once('/').filter(|(_, file)| file.ends_with(".gguf"));
    let repository = match gguf {
        Some((name, _)) if revision.is_empty() => Repository::parse(name),
        Some((name, _)) => Repository::parse(&format!("{name}@{revision}")),
        None => Repository::parse(address),
    };
    let repository = repository.with_context(|| format!("{SCHEME}{address}"))?;
    Ok((repository, gguf.map(|(_, file)| file.to_owned())))
}

/// What an earlier run has fetched of a revision, where the server does not answer.
fn earlier(
    place: &Path,
    noted: &Path,
    file: Option<&str>,
    error: anyhow::Error,
) -> Result<PathBuf> {
    let commit = std::fs::read_to_string(noted).unwrap_or_default();
    let directory = place.join(commit.trim());
    if commit.is_empty() || !directory.join(file.unwrap_or("complete")).exists() {
        return Err(error);
    }
    term::warn(&format!("{error}; commit {commit}, which was fetched before, is used"));
    Ok(file.map_or(directory.clone(), |file| directory.join(file)))
}

/// Fetches the files of a model: first what tells whether it can be computed.
fn model(repository: &Repository, listing: &Listing, directory: &Path) -> Result<()> {
    let name = &repository.name;
    let weights = weights(name, listing)?;
    for text in TEXTS.into_iter().filter(|text| listing.file(text).is_some()) {
        get(listing, text, directory)?;
        if text == "config.json" {
            let path = directory.join(text);
            let config = std::fs::read_to_string(&path).context("cannot read config.json")?;
            hugging_face::read_config(&config).map_err(|e| anyhow!("{name}: config.json: {e}"))?;
        }
    }
    get(listing, weights, directory)?;
    if weights.ends_with(".json") {
        let index = std::fs::read_to_string(directory.join(weights))?;
        let shards =
            hugging_face::read_index(&index).map_err(|e| anyhow!("{name}: {weights}: {e}"))?;
        shards.iter().try_for_each(|shard| get(listing, shard, directory))?;
    }
    write(&directory.join("complete"), "")
}

/// The file that has the weights, or the index of those that have them.
fn weights(name: &str, listing: &Listing) -> Result<&'static str> {
    if listing.file("config.json").is_none() {
        let gguf = listing.files.iter().find(|file| file.name.ends_with(".gguf"));
        let found = gguf.map_or(String::new(), |file| {
            format!("; it has GGUF files: give one of them, such as {SCHEME}{name}/{}", file.name)
        });
        bail!("{name} has no config.json{found}");
    }
    let known = ["model.safetensors", "model.safetensors.index.json"];
    known.into_iter().find(|known| listing.file(known).is_some()).ok_or_else(|| {
        anyhow!("{name} has no model.safetensors, and other files with weights are not read")
    })
}

fn get(listing: &Listing, name: &str, directory: &Path) -> Result<()> {
    let bar = progress::bytes("fetching", 0);
    let result = listing.fetch(name, directory, &mut |p: Progress| {
        bar.set_prefix(if p.stage == Stage::Transfer { "fetching" } else { "verifying" });
        bar.set_length(p.total.unwrap_or(p.done));
        bar.set_position(p.done);
    });
    bar.finish_and_clear();
    result.map(drop).map_err(Into::into)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::write(path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}
