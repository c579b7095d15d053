//! `anegpt dashboard`, on a terminal of its own: every key, and logs of every kind.

use crate::terminal::Session;
use crate::{Bench, with};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// A run of 24 steps with texts and measurements.
fn finished(bench: &Bench, out: &str) {
    let seed = out.len().to_string();
    let mut base = bench.small_run();
    base.truncate(base.len() - 2);
    let more = ["--steps", "24", "--sample-every", "8", "--eval-every", "6", "--out", out];
    let more = [&more[..], &["--seed", &seed]].concat();
    bench.ok(&with(&base, &more));
}

/// The dashboard of runs, at 80 columns and 24 rows.
fn opened(bench: &Bench, args: &[&str]) -> Session {
    Session::start(bench, &[&["dashboard"], args].concat())
}

fn has<'t>(text: &'t str) -> impl Fn(&str) -> bool + 't {
    move |shown| shown.contains(text)
}

/// Sends keys and waits for what is then shown.
fn press(session: &mut Session, keys: &str, text: &str) -> String {
    session.send(keys);
    session.shows(has(text))
}

const LEFT: &str = "\x1b[D";
const RIGHT: &str = "\x1b[C";
const UP: &str = "\x1b[A";
const DOWN: &str = "\x1b[B";
const PAGE_UP: &str = "\x1b[5~";
const PAGE_DOWN: &str = "\x1b[6~";
const HOME: &str = "\x1b[H";
const END: &str = "\x1b[F";

#[test]
fn every_key_does_what_the_help_says() {
    let bench = Bench::new();
    finished(&bench, "run");
    let mut session = opened(&bench, &["run"]);
    let first = session.shows(has("finished   step 24 of 24 (100 %)"));
    for text in ["[1 Overview]", "Loss: o validation", "validation ", "ms/step", "Log", "? keys"] {
        assert!(first.contains(text), "{text}: {first}");
    }
    assert!(first.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)), "a curve: {first}");

    // Pages.
    press(&mut session, "2", "[2 Loss]");
    press(&mut session, "3", "Tokens per second");
    press(&mut session, "4", "forecast: m4");
    press(&mut session, "5", "Loss scale");
    // Before the texts: the parser leaves out U+FFFD, which samples have and terminals show.
    press(&mut session, "7", "CORE and tasks are not measured");
    press(&mut session, "6", "Text 1 of 3: step 24");
    press(&mut session, "8", "[8 Log]");
    press(&mut session, "]", "[1 Overview]");
    press(&mut session, "[", "[8 Log]");

    // The log is scrolled from its end, by lines, pages, and to its ends.
    let end = press(&mut session, END, "finished after 24 steps");
    assert!(!end.contains("begun: "), "{end}");
    session.send(UP);
    session.shows(|shown| !shown.contains("finished after"));
    press(&mut session, DOWN, "finished after");
    session.send(PAGE_UP);
    session.shows(|shown| !shown.contains("finished after"));
    press(&mut session, PAGE_DOWN, "finished after");
    press(&mut session, HOME, "begun: ");
    press(&mut session, END, "finished after");

    // Texts, older and newer.
    press(&mut session, "6", "Text 1 of 3");
    press(&mut session, LEFT, "Text 2 of 3: step 16");
    press(&mut session, LEFT, "Text 3 of 3: step 8");
    press(&mut session, RIGHT, "Text 2 of 3");

    // Charts.
    press(&mut session, "2", "smoothed (m)");
    press(&mut session, LEFT, "+ shows fewer steps");
    press(&mut session, "+", "[1/2 of the steps]");
    press(&mut session, "=", "[1/4 of the steps]");
    let newest = session.shows(has(" 24"));
    session.send(LEFT);
    session.shows(|shown| shown.contains(" 18") && shown != newest);
    session.send(RIGHT);
    session.shows(|shown| shown == newest);
    press(&mut session, "-", "[1/2 of the steps]");
    session.send("0");
    session.shows(|shown| !shown.contains("of the steps]"));
    press(&mut session, "m", "not smoothed");
    press(&mut session, "m", "smoothed over 10");
    press(&mut session, "y", "log scale");
    press(&mut session, "c", "name several to compare them");
    press(&mut session, "p", "[paused]");
    session.send(" ");
    session.shows(|shown| !shown.contains("[paused]"));

    // Help, which any key ends.
    press(&mut session, "?", "stop the run gracefully");
    session.send("z");
    session.shows(|shown| !shown.contains("gracefully"));

    // What is asked of runs.
    press(&mut session, "x", "the run has ended");
    press(&mut session, "s", "generating a text");
    press(&mut session, "6", "Text 1 of 4: asked for, from run");
    press(&mut session, "r", "else no: anegpt train --resume run --steps 48");
    session.send("n");
    session.shows(|shown| !shown.contains("else no"));
    press(&mut session, "r", "y = yes");
    press(&mut session, "y", "finished   step 48 of 48");
    press(&mut session, "8", "finished after 48 steps");
    let log = std::fs::read_to_string(bench.path("run/log.jsonl")).unwrap();
    assert_eq!(log.matches("{\"event\":\"start\"").count(), 2, "the run went on");

    // Another size of the terminal.
    session.resize(40, 10);
    session.shows(has("40x10 is too small"));
    session.resize(200, 50);
    // crossterm leaves a key unread that comes with the signal of a new size, until the next one.
    session.shows(has("[8 Log]"));
    press(&mut session, "1", "CPU cores busy");

    session.send("q");
    let (status, _) = session.end();
    assert!(status.success());
}

