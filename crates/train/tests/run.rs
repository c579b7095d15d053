//! The actions of a run between steps: when it measures, samples, saves and stops.

mod common;

use ane::faults::{Faults, Faulty};
use ane::{Device, Emulator};
use chip::Profile;
use common::{Around, NOTHING, SEQ, finish, loader, model, to_end};
use cpu::Numerics;
use gpt::{Layout, initialise};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};
use train::checkpoint::{Contents, newest, write};
use train::{
    Best, Event, Hook, Intervals, LrSchedule, OptimizerConfig, Reason, Run, RunConfig, Stop,
    TrainError,
};

fn settings(steps: u64, peak: f64) -> RunConfig {
    RunConfig {
        model: model(1, true),
        optimizer: OptimizerConfig::default(),
        schedule: LrSchedule::cosine(peak, 1.0, 0, steps),
        batch: 2,
        accum: 1,
        seq: SEQ,
        clip: 1.0,
        seed: 5,
        plan: &gpt::plan::BASELINE,
        dial: None,
    }
}

fn trainer(config: &RunConfig) -> Run {
    trainer_on(config, &device())
}

fn trainer_on(config: &RunConfig, device: &dyn Device) -> Run {
    let params = initialise(&config.model, 3);
    Run::pretrain(config.clone(), params, loader(), device, Numerics::F32).unwrap()
}

fn device() -> Emulator {
    Emulator::engine(Profile::default(), Numerics::F32)
}

/// Runs to the end, or until the event that `last` is true for; samples begin with `prompt`.
fn run_until(
    trainer: &mut Run,
    intervals: Intervals,
    out: &Path,
    prompt: &str,
    last: &dyn Fn(&Event) -> bool,
) -> Result<Vec<Event>, TrainError> {
    let stop = Stop::default();
    let around = Around { intervals, prompt, stop: &stop, hooks: vec![] };
    let listen = |event: &Event| {
        if last(event) {
            assert!(stop.request(Reason::Interrupted));
            assert!(!stop.request(Reason::Terminated), "the first request stands");
        }
    };
    to_end(trainer, &device(), out, around, listen)
}

fn run_with(
    trainer: &mut Run,
    intervals: Intervals,
    out: &Path,
    prompt: &str,
    stop_at: Option<u64>,
) -> Vec<Event> {
    let last = |event: &Event| matches!(event, Event::Step { step, .. } if Some(*step) == stop_at);
    run_until(trainer, intervals, out, prompt, &last).unwrap()
}

fn run(trainer: &mut Run, intervals: Intervals, out: &Path) -> Vec<Event> {
    finish(trainer, &device(), out, intervals)
}

/// Step and kind of what happened, besides steps.
fn story(events: &[Event]) -> Vec<(u64, &'static str)> {
    (events.iter())
        .filter_map(|event| match event {
            Event::Eval { step, .. } => Some((*step, "eval")),
            Event::Sample { step, .. } => Some((*step, "sample")),
            Event::Checkpoint { step, best: true, .. } => Some((*step, "best")),
            Event::Checkpoint { step, .. } => Some((*step, "checkpoint")),
            Event::Warning { .. } => Some((0, "warning")),
            Event::Done { steps, .. } => Some((*steps, "done")),
            _ => None,
        })
        .collect()
}

