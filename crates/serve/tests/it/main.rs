//! The server over real sockets.

mod bad;
mod chat;
mod client;
mod completions;
mod conduct;
mod door;
mod fuzz;
#[path = "../../../mil/tests/fuzzing/mod.rs"]
mod fuzzing;
mod limits;
mod model;
mod others;

use client::{Reply, Stream};
use infer::EngineOptions;
use serde_json::{Value, json};
use serve::{Limits, Options, Stop};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

/// A server on a port of its own, stopped at the end of its test.
struct Server {
    address: SocketAddr,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// What a server is made of.
#[derive(Clone)]
struct Setup {
    model: model::Model,
    engine: EngineOptions,
    options: Options,
}

impl Default for Setup {
    /// Two slots and a queue of four jobs.
    fn default() -> Self {
        let queue = 4;
        let options = Options { queue, ..Options::default() };
        Setup {
            model: model::letters(),
            engine: EngineOptions { slots: 2, queue, ..EngineOptions::default() },
            options,
        }
    }
}

impl Setup {
    fn model(model: model::Model) -> Self {
        Setup { model, ..Setup::default() }
    }

    fn slots(mut self, slots: usize, queue: usize) -> Self {
        (self.engine.slots, self.engine.queue, self.options.queue) = (slots, queue, queue);
        self
    }

    fn limits(mut self, limits: Limits) -> Self {
        self.options.limits = limits;
        self
    }

    fn start(self) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), Stop::new());
        let engine = self.model.engine(self.engine);
        let thread = std::thread::spawn({
            let stop = stop.clone();
            let described = self.model.described();
            move || serve::serve(listener, engine, described, self.options, &stop).unwrap()
        });
        Server { address, stop, thread: Some(thread) }
    }
}

impl Server {
    fn get(&self, path: &str) -> Reply {
        client::exchange(self.address, "GET", path, &[], None)
    }

    fn post(&self, path: &str, body: &Value) -> Reply {
        client::exchange(self.address, "POST", path, &[], Some(body.to_string().as_bytes()))
    }

    /// The body of an answer that succeeds.
    fn ok(&self, path: &str, body: &Value) -> Value {
        let reply = self.post(path, body);
        assert_eq!(reply.status, 200, "{body}: {}", reply.text());
        reply.json()
    }

    fn stream(&self, path: &str, body: &Value) -> Stream {
        Stream::open(self.address, path, body)
    }

    /// A number of `/metrics`.
    fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.unwrap_or_else(|| panic!("{name} in {text}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Waits until a number of `/metrics` is as it should be.
    fn wait(&self, name: &str, value: f64) {
        for _ in 0..3000 {
            if self.metric(name) == value {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{name} is {}, not {value}", self.metric(name));
    }

    /// Stops the server and waits for it.
    fn finish(&mut self) {
        self.stop.request();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.finish();
        }
    }
}

/// A greedy chat of one message, with more fields.
fn chat(text: &str, more: Value) -> Value {
    let messages = json!([{ "role": "user", "content": text }]);
    merged(json!({ "model": "letters", "temperature": 0, "messages": messages }), more)
}

/// A greedy completion, with more fields.
fn completion(prompt: impl Into<Value>, more: Value) -> Value {
    merged(json!({ "model": "letters", "temperature": 0, "prompt": prompt.into() }), more)
}

fn merged(mut base: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more} is no object") };
    base.as_object_mut().unwrap().extend(more);
    base
}
