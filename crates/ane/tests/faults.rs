//! Every fault on demand happens, with the words of the machine, and the same seed fails the same way.

use ane::{
    AneError, Backoff, Device, Emulator, Executable, FaultError, Faults, Faulty, Retrying,
    RunReport, Surface,
};
use cpu::Numerics;
use mil::blob::BlobWriter;
use mil::{DType, Data, Program, Weights};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const WEIGHTS: &str = "@model_path/weights/weight.bin";

/// y = x + w, with w a constant from a blob file.
fn program() -> Program {
    let text = format!(
        r#"program(1.3)
        {{ func main<ios18>(tensor<fp16, [1, 1, 1, 16]> x) {{
            tensor<fp16, [1, 1, 1, 16]> w = const()[name = string("w"), val = tensor<fp16, [1, 1, 1, 16]>(
                BLOBFILE(path = string("{WEIGHTS}"), offset = uint64(64)))];
            tensor<fp16, [1, 1, 1, 16]> y = add(x = x, y = w)[name = string("y")];
        }} -> (y); }}"#
    );
    mil::parse(&text).unwrap()
}

fn weights(value: f32) -> Weights {
    let mut blob = BlobWriter::new();
    let data = Data::Fp16(vec![half::f16::from_f32(value); 16]);
    assert_eq!(blob.push(DType::Fp16, &data), Some(64));
    Weights::from([(WEIGHTS.to_owned(), blob.finish())])
}

fn faulty(spec: &str, seed: u64) -> Faulty {
    Faulty::new(Box::new(Emulator::cpu(Numerics::Fast)), Faults::parse(spec, seed).unwrap())
}

struct Bench {
    exe: Box<dyn Executable>,
    x: Surface,
    y: Surface,
}

impl Bench {
    fn new(device: &dyn Device) -> Self {
        let exe = device.compile(&program(), &weights(1.0)).unwrap();
        Self::of(device, exe)
    }

    fn of(device: &dyn Device, exe: Box<dyn Executable>) -> Self {
        let x = device.surface(&exe.inputs()[0].ty, 0).unwrap();
        let y = device.surface(&exe.outputs()[0].ty, 0).unwrap();
        x.write(&[2.0; 16]).unwrap();
        Bench { exe, x, y }
    }

    fn run(&mut self) -> Result<RunReport, AneError> {
        self.exe.run(&[&self.x], &[&self.y])
    }

    fn values(&mut self) -> Vec<f32> {
        self.run().unwrap();
        let mut values = vec![0.0; 16];
        self.y.read(&mut values).unwrap();
        values
    }
}

#[test]
fn a7_the_compiler_fails_now_and_then() {
    let device = faulty("flaky-compile:3", 1);
    for _ in 0..3 {
        let error = device.compile(&program(), &weights(1.0)).unwrap_err();
        assert!(error.is_retryable());
        let text = error.to_string();
        assert!(text.ends_with(
            "\nmacOS reports: Error Domain=com.apple.appleneuralengine.compiler Code=1 \
             \"_ANECompiler : ANECCompile() FAILED\" err=( CompilationFailure )"
        ));
    }
    assert_eq!(Bench::new(&device).values(), [3.0; 16]);
}

#[test]
fn a7_patience_gets_a_program_compiled() {
    let told = Arc::new(AtomicU32::new(0));
    let patient = |spec: &str| {
        let told = told.clone();
        let backoff = Backoff { first: Duration::from_millis(1), ..Backoff::default() };
        Retrying::new(Box::new(faulty(spec, 1)), backoff, move |error, pause| {
            assert!(matches!(error, AneError::FlakyCompile { .. }));
            assert!(pause <= Duration::from_millis(8));
            told.fetch_add(1, Ordering::Relaxed);
        })
    };
    assert_eq!(Bench::new(&patient("flaky-compile:4")).values(), [3.0; 16]);
    assert_eq!(told.swap(0, Ordering::Relaxed), 4);
    let error = patient("flaky-compile:5").compile(&program(), &weights(1.0)).unwrap_err();
    assert!(matches!(error, AneError::FlakyCompile { .. }));
    assert_eq!(told.swap(0, Ordering::Relaxed), 4);
    let refused = patient("refuse-load:0x20004").compile(&program(), &weights(1.0));
    assert_eq!(refused.unwrap_err(), AneError::LoadRefused { code: 0x20004 });
    assert_eq!(told.load(Ordering::Relaxed), 0, "only the compiler's moods are waited for");
    let pauses: Vec<_> = (1..=5).map(|n| Backoff::default().pause(n)).collect();
    let ms = |n| Some(Duration::from_millis(n));
    assert_eq!(pauses, [ms(100), ms(200), ms(400), ms(800), None]);
}

#[test]
fn the_same_seed_fails_the_same_way() {
    let attempts = |seed| -> Vec<bool> {
        let device = faulty("flaky-compile:0.5", seed);
        (0..40).map(|_| device.compile(&program(), &weights(1.0)).is_err()).collect()
    };
    assert_eq!(attempts(7), attempts(7));
    assert_ne!(attempts(7), attempts(8));
    let failed = attempts(7).iter().filter(|f| **f).count();
    assert!((8..=32).contains(&failed), "{failed} of 40");
    let spoilt = |seed| {
        let device = faulty("inf-at:1", seed);
        Bench::new(&device).values().iter().position(|v| v.is_infinite()).unwrap()
    };
    assert_eq!(spoilt(3), spoilt(3));
    assert!((0..20).any(|seed| spoilt(seed) != spoilt(3)));
}

