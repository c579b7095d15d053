//! Programs in the styles of text that tools and people write for the engine, each in a file of its
//! own: they are read, hold against the rules of the profile in their first line, are formatted to
//! one canonical text, and compute what the reference interpreter computes.

use ane::{Device, Emulator};
use chip::{Profile, legal};
use cpu::Numerics;
use mil::interp::{Array, evaluate};
use mil::{DType, Payload, Program, TensorType, Weights};
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/dialects")
}

/// Name, text, profile and program of every file.
fn dialects() -> Vec<(String, String, Profile, Program)> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "mil"))
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let profile = text.lines().next().unwrap().strip_prefix("// ").unwrap().parse().unwrap();
        let program = mil::check_text(&text).unwrap_or_else(|faults| {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            panic!("{name}\n{}", faults.join("\n"))
        });
        (name, text, profile, program)
    };
    paths.into_iter().map(read).collect()
}

struct Random(u64);

impl Random {
    /// Uniform in [−1, 1).
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// A number on the grid of binary16, so that both sides start from the same.
    fn half(&mut self, scale: f64) -> f64 {
        half::f16::from_f64(self.next() * scale).to_f64()
    }
}

/// Blob records of every literal that the program names, at the offsets it names.
fn weights(program: &Program) -> Weights {
    let mut literals: Vec<(&str, u64, &TensorType)> = vec![];
    for op in program.functions.iter().flat_map(|f| &f.ops) {
        for literal in op.literals() {
            if let Payload::Blob { path, offset } = &literal.payload {
                literals.push((path, *offset, &literal.ty));
            }
        }
    }
    literals.sort_by_key(|(path, offset, _)| (path.to_owned(), *offset));
    let mut files = Weights::new();
    let mut random = Random(7);
    for (path, offset, ty) in literals {
        // The header: count (not looked at), version 2.
        let file = files.entry(path.to_owned()).or_insert_with(|| {
            let mut head = vec![0u8; 64];
            (head[0], head[4]) = (1, 2);
            head
        });
        assert!(file.len() as u64 <= offset, "{path}: records overlap at {offset}");
        file.resize(offset as usize, 0);
        let (code, bytes) = match ty.dtype {
            DType::Fp16 => {
                // Sums of products stay of order one; vectors are gains or scales.
                let vector = ty.count() == ty.shape.iter().copied().max().unwrap();
                let scale = if vector { 1.0 } else { 0.2 };
                let number = |_| half::f16::from_f64(random.half(scale)).to_le_bytes();
                (1u32, (0..ty.count()).flat_map(number).collect::<Vec<u8>>())
            }
            DType::Int8 => {
                (4, (0..ty.count()).map(|_| (random.next() * 127.0) as i8 as u8).collect())
            }
            DType::UInt8 => {
                (3, (0..ty.count()).map(|_| (random.next() * 128.0 + 128.0) as u8).collect())
            }
            other => panic!("no weights of type {other}"),
        };
        file.extend(0xDEAD_BEEF_u32.to_le_bytes());
        file.extend(code.to_le_bytes());
        file.extend((bytes.len() as u64).to_le_bytes());
        file.extend((offset + 64).to_le_bytes());
        file.extend([0; 40]);
        file.extend(bytes);
    }
    files
}

/// Outputs of the first function on the emulator, by name.
fn emulate(
    program: &Program,
    weights: &Weights,
    inputs: &[Array],
    numerics: Numerics,
) -> Vec<Vec<f32>> {
    let device = Emulator::cpu(numerics);
    let mut exe = device.compile(program, weights).unwrap();
    let f = &program.functions[0];
    let mut read = vec![];
    for port in exe.inputs() {
        let own = f.inputs().position(|id| f.value(id).name == port.name).unwrap();
        let surface = device.surface(&port.ty, 0).unwrap();
        surface.write(&inputs[own].data.iter().map(|&v| v as f32).collect::<Vec<_>>()).unwrap();
        read.push(surface);
    }
    let ports = exe.outputs().to_vec();
    let written: Vec<_> = ports.iter().map(|p| device.surface(&p.ty, 0).unwrap()).collect();
    exe.run(&read.iter().collect::<Vec<_>>(), &written.iter().collect::<Vec<_>>()).unwrap();
    let output = |name: &str| {
        let at = ports.iter().position(|p| p.name == name).unwrap();
        let mut values = vec![0.0; ports[at].ty.count()];
        written[at].read(&mut values).unwrap();
        values
    };
    f.outputs.iter().map(|&id| output(&f.value(id).name)).collect()
}

