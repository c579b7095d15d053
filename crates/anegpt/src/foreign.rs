//! Files that are given as a model and are something else: what each is, and what to give instead.

use anyhow::{Result, bail};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes of a file's beginning that tell what it is.
const HEAD: usize = 512;

/// The kind of a file, by its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Safetensors,
    Gguf,
    PyTorch,
    Archive,
    Json,
    Tokenizer,
    Text,
    WebPage,
    LfsPointer,
}

impl Kind {
    fn of(head: &[u8]) -> Option<Kind> {
        let text = head.trim_ascii_start().to_ascii_lowercase();
        // The header's length, then the header itself.
        let length = head.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let begins = |with: &[u8]| head.starts_with(with);
        let holds = |part: &[u8]| head.windows(part.len()).any(|window| window == part);
        Some(match () {
            () if begins(b"version https://git-lfs.github.com/spec/") => Kind::LfsPointer,
            () if text.starts_with(b"<!doctype") || text.starts_with(b"<html") => Kind::WebPage,
            () if begins(b"GGUF") => Kind::Gguf,
            () if length < 1 << 32 && head.get(8) == Some(&b'{') => Kind::Safetensors,
            () if begins(b"PK\x03\x04") && holds(b"data.pkl") => Kind::PyTorch,
            () if begins(b"\x80\x02") || begins(b"\x80\x03") || begins(b"\x80\x04") => {
                Kind::PyTorch
            }
            () if begins(b"PK\x03\x04") || begins(b"\x1f\x8b") => Kind::Archive,
            () if text.starts_with(b"{") => Kind::Json,
            // The first piece of SentencePiece's and llama2.c's tokenizers.
            () if holds_early(head, b"<unk>") => Kind::Tokenizer,
            () if data::is_text(head) => Kind::Text,
            () => return None,
        })
    }

    fn of_file(path: &Path) -> Option<Kind> {
        let mut head = Vec::with_capacity(HEAD);
        File::open(path).ok()?.take(HEAD as u64).read_to_end(&mut head).ok()?;
        Kind::of(&head)
    }
}

/// True if `part` begins within the first bytes.
fn holds_early(head: &[u8], part: &[u8]) -> bool {
    head.windows(part.len()).take(16).any(|window| window == part)
}

/// The command that converts PyTorch's own files.
const SAVE: &str = "in Python: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)";

/// What is said of a file of weights that nanochat saved.
const CONVERT: &str = "of nanochat, which runs code when it is read: convert its directory with the Python script in docs/from-nanochat.md";

/// True for the name of a file of weights that nanochat saved.
fn is_nanochats(name: &str) -> bool {
    let step = name.strip_prefix("model_").and_then(|rest| rest.strip_suffix(".pt"));
    step.is_some_and(|step| !step.is_empty() && step.bytes().all(|b| b.is_ascii_digit()))
}

/// Refuses a directory in which nanochat saved models.
pub(crate) fn refuse_nanochats(directory: &Path) -> Result<()> {
    match find(directory, is_nanochats) {
        Some(file) => bail!("{} is a PyTorch file {CONVERT}", directory.join(file).display()),
        None => Ok(()),
    }
}

/// Refuses a file that is no model, if it can be told what it is instead.
pub(crate) fn refuse_model(path: &Path) -> Result<()> {
    refuse_stand_in(path)?;
    let Some(kind) = Kind::of_file(path) else { return Ok(()) };
    let file = path.display();
    let directory = match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => parent.display().to_string(),
        None => ".".to_owned(),
    };
    match kind {
        Kind::Safetensors => bail!(
            "{file} is a safetensors file, which has weights but not the model's shape: give the \
             directory that it lies in ({directory}), with its config.json"
        ),
        Kind::PyTorch
            if path.file_name().and_then(|name| name.to_str()).is_some_and(is_nanochats) =>
        {
            bail!("{file} is a PyTorch file {CONVERT}")
        }
        Kind::PyTorch => bail!(
            "{file} is a PyTorch file, which anegpt does not read: save the model as safetensors and \
             give that directory ({SAVE})"
        ),
        Kind::Archive => bail!("{file} is an archive: unpack it and give what is in it"),
        Kind::Json => bail!(
            "{file} is a JSON file: give the directory that it lies in ({directory}), if that has \
             weights too"
        ),
        Kind::Tokenizer => bail!(
            "{file} is a tokenizer, not a model: give it to --tokenizer, beside the model that it belongs to"
        ),
        Kind::Text => bail!(
            "{file} is a text, not a model: train one on it with anegpt train --data {file}, and give the \
             directory that --out names"
        ),
        Kind::Gguf | Kind::WebPage | Kind::LfsPointer => Ok(()),
    }
}

