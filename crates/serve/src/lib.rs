//! A model behind HTTP: OpenAI's interface, health, metrics, and a page to talk to it.
//!
//! Two threads share the work. The caller of [`serve`] owns the [`infer::Engine`] and computes
//! (`worker`); a second thread runs tokio and speaks HTTP (`http`). A request becomes jobs on a bounded
//! queue to the first thread; what it generates comes back over a bounded channel of the request's own. A
//! client that leaves drops its end of that channel, which ends its jobs and frees their slots. A client
//! that reads slowly holds no slot: its channel has room for the whole answer, and its connection ends
//! if it takes nothing for a while.
//!
//! Everything that a client can make large or slow has a limit ([`Limits`]) and an answer that names it.
//! Fields that are unknown are ignored; fields that would change the meaning of an answer and are not
//! supported are refused (`api::refused`).
//!
//! ```no_run
//! # fn engine() -> infer::Engine { unimplemented!() }
//! use serve::{Described, Options, Stop, serve};
//!
//! let listener = std::net::TcpListener::bind("127.0.0.1:8080")?;
//! let stop = Stop::new();
//! serve(listener, engine(), Described::new("stories"), Options::default(), &stop)?;
//! # Ok::<(), serve::ServeError>(())
//! ```

#![warn(missing_docs)]

mod api;
mod app;
mod error;
mod http;
mod limits;
mod metrics;
mod page;
mod template;
mod worker;

pub use limits::Limits;

use app::App;
use infer::{Engine, InferError, Tools};
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use tokenizer::chat::ChatTemplate;
use tokio::sync::watch;
use worker::Progress;

/// What clients are told about the model, and what conversations need.
#[derive(Clone, Debug)]
pub struct Described {
    /// Name of the model, as `/v1/models` lists it.
    pub name: String,
    /// Tokens that end a text, besides those of the tokenizer.
    pub ends: Vec<u32>,
    /// Format of its conversations. Without one, they are written out as plain text.
    pub template: Option<ChatTemplate>,
    /// A tool that the model may call in chats. Neither calls nor results are in the content of an answer.
    pub tools: Option<Tools>,
    /// Source of the template, for `/props`.
    pub template_source: Option<String>,
    /// How weights are stored, for `system_fingerprint`.
    pub weights: &'static str,
}

impl Described {
    /// A model that has a name, and no format of conversations.
    pub fn new(name: impl Into<String>) -> Self {
        Described {
            name: name.into(),
            ends: vec![],
            template: None,
            tools: None,
            template_source: None,
            weights: "f32",
        }
    }
}

/// Who may ask, and how much.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The key that requests must bring as `Authorization: Bearer KEY`.
    pub api_key: Option<String>,
    /// Origins of pages that may ask, besides those on this machine; `*` allows all.
    pub origins: Vec<String>,
    /// Jobs that may wait for a slot: the engine's own limit.
    pub queue: usize,
    /// Bounds on requests and connections.
    pub limits: Limits,
}

/// A switch that ends a server: it takes no more connections, and finishes what it has begun.
#[derive(Clone, Debug)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// A switch that is not thrown.
    pub fn new() -> Self {
        Stop(watch::Sender::new(false))
    }

    /// Throws the switch.
    pub fn request(&self) {
        self.0.send_replace(true);
    }

    fn listen(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }
}

impl Default for Stop {
    fn default() -> Self {
        Stop::new()
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The system refused a socket or a thread.
    #[error("cannot serve: {0}")]
    Io(#[from] std::io::Error),
    /// There is no key, and the address is not this machine's alone.
    #[error(
        "{0} can be reached from other machines: an API key is required (or listen on 127.0.0.1)"
    )]
    KeyRequired(std::net::SocketAddr),
    /// The key cannot be sent in a header.
    #[error("the API key must be visible ASCII characters without spaces")]
    Key,
}

