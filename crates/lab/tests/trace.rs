//! Traces: recorded, written, read, damaged, replayed, explained.

use ane::{Call, Device, Emulator, Paced};
use cpu::Numerics;
use half::f16;
use lab::trace::{self, ProgramTrace, Replay, RunTrace, TraceError};
use lab::{MachineInfo, Recorder, Trace, Watched};
use mil::{TensorType, Weights};

const PRODUCT: &str = r#"program(1.3)
{ func main<ios18>(tensor<fp16, [1, 1, 4, 32]> a, tensor<fp16, [1, 1, 32, 16]> b) {
    tensor<fp16, [1, 1, 4, 16]> y = matmul(x = a, y = b, transpose_x = bool(false), transpose_y = bool(false))[name = string("y")];
} -> (y); }"#;

const SUM_AND_DIFFERENCE: &str = r#"program(1.3)
{ func main<ios18>(tensor<fp16, [1, 1, 1, 16]> b, tensor<fp16, [1, 1, 1, 16]> a) {
    tensor<fp16, [1, 1, 1, 16]> s = add(x = a, y = b)[name = string("s")];
    tensor<fp16, [1, 1, 1, 16]> d = sub(x = a, y = b)[name = string("d")];
} -> (s, d); }"#;

const PRODUCT_OF_ELEMENTS: &str = r#"program(1.3)
{ func main<ios18>(tensor<fp16, [1, 1, 1, 16]> a, tensor<fp16, [1, 1, 1, 16]> b) {
    tensor<fp16, [1, 1, 1, 16]> y = mul(x = a, y = b)[name = string("y")];
} -> (y); }"#;

fn info() -> MachineInfo {
    MachineInfo { emulated: true, recorder: "test".to_owned(), ..MachineInfo::default() }
}

#[test]
fn a_recorded_or_watched_device_overlaps_if_the_one_inside_does() {
    let emulator = || Box::new(Emulator::cpu(Numerics::Fast));
    let overlapping = || Box::new(Paced::new(emulator(), 0.0));
    assert!(Watched::new(overlapping()).overlaps() && !Watched::new(emulator()).overlaps());
    let recorder = |device| Recorder::new(device, info(), 1);
    assert!(recorder(overlapping()).overlaps() && !recorder(emulator()).overlaps());
}

/// Records one run of `text`; `fill` gives element i of input number n in binding order.
fn record(text: &str, numerics: Numerics, fill: impl Fn(usize, usize) -> f32) -> Trace {
    let recorder = Recorder::new(Box::new(Emulator::cpu(numerics)), info(), 8);
    let recording = recorder.recording();
    let program = mil::parse(text).unwrap();
    let mut exe = recorder.compile(&program, &Weights::new()).unwrap();
    let surfaces = |ports: &[ane::Port]| -> Vec<_> {
        ports.iter().map(|p| recorder.surface(&p.ty, 0).unwrap()).collect()
    };
    let (inputs, outputs) = (surfaces(exe.inputs()), surfaces(exe.outputs()));
    for (n, surface) in inputs.iter().enumerate() {
        let values: Vec<f32> = (0..surface.ty().count()).map(|i| fill(n, i)).collect();
        surface.write(&values).unwrap();
    }
    let (i, o): (Vec<_>, Vec<_>) = (inputs.iter().collect(), outputs.iter().collect());
    exe.run(&i, &o).unwrap();
    recording.trace()
}

fn wave(n: usize, i: usize) -> f32 {
    f16::from_f32(((i * (n + 3)) as f32 * 0.37 + n as f32).sin()).to_f32()
}

fn run(trace: &mut Trace) -> &mut RunTrace {
    &mut trace.programs[0].runs[0]
}

fn replayed(trace: &Trace, numerics: Numerics) -> Replay {
    // By way of the file, as for a trace of someone else.
    trace::replay(&Trace::from_bytes(&trace.to_bytes().unwrap()).unwrap(), numerics).unwrap()
}

