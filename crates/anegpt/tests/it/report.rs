//! `anegpt report`.

use crate::{Bench, with, words};

#[test]
fn the_report_of_a_run_is_printed_again() {
    let bench = Bench::new();
    let base = bench.small_run();
    let trained = bench.ok(&with(&base, &["--steps", "4", "--out", "run"]));
    let report = bench.ok(&["report", "run"]);
    assert!(report.contains("=== Efficiency Report ===\nSteps:           4 of 4\n"), "{report}");
    assert!(trained.ends_with(&report), "{trained}\nand\n{report}");
    assert_eq!(bench.ok(&["report", "run/log.jsonl"]), report);
    assert_eq!(bench.ok(&["report", "run", "run"]), format!("{report}\n{report}"));
    // The last session counts.
    let resumed = bench.ok(&["train", "--resume", "run", "--steps", "6"]);
    let report = bench.ok(&["report", "run"]);
    assert!(report.contains("Steps:           6 of 6\n") && resumed.ends_with(&report), "{report}");
}

#[test]
fn a_run_without_a_report_says_why() {
    let bench = Bench::new();
    bench.ok(&with(&bench.small_run(), &["--steps", "2", "--out", "run"]));
    let log = std::fs::read_to_string(bench.path("run/log.jsonl")).unwrap();
    let begun: String = log.lines().take(3).map(|line| format!("{line}\n")).collect();
    bench.write("begun.jsonl", begun);
    bench.write("other.jsonl", "{\"event\": \"flight\"}\n");
    std::fs::create_dir(bench.path("empty")).unwrap();
    bench.write("empty.jsonl", "");
    for (run, code, says) in [
        (&["begun.jsonl"][..], 1, "begun.jsonl: the newest session has not said how it ended"),
        (&["other.jsonl"], 2, "other.jsonl: this log has no events of a run"),
        (&["empty.jsonl"], 2, "empty.jsonl: this log has no events of a run"),
        (&["text.txt"], 2, "text.txt: this log has no events of a run"),
        (&["nowhere"], 2, "nowhere: there is no such run"),
        (&["empty"], 2, "empty holds no run: there is no log.jsonl in it"),
        (&["run/latest"], 2, "run/latest is a checkpoint: give the directory of its run"),
        (&["run", "."], 2, ". is not a run itself, but holds runs; name them: ./run"),
        (&["run", "--out", "-", "--csv", "-"], 2, "cannot both be standard output"),
        (&["run", "./run", "--tensorboard", "board"], 2, "run and ./run would both be written"),
    ] {
        let output = bench.run(&[&["report"], run].concat());
        let error = words(&String::from_utf8_lossy(&output.stderr));
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{error}");
        assert!(error.contains(says), "{error}");
    }
}

