//! The lines of README.md that run a program, exactly as they are typed.

use crate::Bench;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Commands of README.md that start with `start`, without their comments.
fn commands(start: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let command = |line: &str| line.split(" #").next().unwrap().trim().to_owned();
    readme.lines().filter(|line| line.starts_with(start)).map(command).collect()
}

/// A directory that looks like the root of the repository to these commands.
fn root() -> Bench {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("examples")).unwrap();
    for entry in std::fs::read_dir(Path::new(ROOT).join("examples")).unwrap() {
        let entry = entry.unwrap();
        let to = bench.path("examples").join(entry.file_name());
        std::fs::copy(entry.path(), to).unwrap();
    }
    bench
}

#[test]
fn the_lines_about_programs_run_as_typed() {
    let bench = root();
    let commands = commands("anegpt mil ");
    for verb in ["check", "estimate", "run", "replay", "diff"] {
        assert!(commands.iter().any(|line| line.contains(&format!("mil {verb} "))), "{verb}");
    }
    let mut written = std::collections::BTreeSet::new();
    for command in &commands {
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        for (flag, place) in words.iter().zip(&words[1..]) {
            if ["--output", "--record"].contains(flag) {
                assert!(written.insert(place.to_string()), "{place} is written twice");
            }
        }
        let output = bench.run(&words);
        let (out, error) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        // What differs has an exit code of its own, as with diff.
        let code = i32::from(words[1] == "diff");
        assert_eq!(output.status.code(), Some(code), "{command}\n{out}{error}");
        match words[1] {
            "diff" => assert!(out.contains("silu") && out.contains("sigmoid"), "{out}"),
            "check" => {
                assert!(out.contains("mul(x = positive, y = positive)"), "{out}");
                assert!(out.contains("; // squared relu\n"), "{out}");
                assert!(error.contains("fixed      ANE051"), "{error}");
            }
            _ => assert_eq!(error, "", "{command}"),
        }
    }
    assert!(written.iter().all(|place| bench.path(place).exists()), "{written:?}");
}

/// y = silu(x / √(mean x² + 2⁻¹⁰) · gain), in f64 from the numbers in the file.
#[test]
fn the_example_computes_what_it_says() {
    let bench = root();
    let args = "mil run examples/layer.mil --input x=examples/x.npy --output y --numerics f32";
    bench.ok(&args.split(' ').collect::<Vec<_>>());
    let bytes = std::fs::read(bench.path("y/y.npy")).unwrap();
    let values: Vec<f64> = bytes[bytes.len() - 4 * 32 * 64..]
        .chunks(4)
        .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
        .collect();
    let x = |c: usize, s: usize| (((7 * c + 3 * s) % 33) as f64 - 16.0) / 8.0;
    for s in 0..64 {
        let mean = (0..32).map(|c| x(c, s).powi(2)).sum::<f64>() / 32.0;
        for c in 0..32 {
            let gain = if c % 2 == 0 { 0.75 } else { 0.5 };
            let z = x(c, s) / (mean + 1.0 / 1024.0).sqrt() * gain;
            let expected = z / (1.0 + (-z).exp());
            let got = values[c * 64 + s];
            assert!((got - expected).abs() < 1e-5, "[{c}, {s}]: {got} for {expected}");
        }
    }
    for example in ["layer.mil", "layer-written-out.mil"] {
        for chip in ["m2", "m3-ultra", "m4", "m5"] {
            let path = format!("examples/{example}");
            let output = bench.run(&["mil", "check", &path, "--chip", chip, "--allow", "ANE005"]);
            assert!(output.status.success(), "{example} on {chip}");
        }
        let output = bench.run(&["mil", "check", &format!("examples/{example}"), "--chip", "m4"]);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{example}");
    }
}
