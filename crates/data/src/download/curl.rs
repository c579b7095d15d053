//! One run of `curl`: its arguments, the headers at the front of its output, its way of failing.

use super::{Attempt, Token, is_sha256};
use crate::error::{Error, Result};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

/// Most bytes of headers that are read.
const HEADERS: u64 = 256 << 10;

/// The headers of the last answer, after redirections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) length: Option<u64>,
    /// First byte and size of the whole, from `Content-Range`.
    pub(super) range: Option<(Option<u64>, Option<u64>)>,
    /// The entity tag, if it is a strong one.
    pub(super) etag: Option<String>,
    /// Where it is instead.
    pub(super) location: Option<String>,
    /// SHA-256 of the file as Hugging Face announces it, in whichever answer.
    pub(super) linked_sha256: Option<String>,
}

/// A running transfer. Dropping it stops curl.
pub(super) struct Curl {
    child: Child,
    pub(super) body: BufReader<ChildStdout>,
    messages: ChildStderr,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) url: &'a str,
    /// First byte.
    pub(super) from: u64,
    /// The version that the bytes before it are of.
    pub(super) etag: Option<&'a str>,
    /// Shown to the server of `url` alone.
    pub(super) token: Option<&'a Token>,
}

/// A transfer whose headers were read, and the last of them.
pub(super) struct Opened {
    pub(super) curl: Curl,
    pub(super) response: Response,
}

/// Redirections that are followed.
const REDIRECTIONS: usize = 10;

impl Ask<'_> {
    /// Begins the transfer. With a token, redirections on the same server are followed here, and the first to
    /// another one without the token: what curl itself does with it depends on its version.
    pub(super) fn open(self, program: &OsStr) -> Result<std::result::Result<Opened, Attempt>> {
        let (mut url, mut sum) = (self.url.to_owned(), None);
        for _ in 0..=REDIRECTIONS {
            let token = self.token.filter(|_| same_origin(&url, self.url));
            let mut curl = Curl::start(program, Ask { url: &url, token, ..self })?;
            let Some(mut response) = curl.response(token.is_none()) else {
                return Ok(Err(curl.failure()));
            };
            sum = sum.or(response.linked_sha256.take());
            response.linked_sha256.clone_from(&sum);
            match response.location.take().filter(|_| (300..400).contains(&response.status)) {
                None => return Ok(Ok(Opened { curl, response })),
                Some(location) => match resolve(&url, &location) {
                    Some(next) => url = next,
                    None => return Ok(Err(explain(Some(1), &format!("moved to {location}")))),
                },
            }
        }
        Ok(Err(explain(Some(47), "")))
    }
}

impl Curl {
    fn start(program: &OsStr, ask: Ask<'_>) -> Result<Curl> {
        let Ask { url, from, etag, token } = ask;
        let mut command = Command::new(program);
        // No ~/.curlrc: an option there could send the output elsewhere. Proxies are still taken
        // from the environment.
        command.args(["--disable", "--silent", "--show-error", "--include"]);
        command.args(["--connect-timeout", "30", "--speed-limit", "1", "--speed-time", "60"]);
        let redirections = if url.starts_with("https:") { "=https" } else { "=http,https" };
        command.args(["--proto", "=http,https", "--proto-redir", redirections]);
        command.args(["--suppress-connect-headers", "--max-redirs", &REDIRECTIONS.to_string()]);
        command.args(["--user-agent", concat!("anegpt/", env!("CARGO_PKG_VERSION"))]);
        if is_loopback(url) {
            command.args(["--noproxy", "*"]);
        }
        match token {
            None => command.arg("--location"),
            // Arguments are seen by everyone on the machine, standard input by nobody.
            Some(_) => command.args(["--config", "-"]),
        };
        if from > 0 {
            command.args(["--range", &format!("{from}-")]);
            if let Some(etag) = etag {
                command.args(["--header", &format!("If-Range: {etag}")]);
            }
        }
        command.args(["--url", url]);
        let input = if token.is_some() { Stdio::piped() } else { Stdio::null() };
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let missing = |_| Error::CurlMissing {
            program: program.to_string_lossy().into_owned(),
            url: url.to_owned(),
        };
        let mut child = command.spawn().map_err(missing)?;
        if let (Some(token), Some(mut input)) = (token, child.stdin.take()) {
            // A curl that does not read it fails, and says why.
            let _ = writeln!(input, "header = \"Authorization: Bearer {}\"", token.secret());
        }
        let output = child.stdout.take().expect("standard output was asked to be piped");
        let messages = child.stderr.take().expect("standard error was asked to be piped");
        Ok(Curl { child, body: BufReader::with_capacity(64 << 10, output), messages })
    }

