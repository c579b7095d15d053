//! Mutated programs and weight files: no panic, no runaway, no memory beyond a small multiple of
//! the input. Takes seconds; `ANEGPT_FUZZ_SECONDS=3600` makes each test take that long.

#[path = "fuzzing/allocated.rs"]
mod allocated;
mod fuzzing;
mod property;

use allocated::peak;
use fuzzing::{Random, for_a_while};
use mil::blob::BlobWriter;
use mil::{DType, Data};
use std::time::{Duration, Instant};

fn seeds() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/text");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let texts: Vec<_> = paths.iter().map(|p| std::fs::read_to_string(p).unwrap()).collect();
    assert!(texts.len() > 6);
    texts
}

/// The replacements of a number by a hostile writer.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "3",
    "4",
    "5",
    "8",
    "16",
    "17",
    "255",
    "256",
    "4096",
    "4097",
    "65536",
    "2147483647",
    "-2147483648",
    "4294967296",
    "1000000000000000000",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "99999999999999999999999",
    "0x1p-3",
    "1e999",
    "nan",
    "-inf",
    "nan(0x7e01)",
    "0x1.fffffffffffffffffffp+1023",
    "1.5",
];

const TOKENS: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "<",
    ">",
    ",",
    ";",
    "=",
    "->",
    "\"",
    "\\",
    "//",
    "func",
    "main",
    "tensor",
    "fp16",
    "fp32",
    "int8",
    "int32",
    "uint64",
    "bool",
    "string",
    "state",
    "x",
    "y",
    "true",
    "const",
    "BLOBFILE",
    "name",
    "val",
    "?",
    "é",
    "\u{0}",
    "\n",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

/// Byte ranges of the words, numbers and marks of a text.
fn words(text: &str) -> Vec<(usize, usize)> {
    let mut found = vec![];
    let mut start = None;
    for (i, c) in text.char_indices() {
        let inner = c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if let (false, Some(from)) = (inner, start) {
            found.push((from, i));
            start = None;
        }
        if inner && start.is_none() {
            start = Some(i);
        } else if !inner && !c.is_whitespace() {
            found.push((i, i + c.len_utf8()));
        }
    }
    found
}

fn statements(text: &str) -> Vec<&str> {
    text.split_inclusive(';').collect()
}

/// One change to a text.
fn mutate(text: &str, seeds: &[String], random: &mut Random) -> String {
    if text.is_empty() {
        return seeds[0].clone();
    }
    let words = words(text);
    let word =
        |random: &mut Random| words.get(random.below(words.len())).copied().unwrap_or((0, 0));
    let replace =
        |(a, b): (usize, usize), with: &str| format!("{}{with}{}", &text[..a], &text[b..]);
    let is_number = |&&(a, _): &&(usize, usize)| text.as_bytes()[a].is_ascii_digit();
    match random.below(10) {
        0 => {
            let mut bytes = text.as_bytes().to_vec();
            if !bytes.is_empty() {
                let at = random.below(bytes.len());
                bytes[at] = random.below(256) as u8;
            }
            String::from_utf8_lossy(&bytes).into_owned()
        }
        1 => text.chars().take(random.below(text.len() + 1)).collect(),
        2 => replace(word(random), random.of(TOKENS)),
        3 => replace(word(random), ""),
        4 | 5 => {
            let numbers: Vec<_> = words.iter().filter(is_number).copied().collect();
            match numbers.get(random.below(numbers.len())) {
                Some(&at) => replace(at, random.of(NUMBERS)),
                None => text.to_owned(),
            }
        }
        6 => {
            let (a, b) = word(random);
            replace(word(random), &text[a..b])
        }
        7 => {
            // One extent changed wherever it is written, which types often survive.
            let numbers: Vec<_> = words.iter().filter(is_number).copied().collect();
            let Some(&(a, b)) = numbers.get(random.below(numbers.len())) else {
                return text.to_owned();
            };
            let (old, new) = (&text[a..b], random.of(&NUMBERS[..8]));
            let mut out = text.to_owned();
            for &(from, to) in numbers.iter().rev().filter(|&&(from, to)| text[from..to] == *old) {
                out.replace_range(from..to, new);
            }
            out
        }
        8 => {
            let mut own = statements(text);
            let (from, to) = (random.below(own.len()), random.below(own.len()));
            own.swap(from, to);
            own.concat()
        }
        _ => {
            let other = statements(&seeds[random.below(seeds.len())]);
            let mut own = statements(text);
            let at = random.below(own.len() + 1);
            own.insert(at, other[random.below(other.len())]);
            own.concat()
        }
    }
}

/// Bytes that reading, printing and checking a text of `n` bytes may take: a statement of 30 bytes
/// becomes an operation of half a kilobyte with its types and spans, twice with the copy read from
/// the printed text. The constant is for diagnostics and for what one operation may be inferred to
/// be: `split` into 4096 pieces, each a shape.
fn allowance(n: usize) -> usize {
    1_000_000 + 60 * n
}