fn validation(events: &[Event]) -> Vec<(u64, f64)> {
    (events.iter())
        .filter_map(|event| match event {
            Event::Eval { step, val_loss, .. } => Some((*step, *val_loss)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_run_is_measured_before_its_first_step_and_at_its_end() {
    let out = tempfile::tempdir().unwrap();
    let mut trainer = trainer(&settings(5, 1e-3));
    let before = trainer.evaluate(2).unwrap();
    trainer.forget_validation();
    let events = run(&mut trainer, NOTHING, out.path());
    assert_eq!(story(&events), [(0, "eval"), (5, "eval"), (5, "best"), (5, "done")]);
    assert_eq!(validation(&events)[0], (0, before));
    let after = trainer.evaluate(2).unwrap();
    let Some(Event::Done { val_loss, first_val_loss, reason, best, checkpoint, .. }) =
        events.last()
    else {
        panic!("{events:?}");
    };
    assert_eq!((*first_val_loss, *val_loss), (Some(before), Some(after)));
    assert_eq!(*reason, Reason::Finished);
    assert_eq!(*best, Some(Best { step: 5, val_loss: after, batches: 2 }));
    assert_eq!(trainer.best(), *best);
    assert_eq!(checkpoint.as_deref(), Some(&*out.path().join("step-00000005")));
    // What is known is not measured again.
    let (found, _) = newest(out.path()).unwrap();
    let mut longer = self::trainer(&settings(7, 1e-3));
    longer.resume(&found).unwrap();
    let story_of = story(&run(&mut longer, NOTHING, out.path()));
    assert_eq!(story_of[0], (7, "eval"));
}

#[test]
fn without_batches_nothing_is_measured() {
    let out = tempfile::tempdir().unwrap();
    let intervals = Intervals { eval: 1, eval_batches: 0, ..NOTHING };
    let events = run(&mut trainer(&settings(3, 1e-3)), intervals, out.path());
    assert_eq!(story(&events), [(3, "checkpoint"), (3, "done")]);
}

/// A rate that grows the loss after a few steps: the weights of before stay.
#[test]
fn the_best_outlives_what_came_after_it() {
    let out = tempfile::tempdir().unwrap();
    let intervals = Intervals { eval: 2, ..NOTHING };
    let mut first = trainer(&settings(20, 3e-3));
    let good = run(&mut first, intervals, out.path());
    let (found, _) = newest(out.path()).unwrap();
    let mut second = trainer(&settings(40, 1.0));
    second.resume(&found).unwrap();
    let bad = run(&mut second, intervals, out.path());
    let measured = [validation(&good), validation(&bad)].concat();
    let after_a_tenth = measured.iter().filter(|m| m.0 > 2);
    let &(step, val_loss) = after_a_tenth.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert!(step <= 20, "{measured:?}");
    let Some(Event::Done { best: Some(best), .. }) = bad.last() else { panic!("{bad:?}") };
    assert_eq!(*best, Best { step, val_loss, batches: 2 });
    let name = |link: &str| newest(&out.path().join(link)).unwrap().0;
    assert_eq!((name("best").step(), name("latest").step()), (step, 40));
    // Its weights have the loss that is noted.
    let mut again = trainer(&settings(40, 1.0));
    again.resume(&name("best")).unwrap();
    assert_eq!(again.evaluate(2).unwrap(), val_loss);
}

/// At a rate of 0, every measurement is the same: no checkpoint is better than the start. Every sample has a seed of its
/// own.
#[test]
fn without_change_the_start_is_the_best_and_samples_differ() {
    let out = tempfile::tempdir().unwrap();
    let intervals = Intervals { eval: 2, sample: 1, sample_tokens: 64, keep: 9, ..NOTHING };
    let events = run(&mut trainer(&settings(8, 0.0)), intervals, out.path());
    let Some(Event::Done { best: Some(best), .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(best.step, 0);
    assert!(!out.path().join("best").exists() && out.path().join("latest").exists());
    let told = |event: &Event| matches!(event, Event::Checkpoint { best: true, .. });
    assert!(!events.iter().any(told), "{events:?}");
    let text = |event: &Event| match event {
        Event::Sample { text, .. } => Some(text.clone()),
        _ => None,
    };
    let texts: BTreeSet<String> = events.iter().filter_map(text).collect();
    assert_eq!(texts.len(), 8, "{texts:?}");
}

#[test]
fn a_new_best_is_saved_where_no_checkpoint_is_due() {
    let out = tempfile::tempdir().unwrap();
    let intervals = Intervals { eval: 2, checkpoint: 10, keep: 9, ..NOTHING };
    let events = run(&mut trainer(&settings(20, 3e-3)), intervals, out.path());
    let mut lowest = f64::INFINITY;
    // None in the first tenth, which are two steps.
    for (step, val_loss) in validation(&events).into_iter().filter(|m| m.0 > 2) {
        let improved = val_loss < lowest;
        lowest = lowest.min(val_loss);
        let kind = match (improved, step % 10 == 0) {
            (true, _) => Some("best"),
            (false, true) => Some("checkpoint"),
            (false, false) => None,
        };
        let found = story(&events).into_iter().find(|(s, what)| *s == step && *what != "eval");
        assert_eq!(found.map(|f| f.1).filter(|what| *what != "done"), kind, "{step}");
    }
    let story = story(&events);
    assert!(story.iter().filter(|s| s.1 == "best").count() > 3, "{story:?}");
    assert!(!story.contains(&(2, "best")), "{story:?}");
}

#[test]
fn another_number_of_batches_is_another_measure() {
    let out = tempfile::tempdir().unwrap();
    run(&mut trainer(&settings(4, 1e-3)), NOTHING, out.path());
    let (found, _) = newest(out.path()).unwrap();
    let mut longer = trainer(&settings(8, 1.0));
    longer.resume(&found).unwrap();
    let intervals = Intervals { eval_batches: 1, ..NOTHING };
    let events = run(&mut longer, intervals, out.path());
    let Some(Event::Done { best: Some(best), .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!((best.step, best.batches), (8, 1));
}

/// Checkpoints from before the best was kept.
#[test]
fn an_older_checkpoint_goes_on() {
    let out = tempfile::tempdir().unwrap();
    let config = settings(4, 1e-3);
    let mut first = trainer(&config);
    run(&mut first, NOTHING, out.path());
    let mut state = newest(out.path()).unwrap().0.state().clone();
    state["progress"].as_object_mut().unwrap().remove("best").unwrap();
    let zeros = vec![0.0; first.params().len()];
    let layout = Layout::new(&config.model);
    let tensors = |values: &'static [f32], suffix: &str| {
        let named = |p: &gpt::Param| {
            (format!("{}{suffix}", p.name), p.shape.clone(), values[p.range()].into())
        };
        layout.params().iter().map(named).collect::<Vec<_>>()
    };
    let (params, zeros) = (&*first.params().to_vec().leak(), &*zeros.leak());
    let moments = [tensors(zeros, ".m"), tensors(zeros, ".v")].concat();
    let contents = Contents {
        step: 4,
        best: None,
        tensors: vec![
            ("model.safetensors", tensors(params, "")),
            ("optimizer.safetensors", moments),
        ],
        texts: vec![],
        state,
    };
    let old = tempfile::tempdir().unwrap();
    write(old.path(), &contents, 1).unwrap();
    let mut second = trainer(&settings(6, 1e-3));
    second.resume(&newest(old.path()).unwrap().0).unwrap();
    assert_eq!(second.best(), None);
    let events = run(&mut second, NOTHING, old.path());
    assert_eq!(story(&events), [(6, "eval"), (6, "best"), (6, "done")]);
}

#[test]
fn a_stop_saves_and_does_nothing_else() {
    let out = tempfile::tempdir().unwrap();
    let config = settings(9, 1e-3);
    let intervals = Intervals { eval: 2, sample: 2, ..NOTHING };
    let events = run_with(&mut trainer(&config), intervals, out.path(), "a", Some(4));
    let story = story(&events);
    assert_eq!(story[story.len() - 2..], [(4, "checkpoint"), (4, "done")], "{story:?}");
    assert!(!story.contains(&(4, "eval")) && !story.contains(&(4, "sample")), "{story:?}");
    let Some(Event::Done { reason, val_loss, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(*reason, Reason::Interrupted);
    assert_eq!(*val_loss, validation(&events).last().map(|v| v.1));
    // It goes on to the weights of a run that was left alone.
    let mut rest = trainer(&config);
    rest.resume(&newest(out.path()).unwrap().0).unwrap();
    run(&mut rest, intervals, out.path());
    let mut whole = trainer(&config);
    run(&mut whole, intervals, tempfile::tempdir().unwrap().path());
    assert_eq!(*rest.params(), *whole.params());
}

/// A stop that comes after the last measurement changes nothing.
#[test]
fn a_run_that_is_done_is_not_interrupted() {
    let is_last_eval = |event: &Event| matches!(event, Event::Eval { step: 3, .. });
    let is_checkpoint = |event: &Event| matches!(event, Event::Checkpoint { .. });
    for (eval_batches, last) in
        [(2, &is_last_eval as &dyn Fn(&Event) -> bool), (2, &is_checkpoint), (0, &is_checkpoint)]
    {
        let out = tempfile::tempdir().unwrap();
        let intervals = Intervals { eval_batches, ..NOTHING };
        let mut trainer = trainer(&settings(3, 1e-3));
        let events = run_until(&mut trainer, intervals, out.path(), "a", last).unwrap();
        let Some(Event::Done { reason, .. }) = events.last() else { panic!("{events:?}") };
        assert_eq!(*reason, Reason::Finished);
        assert_eq!(newest(out.path()).unwrap().0.step(), 3);
    }
}

#[test]
fn a_stop_before_the_first_step_saves_nothing() {
    let out = tempfile::tempdir().unwrap();
    let is_eval = |event: &Event| matches!(event, Event::Eval { .. });
    let mut trainer = trainer(&settings(3, 1e-3));
    let events = run_until(&mut trainer, NOTHING, out.path(), "a", &is_eval).unwrap();
    assert_eq!(story(&events), [(0, "eval"), (0, "done")]);
    assert!(newest(out.path()).is_err());
}

/// The last request of step 2 spoils a gradient; a step makes six, a batch of the measurement before two.
#[test]
fn a_stop_after_a_spoilt_gradient_measures_first() {
    for eval_batches in [2, 0] {
        let requests = 12 + 2 * eval_batches as u64;
        let faults = Faults::parse(&format!("inf-at:{requests}"), 1).unwrap();
        let faulty = Faulty::new(Box::new(device()), faults);
        let out = tempfile::tempdir().unwrap();
        let mut trainer = trainer_on(&settings(4, 1e-2), &faulty);
        let intervals = Intervals { eval_batches, ..NOTHING };
        let events = run_with(&mut trainer, intervals, out.path(), "a", Some(2));
        assert!(events.iter().any(|e| matches!(e, Event::Step { step: 2, skipped: true, .. })));
        assert_eq!(*story(&events).first().unwrap() == (0, "eval"), eval_batches > 0);
        let Some(Event::Done { val_loss, .. }) = events.last() else { panic!("{events:?}") };
        let now = (eval_batches > 0).then(|| trainer.evaluate(eval_batches).unwrap());
        assert_eq!(*val_loss, now);
        assert_ne!(*val_loss, validation(&events).first().map(|v| v.1).or(Some(0.0)));
        assert_eq!(newest(out.path()).unwrap().0.step(), 2);
    }
}

/// A row of the classifier that is not a number.
#[test]
fn a_stop_of_a_diverged_run_saves_nothing() {
    let out = tempfile::tempdir().unwrap();
    let config = settings(9, 1e-3);
    let mut params = initialise(&config.model, 3);
    params[0] = f32::NAN;
    let mut trainer = Run::pretrain(config, params, loader(), &device(), Numerics::F32).unwrap();
    let last = |event: &Event| matches!(event, Event::Step { step: 2, .. });
    let error = run_until(&mut trainer, NOTHING, out.path(), "a", &last).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { step: 2, .. }), "{error}");
    assert!(newest(out.path()).is_err());
}

/// A sample of a million tokens would take minutes.
#[test]
fn a_stop_cuts_a_sample_short() {
    let out = tempfile::tempdir().unwrap();
    let intervals = Intervals { sample: 2, sample_tokens: 1_000_000, ..NOTHING };
    let (stop, start) = (Stop::default(), Instant::now());
    let events = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            stop.request(Reason::Hangup);
        });
        let around = Around { intervals, prompt: "a", stop: &stop, hooks: vec![] };
        let mut trainer = trainer(&settings(4, 1e-3));
        to_end(&mut trainer, &device(), out.path(), around, |_| {}).unwrap()
    });
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let story = story(&events);
    assert!(story.iter().all(|what| what.1 != "sample" && what.1 != "warning"), "{story:?}");
    let Some(Event::Done { reason, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(*reason, Reason::Hangup);
}

#[test]
fn a_sample_that_fails_is_a_warning() {
    let out = tempfile::tempdir().unwrap();
    let intervals = Intervals { sample: 2, ..NOTHING };
    let events = run_with(&mut trainer(&settings(4, 1e-3)), intervals, out.path(), "xyz", None);
    let expected =
        [(0, "eval"), (0, "warning"), (4, "eval"), (0, "warning"), (4, "best"), (4, "done")];
    assert_eq!(story(&events), expected);
    let warning = events.iter().find_map(|event| match event {
        Event::Warning { message } => Some(message.as_str()),
        _ => None,
    });
    assert!(warning.unwrap().starts_with("no sample: "), "{warning:?}");
    let events = run(&mut trainer(&settings(4, 1e-3)), intervals, out.path());
    assert_eq!(story(&events).iter().filter(|s| s.1 == "sample").count(), 2);
}

/// The parts of the time add up, and are what the events of their kind say.
#[test]
fn time_adds_up() {
    let out = tempfile::tempdir().unwrap();
    let intervals = Intervals { eval: 2, sample: 3, checkpoint: 2, ..NOTHING };
    let events = run(&mut trainer(&settings(6, 1e-3)), intervals, out.path());
    let Some(Event::Done { spent, .. }) = events.last() else { panic!("{events:?}") };
    let sum = |of: fn(&Event) -> f64| events.iter().map(of).sum::<f64>() / 1e3;
    let close = |a: f64, b: f64| (a - b).abs() < 0.05 * b + 1e-4;
    let steps = sum(|e| if let Event::Step { ms, .. } = e { *ms } else { 0.0 });
    let evals = sum(|e| if let Event::Eval { ms, .. } = e { *ms } else { 0.0 });
    let samples = sum(|e| if let Event::Sample { ms, .. } = e { *ms } else { 0.0 });
    assert!(close(spent.steps_s, steps), "{spent:?} {steps}");
    assert!(close(spent.validation_s, evals) && evals > 0.0, "{spent:?} {evals}");
    assert!(close(spent.samples_s, samples) && samples > 0.0, "{spent:?} {samples}");
    assert!(spent.checkpoints_s > 0.0 && spent.compile_s > 0.0, "{spent:?}");
    let all = spent.setup_s
        + spent.compile_s
        + spent.steps_s
        + spent.validation_s
        + spent.samples_s
        + spent.checkpoints_s
        + spent.other_s;
    assert!((all - spent.total_s).abs() < 1e-9 && spent.total_s > 2.0, "{spent:?}");
    assert!(spent.other_s >= 0.0 && spent.other_s < 0.5, "{spent:?}");
}

/// Rates are those of the session's own steps, and what compiling took is not counted twice.
#[test]
fn a_resumed_run_counts_its_own_steps() {
    let out = tempfile::tempdir().unwrap();
    let config = |steps| RunConfig { accum: 3, ..settings(steps, 1e-3) };
    run(&mut trainer(&config(5)), NOTHING, out.path());
    let resumed = |steps, intervals| {
        let mut trainer = trainer(&config(steps));
        trainer.resume(&newest(out.path()).unwrap().0).unwrap();
        run(&mut trainer, intervals, out.path())
    };
    let events = resumed(8, NOTHING);
    let ms =
        events.iter().filter_map(|e| if let Event::Step { ms, .. } = e { Some(ms) } else { None });
    let ms: Vec<f64> = ms.copied().collect();
    let Some(Event::Done { steps, ms_per_step, tokens_per_s, spent, .. }) = events.last() else {
        panic!("{events:?}");
    };
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs();
    let all: f64 = ms.iter().sum();
    assert_eq!((*steps, ms.len()), (8, 3));
    assert!(close(*ms_per_step, all / 3.0), "{ms_per_step} {ms:?}");
    // Three steps of 3 × 2 sequences of 8 tokens.
    assert!(close(*tokens_per_s, 144.0 / (all / 1e3)), "{tokens_per_s} {ms:?}");
    assert!(close(spent.setup_s, (2.0 - spent.compile_s).max(0.0)), "{spent:?}");
    let written = events
        .iter()
        .find_map(|e| if let Event::Checkpoint { ms, .. } = e { Some(ms) } else { None });
    let written = written.unwrap() / 1e3;
    assert!(written <= spent.checkpoints_s, "{written} {spent:?}");
    assert!(written > 0.01 * spent.checkpoints_s, "writing is most of it: {written} {spent:?}");
    // There is nothing left to do, and nothing to divide by.
    let events = resumed(8, Intervals { sample: 2, ..NOTHING });
    let Some(Event::Done { steps: 8, ms_per_step, tokens_per_s, .. }) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!((*ms_per_step, *tokens_per_s), (0.0, 0.0));
    assert!(story(&events).iter().all(|what| what.1 != "sample"), "{events:?}");
}

/// Notes what it is asked; complains at one step.
#[derive(Default)]
struct Looker {
    asked: Vec<(u64, bool)>,
    begun: bool,
    fails_at: Option<u64>,
}

impl Hook for Looker {
    fn before_steps(&mut self) -> Result<Option<Event>, TrainError> {
        self.begun = true;
        Ok(Some(Event::Warning { message: "begin".to_owned() }))
    }

    fn after_step(&mut self, step: u64, may_save: bool) -> Result<Option<Event>, TrainError> {
        self.asked.push((step, may_save));
        match self.fails_at == Some(step) {
            true => Err(TrainError::Sequence { seq: 0, limit: 0 }),
            false => Ok((step == 2).then(|| Event::Warning { message: "two".to_owned() })),
        }
    }

    fn at_end(&mut self) -> Option<Event> {
        Some(Event::Warning { message: "end".to_owned() })
    }
}

fn with_hook(hook: &mut Looker, intervals: Intervals, stop: &Stop) -> Result<Vec<Event>, String> {
    let out = tempfile::tempdir().unwrap();
    let around = Around { intervals, prompt: "a", stop, hooks: vec![hook] };
    let listen = |event: &Event| {
        if matches!(event, Event::Step { step: 7, .. }) {
            stop.request(Reason::Interrupted);
        }
    };
    let mut trainer = trainer(&settings(8, 1e-3));
    let events = to_end(&mut trainer, &device(), out.path(), around, listen);
    let saved = newest(out.path()).map_or(0, |found| found.0.step());
    events.map_err(|error| format!("{error}; saved {saved}"))
}

#[test]
fn hooks_look_on_before_between_and_after_steps() {
    let intervals = Intervals { eval: 3, checkpoint: 5, ..NOTHING };
    let (mut hook, stop) = (Looker::default(), Stop::default());
    let events = with_hook(&mut hook, intervals, &stop).unwrap();
    // Measured at 3 and 6, saved at 5, asked to stop at 7.
    let may_save = [false, false, true, false, true, true, true];
    let asked: Vec<_> = (1..).zip(may_save).collect();
    assert!(hook.begun);
    assert_eq!(hook.asked, asked);
    let told = events.iter().map(|event| match event {
        Event::Warning { message } => message.as_str(),
        Event::Step { step: 2, .. } => "step 2",
        Event::Done { .. } => "done",
        _ => "",
    });
    let told: Vec<&str> = told.filter(|what| !what.is_empty()).collect();
    assert_eq!(told, ["begin", "step 2", "two", "end", "done"]);
    assert!(matches!(events[0], Event::Warning { .. }), "before anything is measured");
}

#[test]
fn a_hook_that_fails_ends_the_run_and_nothing_is_saved() {
    let intervals = Intervals { checkpoint: 2, ..NOTHING };
    let mut hook = Looker { fails_at: Some(4), ..Looker::default() };
    let error = with_hook(&mut hook, intervals, &Stop::default()).unwrap_err();
    // The checkpoint of step 2 stays, that of step 4 is not begun.
    assert!(error.ends_with("; saved 2"), "{error}");
    assert_eq!(hook.asked.last(), Some(&(4, true)));
}

/// A rate that is far too high is told once, and changes nothing.
#[test]
fn a_loss_that_climbs_is_a_warning() {
    let out = tempfile::tempdir().unwrap();
    let warned = |peak| {
        let events = run(&mut trainer(&settings(60, peak)), NOTHING, out.path());
        let warning = |event| match event {
            Event::Warning { message } => Some(message),
            _ => None,
        };
        events.into_iter().filter_map(warning).collect::<Vec<String>>()
    };
    assert!(warned(1e-3).is_empty());
    let told = warned(3.0);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("the loss has climbed from "), "{told:?}");
    assert!(told[0].ends_with("Begin again with a --lr below 3"), "{told:?}");
}