    /// Reads the headers of every answer up to the last, whose body follows: where curl `follows` them,
    /// redirections are not the last. `None` when curl ended before.
    fn response(&mut self, follows: bool) -> Option<Response> {
        read_response(&mut self.body, follows)
    }

    /// Waits for curl. `None` when it was content.
    pub(super) fn end(mut self) -> Option<Attempt> {
        let mut message = Vec::new();
        let _ = (&mut self.messages).take(4096).read_to_end(&mut message);
        let message = String::from_utf8_lossy(&message).trim().to_owned();
        match self.child.wait() {
            Ok(status) if status.success() => None,
            Ok(status) => Some(explain(status.code(), &message)),
            Err(e) => Some(explain(None, &e.to_string())),
        }
    }

    /// The failure of a curl that gave no answer.
    pub(super) fn failure(self) -> Attempt {
        self.end().unwrap_or_else(|| Attempt::Failed {
            problem: "curl ended without an answer".into(),
            advice: "run the command again",
            retry: true,
        })
    }
}

impl Drop for Curl {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn is_loopback(url: &str) -> bool {
    ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"].iter().any(|h| url.starts_with(h))
}

/// Scheme, name and port of an address.
fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let server = rest.split(['/', '?', '#']).next()?;
    // What stands before an @ is no part of the server's name.
    let plain = !server.is_empty() && !server.contains(['@', '\\']);
    plain.then(|| format!("{scheme}://{server}").to_ascii_lowercase())
}

pub(super) fn same_origin(a: &str, b: &str) -> bool {
    origin(a).is_some_and(|a| Some(a) == origin(b))
}

/// The address that `location` is, as `url` names it; none that leads from a secure connection to another.
fn resolve(url: &str, location: &str) -> Option<String> {
    let next = match location {
        _ if location.starts_with("//") => format!("{}:{location}", url.split_once(':')?.0),
        _ if location.starts_with('/') => format!("{}{location}", origin(url)?),
        _ => location.to_owned(),
    };
    let schemes: &[&str] = match url.starts_with("https://") {
        true => &["https://"],
        false => &["https://", "http://"],
    };
    let fits = schemes.iter().any(|scheme| next.starts_with(scheme)) && origin(&next).is_some();
    fits.then_some(next)
}

/// Quoted, not weak, and safe to send back.
pub(super) fn is_strong_etag(etag: &str) -> bool {
    let quoted = etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"');
    quoted && etag.len() < 256 && etag.bytes().all(|b| b.is_ascii_graphic())
}

fn read_response(output: &mut impl BufRead, follows: bool) -> Option<Response> {
    let mut lines = output.take(HEADERS);
    let mut linked_sha256 = None;
    loop {
        let status = next_line(&mut lines)?;
        let status = status.strip_prefix("HTTP/")?.split_whitespace().nth(1)?.parse().ok()?;
        let mut response = Response { status, ..Response::default() };
        loop {
            let line = next_line(&mut lines)?;
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(':') else { continue };
            response.header(name, value.trim());
        }
        linked_sha256 = response.linked_sha256.take().or(linked_sha256);
        let moved = (300..400).contains(&status) && response.location.is_some();
        let interim = status < 200 || follows && moved;
        if !interim {
            return Some(Response { linked_sha256, ..response });
        }
    }
}

/// A line without its end; `None` at the end of the output.
fn next_line(lines: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    lines.read_until(b'\n', &mut line).ok()?;
    let text = String::from_utf8_lossy(line.strip_suffix(b"\n")?).into_owned();
    Some(text.trim_end_matches('\r').to_owned())
}

impl Response {
    fn header(&mut self, name: &str, value: &str) {
        match name.to_ascii_lowercase().as_str() {
            "location" => self.location = Some(value.to_owned()),
            "content-length" => self.length = value.parse().ok(),
            "content-range" => self.range = parse_range(value),
            "etag" => self.etag = is_strong_etag(value).then(|| value.to_owned()),
            "x-linked-etag" => {
                let sum = value.trim_matches('"');
                self.linked_sha256 = is_sha256(sum).then(|| sum.to_ascii_lowercase());
            }
            _ => {}
        }
    }
}

/// `bytes 100-199/200`, `bytes 100-199/*` or `bytes */200` (RFC 9110, 14.4).
fn parse_range(value: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (span, total) = value.strip_prefix("bytes")?.trim().split_once('/')?;
    let start = match span.split_once('-') {
        Some((start, _)) => Some(start.parse().ok()?),
        None => None,
    };
    Some((start, total.parse().ok()))
}