/// A line cut inside a character, one that is none, a last one without an end, and no first one: what can be read is
/// shown, and a note says what was left out.
#[test]
fn damaged_logs_are_shown_as_far_as_they_go() {
    let bench = Bench::new();
    trained(&bench, "run", &[]);
    let log = std::fs::read_to_string(bench.path("run/log.jsonl")).unwrap();
    let mut lines: Vec<Vec<u8>> = log.lines().map(|line| line.as_bytes().to_vec()).collect();
    let step = lines.iter().position(|line| line.starts_with(b"{\"event\":\"step\"")).unwrap();
    lines[step] = b"{\"event\":\"sample\",\"text\":\"\xc3".to_vec();
    lines.insert(step + 1, b"disk full".to_vec());
    bench.write("damaged.jsonl", lines.join(&b'\n'));
    bench.write("headless.jsonl", lines[1..].join(&b'\n'));
    let note = "left out of the log: 1 line that was cut short, 1 line that is no event";
    let said = |args: &[&str]| {
        let output = bench.run(args);
        let error = words(&String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {error}");
        (String::from_utf8(output.stdout).unwrap(), error)
    };
    let (text, error) = said(&["report", "damaged.jsonl"]);
    assert!(text.contains("Steps:           12 of 12\n"), "{text}");
    assert!(error.contains(&format!("damaged.jsonl: {note}")), "{error}");
    let (text, error) = said(&["report", "headless.jsonl"]);
    assert!(text.contains("the beginning of the log is missing"), "{text}");
    assert!(error.contains(note), "{error}");
    let (csv, error) = said(&["report", "damaged.jsonl", "--csv", "-"]);
    let steps = csv.lines().skip(1).filter(|line| line.contains(",step,"));
    assert_eq!(steps.count(), 11, "{csv}");
    assert!(error.contains(note), "{error}");
    for log in ["damaged.jsonl", "headless.jsonl"] {
        let (page, error) = said(&["report", log, "--out", "-"]);
        assert!(page.starts_with("<!DOCTYPE html>") && page.contains(note), "{page}");
        assert!(error.contains(note), "{error}");
        assert_eq!(page.contains("the beginning of the log is missing"), log == "headless.jsonl");
    }
}

/// A run of 12 steps whose text is not to be trusted.
fn trained(bench: &Bench, out: &str, more: &[&str]) {
    let mut base = bench.small_run();
    base.truncate(base.len() - 2);
    let steps = ["--steps", "12", "--eval-every", "4", "--sample-every", "6", "--out", out];
    let evil = ["--prompt", "<script src=//x/>"];
    bench.ok(&with(&base, &[&steps[..], &evil, more].concat()));
}

#[test]
fn a_page_has_pictures_and_asks_for_nothing() {
    let bench = Bench::new();
    trained(&bench, "run", &["--telemetry-every", "6"]);
    trained(&bench, "other", &["--seed", "2"]);
    let said = bench.ok(&["report", "run", "--out", "pages/run.html"]);
    assert_eq!(said, "wrote pages/run.html\n");
    let page = std::fs::read_to_string(bench.path("pages/run.html")).unwrap();
    assert!(page.matches("<svg").count() >= 6, "{page}");
    for text in [
        "Loss (nats per token)",
        "validation",
        "Learning rate",
        "Time of a step, by part",
        "optimizer",
        "Ranges of the engine&#x27;s products",
        "closest to 2^15: ",
        "fwdAttn/q0",
        "Texts, the newest first",
        "&lt;script src=",
    ] {
        let text = text.replace("&#x27;", "'");
        assert!(page.contains(&text), "{text}");
    }
    // The only addresses are names of XML, and nothing is loaded or run.
    let addresses = page.match_indices("http").map(|(at, _)| &page[at..]);
    let known = ["http://www.w3.org/2000/svg", "http-equiv"];
    for address in addresses {
        assert!(known.iter().any(|known| address.starts_with(known)), "{:?}", address.get(..60));
    }
    assert!(!page.contains("<script") && !page.contains("@import") && !page.contains("url("));
    let both = bench.ok(&["report", "run", "--compare", "other", "--out", "both.html"]);
    assert_eq!(both, "wrote both.html\n");
    let page = std::fs::read_to_string(bench.path("both.html")).unwrap();
    assert!(page.contains("run: training, smoothed") && page.contains("other: validation"));
    assert!(page.contains("stroke-dasharray=\"7 3\""), "the second run is dashed");
    let text = bench.ok(&["report", "run", "--compare", "other"]);
    let first = text.lines().next().unwrap();
    assert!(first.split_whitespace().eq(["run", "other"]), "{text}");
    assert!(text.lines().any(|line| line.split_whitespace().eq(["step", "12", "12"])), "{text}");
}

#[test]
fn numbers_are_written_for_other_programs() {
    let bench = Bench::new();
    trained(&bench, "run", &[]);
    let csv = bench.ok(&["report", "run", "--csv", "-"]);
    let head: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    assert_eq!(head[..4], ["run", "time", "event", "step"]);
    let loss = head.iter().position(|name| *name == "train/loss").unwrap();
    let log = std::fs::read_to_string(bench.path("run/log.jsonl")).unwrap();
    let logged: Vec<f64> = (log.lines())
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|event| event["event"] == "step")
        .map(|event| event["loss"].as_f64().unwrap())
        .collect();
    let written = csv.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let written: Vec<f64> =
        written.filter(|row| row[2] == "step").map(|row| row[loss].parse().unwrap()).collect();
    assert_eq!((written.len(), &written), (12, &logged));
    let said = bench.ok(&["report", "run", "--tensorboard", "board"]);
    assert!(said.contains(" texts to board/run\n"), "{said}");
    let file =
        std::fs::read(bench.path("board/run/events.out.tfevents.0000000000.anegpt")).unwrap();
    assert!(file.len() > 2000 && file[23..36] == *b"brain.Event:2", "{:?}", &file[..40]);
}

