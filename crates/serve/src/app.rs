//! What all requests share, the table of addresses, and the door: who may ask.

use crate::error::{ApiError, Result};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::worker::{Answer, Progress, Work};
use crate::{Described, Options, api, page};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use infer::{Engine, Job};
use serde_json::{Map, Value};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokenizer::Tokenizer;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::timeout;

/// Time in which an engine that fails says so.
const WORD: Duration = Duration::from_secs(1);

/// What all requests share.
pub(crate) struct App {
    pub(crate) described: Described,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// Longest text, in tokens.
    pub(crate) context: usize,
    pub(crate) vocab_size: usize,
    /// Jobs that the engine can take while it does nothing.
    pub(crate) most_jobs: usize,
    pub(crate) slots: usize,
    pub(crate) progress: Arc<Progress>,
    pub(crate) metrics: Metrics,
    /// When the server started, in seconds since 1970.
    pub(crate) started: u64,
    options: Options,
    work: SyncSender<Work>,
    /// Names requests.
    serial: AtomicU64,
    random: RandomState,
}

/// Seconds since 1970.
pub(crate) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl App {
    pub(crate) fn new(
        engine: &Engine,
        described: Described,
        options: Options,
        work: SyncSender<Work>,
    ) -> Self {
        App {
            described,
            tokenizer: Arc::clone(engine.tokenizer()),
            context: engine.context(),
            vocab_size: engine.config().vocab_size,
            slots: engine.free_slots(),
            most_jobs: engine.free_slots().saturating_add(options.queue),
            progress: Arc::new(Progress::new()),
            metrics: Metrics::default(),
            started: seconds(),
            options,
            work,
            serial: AtomicU64::new(0),
            random: RandomState::new(),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// A number that nobody can guess: names of requests, seeds where none is given.
    pub(crate) fn random(&self) -> u64 {
        self.random.hash_one(self.serial.fetch_add(1, Ordering::Relaxed))
    }

    /// What changes the answers of a seed.
    pub(crate) fn fingerprint(&self) -> String {
        format!("anegpt-{}-{}", env!("CARGO_PKG_VERSION"), self.described.weights)
    }

    /// Hands jobs to the engine and waits until it has taken them. The receiver gets all that becomes of
    /// them; dropping it ends them.
    pub(crate) async fn submit(&self, jobs: Vec<Job>, param: &str) -> Result<Receiver<Answer>> {
        let pieces: usize = jobs.iter().map(|job| job.max_tokens.saturating_add(3)).sum();
        let (to, mut answers) = channel(pieces.clamp(8, self.limits().pieces.max(8)));
        match self.work.try_send(Work { jobs, to }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(ApiError::busy("too many requests are waiting: try again later", 1));
            }
            Err(TrySendError::Disconnected(_)) => return Err(self.broken().await),
        }
        match answers.recv().await {
            Some(Answer::Accepted) => Ok(answers),
            Some(Answer::Refused(error)) => Err(ApiError::of(&error, param)),
            Some(Answer::Event(..)) | None => Err(self.broken().await),
        }
    }

    /// Why the engine sent no more. One that fails closes its channels just before it says why.
    pub(crate) async fn broken(&self) -> ApiError {
        let mut end = self.progress.end_of_engine();
        match timeout(WORD, end.wait_for(Option::is_some)).await {
            Ok(Ok(reason)) => ApiError::unavailable(reason.clone().unwrap_or_default()),
            _ => ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "the answer was cut off: it was read too slowly",
            ),
        }
    }

    /// Reads the body of a request as a JSON object.
    pub(crate) async fn read(&self, request: Request) -> Result<Map<String, Value>> {
        let bytes = self.read_bytes(request).await?;
        let fault = |what: String| {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                format!("the body of the request is not a JSON object: {what}"),
            )
        };
        // A large body takes a while, in which others are to be answered.
        let parsed = tokio::task::spawn_blocking(move || serde_json::from_slice(&bytes)).await;
        match parsed.map_err(|_| fault("it could not be read".to_owned()))? {
            Ok(Value::Object(map)) => Ok(map),
            Ok(_) => Err(fault("it is another value".to_owned())),
            Err(error) => Err(fault(error.to_string())),
        }
    }

    async fn read_bytes(&self, request: Request) -> Result<Bytes> {
        let Limits { body_bytes, body_time, .. } = *self.limits();
        let too_large = || {
            let message = format!("the body of the request exceeds {body_bytes} bytes");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
        };
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > body_bytes as u64) {
            return Err(too_large());
        }
        let body = Limited::new(request.into_body(), body_bytes).collect();
        match timeout(body_time, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(error)) => {
                let message = format!("the body of the request could not be read: {error}");
                Err(ApiError::new(StatusCode::BAD_REQUEST, message))
            }
            Err(_) => {
                let message = format!("the body of the request took longer than {body_time:?}");
                Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message))
            }
        }
    }
}

/// Runs what takes long (templates, tokenizers) beside the thread that answers.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        let message = "the request could not be prepared";
        Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message))
    })
}

