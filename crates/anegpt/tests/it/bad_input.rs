//! Requests that cannot be met: each gives a clear error, exit code 1 or 2, and harms nothing.

use crate::{Bench, with};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

struct Case {
    args: Vec<String>,
    code: i32,
    says: &'static str,
}

fn case(args: &str, code: i32, says: &'static str) -> Case {
    Case {
        args: args.split(' ').map(|a| a.replace('_', " ").trim().to_owned()).collect(),
        code,
        says,
    }
}

impl Bench {
    fn refuses(&self, case: &Case) {
        let args: Vec<&str> = case.args.iter().map(String::as_str).collect();
        let output = self.run(&args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(case.code), "{args:?}: {error}");
        assert!(error.contains(case.says), "{args:?}: expected `{}` in: {error}", case.says);
        assert!(!error.contains("panicked"), "{args:?}: {error}");
        let cause = "No such file or directory (os error 2)";
        assert!(error.matches(cause).count() <= 1, "{args:?}: said twice: {error}");
    }
}

/// A llama2.c header followed by zeros.
fn llama2c(words: [i32; 7], zeros: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    bytes.resize(bytes.len() + zeros, 0);
    bytes
}

#[test]
fn wrong_usage() {
    let bench = Bench::new();
    bench.write("unknown.toml", "[model]\nlayers = 3\n");
    bench.write("syntax.toml", "[model\n");
    bench.write("type.toml", "[train]\nsteps = \"many\"\n");
    bench.write("heads.toml", "[model]\nn_embd = 30\nn_head = 4\nhead_dim = 7\n");
    bench.write("kv.toml", "[model]\nn_head = 4\nn_embd = 32\nn_kv_head = 3\n");
    bench.write("zero.toml", "[model]\nn_layer = 0\n");
    bench.write("huge.toml", "[model]\nn_embd = 999999999\n");
    bench.write("preset.toml", "preset = \"gigantic\"\n");
    bench.write("few.toml", "[model]\nn_layer = 1\n");
    bench.write("beta.toml", "[train]\nbeta2 = 1.0\n");
    bench.write(
        "many.toml",
        "[model]\nn_layer = 4096\nn_embd = 65536\nn_head = 64\nhidden = 262144\n",
    );
    bench.write("short.toml", "[model]\nseq_len = 16\n");
    bench.write("long.txt", "some text of some words ".repeat(200));
    bench.write("text.txt", "some text");
    bench.write("ids.bin", [1u8, 0, 2, 0]);
    let cases = [
        case("", 2, "Usage"),
        case("fly", 2, "unrecognized subcommand"),
        case("train --speed 3", 2, "unexpected argument"),
        case("train --steps many", 2, "invalid value"),
        case("train --steps 0", 2, "at least 1"),
        case("train --batch 0 --data text.txt", 2, "at least 1"),
        case("train --batch 9999999 --data text.txt", 2, "more than any machine"),
        case("train --lr nan --data text.txt", 2, "--lr NaN must be a number"),
        case("train --lr -1 --data text.txt", 2, "--lr -1 must be a number above 0"),
        case("train --min-lr -1 --data text.txt", 2, "--min-lr -1 must be between 0 and the peak"),
        case("train --clip -1 --data text.txt", 2, "--clip -1 must be a number of at least 0"),
        case("train --weight-decay -1 --data text.txt", 2, "must be a number of at least 0"),
        case("train --momentum 0.9 --data text.txt", 2, "--momentum is Muon's"),
        case("train --optimizer muon --momentum 1 --data text.txt", 2, "a momentum of 1 is not"),
        case("train --schedule cosine --warmdown 0.5", 2, "--warmdown is for --schedule linear"),
        case("train --warmdown 2 --data text.txt", 2, "--warmdown 2 must be a share of the run"),
        case("train --embedding-lr nan --data text.txt", 2, "--embedding-lr NaN must be a number"),
        case("train --optimizer sgd", 2, "invalid value 'sgd'"),
        case("train --steps -1", 2, "'-1' for '--steps <N>': must be a whole number of at least 1"),
        case("train --warmup -1", 2, "must be a whole number of at least 0"),
        case("train --doctor-every -1", 2, "must be a whole number of at least 0"),
        case("bench --steps -1", 2, "must be a whole number of at least 1"),
        case("plan --batch -1", 2, "must be a whole number of at least 1"),
        case("eval -m x --data y --batch -1", 2, "must be a whole number of at least 1"),
        case("data synth --count -1", 2, "must be a whole number of at least 0"),
        case("tokenizer train --data x --vocab-size -1", 2, "must be a whole number of at least 1"),
        case("generate x --max-tokens -1", 2, "must be a whole number of at least 0"),
        case("train --min-lr 5 --data text.txt", 2, "--min-lr 5 must be between 0 and the peak"),
        case("train --lr 1000000 --data long.txt", 2, "--lr 1000000 is too large"),
        case(
            "train --clip nan --config few.toml --data long.txt",
            2,
            "--clip NaN must be a number",
        ),
        case(
            "train --weight-decay nan --config few.toml --data long.txt",
            2,
            "--weight-decay NaN must be",
        ),
        case("train --weight-decay 9 --lr 0.5 --data long.txt", 2, "--weight-decay 9 is too large"),
        case("train --config beta.toml --data long.txt", 2, "`beta2` is 1"),
        case("train --config many.toml --data long.txt", 2, "of memory, this machine has"),
        case("train --batch 999999 --data long.txt", 2, "on 999999 sequences of 256 tokens"),
        case("train --config short.toml --data long.txt --seq 64", 2, "longer than the 16 tokens"),
        case("train --config heads.toml --init x.bin", 2, "leave out [model]"),
        case("train --preset huge", 2, "there is no preset `huge`"),
        case("train --config unknown.toml", 2, "unknown field `layers`"),
        case("train --config syntax.toml", 2, "syntax.toml"),
        case("train --config type.toml", 2, "type.toml"),
        case("train --config heads.toml --data text.txt", 2, "even width"),
        case("train --config kv.toml --data text.txt", 2, "must divide n_head"),
        case("train --config zero.toml --data text.txt", 2, "`n_layer` is 0"),
        case("train --config huge.toml --data text.txt", 2, "larger than any model"),
        case("train --config preset.toml", 2, "there is no preset"),
        case("train --device ane", 2, "use --device emulator"),
        case("train --device toaster", 2, "invalid value"),
        case("train --tokenizer bpe:many --data text.txt", 2, "whole number"),
        case("train --data ids.bin", 2, "give the tokenizer that made them"),
        case("train --resume run --init x.bin", 2, "cannot be used with"),
        case(
            "generate --model x --temperature -1",
            2,
            "--temperature -1 must be a number of at least 0",
        ),
        case("generate --model x --temperature=-1", 2, "--temperature -1 must be"),
        case("generate --model x --top-p 0", 2, "--top-p 0 must be above 0 and at most 1"),
        case("generate --model x --top-p 2", 2, "--top-p 2 must be above 0 and at most 1"),
        case("generate", 2, "--model"),
        case("tokenizer decode --tokenizer x.json one", 2, "invalid value"),
    ];
    cases.iter().for_each(|c| bench.refuses(c));
    assert!(!bench.path("out").exists(), "nothing was begun");
}