/// Facts that explain the differences of all outputs, with counts; nothing may stay unexplained.
fn explained(trace: &Trace, numerics: Numerics) -> Vec<(&'static str, usize)> {
    let replay = replayed(trace, numerics);
    assert_eq!(replay.unexplained(), 0, "{replay:#?}");
    let of = |o: &trace::OutputReplay| {
        assert_eq!(
            o.explanations.iter().map(|e| e.elements).sum::<usize>(),
            o.comparison.differing
        );
        o.explanations.iter().map(|e| (e.fact, e.elements)).collect::<Vec<_>>()
    };
    replay.outputs().flat_map(of).collect()
}

#[test]
fn what_is_recorded_is_read_back_and_replays_to_the_bit() {
    for numerics in [Numerics::Fast, Numerics::F32] {
        let trace = record(SUM_AND_DIFFERENCE, numerics, |n, i| wave(n, i) * 1.001);
        let bytes = trace.to_bytes().unwrap();
        assert_eq!(Trace::from_bytes(&bytes).unwrap(), trace);
        assert_eq!(bytes, trace.to_bytes().unwrap(), "equal traces are equal bytes");
        assert!(bytes.starts_with(b"PK"), "a zip archive");
        assert_eq!(explained(&trace, numerics), []);
        let program = &trace.programs[0];
        let names: Vec<_> = program.inputs.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["a", "b"], "binding order, not that of the text");
        assert!(program.runs[0].seconds > 0.0 && program.compile_seconds > 0.0);
    }
    let trace = record(PRODUCT, Numerics::Fast, wave);
    assert_eq!(replayed(&trace, Numerics::Fast).outputs().next().unwrap().comparison.elements, 64);
}

#[test]
fn the_recorder_asks_the_device_what_it_is() {
    let profile: chip::Profile = "m2-pro/macos26/e5rt".parse().unwrap();
    let engine = Emulator::engine(profile, Numerics::Fast);
    let faulty = ane::Faulty::new(Box::new(engine), ane::Faults::parse("", 1).unwrap());
    let machine = Recorder::new(Box::new(faulty), info(), 1).recording().trace().machine;
    let said = [machine.chip, machine.os, machine.path].map(Option::unwrap);
    assert_eq!(said, ["m2-pro", "macos26", "e5rt"]);
    let cpu = record(PRODUCT, Numerics::Fast, wave).machine;
    assert_eq!((cpu.chip, cpu.os, cpu.path), (None, None, None));
}

#[test]
fn only_the_first_runs_are_kept() {
    let recorder = Recorder::new(Box::new(Emulator::cpu(Numerics::Fast)), info(), 2);
    let recording = recorder.recording();
    let mut exe =
        recorder.compile(&mil::parse(PRODUCT_OF_ELEMENTS).unwrap(), &Weights::new()).unwrap();
    let surface = || recorder.surface(&TensorType::fp16([1, 1, 1, 16]), 0).unwrap();
    let (a, b, y) = (surface(), surface(), surface());
    (0..5).for_each(|_| assert!(exe.run(&[&a, &b], &[&y]).is_ok()));
    assert!(exe.run(&[&a], &[&y]).is_err());
    assert_eq!(recording.trace().programs[0].runs.len(), 2);
}

#[test]
fn requests_sent_in_other_ways_are_kept_with_the_way() {
    let engine = Emulator::engine(chip::Profile::default(), Numerics::Exact);
    let recorder = Recorder::new(Box::new(engine), info(), 1);
    let program = mil::parse(PRODUCT_OF_ELEMENTS).unwrap();
    let mut exe = recorder.compile(&program, &Weights::new()).unwrap();
    let bytes = recorder.least_allocation();
    let surface = || recorder.surface(&TensorType::fp16([1, 1, 1, 16]), bytes).unwrap();
    let (a, b, y) = (surface(), surface(), surface());
    exe.run(&[&a, &b], &[&y]).unwrap();
    for call in [Call::Quality(33), Call::Quality(33), Call::RealTime] {
        assert!(exe.run_by(call, &[&a, &b], &[&y]).unwrap().is_some());
    }
    assert!(exe.run_by(Call::Chained, &[&a, &b], &[&y]).is_err());
    let trace = Trace::from_bytes(&recorder.recording().trace().to_bytes().unwrap()).unwrap();
    let calls: Vec<_> = trace.programs[0].runs.iter().map(|run| run.call.as_deref()).collect();
    assert_eq!(calls, [None, Some("quality of service 33"), Some("real time")]);
    assert_eq!(explained(&trace, Numerics::Exact), []);
}