#[test]
fn runs_are_compared_by_letters() {
    let bench = Bench::new();
    finished(&bench, "one");
    finished(&bench, "second");
    let mut session = opened(&bench, &["one", "second"]);
    let both = session.shows(|shown| {
        shown.contains("[A one (finished)]") && shown.contains("B second (finished)")
    });
    for text in ["Side by side", "A B training", "a b validation", "           A           B"] {
        assert!(both.contains(text), "{text}: {both}");
    }
    press(&mut session, "\t", "[B second (finished)]");
    press(&mut session, "\x1b[Z", "[A one (finished)]");
    press(&mut session, "c", "o validation");
    press(&mut session, "c", "A B training");
    // Every letter that a curve has stands in the picture, so that no colour is needed.
    press(&mut session, "2", "[2 Loss]");
    let plot = session.shows(|shown| {
        let plot: Vec<&str> = shown.lines().skip(4).collect();
        ['A', 'B', 'b'].iter().all(|c| plot.iter().any(|line| line.contains(*c)))
    });
    assert!(
        plot.contains('⠤') || plot.contains('⠒') || plot.contains('⢄') || plot.contains('⠑'),
        "{plot}"
    );
    // Interrupted from outside, the terminal is given back as it was.
    session.terminate();
    let status = session.wait();
    assert_eq!(status.code(), Some(143));
    assert!(session.is_plain());
}

#[test]
fn a_run_is_started_watched_and_stopped() {
    let bench = Bench::new();
    let base = bench.small_run();
    let mut args = vec!["--"];
    args.extend(base.iter().map(String::as_str));
    args.extend(["--steps", "1000000", "--eval-every", "0"]);
    let mut session = opened(&bench, &args);
    session.shows(|shown| shown.contains("out/run-1   running   step ") && shown.contains(" left"));
    // It goes on alone if the dashboard is left; asked for, and not meant.
    press(&mut session, "q", "The run that was started here goes on");
    session.send("n");
    press(&mut session, "r", "only a run that has ended");
    press(&mut session, "x", "and save? y = yes");
    press(&mut session, "y", "stopped   step ");
    press(&mut session, "x", "asked to stop already");
    session.send("q");
    let (status, _) = session.end();
    assert!(status.success());
    assert!(bench.path("out/run-1/latest").exists(), "a checkpoint");

    // One that somebody else started, by its directory.
    let more = ["--steps", "1000000", "--eval-every", "0", "--out", "other"];
    let mut other = bench.command(&with(&base, &more));
    let mut other = other.stdout(std::process::Stdio::null()).spawn().unwrap();
    while !bench.path("other/log.jsonl").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut session = opened(&bench, &["other"]);
    session.shows(has("running   step "));
    session.send("x");
    press(&mut session, "\r", "stopped   step ");
    assert_eq!(other.wait().unwrap().code(), Some(143));
    // Ctrl-C is a key here.
    session.send("\x03");
    assert!(session.end().0.success());
}