#[test]
fn measuring_ranges_changes_no_bit() {
    let bench = Bench::new();
    let base = bench.small_run();
    let run = |out: &str, more: &[&str]| {
        bench.ok(&with(&base, &[&["--steps", "4", "--accum", "2", "--out", out], more].concat()));
        std::fs::read(bench.path(out).join("step-00000004/model.safetensors")).unwrap()
    };
    let plain = run("plain", &[]);
    assert_eq!(run("watched", &["--telemetry-every", "2"]), plain);
    let log = std::fs::read_to_string(bench.path("watched/log.jsonl")).unwrap();
    let events = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let ranges: Vec<_> = events.filter(|event| event["event"] == "ranges").collect();
    assert_eq!(ranges.len(), 2);
    let products = ranges[1]["products"].as_array().unwrap();
    let names: Vec<&str> = products.iter().map(|p| p["tensor"].as_str().unwrap()).collect();
    for start in ["fwdAttn/", "fwdFFN/ffn_out", "ffnBwd/d_"] {
        assert!(names.iter().any(|name| name.starts_with(start)), "{start}: {names:?}");
    }
    for product in products {
        let largest = product["largest"].as_f64().unwrap();
        let headroom = product["headroom"].as_f64().unwrap();
        assert!((headroom - (15.0 - largest.log2())).abs() < 1e-9 && headroom > 0.0, "{product}");
        assert!((0.0..=1.0).contains(&product["lost"].as_f64().unwrap()), "{product}");
        assert!(product["layer"].as_u64().unwrap() < 2, "{product}");
    }
    let plain = std::fs::read_to_string(bench.path("plain/log.jsonl")).unwrap();
    assert!(!plain.contains("\"ranges\""));
}