/// Refuses a tokenizer that Python pickled, as nanochat's is.
pub(crate) fn refuse_pickled_tokenizer(path: &Path) -> Result<()> {
    match Kind::of_file(path) {
        Some(Kind::PyTorch) => bail!(
            "{} was pickled by Python, which runs code when it is read: anegpt reads tokenizer.json (for nanochat's \
             tokenizer.pkl, docs/from-nanochat.md has a script that converts it)",
            path.display()
        ),
        _ => Ok(()),
    }
}

/// True if a file begins as GGUF files do.
pub(crate) fn is_gguf(path: &Path) -> bool {
    Kind::of_file(path) == Some(Kind::Gguf)
}

/// Refuses a file that only stands where the real one should be.
pub(crate) fn refuse_stand_in(path: &Path) -> Result<()> {
    let file = path.display();
    match Kind::of_file(path) {
        Some(Kind::WebPage) => bail!(
            "{file} is a web page: the address that it was downloaded from leads to a page (about the \
             file, or to log in), not to the file itself"
        ),
        Some(Kind::LfsPointer) => bail!(
            "{file} is a Git LFS pointer, not the file itself: run `git lfs pull` in that repository"
        ),
        _ => Ok(()),
    }
}

/// Refuses a directory in the layout of Hugging Face whose weights are not in safetensors files.
pub(crate) fn refuse_directory(directory: &Path) -> Result<()> {
    let has = |name: &str| directory.join(name).exists();
    if has("model.safetensors") || has("model.safetensors.index.json") {
        return Ok(());
    }
    let theirs = ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"];
    if let Some(found) = theirs.into_iter().find(|name| has(name)) {
        bail!(
            "{} has its weights in {found} only, which anegpt does not read: save the model as \
             safetensors and give that directory ({SAVE})",
            directory.display()
        );
    }
    if let Some(shard) = ending(directory, ".safetensors") {
        bail!(
            "{} has {shard} but no model.safetensors.index.json, which says what the parts hold: \
             download that too",
            directory.display()
        );
    }
    bail!("{} has a config.json but no weights: model.safetensors is missing", directory.display())
}

/// The first file of a directory, by name, whose name ends so.
pub(crate) fn ending(directory: &Path, end: &str) -> Option<String> {
    find(directory, |name| name.ends_with(end))
}

/// The first file of a directory, by name, that is wanted.
fn find(directory: &Path, wanted: impl Fn(&str) -> bool) -> Option<String> {
    let names = std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.file_name());
    let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    names.sort();
    names.into_iter().find(|name| wanted(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_tell_what_a_file_is() {
        let safetensors = [&30u64.to_le_bytes()[..], b"{\"a\":{}}"].concat();
        let zip = |name: &str| [b"PK\x03\x04".as_slice(), &[0; 26], name.as_bytes()].concat();
        for (head, kind) in [
            (&b"GGUF\x03\0\0\0"[..], Some(Kind::Gguf)),
            (&safetensors, Some(Kind::Safetensors)),
            (&zip("model/data.pkl"), Some(Kind::PyTorch)),
            (b"\x80\x02\x8a\nl\xfc", Some(Kind::PyTorch)),
            (&zip("weights.npy"), Some(Kind::Archive)),
            (b"\n <!DOCTYPE html><html>", Some(Kind::WebPage)),
            (b"<HTML><head>", Some(Kind::WebPage)),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", Some(Kind::LfsPointer)),
            (b"{\n  \"model_type\": \"llama\"\n}", Some(Kind::Json)),
            (b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02", Some(Kind::Tokenizer)),
            (b"\x07\0\0\0\0\0\0\0\x05\0\0\0<unk>", Some(Kind::Tokenizer)),
            ("Once upon a time, in einem fernen Königreich".as_bytes(), Some(Kind::Text)),
            // A llama2.c header: dim 288, hidden 768, 6 layers …
            (&[32u8, 1, 0, 0, 0, 3, 0, 0, 6, 0, 0, 0, 6, 0, 0, 0], None),
            (b"", None),
        ] {
            assert_eq!(Kind::of(head), kind, "{:?}", String::from_utf8_lossy(head));
        }
    }
}