#[test]
fn a_command_that_fails_says_why() {
    let bench = Bench::new();
    let mut session = opened(&bench, &["--", "train", "--data", "nowhere.txt"]);
    session.shows(has("failed: see Log"));
    press(&mut session, "8", "nowhere.txt");
    session.send("q");
    let (status, text) = session.end();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("out/run-1: the command that was started here failed"), "{text}");
    assert!(!bench.path("out/run-1").exists(), "nothing is left behind");
    for (args, says) in [
        (&["dashboard", "--", "chat", "run"][..], "the dashboard starts `train`, `sft` and `rl`"),
        (&["dashboard", "--", "train", "--stpes", "3"], "--stpes"),
        (&["dashboard", "nowhere"], "nowhere: there is no such run"),
        (&["dashboard"], "no run in out"),
        (&["dashboard", "."], ". holds no run: there is no log.jsonl in it"),
    ] {
        let (status, text) = Session::start(&bench, args).end();
        assert_eq!(status.code(), Some(2), "{text}");
        assert!(text.contains(says), "{text}");
    }
    let output = bench.run(&["dashboard"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("needs a terminal"));
}

/// A model that answers is asked a question of its run. Its results stand whole on 80 columns.
#[test]
fn a_model_that_answers_is_asked() {
    let bench = Bench::new();
    bench.base_and_talks("20");
    let sft = "sft -m base --data talks.jsonl --steps 20 --lr 0.02 --prompt red --sample-every 0 --eval-every 0 \
               --tasks-every 10 --eval-tasks stories-choice,word-problems --max-per-task 5 --out out/tuned";
    bench.ok(&sft.split_whitespace().collect::<Vec<_>>());
    // The newest run is shown, not a log that was touched since.
    std::fs::create_dir(bench.path("out/none")).unwrap();
    bench.write("out/none/log.jsonl", "");
    let mut session = opened(&bench, &[]);
    session.shows(has("out/tuned   finished"));
    let results = press(&mut session, "7", "centred mean");
    for text in
        ["stories-choice", "word-problems", "accuracy centred  asked", "0 = as good as guessing"]
    {
        assert!(results.contains(text), "{text}: {results}");
    }
    let row = results.lines().find(|line| line.contains("stories-choice")).unwrap();
    let row = row.trim_end_matches(['│', ' ']);
    assert!(row.ends_with(" 5") && row.matches('.').count() == 2, "{row}");
    press(&mut session, "s", "generating a text");
    let text = press(&mut session, "6", "Text 1 of 1: asked for");
    let lines: Vec<&str> = text.lines().map(|line| line.trim_matches(['│', ' '])).collect();
    let asked = lines.iter().position(|line| *line == "red").unwrap_or_else(|| panic!("{text}"));
    assert!(lines[asked + 1].starts_with('→'), "{text}");
    session.send("q");
    assert!(session.end().0.success());
}

/// The log of the sessions before says how they ended, not how the one did that never began.
#[test]
fn a_resume_that_fails_is_shown() {
    let bench = Bench::new();
    finished(&bench, "run");
    let mut session = opened(&bench, &["run"]);
    session.shows(has("finished   step 24 of 24"));
    std::fs::remove_file(bench.path("text.txt")).unwrap();
    press(&mut session, "r", "y = yes");
    press(&mut session, "y", "failed: see Log");
    press(&mut session, "8", "text.txt");
    // Mended, it goes on.
    bench.write("text.txt", bench.ok(&["data", "synth", "--count", "150"]));
    press(&mut session, "r", "y = yes");
    press(&mut session, "y", "finished   step 48 of 48");
    session.send("q");
    assert!(session.end().0.success());
}

