//! Programs are stopped from another thread, as a handler of signals does it. It is one test in a process of its own:
//! all programs of a process are stopped. Whether they are gone is read from /proc.
#![cfg(target_os = "linux")]

use std::thread;
use std::time::Duration;
use tasks::{Ended, Python, TaskError};

/// True if a process has this text in its command line.
fn runs(text: &str) -> bool {
    let listed = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut lines = listed.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.any(|line| line.windows(text.len()).any(|part| part == text.as_bytes()))
}

#[test]
fn programs_are_stopped_and_none_starts_until_they_may() {
    let python = Python::find().expect("the tests need python3");
    let program = "import os, sys
os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(1000)', 'stop-mark'])";
    let run = thread::spawn({
        let python = python.clone();
        move || python.run(program)
    });
    while !runs("stop-mark") {
        assert!(!run.is_finished(), "it ended by itself: {:?}", run.join());
        thread::sleep(Duration::from_millis(5));
    }
    Python::stop_all();
    // Left alone, it would be `TimedOut`.
    assert!(matches!(run.join().unwrap(), Err(TaskError::Stopped)));
    assert!(!runs("stop-mark"));
    assert!(matches!(python.run("1"), Err(TaskError::Stopped)));
    Python::go_on();
    assert_eq!(python.run("1").unwrap(), Ended::Passed);
}