#[test]
fn the_card_of_a_pipeline_shows_what_each_step_gained() {
    let bench = Bench::new();
    trained(&bench, "card/base", &[]);
    // The log of a finetuning differs in the command that made it.
    let log = std::fs::read_to_string(bench.path("card/base/log.jsonl")).unwrap();
    std::fs::create_dir(bench.path("card/tuned")).unwrap();
    let tuned = log.replacen("\"command\":\"train\"", "\"command\":\"sft\"", 1);
    assert_ne!(tuned, log);
    // It ran on the CPU, and asked tasks meanwhile.
    let tuned = tuned.replace("\"val_loss\":", "\"val_loss\":1");
    assert!(tuned.contains("\"backend\":\"emulator\""), "{tuned}");
    let tuned = tuned.replace("\"backend\":\"emulator\"", "\"backend\":\"cpu\"");
    let task = |accuracy: f64| {
        let task = format!(
            r#"{{"name":"counting","questions":64,"accuracy":{accuracy},"centered":0.5,"truncated":0,"cut":0}}"#
        );
        format!(
            r#"{{"event":"tasks","step":12,"chatcore":null,"mean":0.5,"tasks":[{task}],"ms":1.0}}"#
        )
    };
    bench.write("card/tuned/log.jsonl", format!("{tuned}{}\n{}\n", task(0.25), task(0.5)));
    // Logs that are none.
    for (directory, log) in [("empty", ""), ("foreign", "{\"a\": 1}\n")] {
        std::fs::create_dir(bench.path("card").join(directory)).unwrap();
        bench.write(&format!("card/{directory}/log.jsonl"), log);
        let output = bench.run(&["report", &format!("card/{directory}")]);
        assert_eq!(output.status.code(), Some(2));
    }
    // What an evaluation leaves beside the run is found, wherever its results go.
    let eval = ["eval", "-m", "card/base", "--data", "text.txt", "--tasks", "bpb", "--json"];
    let summary = bench.ok(&[&eval[..], &["--out", "elsewhere"]].concat());
    let kept = std::fs::read_to_string(bench.path("card/base/eval/step-00000012/bpb.json"));
    assert_eq!(kept.unwrap(), summary);
    bench.write("card/other.json", "{\"tasks\": 3}");
    let chat = r#"{"model": "x", "tasks": {"chat": {"chatcore": 0.25, "tasks": [{"name": "spelling", "accuracy": 0.75, "questions": 8}]}}}"#;
    bench.write("card/tuned/chat.json", chat);

    let said = bench.ok(&["report", "card", "--out", "pages/card.html"]);
    assert_eq!(said, "wrote pages/card.html\nwrote pages/card.md\n");
    let markdown = std::fs::read_to_string(bench.path("pages/card.md")).unwrap();
    assert_eq!(bench.ok(&["report", "card"]), markdown);
    let row = |name: &str| -> Vec<String> {
        let start = format!("| {name} |");
        let line = markdown.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("{name}: {markdown}"));
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    assert_eq!(row("Metric"), ["Metric", "BASE", "SFT"]);
    let value: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let bits = value["tasks"]["bpb"]["bits_per_byte"].as_f64().unwrap();
    assert_eq!(
        row("Bits per byte"),
        ["Bits per byte".to_owned(), format!("{bits:.4}"), "-".to_owned()]
    );
    assert_eq!(row("spelling (accuracy)")[1..], ["-", "0.7500 (8)"]);
    assert_eq!(row("counting (accuracy, measured by the run)")[1..], ["-", "0.5000 (64)"]);
    assert!(markdown.contains("In brackets: the number of questions asked."), "{markdown}");
    let share = row("Engine's share of a step");
    assert!(share[1].ends_with(" %") && share[2] == "-", "{share:?}");
    for directory in ["empty", "foreign"] {
        assert!(markdown.contains(&format!("card/{directory}: its log has no run")), "{markdown}");
    }
    assert_eq!(row("ChatCORE")[1..], ["-", "0.2500"]);
    let [base, tuned] = &row("Validation loss")[1..] else { panic!("{markdown}") };
    assert_eq!(format!("1{base}"), *tuned);
    assert_eq!(row("Steps")[1..], ["12", "12"]);
    for text in [
        "no reinforcement learning",
        "no reading of power in the logs",
        "⠑",
        "tokenizer",
        "script src=",
    ] {
        assert!(markdown.contains(text), "{text}: {markdown}");
    }
    let html = std::fs::read_to_string(bench.path("pages/card.html")).unwrap();
    assert!(
        html.matches("<svg").count() == 2
            && html.contains("&lt;script")
            && !html.contains("<script")
    );
    assert!(markdown.contains("; 1 session") && !markdown.contains("1 sessions"), "{markdown}");
    // Dots belong to a name; standard output is HTML.
    let said = bench.ok(&["report", "card", "--out", "pages/card.v2"]);
    assert_eq!(said, "wrote pages/card.v2.html\nwrote pages/card.v2.md\n");
    assert_eq!(bench.ok(&["report", "card", "--out", "-"]), html);
    let output = bench.run(&["report", "card", "--csv", "x.csv"]);
    assert_eq!(output.status.code(), Some(2));
}
