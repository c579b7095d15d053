//! The Parquet files of published tasks, in the layout of nanochat's `task_data`.

use crate::commands::data::fetch;
use crate::{files, usage};
use anyhow::{Context, Result};
use data::download::{Dataset, Hub};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tasks::{Kind, Options, Python, Split, Task};

/// Where they are unless told otherwise.
pub(crate) const DIRECTORY: &str = "task_data";
/// Stands among files of which some may be missing.
const FETCHING: &str = "fetching";
/// Lists the files once all are there.
const MANIFEST: &str = "manifest.json";

/// The directory `given`, else [`DIRECTORY`], to be found from any directory.
pub(crate) fn directory(given: Option<&Path>) -> Result<PathBuf> {
    files::absolute(given.unwrap_or(Path::new(DIRECTORY)))
}

/// Opens the test parts of tasks, whose answers must be judged. Files that are missing are fetched into `directory`. Says
/// where programs run, if a task runs any; `instead` is what to do where that is not allowed.
pub(crate) fn open_asked(
    names: &[&str],
    directory: &Path,
    allow_code_exec: bool,
    instead: &str,
) -> Result<Vec<Arc<dyn Task>>> {
    names.iter().try_for_each(|name| check_judged(name))?;
    let runs = names.contains(&"humaneval");
    if runs && !allow_code_exec {
        return Err(usage(format!(
            "humaneval runs programs that the model writes: allow it with --allow-code-exec, or {instead}"
        )));
    }
    let python = if runs { Some(find_python()?) } else { None };
    let options = Options { data: directory, python: python.as_ref(), ..Options::default() };
    let open = |name: &&str| {
        provide(name, Split::Test, directory)?;
        Ok(Arc::from(tasks::open(name, Split::Test, &options)?))
    };
    names.iter().map(open).collect()
}

/// Refuses a task whose answers are not judged.
pub(crate) fn check_judged(name: &str) -> Result<()> {
    let (unjudged, judged): (Vec<_>, Vec<_>) =
        tasks::all().into_iter().partition(|task| task.kind == Kind::Training);
    if !unjudged.iter().any(|task| task.name == name) {
        return Ok(());
    }
    let judged: Vec<&str> = judged.iter().map(|task| task.name).collect();
    Err(usage(format!(
        "the answers to `{name}` are not judged: it is for sft. Judged are: {}",
        judged.join(", ")
    )))
}

/// Finds Python, and says how programs run.
pub(crate) fn find_python() -> Result<Python> {
    let python = Python::find()?;
    eprintln!("programs run in {}", python.describe());
    Ok(python)
}

/// Fetches the files of a part of a task into `directory`, unless they are there or it needs none.
pub(crate) fn provide(name: &str, split: Split, directory: &Path) -> Result<()> {
    let Some(source) = tasks::source(name, split)? else { return Ok(()) };
    let place = directory.join(&source.directory);
    let fetching = place.join(FETCHING);
    if has_parquet(&place) && !fetching.exists() {
        return Ok(());
    }
    let files = Dataset::parse(&source.data_set)?.list(&Hub::from_environment());
    let files = files.with_context(|| {
        let place = place.display();
        format!("the files of the task `{name}` are not in {place}, and cannot be fetched")
    })?;
    let downloads = files.downloads(&Hub::from_environment(), &place, usize::MAX);
    let written = || format!("cannot write to {}", place.display());
    fs::create_dir_all(&place).with_context(written)?;
    fs::write(&fetching, "").with_context(written)?;
    fetch(&downloads)?;
    let names = downloads.iter().filter_map(|file| file.to.file_name()?.to_str());
    let manifest = serde_json::to_string(&names.collect::<Vec<_>>())?;
    fs::write(place.join(MANIFEST), manifest).with_context(written)?;
    fs::remove_file(&fetching).with_context(written)
}

fn has_parquet(directory: &Path) -> bool {
    let listed = fs::read_dir(directory).into_iter().flatten().flatten();
    listed.into_iter().any(|file| file.path().extension().is_some_and(|end| end == "parquet"))
}