/// Output that cannot be written is told; a reader that has gone away is no failure.
#[test]
fn unwritable_output() {
    let bench = Bench::new();
    let commands: [&[&str]; 2] = [&["devices"], &["data", "synth", "--count", "2000"]];
    for args in commands {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = bench.command(args).stdout(full).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        assert!(error.contains("No space left") && !error.contains("panicked"), "{error}");

        let mut command = bench.command(args);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && error.is_empty(), "{args:?}: {error}");
    }
}

#[test]
fn missing_and_damaged_files() {
    let bench = Bench::new();
    let tokenizer = bench.ok(&[
        "tokenizer",
        "train",
        "--data",
        {
            bench.write("text.txt", bench.ok(&["data", "synth", "--count", "60"]));
            "text.txt"
        },
        "--vocab-size",
        "300",
        "--out",
        "tok.json",
    ]);
    assert!(tokenizer.contains("tok.json"));
    bench.write("empty.txt", "");
    bench.write("short.txt", "hi");
    bench.write("latin1.txt", b"caf\xe9 au lait");
    bench.write("empty.bin", "");
    bench.write("header.bin", llama2c([64, 172, 5, 8, 4, 512, 512], 0));
    bench.write("negative.bin", llama2c([-64, 172, 5, 8, 4, 512, 512], 64));
    bench.write("absurd.bin", llama2c([i32::MAX; 7], 64));
    bench.write("heads.bin", llama2c([64, 172, 5, 7, 4, 512, 512], 64));
    bench.write("odd.bin", [1u8, 2, 3]);
    bench.write("past.bin", [0xffu8; 4000]);
    bench.write("garbage.json", "{\"model\": 3}");
    bench.write("notjson.json", "\u{0}\u{1}\u{2}");
    let nan = {
        // One layer of width 2: everything is NaN.
        let count = 4 * 2 + (2 + 4 * 4 + 2 + 3 * 8) + 2 + 4 * 2;
        let mut bytes = llama2c([2, 4, 1, 1, 1, 4, 4], 0);
        (0..count).for_each(|_| bytes.extend(f32::NAN.to_le_bytes()));
        bytes
    };
    bench.write("nan.bin", nan);
    std::fs::create_dir(bench.path("empty-dir")).unwrap();
    let cases = [
        case("train --data none.txt", 1, "none.txt"),
        case("train --data empty-dir", 1, "no text files"),
        case("train --data empty.txt", 1, "empty"),
        case("train --data short.txt", 1, "short"),
        case("train --data latin1.txt", 1, "UTF-8"),
        case("train --data text.txt --tokenizer none.json", 1, "none.json"),
        case("train --data text.txt --tokenizer garbage.json", 1, "garbage.json"),
        case("train --data text.txt --tokenizer notjson.json", 1, "notjson.json"),
        case("train --data odd.bin --tokenizer tok.json", 1, "odd.bin"),
        case("train --data past.bin --tokenizer tok.json", 1, "65535"),
        case("train --data none.bin --tokenizer tok.json", 1, "none.bin"),
        case("train --config none.toml", 1, "none.toml"),
        case("train --init none.bin --tokenizer tok.json", 1, "no file or directory `none.bin`"),
        case("train --init empty.bin --tokenizer tok.json", 1, "has 0 bytes"),
        case("train --resume text.txt", 2, "--resume takes the directory of a run"),
        case("train --resume none", 1, "none: no checkpoint here: there is no such directory"),
        case("train --tokenizer foo", 1, "--tokenizer foo: there is no such file"),
        case("train --batch 300", 1, "with --seq 256 and --batch 300"),
        case("train --resume empty-dir", 1, "no checkpoint here"),
        case(
            "generate --model none.bin --tokenizer tok.json",
            1,
            "no file or directory `none.bin`",
        ),
        case("generate --model empty-dir", 1, "no checkpoint and no config.json"),
        case(
            "generate --model header.bin --tokenizer tok.json",
            1,
            "truncated, or another version",
        ),
        case("generate --model negative.bin --tokenizer tok.json", 1, "dim = -64"),
        case("generate --model absurd.bin --tokenizer tok.json", 1, "no model"),
        case("generate --model heads.bin --tokenizer tok.json", 1, "7 heads do not divide"),
        case("generate --model nan.bin --tokenizer tok.json", 1, "not a number"),
        case(
            "data tokenize --data text.txt --tokenizer tok.json --out no/such/dir/x.bin",
            1,
            "no/such/dir",
        ),
        case("data inspect odd.bin", 1, "odd.bin"),
        case("data inspect past.bin --tokenizer tok.json", 1, "65535"),
        case("data synth --count 5000 --out /dev/full", 1, "/dev/full"),
        case("tokenizer encode --tokenizer garbage.json hello", 1, "garbage.json"),
        case("tokenizer decode --tokenizer tok.json 99999", 2, "99999"),
        case("tokenizer train --data empty.txt", 1, "empty"),
    ];
    cases.iter().for_each(|c| bench.refuses(c));
    assert!(!bench.path("none").exists(), "--resume creates nothing");
    bench.refuses(&case("train --preset foo --out new", 2, "there is no preset `foo`"));
    assert!(!bench.path("new").exists(), "no run, no directory");
    bench.refuses(&case("train --preset foo --out empty-dir", 2, "there is no preset `foo`"));
    assert!(bench.path("empty-dir").exists(), "it was there before");
}

