use super::*;
use crate::tokens::sha256_hex;
use proptest::prelude::*;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The requests that the server saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Request {
    path: String,
    from: Option<usize>,
    if_range: Option<String>,
    authorization: Option<String>,
}

/// A server on this machine whose `n`th answer is the bytes of `answers(n, request)`.
struct Server {
    address: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn start(answers: impl Fn(usize, &Request) -> Vec<u8> + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for (n, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let request = read_request(&stream);
                log.lock().unwrap().push(request.clone());
                let _ = stream.write_all(&answers(n, &request)); // the client may hang up
            }
        });
        Server { address, seen }
    }

    fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn read_request(stream: &TcpStream) -> Request {
    let mut lines = BufReader::new(stream).lines().map(|line| line.unwrap());
    let first = lines.next().unwrap();
    let mut request =
        Request { path: first.split(' ').nth(1).unwrap().to_owned(), ..Request::default() };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let from = value.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap();
                request.from = Some(from.parse().unwrap());
            }
            "authorization" => request.authorization = Some(value.to_owned()),
            "if-range" => request.if_range = Some(value.to_owned()),
            _ => {}
        }
    }
    request
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").into_bytes();
    bytes.extend(body);
    bytes
}

/// A proper server of one file: whole, or from the byte asked for, of the version asked for.
fn serve(body: &[u8], etag: &str, request: &Request) -> Vec<u8> {
    let all = body.len();
    let same = request.if_range.as_deref().is_none_or(|tag| tag == etag);
    match request.from.filter(|_| same) {
        Some(from) if from >= all => {
            answer(&format!("416 Range Not Satisfiable\r\nContent-Range: bytes */{all}"), b"")
        }
        Some(from) => answer(
            &format!(
                "206 Partial Content\r\nETag: {etag}\r\nContent-Range: bytes {from}-{}/{all}\r\nContent-Length: {}",
                all - 1,
                all - from
            ),
            &body[from..],
        ),
        None => answer(&format!("200 OK\r\nETag: {etag}\r\nContent-Length: {all}"), body),
    }
}

/// Bytes that do not compress or repeat.
fn payload(n: usize) -> Vec<u8> {
    (0..n as u64).map(|i| crate::mix::mix(i) as u8).collect()
}

/// The answer cut off after `n` bytes of body.
fn cut(mut answer: Vec<u8>, n: usize) -> Vec<u8> {
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    answer.truncate(head + n);
    answer
}

struct Case {
    dir: tempfile::TempDir,
    download: Download,
}

/// A download of `/file` from the server, quick to retry; `None` without curl on this machine.
fn case(server: &Server) -> Option<Case> {
    if !has_curl() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let url = format!("{}/file", server.address);
    let download = Download {
        retries: 2,
        backoff: Duration::from_millis(1),
        ..Download::new(url, dir.path().join("sub/file.bin"))
    };
    Some(Case { dir, download })
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn has_curl() -> bool {
    let found = std::process::Command::new("curl").arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: there is no curl on this machine");
    }
    found
}

impl Case {
    fn run(&self) -> Result<Downloaded> {
        self.download.run(&mut |_| {})
    }

