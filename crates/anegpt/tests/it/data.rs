//! Data of all kinds, as people give it.

use crate::{Bench, events, of, with};

/// Runs a command that must fail, and returns its exit code and standard error.
fn fails(bench: &Bench, args: &[&str]) -> (i32, String) {
    let output = bench.run(args);
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!output.status.success(), "{args:?} succeeded");
    (output.status.code().expect("an exit code"), error)
}

/// A run of one step without samples on `data`, with JSON events.
fn one_step<'a>(data: &'a str, tokenizer: &'a str) -> Vec<&'a str> {
    let mut args: Vec<&str> =
        "train --config small.toml --device cpu --steps 1 --sample-every 0 --log-format json"
            .split(' ')
            .collect();
    args.extend(["--data", data, "--tokenizer", tokenizer]);
    args
}

#[test]
fn a_directory_of_text_and_tokens_is_ambiguous_and_hidden_files_are_not_there() {
    let bench = Bench::new();
    bench.small_run();
    std::fs::create_dir(bench.path("both")).unwrap();
    std::fs::copy(bench.path("text.txt"), bench.path("both/stories.txt")).unwrap();
    bench.write("both/tokenizer.bin", [0u8; 64]);
    let (code, error) = fails(&bench, &one_step("both", "bpe:300"));
    assert_eq!(code, 2, "{error}");
    for part in
        ["both text (stories.txt)", ".bin files (tokenizer.bin)", "both/stories.txt, or move"]
    {
        assert!(error.contains(part), "{error} lacks {part}");
    }
    std::fs::rename(bench.path("both/tokenizer.bin"), bench.path("both/._tokenizer.bin")).unwrap();
    bench.ok(&one_step("both", "bpe:300"));

    // Token files beside a hidden one and a notice.
    bench.ok(&[
        "tokenizer",
        "train",
        "--data",
        "text.txt",
        "--vocab-size",
        "300",
        "--out",
        "tok.json",
    ]);
    std::fs::create_dir(bench.path("tokens")).unwrap();
    let tokenize = "data tokenize --data text.txt --tokenizer tok.json --out tokens/data00.bin";
    bench.ok(&tokenize.split(' ').collect::<Vec<_>>());
    bench.write("tokens/._data00.bin", [255u8; 4000]);
    bench.write("tokens/README.md", "About these tokens.");
    bench.ok(&one_step("tokens", "tok.json"));
}

#[test]
fn resuming_with_changed_data_is_refused() {
    let bench = Bench::new();
    let base = bench.small_run();
    bench.ok(&with(&base, &["--device", "cpu", "--steps", "2", "--out", "run"]));
    let text = std::fs::read_to_string(bench.path("text.txt")).unwrap();
    let resume =
        ["train", "--resume", "run", "--data", "changed.txt", "--device", "cpu", "--steps", "3"];
    // One letter of a word in the middle, and one at the very end, which is validation text.
    let middle = text.len() / 2 + text[text.len() / 2..].find(" the ").unwrap() + 1;
    let last = text.rfind(" the ").unwrap() + 1;
    for (at, part) in [(middle, "training"), (last, "validation")] {
        let mut changed = text.clone();
        changed.replace_range(at..=at, "T");
        bench.write("changed.txt", &changed);
        let (_, error) = fails(&bench, &resume);
        assert!(error.contains("the data has changed since the checkpoint"), "{error}");
        assert!(error.contains(part) || error.contains("number of"), "{error}");
    }
    bench.write("changed.txt", &text);
    bench.ok(&resume);
}

#[test]
fn inspect_describes_tokens_and_refuses_text() {
    let bench = Bench::new();
    let ids: Vec<u8> = (0..100u16).flat_map(|id| (id * 3).to_le_bytes()).collect();
    bench.write("ids.bin", &ids);
    let shown = bench.ok(&["data", "inspect", "ids.bin"]);
    assert!(shown.contains("16-bit ids without a header") && shown.contains("100"), "{shown}");
    let json = bench.ok(&["data", "inspect", "ids.bin", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["tokens"], &report["bits"]), (&100.into(), &16.into()));
    assert_eq!((&report["first"][1], &report["vocab_size"]), (&3.into(), &serde_json::Value::Null));

    bench.write("story", "Once upon a time there was a pumpkin in a garden.");
    let (code, error) = fails(&bench, &["data", "inspect", "story"]);
    assert_eq!(code, 1);
    assert!(error.contains("story: this is text, not token ids"), "{error}");
    assert!(error.contains("anegpt data tokenize"), "{error}");
}