#[test]
fn runs_of_a_program_that_was_loaded_again_are_not_kept() {
    let engine = |profile: &str| Emulator::engine(profile.parse().unwrap(), Numerics::Exact);
    // Where loaded programs have no files, none is loaded again.
    for (profile, kept) in [("m4", 1), ("m5/macos26/e5rt", 2)] {
        let recorder = Recorder::new(Box::new(engine(profile)), info(), 4);
        let program = mil::parse(PRODUCT_OF_ELEMENTS).unwrap();
        let mut exe = recorder.compile(&program, &Weights::new()).unwrap();
        let bytes = recorder.least_allocation();
        let surface = || recorder.surface(&TensorType::fp16([1, 1, 1, 16]), bytes).unwrap();
        let (a, b, y) = (surface(), surface(), surface());
        exe.run(&[&a, &b], &[&y]).unwrap();
        assert_eq!(exe.reload(&Weights::new()).unwrap().is_some(), kept == 1, "{profile}");
        exe.run(&[&a, &b], &[&y]).unwrap();
        assert_eq!(recorder.recording().trace().programs[0].runs.len(), kept, "{profile}");
    }
}

#[test]
fn e2_saturation_explains_infinities() {
    // Rows of growing size: the first sums stay below 2^15, the last do not.
    let fill = |n, i| 60.0 * if n == 0 { (1 + i / 32) as f32 / 4.0 } else { wave(n, i).abs() };
    let trace = record(PRODUCT, Numerics::Fast, fill);
    let infinite = trace.programs[0].runs[0].outputs[0].values.iter().filter(|v| v.is_infinite());
    let infinite = infinite.count();
    assert!((1..64).contains(&infinite), "{infinite} of 64");
    // As if from elsewhere: one element off, so that no arithmetic here gives just the same. Sums
    // beyond 65504 are infinite in fp16 on both sides.
    let mut trace = trace;
    run(&mut trace).outputs[0].values[0] *= 1.5;
    let replay = replayed(&trace, Numerics::F32);
    let found = replay.outputs().next().unwrap();
    assert_eq!(found.unexplained, 1, "{found:?}");
    let saturated = &found.explanations[0];
    assert!(saturated.fact == "E2-saturation" && (16..=infinite).contains(&saturated.elements));
}

#[test]
fn e3_half_away_explains_ties() {
    // (1 + 2^-10·k)·(1 + 2^-1) has its last bit at 2^-11: a tie for odd k.
    let fill = |n, i: usize| if n == 0 { 1.0 + i as f32 / 1024.0 } else { 1.5 };
    let mut trace = record(PRODUCT_OF_ELEMENTS, Numerics::Fast, fill);
    for (i, y) in run(&mut trace).outputs[0].values.iter_mut().enumerate() {
        let exact = (1.0 + i as f32 / 1024.0) * 1.5;
        // Up, for positive numbers, where the emulator's nearest even is below the tie.
        *y = if exact > *y { *y + 2f32.powi(-10) } else { *y };
    }
    let found = explained(&trace, Numerics::Fast);
    assert_eq!(found, [("E3-half-away", 4)]);
}

#[test]
fn e1_product_gate_explains_lost_products() {
    let small = |n, i| f16::from_f32(wave(n, i) * 0.004).to_f32();
    let mut trace = record(PRODUCT, Numerics::Fast, small);
    let RunTrace { inputs, outputs, .. } = run(&mut trace);
    // The law of E.1, written down once more.
    let exponent = |v: f32| v.abs().log2().floor() as i32;
    for (at, y) in outputs[0].values.iter_mut().enumerate() {
        let (row, column) = (at / 16, at % 16);
        let sum: f64 = (0..32)
            .map(|k| (inputs[0].values[row * 32 + k], inputs[1].values[k * 16 + column]))
            .filter(|&(a, b)| a != 0.0 && b != 0.0 && exponent(a) + exponent(b) >= -16)
            .map(|(a, b)| (f64::from(a) * f64::from(b) * 65536.0).round())
            .sum();
        *y = f16::from_f64(sum / 65536.0).to_f32();
    }
    let found = explained(&trace, Numerics::Fast);
    assert!(matches!(found[..], [("E1-product-gate", n)] if n > 32), "{found:?}");
}

