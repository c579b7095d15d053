//! `anegpt generate`.

use crate::{Bench, real_data};
use std::path::Path;

/// What llama2.c prints for stories260K at temperature 0 (its own regression test), 200 tokens.
const LLAMA2C: &str = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" Lily was sad and didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\"\nLily was sad and didn't know what to do. She said, \"I'm sorry, Lily. I didn't know what to do.\"\nLily didn't want to help her mom, so she";

#[test]
fn llama2c_weights_give_llama2c_text() {
    let (Some(model), Some(tokenizer)) = (real_data("stories260K.bin"), real_data("tok512.bin"))
    else {
        return;
    };
    let bench = Bench::new();
    let (model, tokenizer) = (model.to_str().unwrap(), tokenizer.to_str().unwrap());
    let args = [
        "generate",
        "--model",
        model,
        "--tokenizer",
        tokenizer,
        "--temperature",
        "0",
        "--max-tokens",
        "200",
    ];
    let text = bench.ok(&args);
    assert!(text.starts_with(LLAMA2C), "{text}");
    let on_engine = bench.ok(&[&args[..], &["--device", "emulator", "--numerics", "f32"]].concat());
    assert_eq!(text, on_engine, "the emulated engine in reference precision gives the same tokens");
    let continued = bench.ok(&[&args[..], &["--prompt", "Lily and Ben"]].concat());
    assert!(continued.starts_with("Lily and Ben "), "{continued}");
    let drawn = |seed| {
        bench.ok(&[
            "generate",
            "--model",
            model,
            "--tokenizer",
            tokenizer,
            "--seed",
            seed,
            "--max-tokens",
            "40",
        ])
    };
    assert_eq!(drawn("5"), drawn("5"));
    assert_ne!(drawn("5"), drawn("6"));
}

/// A tokenizer whose template and `add_bos_token` ask for no BOS: the text is that of transformers
/// 5.24. With `<|endoftext|>`, the separator of documents, put first, it is another.
#[test]
fn no_bos_is_put_first_unless_the_tokenizer_asks_for_it() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/no-bos");
    let bench = Bench::new();
    let text = bench.ok(&[
        "generate",
        "--model",
        model.to_str().unwrap(),
        "--prompt",
        "To be",
        "--temperature",
        "0",
        "--max-tokens",
        "30",
    ]);
    assert_eq!(text, "To be\n'!H?4LcHLeY=euHLlazzUT5:ml bz\n");
}
