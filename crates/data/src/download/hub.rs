//! Models on Hugging Face's hub, or a server that answers as it does (`HF_ENDPOINT`): what a repository
//! holds at a revision, and its files.
//!
//! A revision is a name that moves, so files are asked for by the commit that it stands for: all of them are
//! of one version, also when a transfer is continued a week later.

use super::curl::{Ask, Opened, is_loopback, same_origin};
use super::{Attempt, Download, Downloaded, Progress, Token, http_failure, is_sha256};
use crate::error::{Error, Result};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The server that is asked where no other is named.
pub const HUB: &str = "https://huggingface.co";
/// Longest answer about a repository.
const LONGEST_LISTING: u64 = 64 << 20;

/// A server like the hub, and the token to show to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    endpoint: String,
    token: Option<Token>,
}

impl Hub {
    /// The server at `endpoint`. A token is shown only over a secure connection, or to this machine.
    pub fn new(endpoint: &str, token: Option<Token>) -> Hub {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let safe = endpoint.starts_with("https://") || is_loopback(&format!("{endpoint}/"));
        Hub { endpoint, token: token.filter(|_| safe) }
    }

    /// The server that `HF_ENDPOINT` names, else [`HUB`], and [`Token::from_environment`].
    pub fn from_environment() -> Hub {
        let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|text| !text.is_empty());
        Hub::new(endpoint.as_deref().unwrap_or(HUB), Token::from_environment())
    }

    /// Its address, without a slash at the end.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The address on this server that another one is to be asked for by: hubs that stand in for [`HUB`]
    /// answer with its addresses. `None` if it is none.
    pub(super) fn address(&self, url: &str) -> Option<String> {
        match url.strip_prefix(HUB) {
            Some(path) if path.starts_with('/') => Some(format!("{}{path}", self.endpoint)),
            _ => (url.starts_with("https://") || is_loopback(url)).then(|| url.to_owned()),
        }
    }

    /// The token, for an address on this server.
    fn token_for(&self, url: &str) -> Option<Token> {
        self.token.clone().filter(|_| same_origin(url, &self.endpoint))
    }

    /// A download of something that people read of at `page`. The token is shown to this server alone.
    pub(super) fn download(&self, url: &str, to: PathBuf, page: &str) -> Download {
        let mut download = Download::new(url, to);
        download.token = self.token_for(url);
        download.denied = Some(self.denied(page));
        download
    }

    /// What to do where the server does not give what stands at `page`.
    fn denied(&self, page: &str) -> String {
        let Hub { endpoint, token } = self;
        let conditions = format!("accept its conditions at {endpoint}/{page}");
        match token {
            None => format!(
                "it is gated or private, or does not exist. If it is gated, {conditions}, and set HF_TOKEN to \
                 a token of your account ({endpoint}/settings/tokens)"
            ),
            Some(_) => format!(
                "your token (HF_TOKEN, or huggingface/token in the cache) gives no access to it. If it is \
                 gated, {conditions} with the token's account, and let the token read gated repositories"
            ),
        }
    }

    /// The body of a short answer, about what people read of at `page`.
    ///
    /// # Errors
    /// [`Error::CurlMissing`], [`Error::Transfer`] or [`Error::Denied`].
    pub(super) fn get(&self, url: &str, page: &str) -> Result<Vec<u8>> {
        let failed = |attempt: Attempt| match attempt {
            Attempt::Complete => unreachable!("a failure was asked for"),
            Attempt::Failed { problem, advice, .. } => {
                Error::Transfer { url: url.to_owned(), problem, advice: advice.to_owned() }
            }
        };
        let token = self.token_for(url);
        let ask = Ask { url, from: 0, etag: None, token: token.as_ref() };
        let Opened { mut curl, response } = match ask.open("curl".as_ref())? {
            Ok(opened) => opened,
            Err(attempt) => return Err(failed(attempt)),
        };
        match response.status {
            200 => {}
            status @ (401 | 403) => {
                return Err(Error::Denied {
                    url: url.to_owned(),
                    status,
                    advice: self.denied(page),
                });
            }
            status => return Err(failed(http_failure(status))),
        }
        let mut body = vec![];
        // What curl says about its end is the better explanation.
        let _ = (&mut curl.body).take(LONGEST_LISTING).read_to_end(&mut body);
        match curl.end() {
            None => Ok(body),
            Some(attempt) => Err(failed(attempt)),
        }
    }
}

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
    hub: Hub,
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

    /// Asks a server what the repository holds.
    ///
    /// # Errors
    /// [`Error::CurlMissing`], or [`Error::Transfer`] when the server cannot be reached, refuses, or
    /// answers with something else; [`Error::Denied`] when it asks for a token, or the token does not do.
    pub fn list(&self, hub: &Hub) -> Result<Listing> {
        let revision = self.revision_component();
        let endpoint = hub.endpoint();
        let url = format!("{endpoint}/api/models/{}/revision/{revision}?blobs=true", self.name);
        let text = hub.get(&url, &self.name)?;
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
        Ok(Listing { hub: hub.clone(), repository: self.name.clone(), commit, files })
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
        let Listing { hub, repository, commit, .. } = self;
        let url = format!("{}/{repository}/resolve/{commit}/{name}", hub.endpoint());
        let file = self.file(name).filter(|file| !file.name.contains(['/', '\\']));
        let Some(file) = file else {
            let problem = format!("{repository} has no file {name} at {commit}");
            return Err(Error::Transfer { url, problem, advice: "check the name".to_owned() });
        };
        let mut download = hub.download(&url, directory.join(name), repository);
        (download.bytes, download.sha256) = (file.bytes, file.sha256.clone());
        download.run(progress)
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