/// Serves until `stop` is thrown and requests that had begun are answered, or took longer than
/// [`Limits::drain_time`]. The engine computes on the thread of the caller, which may be one of rayon's.
///
/// If the engine fails, the server goes on and answers with 503, so that whoever watches `/health` knows.
///
/// # Errors
/// When the listener cannot be used, or can be reached from other machines and there is no key.
pub fn serve(
    listener: TcpListener,
    engine: Engine,
    described: Described,
    options: Options,
    stop: &Stop,
) -> Result<(), ServeError> {
    check(&listener, &options)?;
    let (work, queue) = sync_channel(options.limits.connections.max(1));
    let app = App::new(&engine, described, options, work);
    together(listener, app, stop, move |progress| worker::run(engine, &queue, progress))
}

/// Speaks HTTP on a thread of its own, and computes on this one.
fn together(
    listener: TcpListener,
    app: App,
    stop: &Stop,
    compute: impl FnOnce(&Progress) -> Result<(), InferError>,
) -> Result<(), ServeError> {
    let progress = Arc::clone(&app.progress);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .thread_name("requests")
        .build()?;
    listener.set_nonblocking(true)?;
    let stopped = stop.listen();
    let http = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        let ended = runtime.block_on(http::run(listener, Arc::new(app), stopped));
        runtime.shutdown_timeout(Duration::from_secs(1));
        ended
    })?;
    // The queue goes with `compute`: whoever still waits for an answer hears that there is none.
    progress.end(match catch_unwind(AssertUnwindSafe(|| compute(&progress))) {
        Ok(Ok(())) => "the server is stopping".to_owned(),
        Ok(Err(error)) => format!("the engine stopped: {error}"),
        Err(_) => "the engine stopped: it panicked".to_owned(),
    });
    http.join()
        .unwrap_or_else(|_| Err(std::io::Error::other("the thread that serves panicked")))?;
    Ok(())
}

/// Checks that a server may listen here: a program can do it before it reads a large model.
///
/// # Errors
/// As [`serve`].
pub fn check(listener: &TcpListener, options: &Options) -> Result<(), ServeError> {
    let address = listener.local_addr()?;
    match &options.api_key {
        None if !address.ip().is_loopback() => Err(ServeError::KeyRequired(address)),
        Some(key) if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(ServeError::Key)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpt::{GptConfig, Parameters, initialise};
    use infer::EngineOptions;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use tokenizer::Tokenizer;

    fn engine() -> Engine {
        let tokenizer = Arc::new(Tokenizer::train_char(["a small model"]).unwrap());
        let mut config = GptConfig::preset("tiny").unwrap();
        (config.n_layer, config.vocab_size) = (1, tokenizer.vocab_size());
        let parameters = Parameters::new(&config, initialise(&config, 1));
        Engine::new(&parameters, tokenizer, EngineOptions::default()).unwrap()
    }

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut socket = TcpStream::connect(address).unwrap();
        let head = "host: localhost\r\nconnection: close\r\n";
        socket.write_all(request.replace("HEAD", head).as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The thread that computes panics over the first request: who waits hears of it, and so does
    /// everyone after.
    #[test]
    fn an_engine_that_panics_leaves_a_server_that_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), Stop::new());
        let (work, queue) = sync_channel(1);
        let app = App::new(&engine(), Described::new("small"), Options::default(), work);
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                together(listener, app, &stop, move |_| {
                    let _work = queue.recv();
                    panic!("as this test wants it")
                })
            }
        });
        let body = "{\"prompt\": \"a\"}";
        let post = format!(
            "POST /v1/completions HTTP/1.1\r\nHEADcontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        for request in [&post, "GET /health HTTP/1.1\r\nHEAD\r\n", &post] {
            let answer = ask(address, request);
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
            assert!(answer.contains("the engine stopped: it panicked"), "{answer}");
        }
        let metrics = ask(address, "GET /metrics HTTP/1.1\r\nHEAD\r\n");
        assert!(metrics.contains("anegpt_engine_up 0"), "{metrics}");
        stop.request();
        thread.join().unwrap().unwrap();
    }
}
