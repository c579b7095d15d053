//! Counters and times in Prometheus' text format.

use crate::worker::Now;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper bounds of the times that are counted together, in seconds.
const BOUNDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// What was counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    answers: BTreeMap<(&'static str, u16), u64>,
    /// Until the head of an answer, which a stream sends early.
    answering: Histogram,
    first_token: Histogram,
    cut_off: u64,
}

#[derive(Debug, Default)]
struct Histogram {
    /// One more than there are bounds.
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Histogram {
    fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        self.counts[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        self.sum += seconds;
    }

    fn write(&self, name: &str, help: &str, to: &mut String) {
        head(name, "histogram", help, to);
        let mut count = 0;
        for (i, counted) in self.counts.iter().enumerate() {
            count += counted;
            let bound = BOUNDS.get(i).map_or("+Inf".to_owned(), f64::to_string);
            let _ = writeln!(to, "anegpt_{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(to, "anegpt_{name}_sum {}\nanegpt_{name}_count {count}", self.sum);
    }
}

impl Metrics {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an answer by where it was asked for and by its status.
    pub(crate) fn answered(&self, endpoint: &'static str, status: u16, time: Duration) {
        let mut counts = self.lock();
        *counts.answers.entry((endpoint, status)).or_default() += 1;
        counts.answering.add(time);
    }

    /// Counts the time from a request to its first token.
    pub(crate) fn first_token(&self, time: Duration) {
        self.lock().first_token.add(time);
    }

    /// Counts an answer that ended before its text did: its client left, or an error came up.
    pub(crate) fn cut_off(&self) {
        self.lock().cut_off += 1;
    }

    /// The page that Prometheus reads.
    pub(crate) fn text(&self, now: &Now, up: bool, slots: usize) -> String {
        let mut to = String::new();
        let counts = self.lock();
        head("requests_total", "counter", "Requests answered.", &mut to);
        for ((endpoint, status), count) in &counts.answers {
            let labels = format!("endpoint=\"{endpoint}\",code=\"{status}\"");
            let _ = writeln!(to, "anegpt_requests_total{{{labels}}} {count}");
        }
        counts.answering.write(
            "response_start_seconds",
            "Time from a request to the head of its answer.",
            &mut to,
        );
        counts.first_token.write(
            "time_to_first_token_seconds",
            "Time from a request to its first token, waiting included.",
            &mut to,
        );
        let stats = now.stats;
        let count = |n: u64| n as f64;
        let rows = [
            (
                "answers_cut_off_total",
                "Answers that ended before their text.",
                count(counts.cut_off),
            ),
            ("jobs_total", "Texts that ended, for whatever reason.", count(stats.jobs)),
            ("prompt_tokens_total", "Tokens of prompts computed.", count(stats.prompt_tokens)),
            (
                "cached_tokens_total",
                "Tokens of prompts found in the cache.",
                count(stats.cached_tokens),
            ),
            ("generated_tokens_total", "Tokens drawn.", count(stats.generated_tokens)),
            ("drafted_tokens_total", "Tokens guessed ahead.", count(stats.drafted_tokens)),
            (
                "accepted_tokens_total",
                "Guessed tokens that were drawn.",
                count(stats.accepted_tokens),
            ),
            ("steps_total", "Forward passes.", count(stats.steps)),
            ("prompt_seconds_total", "Time of passes that read prompts.", stats.prompt_seconds),
            ("decode_seconds_total", "Time of the other passes.", stats.decode_seconds),
        ];
        for (name, help, value) in rows {
            head(name, "counter", help, &mut to);
            let _ = writeln!(to, "anegpt_{name} {value}");
        }
        let rows = [
            ("engine_up", "1 while the engine computes.", usize::from(up)),
            ("slots", "Texts that are continued at once.", slots),
            ("jobs_running", "Texts being continued.", now.running),
            ("jobs_waiting", "Texts waiting for a slot.", now.waiting),
        ];
        for (name, help, value) in rows {
            head(name, "gauge", help, &mut to);
            let _ = writeln!(to, "anegpt_{name} {value}");
        }
        to
    }
}

fn head(name: &str, kind: &str, help: &str, to: &mut String) {
    let _ = writeln!(to, "# HELP anegpt_{name} {help}\n# TYPE anegpt_{name} {kind}");
}
