//! The page: files in the program, which ask nobody but this server.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Scripts, styles and requests come from here alone; nobody may frame the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file: its path, its type and its bytes.
type File = (&'static str, &'static str, &'static [u8]);

const FILES: [File; 7] = [
    ("/", "text/html; charset=utf-8", include_bytes!("page/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_bytes!("page/style.css")),
    ("/icon.svg", "image/svg+xml", include_bytes!("page/icon.svg")),
    ("/app.js", SCRIPT, include_bytes!("page/app.js")),
    ("/api.js", SCRIPT, include_bytes!("page/api.js")),
    ("/markdown.js", SCRIPT, include_bytes!("page/markdown.js")),
    ("/store.js", SCRIPT, include_bytes!("page/store.js")),
];

/// Routes of all files.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |routes, &(path, kind, bytes)| {
        routes
            .route(path, get(move |headers: HeaderMap| async move { file(&headers, kind, bytes) }))
    })
}

/// A file, or word that the browser has it.
fn file(asked: &HeaderMap, kind: &'static str, bytes: &'static [u8]) -> Response {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let known =
        asked.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = Response::new(if known { Body::empty() } else { Body::from(bytes) });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::ETAG, HeaderValue::try_from(tag).expect("hexadecimal digits"));
    let fixed = [
        ("content-type", kind),
        ("cache-control", "no-cache"),
        ("content-security-policy", POLICY),
        ("referrer-policy", "no-referrer"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
