use super::*;
use ane::PowerSample;
use train::{Forecast, LrSchedule, OptimizerConfig};

fn parts(parts: &[(&str, f64)]) -> BTreeMap<String, f64> {
    parts.iter().map(|&(name, ms)| (name.to_owned(), ms)).collect()
}

/// Four steps of 1000 tokens: 100 ms each, of which 60 forward and 40 in the head.
fn events(best: u64) -> Vec<Event> {
    let run = RunConfig {
        model: gpt::GptConfig::preset("tiny").unwrap(),
        optimizer: OptimizerConfig::default(),
        schedule: LrSchedule::cosine(1e-3, 0.1, 0, 4),
        batch: 4,
        accum: 1,
        seq: 250,
        clip: 1.0,
        seed: 1,
        plan: &gpt::plan::BASELINE,
        dial: None,
    };
    let settings = Settings {
        out: "out/my run".into(),
        backend: "engine".to_owned(),
        prompt: Some("It's a dog".to_owned()),
        forecast: Some(Forecast {
            chip: "m4".to_owned(),
            ms: 10.0,
            low_ms: 8.0,
            high_ms: 12.0,
            parts: parts(&[("engine_fwd", 2.0), ("engine_bwd", 3.5), ("head", 4.5)]),
        }),
        run: Some(run),
        ..Settings::default()
    };
    let start = serde_json::json!({
        "event": "start", "device": "d", "reason": "r", "model": "m", "params": 1,
        "tokens_per_step": 1000, "train_tokens": 1, "val_tokens": 1, "unigram_entropy": 5.5,
        "step": 0, "steps": 4, "programs": 6, "compile_s": 0.25,
    });
    let mut start: Event = serde_json::from_value(start).unwrap();
    if let Event::Start { settings: place, .. } = &mut start {
        **place = settings;
    }
    let step = |step: u64| Event::Step {
        step,
        loss: 8.0 - step as f64,
        lr: 1e-3,
        tokens: 1000 * step,
        ms: 100.0,
        grad_norm: 1.0,
        loss_scale: 1.0,
        skipped: false,
        parts: parts(&[("engine_fwd", 60.0), ("head", 40.0)]),
    };
    let power = Event::Power {
        step: 4,
        source: "meter".to_owned(),
        sample: PowerSample::new(1.0, [Some(0.25), Some(0.75), None, None]),
        joules_per_token: None,
    };
    let spent = Spent {
        setup_s: 0.5,
        compile_s: 0.25,
        steps_s: 0.4,
        validation_s: 0.3,
        samples_s: 0.2,
        core_s: 0.0,
        tasks_s: 0.0,
        checkpoints_s: 0.1,
        other_s: 0.25,
        total_s: 2.0,
    };
    let done = Event::Done {
        steps: 4,
        val_loss: Some(4.5),
        ms_per_step: 100.0,
        tokens_per_s: 1e4,
        reason: Reason::Finished,
        checkpoint: None,
        best: Some(Best { step: best, val_loss: 4.25, batches: 1 }),
        first_val_loss: None,
        spent,
        peak_memory_mib: Some(111.0),
    };
    let eval =
        |step, val_loss| Event::Eval { step, val_loss, bits_per_byte: None, pass: None, ms: 150.0 };
    let middle = vec![step(1), step(2), eval(2, 6.0), step(3), step(4), eval(4, 4.5), power];
    [vec![start], middle, vec![done]].concat()
}

fn text(events: &[Event], width: usize) -> Option<String> {
    let mut report = Report::default();
    events.iter().for_each(|event| report.note(event));
    report.text(width, false)
}

#[test]
fn parts_that_ran_side_by_side_are_told() {
    let mut events = events(2);
    assert!(!text(&events, 80).unwrap().contains("side by side"));
    for event in &mut events {
        if let Event::Step { parts, .. } = event {
            parts.insert("dw".to_owned(), 25.0);
        }
    }
    let told = text(&events, 80).unwrap();
    assert!(told.contains("  side by side     25.00 ms  25.0 %\nThroughput:"), "{told}");
}

