//! `/v1/chat/completions`.

use crate::{Server, Setup, chat, model};
use serde_json::{Value, json};

const PATH: &str = "/v1/chat/completions";

fn content(reply: &Value, choice: usize) -> &str {
    reply["choices"][choice]["message"]["content"].as_str().unwrap()
}

/// The text of each choice, put together from a stream's chunks.
fn streamed(chunks: &[Value], choices: usize) -> Vec<String> {
    let mut texts = vec![String::new(); choices];
    for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap()) {
        let index = choice["index"].as_u64().unwrap() as usize;
        texts[index] += choice["delta"]["content"].as_str().unwrap_or("");
    }
    texts
}

#[test]
fn an_answer_is_complete() {
    let server = Setup::default().start();
    let reply = server.ok(PATH, &chat("hi", json!({})));
    assert_eq!(reply["object"], "chat.completion");
    assert_eq!(reply["model"], "letters");
    assert!(reply["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(reply["created"].as_u64().unwrap() > 1_700_000_000);
    let choice = json!({
        "index": 0,
        "finish_reason": "stop",
        "logprobs": null,
        "message": { "role": "assistant", "content": "abcd", "refusal": null },
    });
    assert_eq!(reply["choices"], json!([choice]));
    // BOS, a space, and "User: hi\nAssistant:", each a token.
    let usage = json!({
        "prompt_tokens": 21,
        "completion_tokens": 4,
        "total_tokens": 25,
        "prompt_tokens_details": { "cached_tokens": 0 },
    });
    assert_eq!(reply["usage"], usage);
    let again = server.ok(PATH, &chat("hi", json!({})));
    assert_eq!(again["usage"]["prompt_tokens_details"]["cached_tokens"], 20);
    assert_ne!(again["id"], reply["id"]);
}

#[test]
fn a_stream_has_role_pieces_end_usage_and_done() {
    let server = Setup::default().start();
    let options = json!({ "stream_options": { "include_usage": true } });
    let stream = server.stream(PATH, &chat("hi", options));
    assert_eq!(stream.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let chunks = stream.chunks();
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!((&chunk["id"], &chunk["created"]), (&chunks[0]["id"], &chunks[0]["created"]));
    }
    let delta = |i: usize| &chunks[i]["choices"][0]["delta"];
    assert_eq!(*delta(0), json!({ "role": "assistant", "content": "" }));
    for (i, letter) in ["a", "b", "c", "d"].into_iter().enumerate() {
        assert_eq!(*delta(i + 1), json!({ "content": letter }));
        assert_eq!(chunks[i + 1]["choices"][0]["finish_reason"], Value::Null);
        assert_eq!(chunks[i + 1]["usage"], Value::Null);
    }
    assert_eq!(*delta(5), json!({}));
    assert_eq!(chunks[5]["choices"][0]["finish_reason"], "stop");
    assert_eq!(chunks[6]["choices"], json!([]));
    assert_eq!(chunks[6]["usage"]["completion_tokens"], 4);
    assert_eq!(chunks.len(), 7);
    // Without being asked, no chunk counts.
    let chunks = server.stream(PATH, &chat("hi", json!({}))).chunks();
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
    assert_eq!(chunks.len(), 6);
}

/// A context of 512 tokens; each character is a token, and so are BOS and a space before all of them.
#[test]
fn the_oldest_turns_are_forgotten_where_that_is_asked_for() {
    let server = Setup::default().start();
    let said = |role: &str, text: &str| json!({ "role": role, "content": text });
    let conversation = |turns: std::ops::Range<usize>| -> Vec<Value> {
        let turn = |i: usize| {
            let question = format!("question {i:02} {}", "x".repeat(30));
            [said("user", &question), said("assistant", "abcd")]
        };
        let last = said("user", "and now");
        let turns = turns.flat_map(turn).chain([last]);
        [said("system", "be brief")].into_iter().chain(turns).collect()
    };
    let body = |messages: &[Value], more: Value| {
        let mut body = json!({ "messages": messages, "max_tokens": 4, "temperature": 0 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let auto = || json!({ "truncation": "auto" });
    // "System: be brief\n", 12 turns of "User: …\nAssistant: abcd\n", "User: and now\nAssistant:".
    let (head, turn, tail) = (2 + 17, 6 + 42 + 1 + 15 + 1, 13 + 1 + 10);
    let tokens = |turns: usize| head + turn * turns + tail;
    let all = conversation(0..12);
    let refused = server.post(PATH, &body(&all, json!({ "truncation": "disabled" })));
    assert_eq!(refused.json()["error"]["code"], "context_length_exceeded");
    // As many turns as half of the context holds.
    let kept = (256 - head - tail) / turn;
    let reply = server.post(PATH, &body(&all, auto()));
    let forgotten = (2 * (12 - kept)).to_string();
    assert_eq!(reply.header("anegpt-forgotten-messages"), Some(&forgotten[..]));
    assert_eq!(reply.json()["usage"]["prompt_tokens"], tokens(kept));
    assert_eq!(content(&reply.json(), 0), "abcd");
    // It is the answer to what was kept, and it streams.
    let short = server.post(PATH, &body(&conversation(12 - kept..12), auto()));
    assert_eq!(short.header("anegpt-forgotten-messages"), None);
    assert_eq!(short.json()["usage"]["prompt_tokens"], tokens(kept));
    assert_eq!(short.json()["choices"], reply.json()["choices"]);
    let stream = server.stream(PATH, &body(&all, auto()));
    assert_eq!(stream.header("anegpt-forgotten-messages"), Some(&forgotten[..]));
    // What fits is read whole: seven turns with four tokens more, not with a quarter of the context.
    let seven = server.post(PATH, &body(&conversation(0..7), auto()));
    assert_eq!(seven.header("anegpt-forgotten-messages"), None);
    let more = json!({ "truncation": "auto", "max_tokens": 200 });
    let seven = server.post(PATH, &body(&conversation(0..7), more));
    assert_eq!(seven.header("anegpt-forgotten-messages"), Some(&(2 * (7 - kept)).to_string()[..]));
    // A question that does not fit alone is refused, and so is another word.
    let long = [said("user", "a"), said("assistant", "b"), said("user", &"x".repeat(600))];
    let refused = server.post(PATH, &body(&long, auto()));
    assert_eq!(refused.json()["error"]["code"], "context_length_exceeded");
    let refused = server.post(PATH, &body(&long, json!({ "truncation": "middle" }))).json();
    assert_eq!(refused["error"]["param"], "truncation");
}

#[test]
fn stop_strings_end_a_text_before_them() {
    let server = Setup::default().start();
    for (stop, text) in [(json!("c"), "ab"), (json!(["x", "bc"]), "a"), (json!("abcde"), "abcd")] {
        let body = chat("hi", json!({ "stop": stop }));
        let reply = server.ok(PATH, &body);
        assert_eq!(content(&reply, 0), text, "{stop}");
        assert_eq!(reply["choices"][0]["finish_reason"], "stop");
        assert_eq!(streamed(&server.stream(PATH, &body).chunks(), 1), [text], "{stop}");
    }
}

#[test]
fn both_names_of_the_longest_answer_are_known() {
    let server = Setup::default().start();
    for more in [
        json!({ "max_tokens": 2 }),
        json!({ "max_completion_tokens": 2 }),
        json!({ "max_tokens": 3, "max_completion_tokens": 2 }),
        json!({ "max_tokens": null, "max_completion_tokens": 2.0 }),
    ] {
        let reply = server.ok(PATH, &chat("hi", more.clone()));
        assert_eq!(content(&reply, 0), "ab", "{more}");
        assert_eq!(reply["choices"][0]["finish_reason"], "length");
    }
    let reply = server.ok(PATH, &chat("hi", json!({ "max_tokens": 1_000_000 })));
    assert_eq!(content(&reply, 0), "abcd");
}

/// Roles and content in all their forms make the same prompt.
#[test]
fn messages_come_in_several_forms() {
    let server = Setup::default().start();
    let tokens = |messages: Value| {
        server.ok("/tokenize", &json!({ "messages": messages }))["tokens"].clone()
    };
    let plain = tokens(json!([
        { "role": "system", "content": "be brief" },
        { "role": "user", "content": "hi there" },
    ]));
    let parts = tokens(json!([
        { "role": "developer", "content": [{ "type": "text", "text": "be brief" }], "name": "x" },
        { "role": "user", "content": [
            { "type": "text", "text": "hi " },
            { "type": "text", "text": "there" },
        ] },
    ]));
    assert_eq!(plain, parts);
    let text = server.ok("/detokenize", &json!({ "tokens": plain }))["content"].clone();
    assert_eq!(text, "System: be brief\nUser: hi there\nAssistant:");
    // An assistant may have said nothing, and tools that are none do no harm.
    let body = json!({ "messages": [
        { "role": "user", "content": "hi" },
        { "role": "assistant", "content": null, "tool_calls": [] },
        { "role": "user", "content": "hi" },
    ], "tools": [], "tool_choice": "none", "response_format": { "type": "text" }, "unheard_of": 1 });
    server.ok(PATH, &body);
}

/// The model's own format, which may refuse a conversation.
#[test]
fn a_template_renders_conversations() {
    let template = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}\
                    {% endif %}[{{ m.role }}] {{ m.content }}\n{% endfor %}\
                    {% if add_generation_prompt %}[assistant]:{% endif %}";
    let server = Setup::model(model::letters().with_template(template)).start();
    let reply = server.ok(PATH, &chat("hi", json!({})));
    assert_eq!(content(&reply, 0), "abcd");
    let tokens = server.ok("/tokenize", &chat("hi", json!({})))["tokens"].clone();
    let text = server.ok("/detokenize", &json!({ "tokens": tokens }))["content"].clone();
    assert_eq!(text, "[user] hi\n[assistant]:");
    let system = json!({ "messages": [{ "role": "system", "content": "x" }] });
    let reply = server.post(PATH, &system);
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("messages")));
    assert!(reply.text().contains("no system"), "{}", reply.text());
}

/// A last message of the assistant is its answer's beginning.
#[test]
fn an_answer_that_has_begun_is_continued() {
    let server = Setup::default().start();
    let begun = json!({ "role": "assistant", "content": "ab" });
    let messages = json!([{ "role": "user", "content": "hi" }, begun]);
    let reply = server.ok(PATH, &json!({ "messages": messages, "temperature": 0 }));
    assert_eq!(content(&reply, 0), "cd");
}

#[test]
fn choices_are_drawn_from_seeds_in_order() {
    let server = Setup::model(model::random()).start();
    let body = |more: Value| {
        let base = json!({ "messages": [{ "role": "user", "content": "ab" }], "max_tokens": 12 });
        crate::merged(base, more)
    };
    let three = server.ok(PATH, &body(json!({ "n": 3, "seed": 7 })));
    let texts: Vec<&str> = (0..3).map(|i| content(&three, i)).collect();
    assert!(texts[0] != texts[1] && texts[1] != texts[2]);
    let mut tokens = 0;
    for (i, text) in texts.iter().enumerate() {
        let one = server.ok(PATH, &body(json!({ "seed": 7 + i })));
        assert_eq!(content(&one, 0), *text);
        tokens += one["usage"]["completion_tokens"].as_u64().unwrap();
    }
    let chunks = server.stream(PATH, &body(json!({ "n": 3, "seed": 7 }))).chunks();
    assert_eq!(streamed(&chunks, 3), texts);
    assert_eq!(three["usage"]["completion_tokens"], tokens);
    assert_eq!(three["usage"]["prompt_tokens"], 21);
    // A negative seed is one too, and without a seed texts differ.
    server.ok(PATH, &body(json!({ "seed": -1 })));
    let [a, b] = [0, 1].map(|_| server.ok(PATH, &body(json!({}))));
    assert_ne!(content(&a, 0), content(&b, 0));
}

#[test]
fn log_probabilities_are_those_of_the_text() {
    let server = Setup::default().start();
    let body = chat("hi", json!({ "logprobs": true, "top_logprobs": 2 }));
    let reply = server.ok(PATH, &body);
    let content = reply["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let tokens: Vec<&str> = content.iter().map(|entry| entry["token"].as_str().unwrap()).collect();
    assert_eq!(tokens, ["a", "b", "c", "d"]);
    for entry in content {
        assert_eq!(entry["top_logprobs"].as_array().unwrap().len(), 2);
        assert_eq!(entry["top_logprobs"][0]["logprob"], entry["logprob"]);
        // One logit is 9 √264 (a one in 264 places, normalised), the others 0: p = 1 up to 1e-60.
        assert_eq!(entry["logprob"], 0.0);
    }
    assert_eq!(content[0]["bytes"], json!([97]));
    let chunks = server.stream(PATH, &body).chunks();
    let streamed: Vec<&Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .collect();
    assert_eq!(streamed, content.iter().collect::<Vec<_>>());
    // What a stop string takes away has none.
    let reply = server.ok(PATH, &chat("hi", json!({ "logprobs": true, "stop": "cd" })));
    assert_eq!(reply["choices"][0]["logprobs"]["content"].as_array().unwrap().len(), 2);
}

#[test]
fn a_bias_bans_and_forces() {
    let server = Setup::default().start();
    let mut body = chat("hi", json!({ "max_tokens": 1 }));
    body["logit_bias"] = json!({ model::A.to_string(): -100, model::D.to_string(): 100 });
    // The logit of "a" is 146: 46 with the ban, below the 100 of "d".
    assert_eq!(content(&server.ok(PATH, &body), 0), "d");
}

#[test]
fn characters_are_never_split() {
    let server: Server = Setup::default().start();
    let body = crate::completion("é", json!({ "max_tokens": 9, "stream": true }));
    let chunks = server.stream("/v1/completions", &body).chunks();
    let texts: Vec<&str> =
        chunks.iter().map(|c| c["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["é", "é", "é", "é", "\u{FFFD}", ""]);
}

/// What the calculator was asked and gave counts, and is not of the content.
#[test]
fn calls_of_the_calculator_are_not_in_the_content() {
    let server = Setup::model(model::calling()).start();
    let reply = server.ok(PATH, &chat("hi", json!({ "logprobs": true })));
    assert_eq!(content(&reply, 0), "iok");
    assert_eq!(reply["usage"]["completion_tokens"], 11);
    let tokens: Vec<&str> = reply["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token["token"].as_str().unwrap())
        .collect();
    assert_eq!(tokens, ["i", "<|python_start|>", "o", "k"]);
    let chunks = server.stream(PATH, &chat("hi", json!({}))).chunks();
    assert_eq!(streamed(&chunks, 1), ["iok"]);
    let cut = server.ok(PATH, &chat("hi", json!({ "max_tokens": 4 })));
    assert_eq!(content(&cut, 0), "i");
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
}
