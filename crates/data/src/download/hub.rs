//! Models on Hugging Face's hub, or a server that answers as it does (`HF_ENDPOINT`): what a repository
//! holds at a revision, and its files.
//!
//! A revision is a name that moves, so files are asked for by the commit that it stands for: all of them are
//! of one version, also when a transfer is continued a week later.

use super::{Attempt, is_sha256};
use super::{Curl, Download, Downloaded, Progress, http_failure};
use crate::error::{Error, Result};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;

/// The server that is asked where no other is named.
pub const HUB: &str = "https://huggingface.co";
/// Longest answer about a repository.
const LONGEST_LISTING: u64 = 64 << 20;

/// A repository at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// `organisation/name`, or a name alone.
    pub name: String,
    /// Branch, tag or commit.
    pub revision: String,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path within the repository.
    pub name: String,
    /// Its size, where the server says it.
    pub bytes: Option<u64>,
    /// Its SHA-256 in hexadecimal; large files have one.
    pub sha256: Option<String>,
}

/// What a repository holds at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Address of the server.
    endpoint: String,
    /// Name of the repository.
    repository: String,
    /// The commit.
    pub commit: String,
    /// Its files.
    pub files: Vec<RemoteFile>,
}

impl Repository {
    /// Reads `name`, `organisation/name` or either with `@revision`.
    ///
    /// # Errors
    /// [`Error::Setting`] when it is none of these.
    pub fn parse(text: &str) -> Result<Repository> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let plain = |part: &str| {
            let characters = part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            characters && !["", ".", ".."].contains(&part)
        };
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > 2 || !parts.iter().copied().all(plain) {
            let expected = "the name of a repository: organisation/name";
            return Err(Error::Setting { name: "the model", value: name.to_owned(), expected });
        }
        if !revision.split('/').all(plain) {
            let expected = "the name of a branch, a tag or a commit";
            return Err(Error::Setting {
                name: "the revision",
                value: revision.to_owned(),
                expected,
            });
        }
        Ok(Repository { name: name.to_owned(), revision: revision.to_owned() })
    }

    /// The revision as a single component of a path or an address.
    pub fn revision_component(&self) -> String {
        self.revision.replace('/', "%2F")
    }

    /// Asks the server at `endpoint` what the repository holds.
    ///
    /// # Errors
    /// [`Error::CurlMissing`], or [`Error::Transfer`] when the server cannot be reached, refuses, or
    /// answers with something else.
    pub fn list(&self, endpoint: &str) -> Result<Listing> {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let revision = self.revision_component();
        let url = format!("{endpoint}/api/models/{}/revision/{revision}?blobs=true", self.name);
        let text = get(&url, "curl".as_ref())?;
        let fault = |problem: String| Error::Transfer {
            url: url.clone(),
            problem,
            advice: "check that HF_ENDPOINT names a server like huggingface.co".to_owned(),
        };
        let json: Value = serde_json::from_slice(&text)
            .map_err(|e| fault(format!("the answer is not a description of a model: {e}")))?;
        let commit = json["sha"].as_str().filter(|sha| is_commit(sha));
        let commit =
            commit.ok_or_else(|| fault("the answer names no commit".to_owned()))?.to_owned();
        let files = json["siblings"].as_array().into_iter().flatten().filter_map(file).collect();
        Ok(Listing { endpoint, repository: self.name.clone(), commit, files })
    }
}

/// A commit's id, which becomes the name of a directory.
fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// One entry of `siblings`.
fn file(json: &Value) -> Option<RemoteFile> {
    let sha256 = json["lfs"]["sha256"].as_str().filter(|sum| is_sha256(sum)).map(str::to_owned);
    let bytes = json["size"].as_u64().or(json["lfs"]["size"].as_u64());
    Some(RemoteFile { name: json["rfilename"].as_str()?.to_owned(), bytes, sha256 })
}

impl Listing {
    /// The file called `name`.
    pub fn file(&self, name: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Fetches a file of the top directory into `directory`, or continues to.
    ///
    /// # Errors
    /// Those of [`Download::run`]; [`Error::Transfer`] when there is no such file, or its size is not the
    /// announced one.
    pub fn fetch(
        &self,
        name: &str,
        directory: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Downloaded> {
        let Listing { endpoint, repository, commit, .. } = self;
        let url = format!("{endpoint}/{repository}/resolve/{commit}/{name}");
        let file = self.file(name).filter(|file| !file.name.contains(['/', '\\']));
        let Some(file) = file else {
            let problem = format!("{repository} has no file {name} at {commit}");
            return Err(Error::Transfer { url, problem, advice: "check the name".to_owned() });
        };
        let mut download = Download::new(url, directory.join(name));
        (download.bytes, download.sha256) = (file.bytes, file.sha256.clone());
        download.run(progress)
    }
}

/// The body of a short answer.
fn get(url: &str, curl: &OsStr) -> Result<Vec<u8>> {
    let failed = |attempt: Attempt| match attempt {
        Attempt::Complete => unreachable!("a failure was asked for"),
        Attempt::Failed { problem, advice, .. } => {
            Error::Transfer { url: url.to_owned(), problem, advice: advice.to_owned() }
        }
    };
    let mut curl = Curl::start(curl, url, 0, None)?;
    match curl.response() {
        None => return Err(failed(curl.failure())),
        Some(response) if response.status != 200 => {
            return Err(failed(http_failure(response.status)));
        }
        Some(_) => {}
    }
    let mut body = vec![];
    // What curl says about its end is the better explanation.
    let _ = (&mut curl.body).take(LONGEST_LISTING).read_to_end(&mut body);
    match curl.end() {
        None => Ok(body),
        Some(attempt) => Err(failed(attempt)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_named_with_and_without_a_revision() {
        let parse = |text: &str| Repository::parse(text).map(|r| (r.name, r.revision));
        let named = |name: &str, revision: &str| Some((name.to_owned(), revision.to_owned()));
        assert_eq!(parse("org/name").ok(), named("org/name", "main"));
        assert_eq!(parse("gpt2").ok(), named("gpt2", "main"));
        assert_eq!(parse("org/name@v1.0").ok(), named("org/name", "v1.0"));
        assert_eq!(parse("org/name@refs/pr/1").ok(), named("org/name", "refs/pr/1"));
        assert_eq!(
            Repository::parse("a/b@refs/pr/1").unwrap().revision_component(),
            "refs%2Fpr%2F1"
        );
        for bad in
            ["", "a/b/c", "a//b", "../b", "a/..", "a b/c", "a/b@", "a/b@../x", "a/b?x", "a\\b"]
        {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains("must be the name of"), "{bad}: {error}");
        }
    }

    #[test]
    fn files_have_the_sums_of_large_ones() {
        let sum = "ab".repeat(32);
        let json =
            serde_json::json!({"rfilename": "m", "size": 5, "lfs": {"sha256": sum, "size": 5}});
        let file = file(&json).unwrap();
        assert_eq!((file.bytes, file.sha256), (Some(5), Some(sum)));
        assert_eq!(super::file(&serde_json::json!({"size": 5})), None);
        let small = super::file(&serde_json::json!({"rfilename": "c"})).unwrap();
        assert_eq!((small.bytes, small.sha256), (None, None));
        assert!(is_commit(&"0a".repeat(20)) && !is_commit("../../..") && !is_commit("abc"));
    }
}