#[test]
fn malformed_programs() {
    let bench = Bench::new();
    let good = "program(1.3)\n{\n    func main<ios18>(tensor<fp16, [2, 3]> x) {\n        tensor<fp16, [2, 3]> y = mul(x = x, y = x)[name = string(\"y\")];\n    } -> (y);\n}\n";
    bench.write("good.mil", good);
    bench.write("empty.mil", "");
    bench.write("binary.mil", [0xffu8, 0xfe, 0]);
    bench.write("cut.mil", &good[..good.len() / 2]);
    bench.write("shape.mil", good.replace("[2, 3]> y", "[2, 4]> y"));
    bench.write("name.mil", good.replace("y = x)", "y = z)"));
    bench.write("op.mil", good.replace("mul(", "mull("));
    bench.write("gather.mil", good.replace("mul(", "gather("));
    bench.write("huge.mil", good.replace("[2, 3]", "[9999999999, 9999999999]"));
    bench.write("wrong.npy", b"not an array");
    let cases = [
        case("mil check none.mil", 1, "none.mil"),
        case("mil check empty.mil", 1, "empty.mil"),
        case("mil check binary.mil", 1, "not UTF-8"),
        case("mil check cut.mil", 1, "line"),
        case("mil check shape.mil", 1, "line 4"),
        case("mil check name.mil", 1, "`z`"),
        case("mil check op.mil", 1, "did you mean"),
        case("mil check gather.mil", 1, "gather"),
        case("mil fmt cut.mil", 1, "not a program"),
        case("mil run huge.mil --output out", 1, "ANE012"),
        case("mil run huge.mil --device cpu --output out", 1, "too large to hold"),
        case("mil check huge.mil --chip m1", 1, "ANE012"),
        case("mil run good.mil --output out", 2, "input `x`"),
        case("mil run good.mil --input x --output out", 2, "NAME=FILE.npy"),
        case("mil run good.mil --input x=none.npy --output out", 1, "none.npy"),
        case("mil run good.mil --input x=wrong.npy --output out", 1, "not a NumPy file"),
    ];
    cases.iter().for_each(|c| bench.refuses(c));
    assert!(bench.ok(&["mil", "check", "good.mil"]).contains("well formed"));
    assert_eq!(bench.ok(&["mil", "fmt", "good.mil"]), good);
}

