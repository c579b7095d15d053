//! Runs that are killed, and go on.

use crate::{Bench, files, with};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// SIGKILL at random moments, resumed each time: the last checkpoint is that of a run that was never
/// interrupted, byte for byte. `ANEGPT_KILLS` sets how many kills (10 unless told otherwise).
#[test]
fn killed_runs_end_with_the_same_bytes() {
    let bench = Bench::new();
    let base = bench.small_run();
    let first = with(&base, &["--steps", "120", "--eval-every", "20", "--checkpoint-every", "3"]);
    end_with_the_same_bytes(
        &bench,
        &first,
        &["--eval-every", "20", "--checkpoint-every", "3", "--sample-every", "0"],
        120,
    );
}

/// The same with Muon and all of the dial: two kinds of state, momentum and decay that change at every step.
#[test]
fn killed_runs_of_a_dial_end_with_the_same_bytes() {
    let bench = Bench::new();
    bench.small_run();
    let first = "train --depth 2 --aspect-ratio 16 --head-dim 16 --seq 32 --batch-tokens 256 --steps 60 \
                 --data text.txt --tokenizer bpe:300 --sample-every 0 --eval-every 20 --checkpoint-every 2";
    let first: Vec<&str> = first.split_whitespace().collect();
    let later = ["--eval-every", "20", "--checkpoint-every", "2", "--sample-every", "0"];
    end_with_the_same_bytes(&bench, &first, &later, 60);
}

/// The same with finetuning: conversations wait for a row that they fit into, and passes have orders of their own.
#[test]
fn killed_runs_on_conversations_end_with_the_same_bytes() {
    let bench = Bench::new();
    bench.base_and_talks("10");
    let first = "sft -m base --data talks.jsonl --epochs 2 --eval-every 20 --checkpoint-every 2";
    let first: Vec<&str> = first.split(' ').collect();
    let steps = end_of(&bench, &[&first[..], &["--out", "trial"]].concat());
    assert!(steps > 40, "{steps}");
    let later = ["--eval-every", "20", "--checkpoint-every", "2"];
    end_with_the_same_bytes(&bench, &first, &later, steps);
}

/// The same with answers that are judged: three updates of each round, so that most checkpoints hold one.
#[test]
fn killed_runs_of_judged_answers_end_with_the_same_bytes() {
    let bench = Bench::new();
    bench.tuned_to_count();
    let first = "rl -m tuned --tasks counting --questions 3 --samples 4 --max-tokens 60 --held-out 2 --epochs 3 \
                 --held-out-samples 2 --steps 30 --eval-every 10 --checkpoint-every 1";
    let first: Vec<&str> = first.split_whitespace().collect();
    end_with_the_same_bytes(&bench, &first, &["--eval-every", "10", "--checkpoint-every", "1"], 30);
}

/// The same with LoRA: factors, and the matrices that they stand beside.
#[test]
fn killed_runs_of_adapters_end_with_the_same_bytes() {
    let bench = Bench::new();
    bench.base_and_talks("10");
    let first = "sft -m base --data talks.jsonl --lora rank=2 --steps 60 --eval-every 20 --checkpoint-every 2";
    let later = ["--eval-every", "20", "--checkpoint-every", "2"];
    end_with_the_same_bytes(&bench, &first.split(' ').collect::<Vec<_>>(), &later, 60);
}

/// The steps of a run.
fn end_of(bench: &Bench, args: &[&str]) -> usize {
    let text = bench.ok(&[args, &["--log-format", "json"]].concat());
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    last["steps"].as_u64().unwrap() as usize
}