/// All addresses.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .merge(page::routes())
        .route("/health", get(api::health::health))
        .route("/v1/health", get(api::health::health))
        .route("/metrics", get(api::health::metrics))
        .route("/props", get(api::models::props))
        .route("/v1/models", get(api::models::list))
        .route("/v1/models/{*id}", get(api::models::one))
        .route("/v1/chat/completions", post(api::chat::create))
        .route("/v1/completions", post(api::completions::create))
        .route("/tokenize", post(api::tokens::tokenize))
        .route("/detokenize", post(api::tokens::detokenize))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&app), door))
        .with_state(app)
}

async fn unknown(uri: Uri) -> ApiError {
    let message = format!("there is nothing at {}; requests go to /v1/…", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, message)
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// Every request comes through here: admitted, answered, named, counted.
async fn door(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let start = std::time::Instant::now();
    let endpoint = endpoint(request.uri().path());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match admit(&app, &request) {
        Err(error) => error.into_response(),
        Ok(()) if request.method() == Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        Ok(()) => next.run(request).await,
    };
    let refused = response.status() == StatusCode::FORBIDDEN;
    let headers = response.headers_mut();
    if let Some(origin) = origin.filter(|_| !refused) {
        allow(headers, origin);
    }
    let name = format!("req_{:016x}", app.random());
    headers.insert("x-request-id", HeaderValue::try_from(name).expect("hexadecimal digits"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    app.metrics.answered(endpoint, response.status().as_u16(), start.elapsed());
    response
}

/// The address, if it is one of ours: metrics count by it.
fn endpoint(path: &str) -> &'static str {
    const KNOWN: [&str; 10] = [
        "/",
        "/health",
        "/v1/health",
        "/metrics",
        "/props",
        "/v1/models",
        "/v1/chat/completions",
        "/v1/completions",
        "/tokenize",
        "/detokenize",
    ];
    KNOWN.into_iter().find(|known| *known == path).unwrap_or("other")
}

fn admit(app: &App, request: &Request) -> Result<()> {
    let forbidden = |message: String| Err(ApiError::new(StatusCode::FORBIDDEN, message));
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    if app.options.api_key.is_none() && !is_local(name_of(host)) {
        return forbidden(format!(
            "without an API key, this server answers to names of this machine only, not `{host}`"
        ));
    }
    if let Some(origin) = headers.get(header::ORIGIN)
        && !may_ask(app, origin, host)
    {
        return forbidden(format!(
            "pages from {} may not ask this server (--cors allows an origin)",
            String::from_utf8_lossy(origin.as_bytes()),
        ));
    }
    let open = ["/", "/app.js", "/style.css", "/health", "/v1/health"];
    match &app.options.api_key {
        Some(key)
            if request.method() != Method::OPTIONS && !open.contains(&request.uri().path()) =>
        {
            check_key(headers, key)
        }
        _ => Ok(()),
    }
}

fn check_key(headers: &HeaderMap, key: &str) -> Result<()> {
    let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let refused = |message: &str| {
        Err(ApiError::new(StatusCode::UNAUTHORIZED, message).coded("invalid_api_key"))
    };
    match given.map(|given| given.strip_prefix(b"Bearer ").unwrap_or(given)) {
        None => refused("an API key is required: send it as `Authorization: Bearer KEY`"),
        Some(given) if is_same(given, key.as_bytes()) => Ok(()),
        Some(_) => refused("the API key is wrong"),
    }
}

/// Compares in a time that depends on lengths alone.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |bits, (a, b)| bits | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differing) == 0
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// True for names that no foreign name server can point here: a page whose own name it points to this
/// machine would otherwise reach us as its own origin.
fn is_local(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
    bare.parse::<IpAddr>().is_ok()
        || ["", "localhost", "host.docker.internal"].contains(&&*name)
        || name.ends_with(".localhost")
}

/// True if a page of this origin may ask: one of ours, one on this machine, or one that was allowed.
fn may_ask(app: &App, origin: &HeaderValue, host: &str) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let Some((_, from)) = origin.split_once("://") else {
        return app.options.origins.iter().any(|allowed| allowed == "*");
    };
    let name = name_of(from);
    let loopback = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    from == host
        || name == "localhost"
        || name.ends_with(".localhost")
        || loopback.is_ok_and(|address| address.is_loopback())
        || app.options.origins.iter().any(|allowed| allowed == "*" || allowed == origin)
}

/// Lets a page of this origin read the answer.
fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    let fixed = [
        ("access-control-allow-methods", "GET, POST, OPTIONS"),
        ("access-control-allow-headers", "*, authorization, content-type"),
        ("access-control-expose-headers", "x-request-id, retry-after"),
        ("access-control-max-age", "600"),
        ("vary", "origin"),
    ];
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// An answer of JSON.
pub(crate) fn json(value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A request that took longer than it may.
pub(crate) fn too_late(limit: Duration) -> ApiError {
    let message = format!("the request took longer than {} s", limit.as_secs_f32());
    ApiError::new(StatusCode::REQUEST_TIMEOUT, message)
}