/// The files of the newest checkpoint of `run`.
fn newest(run: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut steps: Vec<_> = std::fs::read_dir(run)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.file_name().unwrap().to_string_lossy().starts_with("step-"))
        .collect();
    steps.sort();
    let mut files: Vec<_> = std::fs::read_dir(steps.last().unwrap())
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn damaged_checkpoints() {
    let bench = Bench::new();
    let base = bench.small_run();
    bench.ok(&with(&base, &["--steps", "6", "--checkpoint-every", "3", "--out", "run"]));
    let intact = newest(&bench.path("run"));
    for (path, bytes) in &intact {
        for damaged in [&bytes[..bytes.len() / 2], &[], b"{}"] {
            std::fs::write(path, damaged).unwrap();
            // Resuming takes the older checkpoint and says so.
            let output = bench.run(&[
                "train",
                "--resume",
                "run",
                "--steps",
                "4",
                "--out",
                "other",
                "--sample-every",
                "0",
            ]);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {error}", path.display());
            assert!(error.contains("skipped a damaged checkpoint"), "{error}");
            std::fs::remove_dir_all(bench.path("other")).unwrap();
        }
        std::fs::write(path, bytes).unwrap();
    }
    assert_eq!(newest(&bench.path("run")), intact);
    bench.refuses(&case(
        "train --resume run --steps 9 --batch 2",
        2,
        "cannot change in a resumed run",
    ));
    bench.refuses(&case("train --resume run --steps 2", 2, "has done its 6 steps"));
    bench.refuses(&case("train --resume run --steps 9 --lr nan", 2, "--lr NaN must be a number"));
    bench.refuses(&case(
        "train --resume run --steps 9 --clip nan",
        2,
        "--clip NaN must be a number",
    ));
    bench.refuses(&case("train --data text.txt --out run", 2, "already holds a run"));
    bench.write("other.txt", "entirely different words ".repeat(400));
    bench.refuses(&case(
        "train --resume run --steps 9 --data other.txt",
        1,
        "the data has changed",
    ));
    assert_eq!(newest(&bench.path("run")), intact, "nothing was harmed");
}