/// Kills runs that begin as `first` and go on with `later` until enough kills fell.
fn end_with_the_same_bytes(bench: &Bench, first: &[&str], later: &[&str], steps: usize) {
    let kills: usize =
        std::env::var("ANEGPT_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let last = format!("step-{steps:08}");
    bench.ok(&[first, &["--out", "whole"]].concat());
    let expected = files(&bench.path("whole").join(&last));
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    let (mut killed, mut rounds) = (0, 0);
    while killed < kills {
        rounds += 1;
        let out = format!("killed-{rounds}");
        // A kill may fall between the last checkpoint and the end of the program.
        while !bench.path(&out).join(&last).exists() {
            let fresh = [first, &["--out", &out]].concat();
            let resume = [&[first[0], "--resume", &out], later].concat();
            let args = if train_has_checkpoint(&bench.path(&out)) { &resume } else { &fresh };
            let mut child =
                bench.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(Duration::from_millis(20 + (random >> 33) % 500));
            if child.try_wait().unwrap().is_none() && killed < kills {
                child.kill().unwrap();
                child.wait().unwrap();
                killed += 1;
                continue;
            }
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            break;
        }
        let found = files(&bench.path(&out).join(&last));
        assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
        for (name, bytes) in &expected {
            assert!(found[name] == *bytes, "{name} differs after {killed} kills");
        }
    }
    eprintln!("{killed} kills in {rounds} runs");
}

fn train_has_checkpoint(out: &Path) -> bool {
    let entries = std::fs::read_dir(out).into_iter().flatten().filter_map(Result::ok);
    entries.into_iter().any(|e| e.file_name().to_string_lossy().starts_with("step-"))
}

/// Starts a run as `prefix` of a shell has it, waits for its first step, and for another one after
/// each of `signals` but the last; gives its exit status.
fn signalled(
    bench: &Bench,
    args: &[&str],
    out: &str,
    prefix: &str,
    signals: &[&str],
) -> ExitStatus {
    let program = bench.command(&[args, &["--out", out]].concat());
    // The shell becomes the program, which keeps its identity and the signals that it ignores.
    let mut child = Command::new("sh")
        .args(["-c", &format!("{prefix} exec \"$0\" \"$@\"")])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(bench.path("."))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let log = bench.path(out).join("log.jsonl");
    let logged = || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.matches("\"event\":\"step\"").count()
    };
    let mut before = 0;
    for signal in signals {
        // A step was logged: the run is under way and listens.
        while logged() <= before {
            std::thread::sleep(Duration::from_millis(5));
            assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
        }
        let sent = Command::new("kill").args([*signal, &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        // Two more: one may have been under way.
        before = logged() + 1;
    }
    child.wait().unwrap()
}

/// True if this process was started with `signal` ignored, as under `nohup`: a shell cannot undo
/// that, and survives it.
fn ignored(signal: &str) -> bool {
    let survives = Command::new("sh").args(["-c", &format!("kill {signal} $$; exit 0")]).status();
    survives.unwrap().success()
}

/// Ctrl-C, `kill`, and a terminal that goes away: the run saves, exits with the signal's code, and goes on
/// to the bytes of one that was left alone.
#[test]
fn a_run_that_is_asked_to_stop_goes_on_to_the_same_bytes() {
    let bench = Bench::new();
    let base = bench.small_run();
    let last = "step-00001000";
    let rare = ["--steps", "1000", "--eval-every", "0", "--checkpoint-every", "0"];
    let args = with(&base, &rare);
    bench.ok(&with(&base, &[&rare[..], &["--out", "whole"]].concat()));
    let expected = files(&bench.path("whole").join(last));
    for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let out = signal.trim_start_matches('-');
        if ignored(signal) {
            eprintln!("skipped: {signal} is ignored here, and so by the program");
            continue;
        }
        assert_eq!(signalled(&bench, &args, out, "", &[signal]).code(), Some(code), "{signal}");
        assert!(train_has_checkpoint(&bench.path(out)), "{signal}");
        assert!(!bench.path(out).join(last).exists(), "{signal}: the run did not stop");
        bench.ok(&["train", "--resume", out]);
        assert!(files(&bench.path(out).join(last)) == expected, "{signal}");
    }
}

/// As under `nohup`.
#[test]
fn a_hang_up_that_was_ignored_stays_ignored() {
    let bench = Bench::new();
    let base = bench.small_run();
    let args = with(&base, &["--steps", "100000", "--eval-every", "0", "--checkpoint-every", "0"]);
    let status = signalled(&bench, &args, "run", "trap '' HUP;", &["-HUP", "-TERM"]);
    assert_eq!(status.code(), Some(143));
    assert!(train_has_checkpoint(&bench.path("run")));
}

/// The messages to a person, and to a program.
#[test]
fn an_interrupted_run_says_how_to_go_on() {
    let bench = Bench::new();
    let base = bench.small_run();
    let more = ["--steps", "100000", "--eval-every", "0", "--out", "a run"];
    let mut child = bench
        .command(&with(&base, &more))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&bench, "a run", "step", &mut child);
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let (text, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(130), "{error}");
    assert!(error.contains("stopping after this step, saving a checkpoint"), "{error}");
    assert!(!error.contains("error"), "{error}");
    assert!(text.trim_end().ends_with("Next: anegpt train --resume \"a run\""), "{text}");
    let log = std::fs::read_to_string(bench.path("a run/log.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["reason"]), (&"done".into(), &"interrupted".into()));
    let measured = log.matches("\"event\":\"eval\"").count();
    assert_eq!(measured, 1, "only before the first step");
}

/// The second request does not wait for a step that takes minutes, nor for a checkpoint.
#[test]
fn a_second_request_ends_the_run_at_once() {
    let bench = Bench::new();
    let base = bench.small_run();
    let more = ["--steps", "10", "--accum", "1000000", "--out", "run"];
    let mut child = bench
        .command(&with(&base, &more))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&bench, "run", "eval", &mut child);
    signal(&child, "-INT");
    let mut said = String::new();
    let mut error = std::io::BufReader::new(child.stderr.take().unwrap());
    while !said.contains("Ctrl-C again") {
        assert!(std::io::BufRead::read_line(&mut error, &mut said).unwrap() > 0, "{said}");
    }
    assert!(child.try_wait().unwrap().is_none(), "the step is under way");
    signal(&child, "-INT");
    let start = std::time::Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert!(!train_has_checkpoint(&bench.path("run")));
}

/// Waits until a run logs an event of a kind.
fn wait_for(bench: &Bench, out: &str, kind: &str, child: &mut std::process::Child) {
    let (log, event) = (bench.path(out).join("log.jsonl"), format!("\"event\":\"{kind}\""));
    while !std::fs::read_to_string(&log).unwrap_or_default().contains(&event) {
        std::thread::sleep(Duration::from_millis(5));
        assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
    }
}

fn signal(child: &std::process::Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}