    fn path(&self, suffix: &str) -> PathBuf {
        sibling(&self.download.to, suffix)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join("sub")).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_file_comes_whole_with_its_sum_and_progress() {
    let body = payload(300_000);
    let copy = body.clone();
    let server = Server::start(move |_, request| serve(&copy, "\"v1\"", request));
    let Some(case) = case(&server) else { return };
    let mut stages = Vec::new();
    let done = case.download.run(&mut |p| stages.push(p)).unwrap();
    let expected = Downloaded { bytes: 300_000, sha256: sha256_hex(&body), fetched: true };
    assert_eq!(done, expected);
    assert!(std::fs::read(&case.download.to).unwrap() == body);
    assert_eq!(case.names(), ["file.bin", "file.bin.sha256"]);
    let line = format!("{}  file.bin\n", expected.sha256);
    assert_eq!(std::fs::read_to_string(case.path(".sha256")).unwrap(), line);
    let whole = |stage| Progress { stage, done: 300_000, total: Some(300_000) };
    assert!(stages.contains(&whole(Stage::Transfer)) && stages.ends_with(&[whole(Stage::Verify)]));
    // Once there, it is only checked.
    assert_eq!(case.run().unwrap(), Downloaded { fetched: false, ..expected });
    assert_eq!(server.seen().len(), 1);
    std::fs::write(&case.download.to, b"damaged").unwrap();
    assert!(case.run().unwrap_err().to_string().contains("delete the file"));
}

#[test]
fn a_transfer_that_breaks_off_is_continued_by_range() {
    let body = payload(200_000);
    let copy = body.clone();
    let server = Server::start(move |n, request| {
        let whole = serve(&copy, "\"v1\"", request);
        if n < 4 { cut(whole, 40_000) } else { whole }
    });
    let Some(case) = case(&server) else { return };
    assert!(case.run().unwrap().fetched);
    assert!(std::fs::read(&case.download.to).unwrap() == body);
    let seen = server.seen();
    let from: Vec<Option<usize>> = seen.iter().map(|r| r.from).collect();
    assert_eq!(from, [None, Some(40_000), Some(80_000), Some(120_000), Some(160_000)]);
    assert!(seen[1..].iter().all(|r| r.if_range.as_deref() == Some("\"v1\"")));
}

#[test]
fn a_later_run_continues_what_an_earlier_one_kept() {
    let body = payload(100_000);
    let copy = body.clone();
    // 60,000 bytes come, then the server refuses until the first run has given up.
    let server = Server::start(move |n, request| match n {
        0 => cut(serve(&copy, "\"v1\"", request), 60_000),
        1..=3 => answer("503 Busy\r\nContent-Length: 0", b""),
        _ => serve(&copy, "\"v1\"", request),
    });
    let Some(case) = case(&server) else { return };
    let error = case.run().unwrap_err().to_string();
    assert!(
        error.contains("503") && error.contains("60000 bytes") && error.contains("kept"),
        "{error}"
    );
    assert_eq!(case.names(), ["file.bin.part", "file.bin.part.etag"]);
    assert!(case.run().unwrap().fetched);
    assert!(std::fs::read(&case.download.to).unwrap() == body);
    assert_eq!(server.seen().last().unwrap().from, Some(60_000));
    assert_eq!(case.names(), ["file.bin", "file.bin.sha256"]);
}

#[test]
fn parts_of_two_versions_are_never_joined() {
    let (old, new) = (payload(90_000), payload(80_000).into_iter().rev().collect::<Vec<u8>>());
    let copy = new.clone();
    let server = Server::start(move |n, request| match n {
        0 => cut(serve(&old, "\"old\"", request), 50_000),
        _ => serve(&copy, "\"new\"", request),
    });
    let Some(case) = case(&server) else { return };
    case.run().unwrap();
    assert!(std::fs::read(&case.download.to).unwrap() == new);
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let body = payload(50_000);
    let copy = body.clone();
    let server = Server::start(move |n, _| {
        let whole = answer("200 OK\r\nContent-Length: 50000", &copy);
        if n == 0 { cut(whole, 20_000) } else { whole }
    });
    let Some(case) = case(&server) else { return };
    case.run().unwrap();
    assert!(std::fs::read(&case.download.to).unwrap() == body);
}

#[test]
fn a_complete_partial_file_is_only_verified_and_one_too_long_begins_anew() {
    for extra in [0, 10] {
        let body = payload(10_000);
        let copy = body.clone();
        let server = Server::start(move |_, request| serve(&copy, "\"v1\"", request));
        let Some(case) = case(&server) else { return };
        std::fs::create_dir(case.dir.path().join("sub")).unwrap();
        let mut part = body.clone();
        part.resize(10_000 + extra, 7);
        std::fs::write(case.path(".part"), part).unwrap();
        case.run().unwrap();
        assert!(std::fs::read(&case.download.to).unwrap() == body);
        assert_eq!(server.seen().len(), if extra == 0 { 1 } else { 2 });
    }
}

#[test]
fn a_wrong_sum_is_an_error_and_leaves_nothing() {
    let server = Server::start(|_, request| serve(&payload(1_000), "\"v1\"", request));
    let Some(mut case) = case(&server) else { return };
    case.download.sha256 = Some("0".repeat(64));
    let error = case.run().unwrap_err();
    assert!(matches!(error, Error::Checksum { .. }), "{error}");
    assert!(error.to_string().contains(&sha256_hex(&payload(1_000))));
    assert!(case.names().is_empty(), "{:?}", case.names());
    // The sum of an earlier download counts when no other is known.
    case.download.sha256 = None;
    std::fs::write(case.path(".sha256"), format!("{}  file.bin\n", "1".repeat(64))).unwrap();
    assert!(matches!(case.run(), Err(Error::Checksum { .. })));
    case.download.sha256 = Some(sha256_hex(&payload(1_000)).to_uppercase());
    case.run().unwrap();
}

#[test]
fn redirections_are_followed_and_the_announced_sum_is_checked() {
    for good in [true, false] {
        let body = payload(5_000);
        let sum = if good { sha256_hex(&body) } else { "2".repeat(64) };
        let server = Server::start(move |_, request| match request.path.as_str() {
            "/file" => answer(
                &format!(
                    "302 Found\r\nLocation: /blob\r\nX-Linked-Etag: \"{sum}\"\r\nContent-Length: 9"
                ),
                b"elsewhere",
            ),
            _ => serve(&body, "\"v1\"", request),
        });
        let Some(case) = case(&server) else { return };
        match case.run() {
            Ok(done) => assert!(good && done.bytes == 5_000),
            Err(Error::Checksum { .. }) => assert!(!good),
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn http_errors_say_what_to_do() {
    for (status, tries, advice) in [
        ("404 Not Found", 1, "check the address"),
        ("403 No", 1, "public"),
        ("500 Oops", 3, "wait"),
    ] {
        let server =
            Server::start(move |_, _| answer(&format!("{status}\r\nContent-Length: 4"), b"page"));
        let Some(case) = case(&server) else { return };
        let error = case.run().unwrap_err().to_string();
        assert!(error.contains(&status[..3]) && error.contains(advice), "{error}");
        assert!(error.contains(&case.download.url), "{error}");
        assert_eq!(server.seen().len(), tries, "{status}");
        assert!(!case.download.to.exists());
        assert_eq!(std::fs::metadata(case.path(".part")).unwrap().len(), 0, "no error page");
    }
}

#[test]
fn nonsense_answers_are_errors() {
    for bytes in [&b""[..], b"garbage", b"HTTP/1.1 200 OK\r\nContent-Length: 10"] {
        let server = Server::start(move |_, _| bytes.to_vec());
        let Some(case) = case(&server) else { return };
        assert!(matches!(case.run(), Err(Error::Transfer { .. })), "{bytes:?}");
    }
}

#[test]
fn no_network_and_no_curl_are_explained() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut download = Download::new(format!("http://{closed}/x"), dir.path().join("x"));
    if std::process::Command::new("curl").arg("--version").output().is_ok() {
        let error = download.run(&mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("cannot be reached") && error.contains("network"), "{error}");
        let mut other = download.clone();
        other.url = "file:///etc/hostname".into();
        assert!(matches!(other.run(&mut |_| {}), Err(Error::Transfer { .. })));
    }
    download.curl = "no-such-curl-program".into();
    let error = download.run(&mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::CurlMissing { .. }));
    assert!(error.to_string().contains("install curl"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_explained() {
    let server = Server::start(|_, request| serve(&payload(100_000), "\"v1\"", request));
    let Some(case) = case(&server) else { return };
    std::fs::create_dir(case.dir.path().join("sub")).unwrap();
    // Every write to this device fails for lack of space.
    std::os::unix::fs::symlink("/dev/full", case.path(".part")).unwrap();
    let error = case.run().unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("free some space"), "{error}");
}

#[test]
fn two_processes_do_not_write_one_file() {
    let server = Server::start(|_, request| serve(&payload(10), "\"v1\"", request));
    let Some(case) = case(&server) else { return };
    std::fs::create_dir(case.dir.path().join("sub")).unwrap();
    let other = File::create(case.path(".part")).unwrap();
    other.lock().unwrap();
    assert!(matches!(case.run(), Err(Error::Busy { .. })));
    drop(other);
    case.run().unwrap();
}

fn tar_gz(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gz);
    for (name, kind, body) in entries {
        let mut header = tar::Header::new_gnu();
        // Written directly: the setter refuses the names that are to be tested.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        if *kind == tar::EntryType::Symlink {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_size(body.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append(&header, *body).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn unpack_bytes(bytes: &[u8]) -> (tempfile::TempDir, Result<Vec<PathBuf>>) {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("a.tar.gz");
    std::fs::write(&archive, bytes).unwrap();
    let result = unpack_tar_gz(&archive, &dir.path().join("out"), &mut |_| {});
    (dir, result)
}

const FILE: tar::EntryType = tar::EntryType::Regular;

#[test]
fn archives_unpack() {
    let body = payload(200_000);
    let bytes = tar_gz(&[
        ("./", tar::EntryType::Directory, b""),
        ("d/", tar::EntryType::Directory, b""),
        ("./d/one.bin", FILE, &body),
        ("e/two.bin", FILE, b"2"),
    ]);
    let (dir, files) = unpack_bytes(&bytes);
    let out = dir.path().join("out");
    assert_eq!(files.unwrap(), [out.join("d/one.bin"), out.join("e/two.bin")]);
    assert!(std::fs::read(out.join("d/one.bin")).unwrap() == body);
    let again = unpack_tar_gz(&dir.path().join("a.tar.gz"), &out, &mut |_| {});
    assert!(again.unwrap_err().to_string().contains("exists already"));
}

#[test]
fn long_names_of_both_kinds_are_read_and_bounded() {
    let gnu = format!("{}/{}.bin\0", "d".repeat(120), "f".repeat(150));
    let path = format!("{}/data.bin", "p".repeat(200));
    let pax = format!("{} path={path}\n", 3 + 1 + 5 + path.len() + 1);
    let bytes = tar_gz(&[
        ("pax_global_header", tar::EntryType::XGlobalHeader, b"19 comment=anything\n"),
        ("././@LongLink", tar::EntryType::GNULongName, gnu.as_bytes()),
        ("short", FILE, b"1"),
        ("x", tar::EntryType::XHeader, pax.as_bytes()),
        ("short", FILE, b"2"),
        ("short", FILE, b"3"),
    ]);
    let (dir, files) = unpack_bytes(&bytes);
    let out = dir.path().join("out");
    let expected = [out.join(gnu.trim_end_matches('\0')), out.join(path), out.join("short")];
    assert_eq!(files.unwrap(), expected);
    let (_dir, result) =
        unpack_bytes(&tar_gz(&[("x", tar::EntryType::GNULongName, &vec![b'a'; 1 << 20])]));
    assert!(result.unwrap_err().to_string().contains("longer than 64 KiB"));
    let outside = [("x", tar::EntryType::GNULongName, &b"../evil"[..]), ("ok", FILE, b"x")];
    assert!(unpack_bytes(&tar_gz(&outside)).1.unwrap_err().to_string().contains("refused"));
}

#[test]
fn archives_that_reach_outside_are_refused() {
    for (name, kind) in [
        ("../evil", FILE),
        ("/tmp/evil", FILE),
        ("a/../../evil", FILE),
        ("link", tar::EntryType::Symlink),
        ("hard", tar::EntryType::Link),
        ("fifo", tar::EntryType::Fifo),
    ] {
        let (dir, result) = unpack_bytes(&tar_gz(&[("good", FILE, b"x"), (name, kind, b"")]));
        let error = result.unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left of {name}");
    }
    let (_dir, result) = unpack_bytes(&tar_gz(&[("a", FILE, b"x"), ("a", FILE, b"y")]));
    assert!(result.unwrap_err().to_string().contains("twice"));
}

#[test]
fn damaged_archives_are_errors_wherever_they_are_cut() {
    let good = tar_gz(&[("a.bin", FILE, &payload(3_000)), ("b.bin", FILE, &payload(100))]);
    for n in (0..good.len()).step_by(37).chain([good.len() - 1, good.len() - 9]) {
        let (_dir, result) = unpack_bytes(&good[..n]);
        assert!(matches!(result, Err(Error::Archive { .. })), "cut at {n}: {result:?}");
    }
    let mut flipped = good.clone();
    let sum = flipped.len() - 6;
    flipped[sum] ^= 1;
    assert!(unpack_bytes(&flipped).1.is_err(), "the checksum of the stream is checked");
    assert!(unpack_bytes(&tar_gz(&[])).1.unwrap_err().to_string().contains("no files"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn damaged_archives_never_panic(at in 0usize..400, value: u8, raw in prop::collection::vec(any::<u8>(), 0..1500)) {
        let mut bytes = tar_gz(&[("a.bin", FILE, &payload(300))]);
        let n = bytes.len();
        bytes[at % n] = value;
        let _ = unpack_bytes(&bytes);
        // Random bytes where the archive's headers are expected.
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&raw).unwrap();
        let _ = unpack_bytes(&gz.finish().unwrap());
    }
}

#[test]
fn tinystories_keeps_shard_zero_for_validation() {
    let shards: Vec<(String, Vec<u8>)> =
        (0..3).map(|i| (format!("data{i:02}.bin"), vec![i, 0])).collect();
    let entries: Vec<(&str, tar::EntryType, &[u8])> =
        shards.iter().map(|(name, body)| (name.as_str(), FILE, body.as_slice())).collect();
    let bytes = tar_gz(&entries);
    let server = Server::start(move |_, request| serve(&bytes, "\"v1\"", request));
    let Some(case) = case(&server) else { return };
    let mut local = |_: &str, to: PathBuf| Download { to, ..case.download.clone() };
    let mut stages = Vec::new();
    for run in 0..2 {
        let files = TinyStories::Tokens
            .fetch_with(case.dir.path(), &mut local, &mut |p| stages.push(p.stage))
            .unwrap();
        let dir = case.dir.path().join("TinyStories_tok32000");
        assert_eq!(files.validation, [dir.join("data00.bin")]);
        assert_eq!(files.train, [dir.join("data01.bin"), dir.join("data02.bin")]);
        assert_eq!(server.seen().len(), 1, "run {run}");
    }
    assert!(stages.contains(&Stage::Unpack));
    assert!(!case.dir.path().join("TinyStories_tok32000.tar.gz").exists());
    let files = TinyStories::Text.fetch_with(case.dir.path(), &mut local, &mut |_| {}).unwrap();
    assert!(files.train[0].ends_with("TinyStoriesV2-GPT4-train.txt"));
    assert!(files.validation[0].ends_with("TinyStoriesV2-GPT4-valid.txt"));
}

fn fixture(name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet");
    std::fs::read(directory.join(name)).unwrap()
}

fn hub(server: &Server, token: &str) -> Hub {
    Hub::new(&server.address, Token::new(token))
}

/// Quick to retry.
fn impatient(download: Download) -> Download {
    Download { retries: 2, backoff: Duration::from_millis(1), ..download }
}

/// The hub refers to another path of its own, and that to another server, as it does for large files.
#[test]
fn a_token_is_shown_to_the_hub_and_to_no_other_server() {
    let body = payload(5000);
    let sum = sha256_hex(&body);
    let cdn = Server::start({
        let body = body.clone();
        // It breaks off once, so that the second transfer is a continued one.
        move |n, request| match n {
            0 => cut(serve(&body, "\"e\"", request), 3000),
            _ => serve(&body, "\"e\"", request),
        }
    });
    let place = format!("{}/signed?key=1", cdn.address);
    let main = Server::start(move |_, request| match request.path.as_str() {
        "/file" => answer("307 Temporary Redirect\r\nLocation: /moved", b""),
        _ => answer(&format!("302 Found\r\nLocation: {place}\r\nX-Linked-Etag: \"{sum}\""), b""),
    });
    if !has_curl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("file");
    let url = format!("{}/file", main.address);
    let download = impatient(hub(&main, "hf_secret").download(&url, to.clone(), "org/name"));
    assert!(!format!("{download:?}").contains("hf_secret"));
    let got = download.run(&mut |_| {}).unwrap();
    assert_eq!((got.sha256, std::fs::read(&to).unwrap()), (sha256_hex(&body), body));
    let shown = Some("Bearer hf_secret".to_owned());
    let paths: Vec<String> = main.seen().iter().map(|request| request.path.clone()).collect();
    assert_eq!(paths, ["/file", "/moved", "/file", "/moved"]);
    assert!(main.seen().iter().all(|request| request.authorization == shown));
    let from: Vec<_> = cdn.seen().iter().map(|request| request.from).collect();
    assert_eq!(from, [None, Some(3000)]);
    assert!(cdn.seen().iter().all(|request| request.authorization.is_none()), "{:?}", cdn.seen());
}

#[test]
fn a_token_is_not_shown_where_it_is_not_safe_or_not_meant() {
    let token = || Token::new("hf_secret");
    for (endpoint, url, shown) in [
        ("https://huggingface.co", "https://huggingface.co/x", true),
        ("http://127.0.0.1:80", "http://127.0.0.1:80/x", true),
        ("http://127.0.0.1:80", "http://127.0.0.1:81/x", false),
        ("https://huggingface.co", "https://cdn.huggingface.co/x", false),
        ("http://mirror.org", "http://mirror.org/x", false),
    ] {
        let download = Hub::new(endpoint, token()).download(url, "to".into(), "page");
        assert_eq!(download.token.is_some(), shown, "{endpoint} {url}");
    }
}

#[test]
fn redirections_with_a_token_end() {
    let server = Server::start(|_, _| answer("302 Found\r\nLocation: /again", b""));
    if !has_curl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let url = format!("{}/file", server.address);
    let download = impatient(hub(&server, "t").download(&url, dir.path().join("x"), "org/name"));
    let error = download.run(&mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("too many redirections"), "{error}");
    assert_eq!(server.seen().len(), 11);
}

#[test]
fn gated_repositories_are_explained() {
    let server = Server::start(|_, request| match request.authorization {
        None => answer("401 Unauthorized", b"{}"),
        Some(_) => answer("403 Forbidden", b"{}"),
    });
    if !has_curl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (token, status, advice) in [
        ("", 401, "set HF_TOKEN to a token of your account"),
        (
            "hf_secret",
            403,
            "your token (HF_TOKEN, or huggingface/token in the cache) gives no access",
        ),
    ] {
        let hub = hub(&server, token);
        let check = |error: Error, page: &str| {
            let text = error.to_string();
            assert!(matches!(error, Error::Denied { status: s, .. } if s == status), "{text}");
            let page = format!("accept its conditions at {}/{page}", server.address);
            assert!(text.contains(advice) && text.contains(&page), "{text}");
            assert!(!text.contains("hf_secret"), "{text}");
        };
        let model = Repository::parse("org/model").unwrap();
        check(model.list(&hub).unwrap_err(), "org/model");
        let set = Dataset::parse("org/set").unwrap();
        check(set.list(&hub).unwrap_err(), "datasets/org/set");
        let shard = climbmix(&hub, dir.path(), 1).remove(0);
        check(shard.run(&mut |_| {}).unwrap_err(), "datasets/karpathy/climbmix-400b-shuffle");
    }
    assert_eq!(server.seen().len(), 6, "nothing is tried again");
}

/// A hub that answers with the addresses of the one that it stands in for.
#[test]
fn files_of_a_data_set_are_listed_and_fetched() {
    let listing = serde_json::json!({
        "main": {
            "train": [
                "https://huggingface.co/api/datasets/org/set/parquet/main/train/0.parquet",
                "https://huggingface.co/api/datasets/org/set/parquet/main/train/1.parquet",
            ],
            "test": ["https://huggingface.co/api/datasets/org/set/parquet/main/test/0.parquet"],
        },
        "other": {"train": ["file:///etc/passwd"]},
    });
    let files = ["snappy_v1.parquet", "zstd_v2.parquet"].map(fixture);
    let server = Server::start({
        let files = files.clone();
        move |_, request| match request.path.as_str() {
            "/api/datasets/org/set/parquet" => answer("200 OK", listing.to_string().as_bytes()),
            "/api/datasets/org/set/parquet/main/train/0.parquet" => {
                serve(&files[0], "\"0\"", request)
            }
            "/api/datasets/org/set/parquet/main/train/1.parquet" => {
                serve(&files[1], "\"1\"", request)
            }
            _ => answer("404 Not Found", b""),
        }
    });
    if !has_curl() {
        return;
    }
    let hub = hub(&server, "");
    let list = |name: &str| Dataset::parse(name).unwrap().list(&hub);
    let several = list("org/set").unwrap_err().to_string();
    assert!(several.contains("several parts"), "{several}");
    assert!(several.contains("hf://datasets/org/set/main/test, hf://datasets/org/set/main/train"));
    let absent = list("org/set/main/validation").unwrap_err().to_string();
    assert!(absent.contains("subset main, split validation") && absent.contains("give one of"));
    assert!(list("org/set/other/train").unwrap_err().to_string().contains("no addresses"));
    assert!(list("org/none").unwrap_err().to_string().contains("404"));

    let dir = tempfile::tempdir().unwrap();
    let found = list("org/set/main/train").unwrap();
    let downloads: Vec<Download> =
        found.downloads(&hub, dir.path(), usize::MAX).into_iter().map(impatient).collect();
    let mut last = None;
    let got = fetch_all(&downloads, 4, &mut |overall| last = Some(overall)).unwrap();
    assert_eq!(got.iter().map(|g| g.fetched).collect::<Vec<_>>(), [true, true]);
    let bytes = files.iter().map(|file| file.len() as u64).sum();
    assert_eq!(last, Some(Overall { files: 2, done: bytes, total: Some(bytes) }));
    for (n, file) in files.iter().enumerate() {
        assert_eq!(&std::fs::read(dir.path().join(format!("{n:05}.parquet"))).unwrap(), file);
    }
    let seen = server.seen().len();
    let got = fetch_all(&downloads, 1, &mut |_| {}).unwrap();
    assert!(
        got.iter().all(|g| !g.fetched) && server.seen().len() == seen,
        "nothing is fetched twice"
    );
    assert_eq!(found.downloads(&hub, dir.path(), 1).len(), 1);
}

#[test]
fn what_is_no_whole_parquet_file_is_not_kept() {
    let whole = fixture("zstd_v2.parquet");
    for (body, what) in [
        (b"<html>busy</html>".to_vec(), "it is no Parquet file"),
        (whole[..whole.len() - 1].to_vec(), "it is no Parquet file, or is cut short"),
    ] {
        let server = Server::start(move |_, request| serve(&body, "\"e\"", request));
        let Some(mut case) = case(&server) else { return };
        case.download.is_parquet = true;
        let error = case.run().unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("run the command again"), "{error}");
        assert_eq!(case.names(), [""; 0], "nothing is left");
        std::fs::write(&case.download.to, "PAR1").unwrap();
        let error = case.run().unwrap_err().to_string();
        assert!(error.contains("delete it to download it again"), "{error}");
    }
}

/// The third of six files is not there: nothing is begun after it, and what was complete is kept.
#[test]
fn a_failure_among_several_files_begins_no_more() {
    let server = Server::start(|_, request| match request.path.as_str() {
        "/2" => answer("404 Not Found", b""),
        path => serve(path.as_bytes(), "\"e\"", request),
    });
    if !has_curl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let download = |n: usize| {
        let (url, to) = (format!("{}/{n}", server.address), dir.path().join(n.to_string()));
        impatient(Download::new(url, to))
    };
    let downloads: Vec<Download> = (0..6).map(download).collect();
    let error = fetch_all(&downloads, 1, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("/2: the server answered 404"), "{error}");
    let there: Vec<bool> = downloads.iter().map(|download| download.to.exists()).collect();
    assert_eq!(there, [true, true, false, false, false, false]);
    assert_eq!(fetch_all(&[], 4, &mut |_| {}).unwrap(), []);
}