#[test]
fn b3_loads_are_refused() {
    for (code, words) in [
        ("0x20004", "Program load failure (0x20004)"),
        ("0x50004", "Program load failure (0x50004)"),
    ] {
        let device = faulty(&format!("refuse-load:{code}"), 1);
        let error = device.compile(&program(), &weights(1.0)).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.ns_error().unwrap().code, 6);
    }
}

#[test]
fn b3_a_hang_ends_in_a_timeout() {
    let device = faulty("hang-after:2,hang-limit:0.01", 1);
    let mut bench = Bench::new(&device);
    assert!(bench.run().is_ok() && bench.run().is_ok());
    for _ in 0..2 {
        let error = bench.run().unwrap_err();
        assert_eq!(error, AneError::Timeout);
        assert!(error.to_string().contains(
            "Failed with status=0xf : statusType=0x11: Program Inference timeout: timed out"
        ));
    }
}

/// A device whose runs take a second by its own account.
#[derive(Debug)]
struct OneSecond(Emulator);

#[derive(Debug)]
struct OneSecondProgram(Box<dyn Executable>);

impl Device for OneSecond {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn surface(&self, ty: &mil::TensorType, allocation: usize) -> Result<Surface, AneError> {
        self.0.surface(ty, allocation)
    }
    fn compile(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> Result<Box<dyn Executable>, AneError> {
        Ok(Box::new(OneSecondProgram(self.0.compile(program, weights)?)))
    }
}

impl Executable for OneSecondProgram {
    fn inputs(&self) -> &[ane::Port] {
        self.0.inputs()
    }
    fn outputs(&self) -> &[ane::Port] {
        self.0.outputs()
    }
    fn run(&mut self, inputs: &[&Surface], outputs: &[&Surface]) -> Result<RunReport, AneError> {
        let mut report = self.0.run(inputs, outputs)?;
        report.seconds = 1.0;
        Ok(report)
    }
}

#[test]
fn d_runs_slow_down_after_many() {
    let faults = Faults::parse("slow-after:3,slow-factor:4.5", 1).unwrap();
    let device = Faulty::new(Box::new(OneSecond(Emulator::cpu(Numerics::Fast))), faults);
    let mut bench = Bench::new(&device);
    let seconds: Vec<f64> = (0..5).map(|_| bench.run().unwrap().seconds).collect();
    assert_eq!(seconds, [1.0, 1.0, 1.0, 4.5, 4.5]);
    assert_eq!(bench.values(), [3.0; 16], "slow, not wrong");
    assert_eq!(ane::faults::DECAY_AFTER, 100_000);
}

#[test]
fn d_the_engine_wakes_up_slowly() {
    let now = Arc::new(Mutex::new(0.0));
    let clock = now.clone();
    let faults = Faults::parse("idle-wake", 1).unwrap();
    let inner = Box::new(OneSecond(Emulator::cpu(Numerics::Fast)));
    let device = Faulty::with_clock(inner, faults, move || *clock.lock().unwrap());
    let mut bench = Bench::new(&device);
    let mut after = |idle: f64| {
        *now.lock().unwrap() += idle;
        (1e6 * (bench.run().unwrap().seconds - 1.0)).round() as i64
    };
    // Microseconds. The first run of all finds the engine asleep; it wakes up over three runs.
    assert_eq!(
        [after(0.0), after(0.0625), after(0.0625), after(0.0625)],
        [260_000, 173_333, 86_667, 0]
    );
    assert_eq!([after(0.125), after(0.0625), after(4.0)], [500, 0, 500]);
    assert_eq!([after(5.0), after(0.0)], [260_000, 173_333]);
}

#[test]
fn g2_constants_are_immutable_under_one_identity() {
    let compile = |device: &Faulty, value, program: &Program| {
        let exe = device.compile(program, &weights(value)).unwrap();
        Bench::of(device, exe).values()[0]
    };
    let device = faulty("stale-weights", 1);
    assert_eq!(compile(&device, 1.0, &program()), 3.0);
    assert_eq!(compile(&device, 5.0, &program()), 3.0, "the rewritten file is not read");
    let mut other = program();
    other.build_info.push(("another".to_owned(), "identity".to_owned()));
    assert_eq!(compile(&device, 5.0, &other), 7.0);
    let healthy = faulty("", 1);
    assert_eq!([1.0, 5.0].map(|w| compile(&healthy, w, &program())), [3.0, 7.0]);
}

#[test]
fn outputs_are_spoilt_at_the_run_asked_for() {
    let device = faulty("zeros-at:2,nan-at:3,inf-at:5", 1);
    let mut bench = Bench::new(&device);
    assert_eq!(bench.values(), [3.0; 16]);
    assert_eq!(bench.values(), [0.0; 16]);
    let count =
        |values: Vec<f32>, is: fn(f32) -> bool| values.into_iter().filter(|&v| is(v)).count();
    assert_eq!(count(bench.values(), f32::is_nan), 1);
    assert_eq!(bench.values(), [3.0; 16]);
    assert_eq!(count(bench.values(), f32::is_infinite), 1);
}

#[test]
fn faults_that_do_not_exist_are_named() {
    let error = Faults::parse("flaky-compile:3,coffee:1", 1).unwrap_err().to_string();
    assert!(error.starts_with("there is no fault called `coffee`; known are: flaky-compile:N"));
    for bad in [
        "hang-after",
        "hang-after:-1",
        "hang-limit:nan",
        "hang-limit:1e300",
        "refuse-load:7",
        "flaky-compile:1.5",
        "stale-weights:1",
    ] {
        let error = Faults::parse(bad, 1).unwrap_err();
        assert!(matches!(error, FaultError::Value { .. }), "{bad}: {error}");
    }
}