#[test]
fn two_trainers_on_one_directory() {
    let bench = Bench::new();
    let base = bench.small_run();
    let mut first = bench
        .command(&with(
            &base,
            &["--steps", "100000", "--checkpoint-every", "0", "--eval-every", "0", "--out", "run"],
        ))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !bench.path("run/log.jsonl").exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    bench.refuses(&case("train --data text.txt --out run", 1, "another run is writing"));
    first.kill().unwrap();
    first.wait().unwrap();
    bench.ok(&with(&base, &["--steps", "2", "--out", "run"]));
}

#[test]
fn a_full_disk_leaves_the_last_checkpoint() {
    let bench = Bench::new();
    let base = bench.small_run();
    bench.ok(&with(&base, &["--steps", "3", "--out", "run"]));
    let intact = newest(&bench.path("run"));
    // A limit on the size of files, its signal ignored, makes writes fail as a full disk does.
    let program = env!("CARGO_BIN_EXE_anegpt");
    let script = format!(
        "trap '' XFSZ; ulimit -f 40; exec {program} train --resume run --steps 5 --sample-every 0"
    );
    let output = std::process::Command::new("bash")
        .args(["-c", &script])
        .current_dir(bench.dir.path())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("cannot write") && error.contains("earlier checkpoints are untouched"),
        "{error}"
    );
    assert_eq!(newest(&bench.path("run")), intact);
    let names: Vec<_> =
        std::fs::read_dir(bench.path("run")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().all(|n| !n.to_string_lossy().starts_with(".writing")), "{names:?}");
    bench.ok(&["train", "--resume", "run", "--steps", "5", "--sample-every", "0"]);
}

#[test]
fn unreadable_places() {
    let bench = Bench::new();
    bench.write("text.txt", "some words");
    let closed = bench.path("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser reads everything.
    if std::fs::read_dir(&closed).is_err() {
        bench.refuses(&case("train --data closed", 1, "closed"));
    }
    bench.refuses(&case("train --data text.txt --out text.txt/run", 1, "text.txt/run"));
    bench.refuses(&case("generate --model text.txt --tokenizer text.txt", 1, "text.txt"));
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o755)).unwrap();
}