#[test]
fn e2_width_slice_gain_explains_infinities() {
    let text = r#"program(1.3)
    { func main<ios18>(tensor<fp16, [1, 1, 1, 32]> x) {
        tensor<fp16, [1, 1, 1, 16]> y = slice_by_size(x = x, begin = tensor<int32, [4]>([0, 0, 0, 16]),
            size = tensor<int32, [4]>([1, 1, 1, 16]))[name = string("y")];
    } -> (y); }"#;
    let mut trace = record(text, Numerics::Fast, |_, i| i as f32 * 200.0);
    for y in &mut run(&mut trace).outputs[0].values {
        *y = if *y > 4094.0 { f32::INFINITY } else { *y };
    }
    // Elements 16 to 20 are 3200 to 4000.
    assert_eq!(explained(&trace, Numerics::Fast), [("E2-width-slice-gain", 11)]);
    trace.machine.chip = Some("m4".to_owned());
    assert_eq!(replayed(&trace, Numerics::Fast).unexplained(), 11, "not on M4");
}

#[test]
fn c1_alphabetical_explains_permuted_data() {
    let trace = record(SUM_AND_DIFFERENCE, Numerics::Fast, wave);
    let mut outputs = trace.clone();
    run(&mut outputs).outputs.swap(0, 1);
    let facts = |trace: &Trace| -> Vec<_> {
        explained(trace, Numerics::Fast).into_iter().map(|(fact, _)| fact).collect()
    };
    assert_eq!(facts(&outputs), ["C1-alphabetical", "C1-alphabetical"]);
    let replay = replayed(&outputs, Numerics::Fast);
    let pattern = replay.outputs().next().unwrap().explanations[0].pattern;
    assert!(pattern.contains("outputs"), "{pattern}");
    let mut inputs = trace;
    run(&mut inputs).inputs.swap(0, 1);
    // The sum does not depend on the order.
    assert_eq!(facts(&inputs), ["C1-alphabetical"]);
}

#[test]
fn zeros_are_a_faulty_request() {
    let mut trace = record(PRODUCT, Numerics::Fast, wave);
    run(&mut trace).outputs[0].values.fill(0.0);
    assert_eq!(explained(&trace, Numerics::Fast), [("C1-monotone-sizes", 64)]);
}

#[test]
fn a_recording_in_f32_is_told_from_one_of_an_engine() {
    let trace = record(PRODUCT, Numerics::F32, wave);
    assert!(matches!(explained(&trace, Numerics::Fast)[..], [("reference-precision", 1..)]));
    let trace = record(PRODUCT, Numerics::Fast, |n, i| wave(n, i) * 0.3);
    assert_eq!(explained(&trace, Numerics::F32), [], "one rounding is no difference in fp16");
    // Rounded after the product and after the square, instead of once.
    let chain = PRODUCT
        .replace(" y = matmul", " p = matmul")
        .replace("string(\"y\")", "string(\"p\")")
        .replace(
            "} -> (y)",
            "tensor<fp16, [1, 1, 4, 16]> y = mul(x = p, y = p)[name = string(\"y\")]; } -> (y)",
        );
    let trace = record(&chain, Numerics::Fast, wave);
    assert!(matches!(explained(&trace, Numerics::F32)[..], [("fast-arithmetic", 1..)]));
}