#[test]
fn logs_that_are_cut_torn_or_foreign_are_shown_as_far_as_they_go() {
    let bench = Bench::new();
    finished(&bench, "run");
    let log = std::fs::read_to_string(bench.path("run/log.jsonl")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    let whole = log.find("\"step\":12,").unwrap();
    bench.write("torn.jsonl", &log[..whole + 30]);
    let mut foreign = b"\x1b[2J\x00\xff\xfe binary\n{\"a\": 1}\nsome text\n".to_vec();
    foreign.extend_from_slice(log.as_bytes());
    foreign.extend_from_slice(b"{\"event\":\"rollout\",\"step\":24,\"reward\":0.5}\n");
    bench.write("foreign.jsonl", foreign);
    // The beginning is gone.
    bench.write("rest.jsonl", lines[10..].join("\n") + "\n");
    bench.write("empty.jsonl", "");
    bench.write("other.jsonl", "{\"a\": 1}\nsome text\n");
    let (status, text) = Session::start(&bench, &["dashboard", "other.jsonl"]).end();
    assert_eq!(status.code(), Some(2), "{text}");
    assert!(text.contains("this log has no events of a run"), "{text}");
    let args = ["torn.jsonl", "foreign.jsonl", "rest.jsonl", "empty.jsonl"];
    let mut session = opened(&bench, &args);
    session.shows(has("[A torn.jsonl"));
    session.send("c8");
    session.shows(has("step     11  loss"));
    press(&mut session, "\t", "3 lines that are no events");
    press(&mut session, "3", "Bits per byte");
    press(&mut session, DOWN, "rollout/reward");
    press(&mut session, "\t", "finished   ");
    press(&mut session, "\t", "no events yet");
    press(&mut session, "x", "and save? y = yes");
    press(&mut session, "y", "belongs to no directory");
    press(&mut session, "s", "belongs to no directory");

    // Written anew, and then rotated.
    let first = lines[..6].join("\n") + "\n";
    bench.write("empty.jsonl", &first);
    press(&mut session, "8", "begun: ");
    bench.write("empty.jsonl", "");
    session.shows(has("no events yet"));
    bench.write("empty.jsonl", &first);
    session.shows(has("begun: "));
    std::fs::rename(bench.path("empty.jsonl"), bench.path("old.jsonl")).unwrap();
    bench.write("empty.jsonl", lines[6..].join("\n") + "\n");
    session.shows(has("finished   step 24 of 24"));
    session.send("q");
    assert!(session.end().0.success());
}

#[test]
fn colours_come_and_go_and_the_words_stay() {
    let bench = Bench::new();
    finished(&bench, "run");
    let shown = |variables: &[(&str, &str)]| {
        let mut session = Session::sized(&bench, &["dashboard", "run"], (80, 24), variables);
        // The keys are drawn last.
        let whole = |shown: &str| shown.contains("step 24 of 24") && shown.contains("r resume");
        let text = session.shows(whole);
        let screen = session.screen();
        let coloured = (0..24).flat_map(|y| (0..80).map(move |x| (y, x))).any(|(y, x)| {
            screen.cell(y, x).is_some_and(|cell| {
                assert_eq!(cell.bgcolor(), vt100::Color::Default, "the user's background");
                cell.fgcolor() != vt100::Color::Default
            })
        });
        session.send("q");
        assert!(session.end().0.success());
        (text, coloured)
    };
    let (with_colour, coloured) = shown(&[]);
    let (without, plain) = shown(&[("NO_COLOR", "1")]);
    assert!(coloured && !plain);
    // Only times differ, if anything.
    let rows = with_colour.lines().zip(without.lines());
    assert!(rows.filter(|(a, b)| a == b).count() >= 22, "{with_colour}\n{without}");
    // Without a locale, no character but ASCII.
    let (ascii, _) = shown(&[("LC_ALL", "C")]);
    assert!(ascii.is_ascii(), "{ascii}");
    assert!(ascii.contains('*') && ascii.contains('o'), "{ascii}");
}

/// A long log: half a million steps, about 130 MB.
#[test]
fn a_huge_log_is_shown_at_once_and_costs_little() {
    let bench = Bench::new();
    finished(&bench, "run");
    let log = std::fs::read_to_string(bench.path("run/log.jsonl")).unwrap();
    let start = log.lines().next().unwrap().replace("\"steps\":24", "\"steps\":500000");
    let mut text = start + "\n";
    for step in 1..=500_000u64 {
        let loss = 2.0 + 6.0 / (1.0 + step as f64 / 1000.0);
        writeln!(text, r#"{{"event":"step","step":{step},"loss":{loss:.6},"lr":0.001,"tokens":{},"ms":80.5,"grad_norm":0.7,"loss_scale":65536.0,"skipped":false,"parts":{{"data":0.1,"engine_bwd":30.0,"engine_fwd":20.0,"head":15.0,"io":2.0,"optimizer":5.0}},"time":1.0}}"#, step * 128).unwrap();
    }
    bench.write("huge.jsonl", text);
    let begun = Instant::now();
    let mut session = opened(&bench, &["huge.jsonl"]);
    session.shows(has("step "));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    session.shows(has("step 500000 of 500000"));
    // Means of a constant are rounded.
    press(&mut session, "3", "Tokens per second");
    press(&mut session, "4", "Time of a step");
    session.send("q");
    assert!(session.end().0.success());
}