#[test]
fn the_report_of_a_run() {
    let text = text(&events(2), 80).unwrap();
    let (curve, report) = text.split_once("=== Efficiency Report ===\n").unwrap();
    assert!(curve.starts_with("loss: ** training, o validation\n7.00 |*"), "{curve}");
    // 1000 tokens in 100 ms. 1 W over the 1.25 s since the first step, by 4000 tokens: 0.3125 mJ.
    let (before, after) = report.split_once("Engine TFLOPS:").unwrap();
    let expected = "\
Steps:           4 of 4
Time:            2.00 s
  set-up             0.50 s  25.0 %
  compiling          0.25 s  12.5 %
  steps              0.40 s  20.0 %
  validation         0.30 s  15.0 %
  samples            0.20 s  10.0 %
  checkpoints        0.10 s   5.0 %
  other              0.25 s  12.5 %
Step:            100.0 ms on average
  engine_fwd       60.00 ms  60.0 %
  head             40.00 ms  40.0 %
Throughput:      10.00 K tokens/s
";
    assert_eq!(before, expected);
    let (_, after) = after.split_once("together)\n").unwrap();
    let expected = "\
Forecast:        10.0 ms/step (8.0 to 12.0) on m4, of which 5.5 on the engine;
                 not confirmed on hardware
ANE utilization: 60.0% of a step in requests; the engine's own counters are not
                 read
Peak memory:     111 MiB
Power:           ANE 0.25 W, CPU 0.75 W (mean of the whole machine, by meter)
Energy:          312.50 µJ per token, evaluation and samples included
Validation loss: 4.5000 nats per token after the last step
  best           4.2500 after step 2
  unigram model  5.5000, for comparison
Run directory:   out/my run

Next:
  anegpt generate --model \"out/my run/best\" --prompt \"It's a dog\"
  anegpt train --resume \"out/my run\" --steps 8
";
    assert_eq!(after, expected);
}

#[test]
fn operations_are_counted_by_their_formula() {
    let text = text(&events(2), 80).unwrap();
    // tiny: 4 layers, width 128 = heads, hidden 352, vocabulary 2048. Of a layer 4·128² + 3·128·352 =
    // 200704 weights, 4 operations each on the engine; of scores 12·128·250, and 2·128·250 for those that
    // the backward pass computes again. 1000 tokens in 60 ms.
    let engine = 4.0 * 1000.0 * (4.0 * 200_704.0 + 14.0 * 128.0 * 250.0) / 0.060 / 1e12;
    assert!(text.contains(&format!("Engine TFLOPS:   {engine:.3} sustained by the Neural Engine")));
    // Altogether 6 per weight and token, the head's 128·2048 too, and as much for the scores.
    let weights = 4.0 * 200_704.0 + 128.0 * 2048.0;
    let total = 1000.0 * (6.0 * weights + 14.0 * 4.0 * 128.0 * 250.0) / 0.100 / 1e12;
    assert!(text.contains(&format!("Total TFLOPS:    {total:.3} (")), "{total} {text}");
}

#[test]
fn the_newest_checkpoint_is_taken_where_it_is_the_best() {
    let text = text(&events(4), 80).unwrap();
    assert!(text.contains("  anegpt generate --model \"out/my run\" --prompt"), "{text}");
}

#[test]
fn a_run_that_was_ended_has_no_report() {
    let mut events = events(4);
    if let Some(Event::Done { reason, .. }) = events.last_mut() {
        *reason = Reason::Interrupted;
    }
    assert_eq!(text(&events, 80), None);
    events.pop();
    assert_eq!(text(&events, 80), None);
}

#[test]
fn a_log_gives_the_same_report() {
    let events = events(2);
    let read = |event: &Event| -> Event {
        serde_json::from_str(&serde_json::to_string(event).unwrap()).unwrap()
    };
    let again: Vec<Event> = events.iter().map(read).collect();
    assert_eq!(text(&again, 80), text(&events, 80));
}

/// The text of a log as it is written, the time of each line included.
fn log(events: &[Event]) -> String {
    events.iter().map(|event| json::line(event).unwrap() + "\n").collect()
}

