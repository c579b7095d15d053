use super::*;

const START: &str = r#"{"event":"start","device":"d","reason":"r","model":"m","params":7,"tokens_per_step":50,"train_tokens":1000,"val_tokens":100,"unigram_entropy":2.5,"step":0,"steps":40,"programs":6,"compile_s":0.1,"time":100.0}"#;

fn step(step: u64, loss: &str) -> String {
    format!(
        r#"{{"event":"step","step":{step},"loss":{loss},"lr":0.001,"tokens":{},"ms":25.0,"grad_norm":null,"loss_scale":65536.0,"skipped":{},"parts":{{"engine_fwd":10.0,"io":5.0}},"time":{}}}"#,
        50 * step,
        loss == "null",
        100 + step,
    )
}

fn record<'l>(lines: impl IntoIterator<Item = &'l str>) -> Record {
    let mut record = Record::default();
    lines.into_iter().for_each(|line| record.take(News::Line(line.as_bytes())));
    record
}

#[test]
fn a_run_is_summed_up() {
    let steps: Vec<String> =
        (1..=10).map(|i| step(i, if i == 4 { "null" } else { "2.0" })).collect();
    let mut lines = vec![START, r#"{"event":"eval","step":0,"val_loss":3.0,"bits_per_byte":1.5}"#];
    lines.extend(steps.iter().map(String::as_str));
    lines.push(r#"{"event":"sample","step":10,"text":"Once"}"#);
    lines.push(r#"{"event":"power","step":10,"source":"s","seconds":1.0,"ane_watts":0.5,"cpu_watts":2.0,"joules_per_token":0.25}"#);
    let run = record(lines);
    assert_eq!((run.step, run.tokens, run.steps, run.skipped), (10, 500, 10, 1));
    assert_eq!(
        (run.total(), run.sessions, run.first_time, run.last_time),
        (Some(40), 1, Some(100.0), Some(110.0))
    );
    assert_eq!(run.loss.means().len(), 9);
    assert_eq!(run.speed.newest(), Some((10, 2000.0)));
    assert!((run.seconds_left().unwrap() - 0.75).abs() < 1e-9);
    let engine = run.parts["engine_fwd"];
    assert!((engine.recent - 10.0).abs() < 1e-9 && (engine.total - 100.0).abs() < 1e-9);
    assert_eq!(
        (run.validation.newest(), run.bits_per_byte.newest()),
        (Some((0, 3.0)), Some((0, 1.5)))
    );
    assert_eq!(run.power[0].newest(), Some((10, 0.5)));
    assert!(run.power[2].is_empty());
    assert_eq!((run.samples[0].step, run.samples[0].text.as_str()), (10, "Once"));
    assert!(run.ended.is_none() && run.skipped_lines == Skipped::default());
}

#[test]
fn a_resumed_run_goes_on_where_it_went_back_to() {
    let (first, later): (Vec<_>, Vec<_>) =
        ((1..=8).map(|i| step(i, "2.0")).collect(), (5..=6).map(|i| step(i, "1.0")).collect());
    let again = START.replace(r#""step":0"#, r#""step":4"#);
    let done = r#"{"event":"done","steps":6,"val_loss":null,"ms_per_step":25.0,"tokens_per_s":2000.0,"reason":"terminated"}"#;
    let mut lines = vec![START];
    lines.extend(first.iter().map(String::as_str));
    lines.push(&again);
    lines.extend(later.iter().map(String::as_str));
    let mut run = record(lines);
    assert_eq!((run.step, run.steps, run.sessions), (6, 2, 2));
    let losses: Vec<f64> = run.loss.means().iter().map(|point| point.1).collect();
    assert_eq!(losses, [2.0, 2.0, 2.0, 2.0, 1.0, 1.0]);
    run.take(News::Line(done.as_bytes()));
    assert_eq!(run.ended.as_ref().unwrap().reason, Reason::Terminated);
    run.take(News::Anew);
    assert!(run.is_empty() && run.sessions == 0);
}

#[test]
fn what_is_not_known_is_no_harm() {
    let torn = &step(1, "2.0")[..60];
    let strange = "\u{1b}[31mred";
    let lines = [
        "",
        "not json",
        torn,
        "[1, 2]",
        "{\"a\": 1}",
        strange,
        "{\"event\":\"step\",\"step\":\"x\"}",
        START,
    ];
    let mut run = record(lines);
    run.take(News::Line(&[0xff, 0xfe, 0x00]));
    run.take(News::TooLong);
    assert_eq!((run.skipped_lines, run.sessions), (Skipped { torn: 1, foreign: 6 }, 1));
    assert_eq!(run.missing().len(), 1);
    let headless = record([step(3, "2.0").as_str()]).missing();
    assert!(headless[0].starts_with("the beginning of the log is missing"), "{headless:?}");
    let said =
        run.log.iter().filter(|entry| matches!(entry, Entry::Said { kind: Kind::Warning, .. }));
    assert_eq!(said.count(), 5, "the first few are shown");
    // Of a later version: the numbers are kept.
    for i in 1..=3 {
        let line =
            format!(r#"{{"event":"rollout","step":{i},"reward":{},"time":1.0,"text":"t"}}"#, i * 2);
        run.take(News::Line(line.as_bytes()));
    }
    assert_eq!(run.others["rollout/reward"].newest(), Some((3, 6.0)));
    assert_eq!(run.others.len(), 1);
}

#[test]
fn memory_is_bounded() {
    let mut run = record([START]);
    for i in 1..=10_000 {
        run.take(News::Line(step(i, "2.0").as_bytes()));
        run.take(News::Line(
            format!(r#"{{"event":"sample","step":{i},"text":"{}"}}"#, "é".repeat(i as usize))
                .as_bytes(),
        ));
        run.take(News::Line(format!(r#"{{"event":"e{i}","value":1}}"#).as_bytes()));
    }
    assert_eq!((run.log.len(), run.samples.len(), run.others.len()), (ENTRIES, TEXTS, OTHERS));
    assert!(run.samples.iter().all(|sampled| sampled.text.len() <= TEXT));
    assert_eq!(run.dropped, 1 + 3 * 10_000 - ENTRIES as u64);
    let mut text = "é".repeat(TEXT);
    truncate(&mut text, 3);
    assert_eq!(text, "é");
}

#[test]
fn both_ways_to_read_a_step_agree() {
    let fast = step(3, "1.25");
    // Another order of the fields takes the slow way.
    let slow = format!("{{\"time\":103,{}", fast[1..].replace(",\"time\":103}", "}"));
    assert!(!slow.starts_with("{\"event\""));
    let (fast, slow) = (record([START, &fast]), record([START, &slow]));
    assert_eq!(format!("{fast:?}"), format!("{slow:?}"));
    assert_eq!(fast.loss.newest(), Some((3, 1.25)));
}

/// A last line counts whether it is ended or not, unless it is cut.
#[test]
fn a_last_line_needs_no_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.jsonl");
    let whole = format!("{START}\n{}", step(1, "2.0"));
    std::fs::write(&path, &whole).unwrap();
    let run = Record::of(&path).unwrap();
    assert_eq!((run.step, run.skipped_lines), (1, Skipped::default()));
    std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    let run = Record::of(&path).unwrap();
    assert_eq!((run.step, run.skipped_lines), (0, Skipped { torn: 1, foreign: 0 }));
}

/// A session that was killed tells no time of its own: it counts up to its last event.
#[test]
fn seconds_of_killed_sessions_count() {
    let step = |n| step(n, "2.0");
    let done = r#"{"event":"done","steps":2,"val_loss":null,"ms_per_step":25.0,"tokens_per_s":2000.0,"reason":"interrupted","spent":{"total_s":4.0},"time":105.0}"#;
    let again = START.replace("\"time\":100.0", "\"time\":200.0");
    let later = step(7).replace("\"time\":107", "\"time\":230");
    let (first, second) = (step(1), step(2));
    let lines = [START, &first, &second, done, &again, &later];
    assert_eq!(record(lines[..3].to_vec()).seconds(), 2.0);
    assert_eq!(record(lines[..4].to_vec()).seconds(), 4.0);
    assert_eq!(record(lines).seconds(), 4.0 + 30.0);
    let third = START.replace("\"time\":100.0", "\"time\":300.0");
    assert_eq!(record(lines.into_iter().chain([third.as_str()])).seconds(), 34.0);
}