#[test]
fn a_small_text_says_that_its_vocabulary_is_small() {
    let bench = Bench::new();
    bench.write("few.txt", "abab cdcd");
    let output = bench.run(&["tokenizer", "train", "--data", "few.txt", "--vocab-size", "4096"]);
    let note = String::from_utf8(output.stderr).unwrap();
    // 256 bytes, the separator, and the only pairs that occur twice: ab and cd.
    assert!(note.contains("a vocabulary of 259 tokens, not 4096"), "{note}");
    let output = bench.run(&["tokenizer", "train", "--data", "few.txt", "--vocab-size", "259"]);
    assert!(output.stderr.is_empty());
}

#[test]
fn utf_16_and_json_are_named() {
    let bench = Bench::new();
    bench.small_run();
    let text = "\u{feff}Once upon a time there was a pumpkin.\n".repeat(50);
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    bench.write("utf16.txt", utf16);
    let (code, error) = fails(&bench, &one_step("utf16.txt", "char"));
    assert_eq!(code, 1);
    assert!(error.contains("iconv -f utf-16 -t utf-8") && !error.contains("latin1"), "{error}");

    bench
        .write("data00.json", r#"[{"story": "Once upon a time there was a pumpkin."}]"#.repeat(50));
    let output = bench.run(&one_step("data00.json", "char"));
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(warning.contains("data00.json: it is a JSON array"), "{warning}");
}

#[test]
fn a_run_finds_its_data_from_another_directory() {
    let bench = Bench::new();
    let base = bench.small_run();
    bench.ok(&with(&base, &["--device", "cpu", "--steps", "2", "--out", "run"]));
    std::fs::create_dir(bench.path("elsewhere")).unwrap();
    let resume = |more: &[&str]| {
        let args = [&["train", "--resume", "../run", "--device", "cpu"], more].concat();
        bench.command(&args).current_dir(bench.path("elsewhere")).output().unwrap()
    };
    let output = resume(&["--steps", "3"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(bench.path("text.txt"), bench.path("moved.txt")).unwrap();
    let output = resume(&["--steps", "4"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for part in ["the checkpoint names", "--data", bench.path("text.txt").to_str().unwrap()] {
        assert!(error.contains(part), "{error} lacks {part}");
    }
    let output = resume(&["--steps", "4", "--data", "../moved.txt"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn weights_do_not_start_with_a_vocabulary_learned_just_now() {
    let bench = Bench::new();
    let base = bench.small_run();
    bench.ok(&with(&base, &["--device", "cpu", "--steps", "1", "--out", "run"]));
    let init = ["train", "--init", "run", "--data", "text.txt", "--device", "cpu", "--steps", "1"];
    for spec in ["char", "bpe", "bpe:300"] {
        let (code, error) = fails(&bench, &[&init[..], &["--tokenizer", spec]].concat());
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(&format!("--tokenizer {spec}")), "{error}");
        assert!(error.contains("--init") && error.contains("tokenizer file"), "{error}");
    }
    bench.ok(&init);
}

/// The validation text may be replaced on purpose, and must not change behind one's back.
#[test]
fn the_validation_text_changes_only_by_its_flag() {
    let bench = Bench::new();
    let base = bench.small_run();
    let stories = |from: &str| bench.ok(&["data", "synth", "--count", "30", "--from", from]);
    bench.write("val.txt", stories("1000"));
    bench.write("other.txt", stories("2000"));
    let run = ["--device", "cpu", "--steps", "2", "--out", "run", "--val-data", "val.txt"];
    bench.ok(&with(&base, &run));
    let resume = ["train", "--resume", "run", "--device", "cpu", "--steps", "3"];
    std::fs::copy(bench.path("val.txt"), bench.path("kept.txt")).unwrap();
    std::fs::copy(bench.path("other.txt"), bench.path("val.txt")).unwrap();
    let (_, error) = fails(&bench, &resume);
    assert!(error.contains("checksum of the validation part"), "{error}");
    std::fs::copy(bench.path("kept.txt"), bench.path("val.txt")).unwrap();
    bench.ok(&[&resume[..], &["--val-data", "other.txt"]].concat());
}

/// Files that pyarrow has written, with 60 rows each.
fn parquet(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/parquet").join(name)
}

#[test]
fn texts_are_inspected() {
    let bench = Bench::new();
    std::fs::copy(parquet("zstd_v2.parquet"), bench.path("a.parquet")).unwrap();
    std::fs::copy(parquet("texts.jsonl"), bench.path("a.jsonl")).unwrap();
    let shown = bench.ok(&["data", "inspect", "a.parquet"]);
    assert!(shown.contains("60 rows in 3 row groups, zstd"), "{shown}");
    let report = |file: &str| -> serde_json::Value {
        serde_json::from_str(&bench.ok(&["data", "inspect", file, "--json"])).unwrap()
    };
    let (columns, lines) = (report("a.parquet"), report("a.jsonl"));
    for field in ["documents", "text_bytes", "first"] {
        assert_eq!(columns[field], lines[field]);
    }
    assert!(columns["documents"].as_u64().unwrap() > 40);
    let (_, error) = fails(&bench, &["data", "inspect", "a.parquet", "--text-field", "tags"]);
    assert!(error.contains("`tags` holds lists"), "{error}");
}

/// The directory `shards` with three files of Parquet.
fn shards(bench: &Bench) {
    std::fs::create_dir(bench.path("shards")).unwrap();
    for (from, to) in [("snappy_v1", "0"), ("zstd_v2", "1"), ("gzip_v2", "2")] {
        let from = parquet(&format!("{from}.parquet"));
        std::fs::copy(from, bench.path(&format!("shards/{to}.parquet"))).unwrap();
    }
}

#[test]
fn a_run_learns_from_parquet_files_and_validates_with_the_last() {
    let bench = Bench::new();
    bench.small_run();
    shards(&bench);
    let args = [one_step("shards", "bpe:300"), vec!["--out", "run"]].concat();
    let start = bench.ok(&args);
    let start: serde_json::Value = serde_json::from_str(start.lines().next().unwrap()).unwrap();
    let tokens = |part: &str| start[part].as_u64().unwrap();
    assert_eq!(tokens("train_tokens"), 2 * tokens("val_tokens"), "{start}");
    assert!(start["text"].as_str().unwrap().contains("to validate: 2.parquet"), "{start}");
    bench.ok(&["train", "--resume", "run", "--steps", "2", "--device", "cpu"]);

    std::fs::write(bench.path("other.jsonl"), "{\"content\": \"Once upon a time\"}\n".repeat(99))
        .unwrap();
    let (_, error) = fails(&bench, &one_step("other.jsonl", "bpe:300"));
    assert!(error.contains("other.jsonl:1: it has no string field \"text\""), "{error}");
    let field =
        [one_step("other.jsonl", "bpe:270"), vec!["--text-field", "content", "--out", "field"]]
            .concat();
    bench.ok(&field);
    bench.ok(&["train", "--resume", "field", "--steps", "2", "--device", "cpu"]);
}

/// Whole documents, stopped and resumed: the same bytes as without a stop.
#[test]
fn packing_whole_documents_goes_on_where_it_was() {
    let bench = Bench::new();
    bench.small_run();
    shards(&bench);
    let start = |out: &'static str, steps: &'static str| {
        let mut args = one_step("shards", "bpe:300");
        args.retain(|arg| !["--steps", "1"].contains(arg));
        // The rate depends on the length of the run.
        let rate = ["--schedule", "constant", "--warmup", "0"];
        [&args[..], &rate, &["--packing", "bos-fit", "--steps", steps, "--out", out]].concat()
    };
    let log = bench.ok(&start("straight", "6"));
    bench.ok(&start("stopped", "2"));
    for steps in ["3", "6"] {
        bench.ok(&["train", "--resume", "stopped", "--steps", steps, "--device", "cpu"]);
    }
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let read =
            |run: &str| std::fs::read(bench.path(&format!("{run}/step-00000006/{file}"))).unwrap();
        assert!(read("straight") == read("stopped"), "{file} differs");
    }
    let all = events(&log);
    assert!(all[0]["text"].as_str().unwrap().contains("whole documents"), "{}", all[0]);
    let step = of(&all, "step")[0];
    assert!(step["parts"]["data"].is_number(), "{step}");

    let (code, error) =
        fails(&bench, &["train", "--resume", "stopped", "--steps", "7", "--packing", "concat"]);
    assert_eq!(code, 2);
    assert!(error.contains("--packing cannot change in a resumed run"), "{error}");
    std::fs::copy(parquet("plain_v1.parquet"), bench.path("shards/1.parquet")).unwrap();
    let (_, error) =
        fails(&bench, &["train", "--resume", "stopped", "--steps", "7", "--device", "cpu"]);
    assert!(error.contains("the data has changed since the checkpoint"), "{error}");
    bench.write("ids.bin", [0u8; 4000]);
    let (code, error) = fails(
        &bench,
        &[one_step("ids.bin", "run/tokenizer.json"), vec!["--packing", "bos-fit"]].concat(),
    );
    assert_eq!(code, 2);
    assert!(error.contains("reads texts, not token ids"), "{error}");
}