#[test]
fn the_documented_arithmetic_explains_what_single_facts_do_not() {
    // A sigmoid is a table there, which no pattern of one element shows.
    let table = PRODUCT_OF_ELEMENTS.replace("mul(x = a, y = b)", "sigmoid(x = a)");
    let trace = record(&table, Numerics::Exact, wave);
    assert!(matches!(explained(&trace, Numerics::Fast)[..], [("exact-arithmetic", 1..)]));
    assert_eq!(explained(&trace, Numerics::Exact), []);
    // A product is explained by its law.
    let trace = record(PRODUCT, Numerics::Exact, |n, i| f16::from_f32(wave(n, i) * 0.01).to_f32());
    let found = explained(&trace, Numerics::Fast);
    assert!(matches!(found[..], [("E1-product-gate", 1..)]), "{found:?}");
}

#[test]
fn a_product_of_computed_numbers_is_not_blamed_on_the_gate() {
    let chain = PRODUCT.replace("x = a, y = b", "x = t, y = b").replace(
        "    tensor<fp16, [1, 1, 4, 16]> y",
        "    tensor<fp16, [1, 1, 4, 32]> t = tanh(x = a)[name = string(\"t\")];\n    tensor<fp16, [1, 1, 4, 16]> y",
    );
    for (text, predicted) in [(PRODUCT, 1), (chain.as_str(), 0)] {
        let mut trace = record(text, Numerics::Fast, |n, i| wave(n, i) * 0.05);
        let y = &mut run(&mut trace).outputs[0].values[7];
        // Off by 2^-14, which 32 products can lose.
        *y = f16::from_f32((*y * 65536.0).round() / 65536.0 + 2f32.powi(-14)).to_f32();
        let replay = replayed(&trace, Numerics::Fast);
        let found = replay.outputs().next().unwrap();
        assert_eq!((found.explanations.len(), found.unexplained), (predicted, 1 - predicted));
    }
}

#[test]
fn what_no_fact_predicts_stays_unexplained() {
    let mut trace = record(PRODUCT, Numerics::Fast, wave);
    run(&mut trace).outputs[0].values[5] *= 1.5;
    let replay = replayed(&trace, Numerics::Fast);
    let found = replay.outputs().next().unwrap();
    assert_eq!((found.comparison.differing, found.unexplained), (1, 1));
    assert_eq!(found.comparison.first.unwrap().index, 5);
    assert_eq!(found.explanations, []);
}

#[test]
fn a_program_that_ran_refutes_the_rules_that_refuse_it() {
    let text = PRODUCT_OF_ELEMENTS.replace("16]", "17920]");
    let mut trace = record(&text, Numerics::Fast, wave);
    trace.machine.chip = Some("m1".to_owned());
    let replay = replayed(&trace, Numerics::Fast);
    assert!(replay.programs[0].refuted_rules.iter().any(|r| r.contains("ANE012")), "{replay:?}");
    assert_eq!(replay.unexplained(), 0, "and it is compared all the same");
    trace.machine.chip = Some("m4".to_owned());
    assert_eq!(replayed(&trace, Numerics::Fast).programs[0].refuted_rules, Vec::<String>::new());
}