/// Returns the meaning of an HTTP status for the user.
pub(super) fn http_failure(status: u16) -> Attempt {
    let (what, advice, retry) = match status {
        401 | 403 => (
            " (access denied)",
            "check that the file is public, or download it in a browser and give its path",
            false,
        ),
        404 | 410 => (" (not found)", "the file may have moved; check the address", false),
        408 | 425 | 429 => (" (too many requests)", "wait some minutes and run it again", true),
        500..=599 => (" (the server has a problem)", "wait some minutes and run it again", true),
        _ => ("", "check the address", false),
    };
    Attempt::Failed { problem: format!("the server answered {status}{what}"), advice, retry }
}

/// Exit codes of curl, from its manual.
fn explain(code: Option<i32>, message: &str) -> Attempt {
    const NETWORK: &str = "check the network connection (and https_proxy, if you use a proxy)";
    let (what, advice, retry) = match code {
        Some(1 | 3) => ("the address is malformed", "check the address", false),
        Some(5) => ("the proxy was not found", NETWORK, false),
        Some(6) => ("the server's name was not found", NETWORK, false),
        Some(7) => ("the server cannot be reached", NETWORK, false),
        Some(28) => ("the transfer stalled", NETWORK, true),
        Some(35 | 51 | 53..=54 | 58..=60 | 66 | 77 | 80..=83 | 90 | 91) => (
            "no secure connection",
            "check the date of this machine, its certificates, and any proxy in between",
            false,
        ),
        Some(47) => ("too many redirections", "check the address", false),
        Some(_) => ("the transfer broke off", "run the command again", true),
        None => ("curl was stopped", "run the command again", true),
    };
    let problem = if message.is_empty() { what.to_owned() } else { format!("{what} ({message})") };
    Attempt::Failed { problem, advice, retry }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_answer_counts_and_the_announced_sum_is_kept() {
        let sum = "ab".repeat(32);
        let text = format!(
            "HTTP/2 302 \r\nLocation: https://cdn/x\r\nX-Linked-Etag: \"{sum}\"\r\nEtag: \"a\"\r\n\r\n\
             HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 5-9/10\r\nETag: \"b\"\r\n\
             Content-Length: 5\r\n\r\nBODY"
        );
        let mut output = text.as_bytes();
        let response = read_response(&mut output, true).unwrap();
        let expected = Response {
            status: 206,
            length: Some(5),
            range: Some((Some(5), Some(10))),
            etag: Some("\"b\"".into()),
            location: None,
            linked_sha256: Some(sum),
        };
        assert_eq!(response, expected);
        assert_eq!(output, b"BODY");
    }

    #[test]
    fn servers_are_told_apart() {
        let hub = "https://huggingface.co/a/b";
        for same in
            ["https://huggingface.co", "https://HuggingFace.co/x?y", "https://huggingface.co?x"]
        {
            assert!(same_origin(hub, same), "{same}");
        }
        for other in [
            "http://huggingface.co/a",
            "https://huggingface.co:444/a",
            "https://huggingface.co.evil.org/a",
            "https://evil.org/huggingface.co",
            "https://huggingface.co@evil.org/a",
            "huggingface.co/a",
        ] {
            assert!(!same_origin(hub, other), "{other}");
        }
    }

    #[test]
    fn redirections_are_resolved_and_stay_secure() {
        let from = |location| resolve("https://hub.co/a/b?c", location);
        assert_eq!(from("/d/e").as_deref(), Some("https://hub.co/d/e"));
        assert_eq!(from("//cdn.co/d").as_deref(), Some("https://cdn.co/d"));
        assert_eq!(from("https://cdn.co/d?e").as_deref(), Some("https://cdn.co/d?e"));
        for bad in ["http://cdn.co/d", "file:///etc/passwd", "d/e", "", "https://"] {
            assert_eq!(from(bad), None, "{bad}");
        }
        assert!(resolve("http://127.0.0.1:80/a", "http://127.0.0.1:81/b").is_some());
    }

    #[test]
    fn weak_and_strange_tags_are_not_used() {
        for bad in ["W/\"x\"", "x", "\"", "\"a\nb\"", "\"a b\"", ""] {
            assert!(!is_strong_etag(bad), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn random_answers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..200) {
            let _ = read_response(&mut &bytes[..], true);
            let good = b"HTTP/1.1 206 OK\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 99999999999999999999\r\n\r\n";
            let mut mixed = good[..cut.min(good.len())].to_vec();
            mixed.extend(&bytes);
            let _ = read_response(&mut &mixed[..], false);
        }
    }
}
