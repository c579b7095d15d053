//! Who may ask: keys, origins, names of the machine.

use crate::client::{Reply, exchange};
use crate::{Server, Setup};
use serde_json::json;
use serve::{Described, Options, ServeError, Stop};
use std::net::TcpListener;

fn keyed() -> Server {
    let mut setup = Setup::default();
    setup.options.api_key = Some("secret-1".to_owned());
    setup.start()
}

fn get(server: &Server, path: &str, headers: &[&str]) -> Reply {
    exchange(server.address, "GET", path, headers, None)
}

#[test]
fn a_key_is_required_where_there_is_one() {
    let server = keyed();
    for wrong in [
        None,
        Some("Bearer secret-2"),
        Some("Bearer secret-"),
        Some("Bearer secret-11"),
        Some("Basic x"),
    ] {
        let header = wrong.map(|value| format!("authorization: {value}"));
        let headers: Vec<&str> = header.iter().map(String::as_str).collect();
        for path in ["/v1/models", "/metrics", "/props", "/v1/nothing"] {
            let reply = get(&server, path, &headers);
            assert_eq!(reply.status, 401, "{wrong:?} {path}");
            assert_eq!(reply.json()["error"]["code"], "invalid_api_key");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
        let body = json!({ "prompt": "a" }).to_string();
        let reply =
            exchange(server.address, "POST", "/v1/completions", &headers, Some(body.as_bytes()));
        assert_eq!(reply.status, 401);
    }
    assert_eq!(get(&server, "/v1/models", &["authorization: Bearer secret-1"]).status, 200);
    // The page and the health check are open.
    for path in ["/", "/app.js", "/health", "/v1/health"] {
        assert_eq!(get(&server, path, &[]).status, 200, "{path}");
    }
    // A key proves more than a name does.
    let headers = ["authorization: Bearer secret-1", "host: gpu.example.com"];
    assert_eq!(get(&server, "/v1/models", &headers).status, 200);
}

#[test]
fn other_machines_need_a_key() {
    let serve = |address: &str, options: Options| {
        let listener = TcpListener::bind(address).unwrap();
        let engine = Setup::default().model.engine(Setup::default().engine);
        let stop = Stop::new();
        stop.request();
        serve::serve(listener, engine, Described::new("letters"), options, &stop)
    };
    let with = |key: &str| Options { api_key: Some(key.to_owned()), ..Options::default() };
    let error = serve("0.0.0.0:0", Options::default()).unwrap_err();
    assert!(matches!(error, ServeError::KeyRequired(_)) && error.to_string().contains("API key"));
    assert!(matches!(serve("127.0.0.1:0", with("two words")), Err(ServeError::Key)));
    assert!(matches!(serve("127.0.0.1:0", with("")), Err(ServeError::Key)));
    serve("0.0.0.0:0", with("key")).unwrap();
    serve("127.0.0.1:0", Options::default()).unwrap();
}

/// A page whose name its owner points to this machine is refused.
#[test]
fn without_a_key_only_names_of_this_machine_are_answered() {
    let server = Setup::default().start();
    for (host, status) in [
        ("localhost", 200),
        ("localhost:8080", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("app.localhost", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
    ] {
        let reply = get(&server, "/v1/models", &[&format!("host: {host}")]);
        assert_eq!(reply.status, status, "{host}");
    }
}

#[test]
fn pages_of_this_machine_may_ask_and_others_may_not() {
    let server = Setup::default().start();
    for origin in
        ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:8", "http://x.localhost"]
    {
        let reply = get(&server, "/v1/models", &[&format!("origin: {origin}")]);
        assert_eq!(reply.status, 200, "{origin}");
        assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
        assert_eq!(reply.header("vary"), Some("origin"));
    }
    for origin in
        ["https://evil.example", "http://localhost.evil.example", "http://8.8.8.8", "null"]
    {
        for (method, path) in
            [("GET", "/v1/models"), ("OPTIONS", "/v1/completions"), ("GET", "/health")]
        {
            let reply =
                exchange(server.address, method, path, &[&format!("origin: {origin}")], None);
            assert_eq!(reply.status, 403, "{origin}");
            assert_eq!(reply.header("access-control-allow-origin"), None);
        }
    }
    // What is not a page brings no origin, and hears nothing of it.
    assert_eq!(get(&server, "/v1/models", &[]).header("access-control-allow-origin"), None);
}

#[test]
fn browsers_that_ask_first_are_answered() {
    let mut setup = Setup::default();
    setup.options.origins = vec!["https://chat.example".to_owned()];
    setup.options.api_key = Some("key".to_owned());
    let server = setup.start();
    let headers = [
        "origin: https://chat.example",
        "access-control-request-method: POST",
        "access-control-request-headers: authorization, content-type, x-stainless-os",
    ];
    let reply = exchange(server.address, "OPTIONS", "/v1/chat/completions", &headers, None);
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://chat.example"));
    let has = |name: &str, word: &str| reply.header(name).unwrap().contains(word);
    assert!(has("access-control-allow-methods", "POST"));
    assert!(
        has("access-control-allow-headers", "authorization")
            && has("access-control-allow-headers", "*")
    );
    // A page may read why it was refused.
    let reply = get(&server, "/v1/models", &["origin: https://chat.example"]);
    assert_eq!(
        (reply.status, reply.header("access-control-allow-origin")),
        (401, Some("https://chat.example"))
    );
}

#[test]
fn a_star_allows_all_origins() {
    let mut setup = Setup::default();
    setup.options.origins = vec!["*".to_owned()];
    let server = setup.start();
    for origin in ["https://anywhere.example", "null"] {
        assert_eq!(get(&server, "/v1/models", &[&format!("origin: {origin}")]).status, 200);
    }
}