/// The log of a run of 30 steps, one of them skipped (`--inject-faults inf-at:100`), and what the program
/// printed at its end, on 80 columns without Unicode.
#[test]
fn the_log_of_a_real_run_gives_its_report_again() {
    let printed = include_str!("tests/report.txt");
    let log = include_str!("tests/log.jsonl");
    assert!(log.contains(r#""skipped":true"#) && log.contains(r#""grad_norm":null"#));
    assert_eq!(of_log(log.as_bytes(), 80, false).unwrap().0.unwrap(), printed);
}

/// A run that was killed in the middle of a line, and the session that went on.
#[test]
fn a_log_of_two_sessions_gives_the_report_of_the_last() {
    let all = events(2);
    let mut torn = log(&all[..4]);
    torn.truncate(torn.len() - 9);
    let torn = torn + "\n" + &log(&all);
    let (shown, skipped) = of_log(torn.as_bytes(), 80, false).unwrap();
    assert_eq!((shown, skipped), (text(&all, 80), Skipped { torn: 1, foreign: 0 }));
    // Without its first line, all that does not follow from it is shown.
    let rest = log(&all[1..]);
    let rest = of_log(rest.as_bytes(), 80, false).unwrap().0.unwrap();
    assert!(rest.contains("Steps:           4; the beginning of the log is missing"), "{rest}");
    assert!(rest.contains("Step:            100.0 ms") && !rest.contains("Throughput"), "{rest}");
    assert!(!rest.contains("Next:") && !rest.contains("unigram"), "{rest}");
    let unfinished = log(&all[..6]);
    assert_eq!(of_log(unfinished.as_bytes(), 80, false).unwrap().0, None);
    // An event of a later version is not known here, and no fault.
    let strange = "{\"event\":\"party\"}\n".to_owned() + &log(&all);
    assert_eq!(
        of_log(strange.as_bytes(), 80, false).unwrap(),
        (text(&all, 80), Skipped::default())
    );
}

#[test]
fn losses_that_are_no_numbers_survive_a_log() {
    let mut all = events(2);
    let Event::Step { loss, grad_norm, skipped, .. } = &mut all[2] else { panic!("{:?}", all[2]) };
    (*loss, *grad_norm, *skipped) = (f64::NAN, f64::INFINITY, true);
    let Event::Eval { val_loss, .. } = &mut all[3] else { panic!("{:?}", all[3]) };
    *val_loss = f64::NAN;
    assert_eq!(of_log(log(&all).as_bytes(), 80, false).unwrap().0, text(&all, 80));
}

#[test]
fn a_start_that_no_checkpoint_beats_is_told() {
    assert!(text(&events(2), 80).unwrap().contains("  best           4.2500 after step 2\n"));
    let expected = "\
  best           4.2500 before the first step: no checkpoint is better than what
                 the run began with
";
    let told = text(&events(0), 80).unwrap();
    assert!(told.contains(expected), "{told}");
    assert!(told.contains("--model \"out/my run\" ") && !told.contains("run/best"), "{told}");
}

#[test]
fn every_width_holds() {
    for width in [60, 80, 100] {
        let text = text(&events(2), width).unwrap();
        for line in text.lines().filter(|line| !line.starts_with("  anegpt ")) {
            assert!(line.width() <= width, "{width}: {line}");
        }
    }
}

#[test]
fn words_are_quoted_as_a_shell_needs_them() {
    assert_eq!(quoted("out/run-1"), "out/run-1");
    assert_eq!(quoted("Once upon a time"), "\"Once upon a time\"");
    assert_eq!(quoted("it's"), "\"it's\"");
    assert_eq!(quoted("a $HOME \"b\""), "'a $HOME \"b\"'");
    assert_eq!(quoted("it's $1!"), r"'it'\''s $1!'");
    assert_eq!(quoted(""), "\"\"");
}

#[test]
fn long_commands_are_continued() {
    let words = ["anegpt generate --model out/run-1", "--prompt \"Once\""].map(str::to_owned);
    assert_eq!(command(&words, 60), "  anegpt generate --model out/run-1 --prompt \"Once\"");
    let lines = "  anegpt generate --model out/run-1 \\\n    --prompt \"Once\"";
    assert_eq!(command(&words, 49), lines);
}
