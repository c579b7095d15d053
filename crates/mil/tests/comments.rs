//! Formatting keeps every comment, in order, wherever it stands.

use mil::text::{Comments, format, parse, parse_with_spans};
use mil::{Builder, Op, Program, Rewrite};
use proptest::prelude::*;

const TEXT: &str = include_str!("text/several_functions.mil");
const LONG: &str = include_str!("text/verbose_constants.mil");

/// The text after `//` outside of quotes, line by line: an independent reading of the rule.
fn comments(text: &str) -> Vec<String> {
    let of_line = |line: &str| {
        let (mut quoted, mut escaped) = (false, false);
        for (at, c) in line.char_indices() {
            match c {
                '"' if !escaped => quoted = !quoted,
                '/' if !quoted && line[at..].starts_with("//") => {
                    return Some(line[at..].trim_end().to_owned());
                }
                _ => {}
            }
            escaped = quoted && c == '\\' && !escaped;
        }
        None
    };
    text.lines().filter_map(of_line).collect()
}

fn sorted(mut comments: Vec<String>) -> Vec<String> {
    comments.sort();
    comments
}

/// `text` with a comment in place of white space after some of its words.
fn commented(text: &str, places: &[(usize, bool)]) -> String {
    let mut gaps = vec![];
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        quoted ^= c == '"';
        if !quoted && " (){}[],;<>=".contains(c) {
            gaps.push(at + c.len_utf8());
        }
    }
    // A comment of the text itself is not cut in two.
    gaps.retain(|&at| !text[..at].rsplit('\n').next().unwrap().contains("//"));
    gaps.retain(|&at| !text[..at].ends_with('-') && !text[at..].starts_with('>'));
    let mut chosen: Vec<(usize, bool)> =
        places.iter().map(|&(place, own)| (gaps[place % gaps.len()], own)).collect();
    chosen.sort();
    let mut out = String::new();
    let mut last = 0;
    for (i, (at, own)) in chosen.into_iter().enumerate() {
        out.push_str(&text[last..at]);
        out.push_str(if own { "\n" } else { "" });
        out.push_str(&std::format!("  // {i}: \"quoted\" // twice  \n"));
        last = at;
    }
    out + &text[last..]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_comment_survives_wherever_it_stands(
        places in prop::collection::vec((any::<usize>(), any::<bool>()), 0..40),
        long: bool,
    ) {
        let text = commented(if long { LONG } else { TEXT }, &places);
        let formatted = format(&text).map_err(|e| TestCaseError::fail(std::format!("{e}\n{text}")))?;
        prop_assert_eq!(sorted(comments(&text)), sorted(comments(&formatted)), "{}", formatted);
        prop_assert_eq!(parse(&formatted).unwrap(), parse(&text).unwrap());
        prop_assert_eq!(format(&formatted).unwrap(), formatted, "formatting again changes it");
    }
}

const NOTED: &str = r#"// before
program(1.3) // version
// info
[buildInfo = dict<string, string>({{"k", "v // no comment"}})]
{ // open
    // the function
    func main<ios18>(
        tensor<fp16, [4]> x, // the input
        tensor<fp16, [4]> w) { // body
        // squared
        tensor<fp16, [4]> s = square(x = x)[name = string("s")]; // twice
        // scaled
        tensor<fp16, [4]> t = mul(x = s, // by the weight
            y = w)[name = string("t")];
        // dropped
        tensor<fp16, [4]> u = relu(x = t)[name = string("u")]; // dead
        // last
        tensor<fp16, [4]> y = exp(x = t)[name = string("y")];
        // nothing more
    } -> (y); // returned
    // end of functions
} // close
// after
"#;

#[test]
fn comments_stay_with_their_lines() {
    let expected = r#"// before
program(1.3) // version
// info
[buildInfo = dict<string, string>({{"k", "v // no comment"}})]
{ // open
    // the function
    // the input
    func main<ios18>(tensor<fp16, [4]> x, tensor<fp16, [4]> w) { // body
        // squared
        tensor<fp16, [4]> s = square(x = x)[name = string("s")]; // twice
        // scaled
        // by the weight
        tensor<fp16, [4]> t = mul(x = s, y = w)[name = string("t")];
        // dropped
        tensor<fp16, [4]> u = relu(x = t)[name = string("u")]; // dead
        // last
        tensor<fp16, [4]> y = exp(x = t)[name = string("y")];
        // nothing more
    } -> (y); // returned
    // end of functions
} // close
// after
"#;
    assert_eq!(format(NOTED).unwrap(), expected);
    assert_eq!(format(expected).unwrap(), expected);
    assert_eq!(format(&NOTED.replace('\n', "\r\n")).unwrap(), expected);
}

/// The square written as a product, what is dead left out.
fn rewritten(program: &Program) -> Program {
    let f = &program.functions[0];
    let b = Builder::new(&f.name);
    let mut rewrite = Rewrite::new(&b, f);
    f.inputs().for_each(|id| rewrite.keep_input(id));
    for op in &f.ops {
        match op.op {
            Op::Square => {
                let x = rewrite.value(op.operands().next().unwrap());
                rewrite.replace(op, &[x * x]);
            }
            _ => rewrite.copy(op),
        }
    }
    Program { functions: vec![rewrite.finish().unwrap()], ..program.clone() }
}

#[test]
fn comments_of_a_program_that_is_rewritten() {
    let (program, spans) = parse_with_spans(NOTED).unwrap();
    let comments = Comments::of(NOTED, &program, &spans);
    let program = rewritten(&program);
    let text = comments.on(&program).to_string();
    for line in [
        "        // squared\n        tensor<fp16, [4]> s = mul(x = x, y = x)[name = string(\"s\")]; // twice",
        // What stood above the statement that is gone comes first; what stood beside it is gone.
        "        // dropped\n        // last\n        tensor<fp16, [4]> y = exp(",
        "    } -> (y); // returned",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("// dead"), "{text}");
    assert_eq!(parse(&text).unwrap(), program);
    let long = std::format!("{:#}", comments.on(&program));
    assert!(long.contains("tensor<string, []>(\"s\")]; // twice"), "{long}");
    assert!(Comments::of("", &program, &spans_of(&program.to_string())).is_empty());
}

fn spans_of(text: &str) -> mil::text::Spans {
    parse_with_spans(text).unwrap().1
}
