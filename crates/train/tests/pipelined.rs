//! Updates beside the next forward pass: the bits of updates at once, whatever comes between them.

mod common;

use ane::faults::{Faults, Faulty};
use ane::{Device, Emulator, Paced};
use chip::Profile;
use common::{Around, NOTHING, SEQ, loader, on_two_ranks, to_end};
use cpu::Numerics;
use gpt::plan::{BASELINE, GRADIENTS, Part, Place, Plan};
use gpt::{Layout, initialise};
use std::path::{Path, PathBuf};
use train::objective::Pretrain;
use train::{
    AdamW, Checkpoint, Event, Intervals, Lora, LrSchedule, Muon, Objective, OptimizerConfig, Ranks,
    Run, RunConfig, Solo, StepReport, Stop, Targets, Trainer,
};

const STEPS: u64 = 9;

/// Checkpoints, samples and measurements, with steps between them that none of these divides.
const INTERVALS: Intervals = Intervals { eval: 4, sample: 5, checkpoint: 3, keep: 9, ..NOTHING };

fn settings(optimizer: OptimizerConfig, plan: &'static Plan, accum: usize) -> RunConfig {
    RunConfig {
        model: common::model(2, false),
        optimizer,
        schedule: LrSchedule::cosine(0.02, 0.1, 3, STEPS),
        batch: 2,
        accum,
        seq: SEQ,
        // It always clips.
        clip: 0.05,
        seed: 5,
        plan,
        dial: None,
    }
}

/// Requests, one of them in a backward pass, whose results are infinite.
const SPOILT: [usize; 2] = [40, 121];

/// An emulator that spoils an output of some requests.
fn spoiling(runs: &[usize]) -> Box<dyn Device> {
    let faults: Vec<String> = runs.iter().map(|run| format!("inf-at:{run}")).collect();
    let device = Emulator::engine(Profile::default(), Numerics::Fast);
    Box::new(Faulty::new(Box::new(device), Faults::parse(&faults.join(","), 1).unwrap()))
}

fn start(config: &RunConfig, device: &dyn Device) -> Run {
    let params = initialise(&config.model, 3);
    Run::pretrain(config.clone(), params, loader(), device, Numerics::Fast).unwrap()
}

/// What an event tells, but for times and paths.
fn told(event: &Event) -> Option<String> {
    match event {
        Event::Step { step, loss, lr, tokens, grad_norm, loss_scale, skipped, .. } => {
            Some(format!("{step}: {loss} {lr} {tokens} {grad_norm} {loss_scale} {skipped}"))
        }
        Event::Eval { step, val_loss, .. } => Some(format!("{step}: {val_loss}")),
        Event::Sample { step, text, .. } => Some(format!("{step}: {text}")),
        Event::Checkpoint { step, .. } => Some(format!("{step} is saved")),
        _ => None,
    }
}

/// The checkpoints in `directory`, first to last.
fn checkpoints(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        entries.filter(|path| path.join("model.safetensors").exists()).collect();
    found.sort();
    found
}

/// Name, weights and optimizer's state of a checkpoint.
fn contents(checkpoint: &Path) -> [Vec<u8>; 3] {
    let name = checkpoint.file_name().unwrap().as_encoded_bytes().to_vec();
    let [weights, state] = ["model.safetensors", "optimizer.safetensors"]
        .map(|file| std::fs::read(checkpoint.join(file)).unwrap());
    [name, weights, state]
}

/// Runs to the end, and returns what was told and saved.
fn whole(mut run: Run, device: &dyn Device, directory: &Path) -> (Vec<String>, Vec<[Vec<u8>; 3]>) {
    let stop = Stop::default();
    let around = Around { intervals: INTERVALS, prompt: "a", stop: &stop, hooks: vec![] };
    let mut events = vec![];
    to_end(&mut run, device, directory, around, |event| events.extend(told(event))).unwrap();
    // When a checkpoint is told depends on the disk.
    events.sort_by_key(|event| event.ends_with("saved"));
    (events, checkpoints(directory).iter().map(|path| contents(path)).collect())
}

fn optimizers() -> [OptimizerConfig; 3] {
    let adamw = AdamW { epsilon: 1e-3, ..AdamW::default() };
    let targets = Targets::named(["wq", "w1"]).unwrap();
    let lora = Lora { rank: 2, alpha: 4.0, targets, seed: 1, adamw };
    [
        OptimizerConfig::AdamW(adamw),
        OptimizerConfig::Muon(Muon::default()),
        OptimizerConfig::Lora(lora),
    ]
}

fn bits(run: &Run) -> Vec<u32> {
    run.params().iter().map(|w| w.to_bits()).collect()
}

