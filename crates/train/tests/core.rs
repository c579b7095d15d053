//! CORE while a model is trained: told once, after a checkpoint, and without a trace in later checkpoints.

mod common;

use ane::Emulator;
use common::{NOTHING, letters, loader, model, output};
use cpu::Numerics;
use gpt::plan::BASELINE;
use gpt::{GptConfig, initialise};
use std::collections::BTreeMap;
use std::path::Path;
use train::checkpoint::newest;
use train::evaluate::Core;
use train::{
    CoreEvery, Event, Intervals, LrSchedule, OptimizerConfig, Reason, Run, RunConfig, Samples,
    Session, Stop,
};

const STEPS: u64 = 8;

/// Two tasks whose texts have no letters but three.
fn bundle(directory: &Path) {
    let tasks = "\
icl_tasks:
- label: next
  dataset_uri: next.jsonl
  num_fewshot: [0]
  icl_task_type: language_modeling
  continuation_delimiter: \"\"
- label: which
  dataset_uri: which.jsonl
  num_fewshot: [0]
  icl_task_type: multiple_choice
  continuation_delimiter: a
";
    let files = [
        ("core.yaml", tasks.to_owned()),
        ("eval_meta_data.csv", "Eval Task,Random baseline\nnext,0\nwhich,50\n".to_owned()),
        ("eval_data/next.jsonl", r#"{"context": "ab", "continuation": "c"}"#.to_owned() + "\n"),
        (
            "eval_data/which.jsonl",
            r#"{"query": "ca", "choices": ["b", "cc"], "gold": 0}"#.to_owned() + "\n",
        ),
    ];
    std::fs::create_dir(directory.join("eval_data")).unwrap();
    for (name, text) in files {
        // Each example three times.
        let times = if name.ends_with("jsonl") { 3 } else { 1 };
        std::fs::write(directory.join(name), text.repeat(times)).unwrap();
    }
}

fn shape() -> GptConfig {
    model(1, true)
}

fn config() -> RunConfig {
    RunConfig {
        model: shape(),
        optimizer: OptimizerConfig::default(),
        schedule: LrSchedule::cosine(1e-2, 0.1, 1, STEPS),
        batch: 2,
        accum: 1,
        seq: common::SEQ,
        clip: 1.0,
        seed: 5,
        plan: &BASELINE,
        dial: None,
    }
}

/// Runs to the end in `out`, from its newest checkpoint if it has one. `listen` may ask to stop.
fn session(
    out: &Path,
    bundle: Option<&Path>,
    intervals: Intervals,
    mut listen: impl FnMut(&Event, &Stop),
) -> Vec<Event> {
    let device = Emulator::cpu(Numerics::F32);
    let params = initialise(&shape(), 5);
    let mut run = Run::pretrain(config(), params, loader(), &device, Numerics::F32).unwrap();
    if let Ok((checkpoint, _)) = newest(out) {
        run.resume(&checkpoint).unwrap();
    }
    let core =
        bundle.map(|bundle| CoreEvery { steps: 3, core: Core::read(bundle, None, None).unwrap() });
    let (tokenizer, stop) = (letters(), Stop::default());
    let samples = Samples { device: &device, tokenizer: &tokenizer, prompt: "a" };
    let output = output(&shape(), out);
    let mut session =
        Session { intervals, output, samples, core, talks: None, stop: &stop, hooks: vec![] };
    let mut events = vec![];
    run.to_end(&mut session, &mut |event| {
        listen(&event, &stop);
        events.push(event);
        Ok(())
    })
    .unwrap();
    events
}

/// The files of the last checkpoint.
fn last(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let directory = out.join(format!("step-{STEPS:08}"));
    let entries = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read(&path).unwrap(),
            )
        })
        .collect()
}

/// Steps of the checkpoints and of CORE, in their order.
fn told(events: &[Event]) -> Vec<(&'static str, u64)> {
    let tell = |event: &Event| match event {
        Event::Checkpoint { step, .. } => Some(("saved", *step)),
        Event::Core { step, .. } => Some(("core", *step)),
        _ => None,
    };
    events.iter().filter_map(tell).collect()
}

fn scores(events: &[Event]) -> Vec<(u64, f64)> {
    let score = |event: &Event| match event {
        Event::Core { step, core, tasks, .. } => {
            assert_eq!(tasks.iter().map(|task| task.questions).collect::<Vec<_>>(), [3, 3]);
            Some((*step, *core))
        }
        _ => None,
    };
    events.iter().filter_map(score).collect()
}

#[test]
fn it_is_told_after_a_checkpoint_and_leaves_no_trace_in_later_ones() {
    let directory = tempfile::tempdir().unwrap();
    bundle(directory.path());
    let [with, without] = ["with", "without"].map(|name| directory.path().join(name));
    // Validation at every step: what is saved for CORE alone must not count as the best.
    let intervals = Intervals { eval: 1, checkpoint: 5, keep: 9, ..NOTHING };
    let events = session(&with, Some(directory.path()), intervals, |_, _| {});
    let order = told(&events);
    for step in [3, 6, 8] {
        let at = order.iter().position(|told| *told == ("core", step)).unwrap();
        assert_eq!(order[at - 1], ("saved", step), "{order:?}");
    }
    assert_eq!(scores(&events).len(), 3);
    session(&without, None, intervals, |_, _| {});
    assert!(last(&with) == last(&without), "the last checkpoint is that of a run without CORE");
}

/// Stopped before the first question, killed after some, and after the last one before the result was told.
#[test]
fn a_session_that_ended_meanwhile_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    bundle(place);
    let intervals = Intervals { keep: 9, ..NOTHING };
    let whole = session(&place.join("whole"), Some(place), intervals, |_, _| {});
    let expected = scores(&whole);
    assert_eq!(expected.iter().map(|score| score.0).collect::<Vec<_>>(), [3, 6, 8]);
    let answers = std::fs::read_to_string(place.join("whole/core/step-00000003.jsonl")).unwrap();
    assert_eq!(
        answers.lines().count(),
        1 + 6 + 1,
        "what was asked, the answers, and that it was told"
    );
    for lines in 0..=8 {
        let out = place.join(format!("cut-{lines}"));
        let events = session(&out, Some(place), intervals, |event, stop| {
            if matches!(event, Event::Checkpoint { step: 3, .. }) {
                stop.request(Reason::Interrupted);
            }
        });
        assert_eq!(scores(&events), [], "it was stopped before");
        // As a kill would have left it, in the middle of a line.
        let kept: String = answers.split_inclusive('\n').take(lines).collect();
        let torn = if lines < 8 { "{\"lab" } else { "" };
        std::fs::write(out.join("core/step-00000003.jsonl"), kept + torn).unwrap();
        let events = session(&out, Some(place), intervals, |_, _| {});
        let left = if lines == 8 { &expected[1..] } else { &expected[..] };
        assert_eq!(scores(&events), left, "{lines} lines were there");
        for step in [3, 6, 8] {
            let name = format!("core/step-{step:08}.jsonl");
            let [ours, right] =
                [&out, &place.join("whole")].map(|out| std::fs::read(out.join(&name)).unwrap());
            assert!(ours == right, "{name} after {lines} lines");
        }
        assert!(last(&out) == last(&place.join("whole")), "{lines} lines were there");
        // A run that is done tells nothing again.
        assert_eq!(scores(&session(&out, Some(place), intervals, |_, _| {})), []);
    }
}
