//! Models, tokens, metrics, properties, the page.

use crate::client::exchange;
use crate::model::{A, B, BOS};
use crate::{Setup, chat};
use serde_json::json;

#[test]
fn models_are_listed() {
    let server = Setup::default().start();
    let list = server.get("/v1/models").json();
    assert_eq!(list["object"], "list");
    let model = &list["data"][0];
    assert_eq!((&model["id"], &model["object"]), (&json!("letters"), &json!("model")));
    assert!(model["created"].is_u64() && model["owned_by"].is_string());
    assert_eq!(server.get("/v1/models/letters").json(), *model);
}

#[test]
fn tokens_of_a_text_and_text_of_tokens() {
    let server = Setup::default().start();
    let space = 259;
    let reply = server.ok("/tokenize", &json!({ "content": "ab" }));
    assert_eq!(reply["tokens"], json!([space, A, B]));
    let reply = server.ok("/tokenize", &json!({ "content": "ab", "add_special": true }));
    assert_eq!((&reply["tokens"], &reply["count"]), (&json!([BOS, space, A, B]), &json!(4)));
    let reply = server.ok("/tokenize", &json!({ "prompt": "ab" }));
    assert_eq!((&reply["tokens"][0], &reply["max_model_len"]), (&json!(BOS), &json!(512)));
    let reply = server.ok("/detokenize", &json!({ "tokens": [BOS, space, A, B] }));
    assert_eq!(reply["content"], "ab");
}

/// A request that is alone is drafted: the answer is the same, and guesses are counted.
#[test]
fn drafts_are_counted() {
    let ask = chat("hi", json!({"max_tokens": 40, "logprobs": true}));
    let setup = Setup::model(crate::model::endless());
    let plain = setup.clone().start();
    let want = plain.ok("/v1/chat/completions", &ask);
    assert_eq!(plain.metric("anegpt_drafted_tokens_total"), 0.0);
    let mut setup = setup;
    setup.engine.draft = infer::Draft::On;
    let drafting = setup.start();
    let got = drafting.ok("/v1/chat/completions", &ask);
    assert_eq!(got["choices"], want["choices"]);
    let [drafted, accepted, drawn, steps] =
        ["drafted", "accepted", "generated", "steps"].map(|name| {
            drafting.metric(&format!("anegpt_{name}_tokens_total").replace("steps_tokens", "steps"))
        });
    assert!(drafted >= accepted && accepted > 10.0, "{accepted} of {drafted}");
    assert_eq!(steps + accepted, drawn);
}

#[test]
fn metrics_are_in_the_format_of_prometheus() {
    let server = Setup::default().start();
    server.ok("/v1/chat/completions", &chat("hi", json!({})));
    server.get("/v1/nothing/at/all");
    let reply = server.get("/metrics");
    assert!(reply.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = reply.text();
    let mut known = vec![];
    for line in text.lines() {
        match line.strip_prefix("# ") {
            Some(comment) => known.push(comment.split(' ').nth(1).unwrap().to_owned()),
            None => {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let name = name.split('{').next().unwrap();
                let base =
                    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                assert!(known.iter().any(|n| n == name || Some(n.as_str()) == base), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
    }
    for line in [
        "anegpt_requests_total{endpoint=\"/v1/chat/completions\",code=\"200\"} 1",
        "anegpt_requests_total{endpoint=\"other\",code=\"404\"} 1",
        "anegpt_generated_tokens_total 4",
        "anegpt_prompt_tokens_total 21",
        "anegpt_time_to_first_token_seconds_count 1",
        "anegpt_time_to_first_token_seconds_bucket{le=\"+Inf\"} 1",
        "anegpt_engine_up 1",
        "anegpt_jobs_running 0",
        "anegpt_slots 2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
}

#[test]
fn properties_are_told() {
    let props = Setup::default().start().get("/props").json();
    assert_eq!((&props["model_alias"], &props["total_slots"]), (&json!("letters"), &json!(2)));
    assert_eq!(props["default_generation_settings"]["n_ctx"], 512);
    assert_eq!(props["bos_token"], "<s>");
}

/// The page asks this server alone, and is not sent twice.
#[test]
fn the_page_is_served() {
    let server = Setup::default().start();
    let scripts = ["/app.js", "/api.js", "/markdown.js", "/store.js"];
    let scripts = scripts.map(|path| (path, "text/javascript"));
    let others = [("/", "text/html"), ("/style.css", "text/css"), ("/icon.svg", "image/svg+xml")];
    for (path, kind) in scripts.into_iter().chain(others) {
        let reply = server.get(path);
        assert_eq!(reply.status, 200);
        assert!(reply.header("content-type").unwrap().starts_with(kind));
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        // An address that is a name is asked for by no one.
        let text = reply.text().replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("http://") && !text.contains("https://"), "{path}");
        let known = format!("if-none-match: {}", reply.header("etag").unwrap());
        let again = exchange(server.address, "GET", path, &[&known], None);
        assert_eq!((again.status, again.text().len()), (304, 0));
    }
}

#[test]
fn answers_have_names() {
    let server = Setup::default().start();
    let [a, b] = [0, 1].map(|_| server.get("/v1/models"));
    let name = |reply: &crate::Reply| reply.header("x-request-id").unwrap().to_owned();
    assert!(name(&a).starts_with("req_") && name(&a) != name(&b));
}