#[test]
fn truncated_and_damaged_files_are_refused() {
    let trace = record(PRODUCT_OF_ELEMENTS, Numerics::Fast, wave);
    let whole = trace.to_bytes().unwrap();
    for n in 0..whole.len() {
        assert!(Trace::from_bytes(&whole[..n]).is_err(), "{n} of {} bytes", whole.len());
    }
    // One byte changed anywhere is noticed, or changes nothing.
    let mut noticed = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        match Trace::from_bytes(&bytes) {
            Ok(read) => assert_eq!(read, trace, "byte {at}"),
            Err(error) => {
                noticed += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(noticed > whole.len() / 2, "{noticed} of {}", whole.len());
}

/// The file with its manifest changed and all checksums right.
fn with_manifest(trace: &Trace, change: impl Fn(String) -> String) -> Result<Trace, TraceError> {
    let bytes = trace.to_bytes().unwrap();
    let archive = lab::array::zip::Archive::parse(&bytes).unwrap();
    let mut writer = lab::array::zip::Writer::new();
    for name in archive.names() {
        let contents = archive.read(name).unwrap();
        match name {
            "manifest.json" => {
                let text = change(String::from_utf8(contents).unwrap());
                writer.add(name, text.as_bytes()).unwrap();
            }
            _ => writer.add(name, &contents).unwrap(),
        }
    }
    Trace::from_bytes(&writer.finish())
}

#[test]
fn manifests_that_lie_are_refused() {
    let trace = record(PRODUCT_OF_ELEMENTS, Numerics::Fast, wave);
    let swapped = |from: &str, to: &str| {
        let change = |text: String| {
            assert!(text.contains(from), "{text}");
            text.replace(from, to)
        };
        with_manifest(&trace, change).unwrap_err()
    };
    assert_eq!(swapped("\"version\": 1", "\"version\": 2"), TraceError::Version(2));
    assert_eq!(swapped("\"version\": 1", "\"version\": 0"), TraceError::Version(0));
    let other = swapped("\"anetrace\"", "\"tar\"");
    assert!(matches!(other, TraceError::Manifest(ref m) if m.contains("`tar`")), "{other}");
    let shape = swapped("          16\n", "          4000000000\n");
    assert!(matches!(shape, TraceError::Shape { .. }), "{shape}");
    let dtype = swapped("\"fp16\"", "\"fp8\"");
    assert!(dtype.to_string().contains("`fp8`"), "{dtype}");
    let missing = swapped("inputs/a.npy", "inputs/c.npy");
    assert!(missing.to_string().contains("c.npy"), "{missing}");
    let fewer = with_manifest(&trace, |text| {
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["programs"][0]["runs"][0]["inputs"] = serde_json::json!([]);
        json.to_string()
    });
    assert!(matches!(fewer.unwrap_err(), TraceError::Manifest(_)));
    // What is not known is left alone: later versions add fields.
    let more = with_manifest(&trace, |text| text.replacen('{', "{\"new\": [1],", 1));
    assert_eq!(more.unwrap(), trace);
}

#[test]
fn ports_of_any_name_have_a_place_in_the_file() {
    let mut trace = record(SUM_AND_DIFFERENCE, Numerics::Fast, wave);
    for names in [["same", "same"], ["../up", "a b"], ["0", "1"], ["1", ""], ["x", "X"]] {
        for (port, name) in trace.programs[0].inputs.iter_mut().zip(names) {
            port.name = name.to_owned();
        }
        let read = Trace::from_bytes(&trace.to_bytes().unwrap()).unwrap();
        assert_eq!(read, trace, "{names:?}");
    }
}

#[test]
fn programs_that_are_none_are_refused_when_replayed() {
    let mut trace = record(PRODUCT_OF_ELEMENTS, Numerics::Fast, wave);
    trace.programs[0].text = "program(1.3) { func".to_owned();
    let error = trace::replay(&trace, Numerics::Fast).unwrap_err();
    assert!(matches!(error, TraceError::Program { index: 0, .. }), "{error}");
    trace.programs[0].text = SUM_AND_DIFFERENCE.to_owned();
    let error = trace::replay(&trace, Numerics::Fast).unwrap_err();
    assert!(error.to_string().contains("ports"), "{error}");
    // Ports that no array vouches for are not allocated.
    let huge =
        PRODUCT_OF_ELEMENTS.replace("16]", "65536]").replace("[1, 1, 1,", "[1, 65536, 65536,");
    let ports = |names: &[&str]| {
        let ty = TensorType::fp16([1, 65536, 65536, 65536]);
        names.iter().map(|n| ane::Port { name: (*n).to_owned(), ty: ty.clone() }).collect()
    };
    trace.programs[0] = ProgramTrace {
        text: huge,
        inputs: ports(&["a", "b"]),
        outputs: ports(&["y"]),
        runs: vec![],
        ..trace.programs[0].clone()
    };
    assert!(trace::replay(&trace, Numerics::Fast).is_ok_and(|r| r.outputs().count() == 0));
    // That a machine compiled what we cannot read is what the trace says.
    trace.programs[0].text = "program(1.3) { func".to_owned();
    let replay = trace::replay(&trace, Numerics::Fast).unwrap();
    assert!(!replay.programs[0].refuted_rules.is_empty() && replay.outputs().count() == 0);
}