#[test]
fn a_run_has_the_bits_of_one_that_updates_at_once() {
    for optimizer in optimizers() {
        for (plan, accum) in [(&BASELINE, 1), (&BASELINE, 2), (&GRADIENTS, 1)] {
            let config = settings(optimizer, plan, accum);
            let what = format!("{optimizer:?}, {} with {accum}", plan.name);
            let of = |device: &dyn Device, directory: &Path| {
                let run = start(&config, device);
                assert_eq!(run.trainer().model().overlaps(), device.overlaps());
                whole(run, device, directory)
            };
            let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
            let want = of(&*spoiling(&SPOILT), first.path());
            let got = of(&Paced::new(spoiling(&SPOILT), 0.0), second.path());
            assert_eq!(got.0, want.0, "{what}");
            assert!(got.1 == want.1, "{what}");
            let skipped = want.0.iter().filter(|told| told.ends_with("true")).count();
            assert!((1..4).contains(&skipped), "{what}: {:?}", want.0);
            // From a checkpoint in the middle on.
            let found = checkpoints(second.path());
            assert!(found.len() > 2, "{what}: {found:?}");
            let checkpoint = Checkpoint::open(&found[0]).unwrap();
            let devices = [spoiling(&[]), Box::new(Paced::new(spoiling(&[]), 0.0))];
            let [want, got] = devices.map(|device| {
                let mut run = start(&config, &*device);
                run.resume(&checkpoint).unwrap();
                for _ in 0..3 {
                    run.step().unwrap();
                }
                bits(&run)
            });
            assert!(got == want, "{what}");
        }
    }
}

/// Only what is asked for makes an update before the next step does.
#[test]
fn an_update_waits_for_the_next_step_or_for_whoever_needs_it() {
    let config = settings(optimizers()[0], &BASELINE, 1);
    let device = Paced::new(spoiling(&[]), 0.0);
    let updates = |run: &Run| {
        let steps = run.trainer().model().timeline(true);
        steps.iter().filter(|step| step.part == Part::Update).count()
    };
    let mut run = start(&config, &device);
    run.step().unwrap();
    assert_eq!(updates(&run), 0, "there was none to make");
    run.step().unwrap();
    assert_eq!(updates(&run), Layout::new(&config.model).params().len());
    // The weights are asked for after every step: so is the update made then.
    let mut asked = start(&config, &device);
    let first = bits(&asked);
    for step in 0..2 {
        asked.step().unwrap();
        assert!(bits(&asked) != first, "step {step}");
    }
    assert_eq!(updates(&asked), 0);
    assert_eq!(bits(&asked), bits(&run));
    // So are moments.
    asked.step().unwrap();
    run.step().unwrap();
    let [one, other] = [&run, &asked].map(|run| run.trainer().state().arena("v").unwrap().to_vec());
    assert_eq!(one, other);
}

/// A step whose requests hang leaves weights and moments as the step before made them.
#[test]
fn a_fault_in_the_middle_leaves_a_whole_update() {
    let config = settings(optimizers()[0], &BASELINE, 2);
    let requests = BASELINE.cuts.iter().filter(|cut| cut.place == Place::Engine).count() * 2;
    for after in [0, 1, 4, requests - 1, requests + 3] {
        let faults = format!("hang-after:{},hang-limit:0", 2 * 2 * requests + after);
        let engine = Emulator::engine(Profile::default(), Numerics::Fast);
        let faulty = Faulty::new(Box::new(engine), Faults::parse(&faults, 1).unwrap());
        let device = Paced::new(Box::new(faulty), 0.0);
        let (mut run, mut whole) = (start(&config, &device), start(&config, &*spoiling(&[])));
        for _ in 0..2 {
            run.step().unwrap();
            whole.step().unwrap();
        }
        assert!(run.step().is_err(), "{after}");
        assert_eq!(run.step_count(), 2);
        assert_eq!(bits(&run), bits(&whole), "{after}");
        let moments = |run: &Run| run.trainer().state().arena("m").unwrap().to_vec();
        assert_eq!(moments(&run), moments(&whole), "{after}");
    }
}

/// Steps of a run, and its weights at the end.
fn steps(device: &dyn Device, ranks: Box<dyn Ranks>) -> (Vec<StepReport>, Vec<f32>) {
    let config = settings(optimizers()[0], &BASELINE, 1);
    let (params, optimizer) = (initialise(&config.model, 3), config.optimizer.build());
    let mut trainer =
        Trainer::new(&config, params, optimizer, device, Numerics::Fast, ranks).unwrap();
    let mut objective = Pretrain::new(loader(), &config);
    let mut step = || {
        objective.accumulate(&mut trainer).unwrap();
        trainer.apply().unwrap()
    };
    let reports = (0..STEPS).map(|_| step()).collect();
    (reports, trainer.params().to_vec())
}

#[test]
fn ranks_update_beside_their_next_steps() {
    let at_once = on_two_ranks(|ranks| steps(&*spoiling(&[]), ranks));
    let beside = on_two_ranks(|ranks| steps(&Paced::new(spoiling(&[]), 0.0), ranks));
    assert_eq!(beside, at_once);
    assert_eq!(beside[0], beside[1]);
    assert_ne!(steps(&*spoiling(&[]), Box::new(Solo)).1, at_once[0].1);
}