#[test]
fn mutated_programs_neither_panic_nor_run_away() {
    let seeds = seeds();
    let mut random = Random(0x5eed);
    let (mut read, mut ran) = (0, 0);
    // Mutants without faults are mutated again, so that changes add up.
    let mut pool = seeds.clone();
    for_a_while(|| {
        let mut text = pool[random.below(pool.len())].clone();
        for _ in 0..1 + random.below(4) {
            text = mutate(&text, &seeds, &mut random);
        }
        let used = peak(|| property::text(&text));
        assert!(used < allowance(text.len()), "{used} bytes for a text of {}:\n{text}", text.len());
        ran += property::run(&text);
        read += usize::from(mil::parse(&text).is_ok());
        let worth_keeping = (200..20_000).contains(&text.len()) && mil::check_text(&text).is_ok();
        if worth_keeping && pool.len() < 500 {
            pool.push(text);
        } else if worth_keeping {
            let at = seeds.len() + random.below(pool.len() - seeds.len());
            pool[at] = text;
        }
    });
    assert!(read > 100 && ran > 20, "too wild to test what is behind the parser: {read}, {ran}");
}

#[test]
fn mutated_weight_files_neither_panic_nor_run_away() {
    let mut writer = BlobWriter::new();
    writer.push(DType::Fp32, &Data::Fp32(vec![1.0, -2.0, f32::NAN, 4.0])).unwrap();
    writer.push(DType::Int8, &Data::Int((-20..20).collect())).unwrap();
    writer.push(DType::UInt1, &Data::Int(vec![1, 0])).unwrap();
    let file = writer.finish();
    let mut random = Random(0xb10b);
    for_a_while(|| {
        let mut bytes = file.clone();
        for _ in 0..1 + random.below(6) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes[at] = 0xff,
                2 => bytes[at] ^= 1 << random.below(8),
                _ => bytes[at] = random.below(256) as u8,
            }
        }
        let used = peak(|| property::weight_blob(&bytes));
        assert!(used < 4096 + 100 * bytes.len(), "{used} bytes for a file of {}", bytes.len());
    });
}

/// Texts built to be expensive for their size.
#[test]
fn hostile_programs_cost_no_more_than_their_text() {
    let long = 200_000;
    let frame = |body: &str| {
        format!("program(1.3) {{ func main<ios18>(tensor<fp16, [4, 4]> x) {{ {body} }} -> (y); }}")
    };
    let repeated =
        |head: &str, unit: &str, tail: &str| frame(&format!("{head}{}{tail}", unit.repeat(long)));
    let many = |each: &dyn Fn(usize) -> String| frame(&(0..5000).map(each).collect::<String>());
    let ones = "1, ".repeat(20_000);
    let texts = [
        "[".repeat(long),
        "tensor<".repeat(long),
        frame(&"state<".repeat(long)),
        repeated("fp16 y = const()[val = tensor<fp16, [1, 1, 1]>(", "[", ")];"),
        repeated("fp16 y = const()[val = fp16(0.", "1", ")];"),
        repeated("fp16 y = const()[val = fp16(0x1.", "f", "p-3)];"),
        repeated("int32 y = const()[val = int32(", "9", ")];"),
        repeated("string y = const()[val = string(\"", "\\n", "\")];"),
        repeated("string y = const()[val = string(\"", "\\", ")];"),
        repeated("fp16 y = concat(values = (", "x, ", "x));"),
        repeated("fp16 y = add(", "x = x, ", "y = x);"),
        repeated("fp16 y = relu(x = x)[", "name = string(\"\"), ", "];"),
        repeated("", "\u{feff}", ""),
        frame(&format!("tensor<fp16, [{}]> y = relu(x = x);", "1, ".repeat(long))),
        frame(&format!("fp16 {} = relu(x = y);", "a".repeat(long))),
        format!("program({}.0) {{ }}", "1".repeat(long)),
        frame(
            "tensor<fp16, [4, 1]> y = split(x = x, axis = int32(1), num_splits = int64(9000000000000000000));",
        ),
        frame(
            "tensor<fp16, [9000000000000000000, 9000000000000000000]> y = tile(x = x, reps = tensor<int32, [2]>([2147483647, 2147483647]));",
        ),
        frame(
            "tensor<fp16, [9223372036854775807]> y = const()[val = tensor<fp16, [9223372036854775807]>(BLOBFILE(path = string(\"a\"), offset = uint64(18446744073709551615)))];",
        ),
        // One long constant that thousands of operations read as an attribute.
        frame(&format!(
            "tensor<int32, [20000]> s = const()[val = tensor<int32, [20000]>([{ones}])]; {}",
            (0..5000)
                .map(|i| format!("fp16 y{i} = reshape(x = x, shape = s);"))
                .collect::<String>()
        )),
        many(&|i| format!("tensor<fp16, [4, 4]> y{i} = relu(x = x);")),
        many(&|i| format!("tensor<fp16, [4, 4]> y{i} = relu(x = y{});", i + 1)),
        many(&|i| format!("tensor<fp16, [4, 4]> y{i} = relux(x = z{i});")),
    ];
    for (i, text) in texts.iter().enumerate() {
        let start = Instant::now();
        let used = peak(|| property::text(text));
        assert!(used < allowance(text.len()), "text {i}: {used} bytes for {}", text.len());
        // Far above what any of them needs: quadratic reading of 200 kB would take minutes.
        assert!(start.elapsed() < Duration::from_secs(20), "text {i} is slow");
    }
}