#[test]
fn there_are_twenty() {
    let all = dialects();
    assert!(all.len() >= 20, "{} programs", all.len());
    // Between them they cover what texts differ in.
    let texts: String = all.iter().map(|(_, text, ..)| text.as_str()).collect();
    for form in [
        "program(1.0)",
        "<ios16>",
        "<ios17>",
        "string(\"",
        "tensor<string, []>(\"",
        "BLOBFILE",
        "0x1p-3",
        "x=x",
        "x = x",
        "values = (",
        "fp32",
        "int8",
    ] {
        assert!(texts.contains(form), "{form}");
    }
    assert!(all.iter().any(|(.., program)| program.functions.len() == 3));
    assert!(all.iter().any(|(.., program)| program.build_info.len() == 2));
}

#[test]
fn each_is_legal_where_it_says() {
    for (name, _, profile, program) in dialects() {
        if let Err(found) = legal::check(&program, &profile) {
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            panic!("{name} on {profile}\n{}", found.join("\n"));
        }
        let engine = Emulator::engine(profile, Numerics::Fast);
        assert!(engine.compile(&program, &weights(&program)).is_ok(), "{name}");
    }
}

#[test]
fn each_has_one_canonical_text() {
    for (name, text, _, program) in dialects() {
        let canonical = mil::text::print(&program);
        let again = mil::parse(&canonical).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(again, program, "{name}: nothing is lost");
        assert_eq!(mil::text::print(&again), canonical, "{name}: a fixed point");
        assert_ne!(canonical, text, "{name}: it was not canonical to begin with");
        let found = mil::diff(&program, &again);
        assert_eq!((found.notes, found.changes), (vec![], vec![]), "{name}");
    }
}

/// In f32 every operation rounds once to 2^-24 and the longest sum has 32000 terms of one sign (a
/// softmax), added pairwise or in blocks: within 1e-4 of the largest value. In `fast` every
/// operation rounds to 2^-11, and no program magnifies an error more than four times: as many
/// steps of 2^-11 as it has operations, times four.
#[test]
fn each_computes_what_the_reference_computes() {
    for (name, _, _, program) in dialects() {
        let weights = weights(&program);
        for at in 0..program.functions.len() {
            let mut program = program.clone();
            program.functions.rotate_left(at);
            let f = &program.functions[0];
            let mut random = Random(99 + at as u64);
            let inputs: Vec<Array> = f
                .inputs()
                .map(|id| Array::from_fn(&f.ty(id).shape, |_| random.half(1.0)))
                .collect();
            let expected = evaluate(f, &inputs, &weights).unwrap();
            let operations = f.ops.iter().filter(|op| op.value.is_none()).count();
            let fast = 4.0 * operations as f64 * 2f64.powi(-11);
            for (numerics, bound) in [(Numerics::F32, 1e-4), (Numerics::Fast, fast)] {
                let got = emulate(&program, &weights, &inputs, numerics);
                for ((got, want), &id) in got.iter().zip(&expected).zip(&f.outputs) {
                    let scale = want.data.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                    assert!(scale > 0.0, "{name}: nothing was computed");
                    let worst = (got.iter().zip(&want.data))
                        .map(|(g, w)| (f64::from(*g) - w).abs())
                        .fold(0.0, f64::max);
                    let output = &f.value(id).name;
                    assert!(
                        worst <= bound * scale,
                        "{name}, {}, output {output}, {numerics:?}: off by {worst:e} of {scale:e}",
                        f.name
                    );
                }
            }
        }
    }
}

#[test]
fn a_gather_is_refused_by_name() {
    let text = std::fs::read_to_string(folder().join("refused/gather.mil")).unwrap();
    let faults = mil::check_text(&text).unwrap_err();
    let said = faults[0].to_string();
    assert!(said.contains("line 6") && said.contains("`gather`"), "{said}");
}

/// The form that several projects took for the right one, and the compiler refuses.
#[test]
fn constexpr_arguments_are_refused_and_mended() {
    let path = folder().join("refused/constexpr_as_arguments.mil");
    let program = mil::check_text(&std::fs::read_to_string(path).unwrap()).unwrap();
    for profile in ["m1", "m3", "m4", "m5/e5rt"] {
        let profile: Profile = profile.parse().unwrap();
        let found = legal::check(&program, &profile).unwrap_err();
        assert!(found.iter().any(|v| v.rule.id == "ANE028"), "{profile}: {found:?}");
    }
    let fixed = legal::fix(&program, &"m4".parse().unwrap(), &[]);
    assert!(legal::check(&fixed.program, &"m4".parse().unwrap()).is_ok(), "{}", fixed.program);
    let text = fixed.program.to_string();
    assert!(text.contains("constexpr_affine_dequantize()["), "{text}");
    let weights = weights(&program);
    let x = Array::from_fn(&[1, 64, 1, 64], |i| (i[1] as f64 - 32.0) / 64.0 + i[3] as f64 / 128.0);
    let run = |p: &Program| evaluate(&p.functions[0], std::slice::from_ref(&x), &weights).unwrap();
    assert_eq!(run(&program), run(&fixed.program));
}
