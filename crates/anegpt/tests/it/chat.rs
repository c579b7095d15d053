//! `anegpt chat`: with models of random weights that speak letters and nothing else, so that an answer is a
//! line and has as many letters as it may have tokens.

use crate::Bench;
use formats::{Model, Precision, hugging_face};
use gpt::{GptConfig, Layout, initialise};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Output, Stdio};
use tokenizer::Tokenizer;
use tokenizer::chat::NANOCHAT_TOKENS;

/// The line break, token 0, can be read but is never drawn.
const LETTERS: &str = "\nabcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ?!.";

/// Refuses what begins with an x.
const TEMPLATE: &str = "\
{% for message in messages %}
{% if message.content.startswith('x') %}{{ raise_exception('no x, please') }}{% endif %}
{{- '<|im_start|>' + message.role + ' ' + message.content + '<|im_end|>' -}}
{% endfor %}
{% if add_generation_prompt %}<|im_start|>assistant {% endif %}";

impl Bench {
    /// A model with these special tokens and chat template, its logits times `scale`.
    fn talker(&self, special: &[&str], template: Option<&str>, scale: f32) -> &'static str {
        let letters = Tokenizer::train_char([LETTERS]).unwrap();
        let tokenizer = letters.with_special_tokens(special).unwrap();
        let mut config = GptConfig::preset("tiny").unwrap();
        (config.n_layer, config.vocab_size) = (1, tokenizer.vocab_size());
        (config.seq_len, config.tied) = (4096, false);
        let mut values = initialise(&config, 42);
        let classifier = &mut values[Layout::new(&config).classifier()];
        let (letters, special) = classifier.split_at_mut(letters.vocab_size() * config.n_embd);
        let (line_break, letters) = letters.split_at_mut(config.n_embd);
        let scaled = |value: f32| (value * scale).clamp(f32::MIN, f32::MAX);
        letters.iter_mut().for_each(|value| *value = scaled(*value));
        line_break.fill(0.0);
        special.fill(0.0);
        let described =
            Model { tokenizer: Some(&tokenizer), chat_template: template, ..Model::new(&config) };
        let place = self.path("model");
        std::fs::create_dir(&place).unwrap();
        let reader = hugging_face::Reader::Anegpt;
        hugging_face::write(&place, &described, &values, Precision::F32, None, reader).unwrap();
        "model"
    }

    fn nanochat(&self) -> &'static str {
        self.talker(&NANOCHAT_TOKENS, None, 20.0)
    }

    /// Chats through pipes.
    fn piped(&self, args: &[&str], input: &str) -> Output {
        let mut command = self.command(&[&["chat"], args].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Answers to lines, and what was said beside them.
    pub(crate) fn answers(&self, args: &[&str], input: &str) -> (Vec<String>, String) {
        let output = self.piped(args, input);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{error}");
        let text = String::from_utf8(output.stdout).unwrap();
        (text.lines().map(str::to_owned).collect(), error)
    }

    /// The conversation that `/save` wrote.
    pub(crate) fn saved(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap()
    }
}

/// Other programs read nanochat's format as a template, and so do we what was written for them.
#[test]
fn an_export_is_talked_to_as_the_model_is() {
    let bench = Bench::new();
    let model = bench.nanochat();
    bench.ok(&["export", model, "--to", "hf", "--out", "exported"]);
    let ask = |model| {
        let prompt = ["chat", model, "-p", "Hello there?", "--system", "Be brief."];
        bench.ok(&[&prompt[..], &["--temperature", "0", "-n", "12"]].concat())
    };
    assert_eq!(ask("exported"), ask(model));
    let template = std::fs::read_to_string(bench.path("exported/chat_template.jinja")).unwrap();
    assert!(template.contains("<|assistant_start|>"), "{template}");
    let tokenizer = Tokenizer::load(bench.path("exported/tokenizer.json")).unwrap();
    let ends = &bench.saved("exported/generation_config.json")["eos_token_id"];
    let end = tokenizer.special("<|assistant_end|>");
    assert!(ends.as_array().is_some_and(|ends| ends.contains(&json!(end))), "{ends}");
}

#[test]
fn one_answer_follows_from_prompt_and_seed() {
    let bench = Bench::new();
    let model = bench.nanochat();
    let answer =
        |more: &[&str]| bench.ok(&[&["chat", model, "-p", "Hi", "-n", "20"], more].concat());
    let first = answer(&[]);
    assert_eq!(first.len(), 21, "{first:?}");
    assert!(first.ends_with('\n'));
    assert_eq!(answer(&["--seed", "1"]), first);
    assert_ne!(answer(&["--seed", "2"]), first);
    assert_ne!(answer(&["--system", "Be brief."]), first);
    let greedy = answer(&["--temperature", "0"]);
    assert_eq!(answer(&["--temperature", "0", "--seed", "2"]), greedy);
    assert_eq!(answer(&["--top-k", "1"]), greedy);
    assert_eq!(answer(&["--min-p", "1"]), greedy);
    assert_eq!(answer(&["--temperature", "0", "--context", "64"]), greedy);
    for weights in ["f16", "int8"] {
        assert_eq!(answer(&["--weights", weights]).len(), 21);
    }
}

#[test]
fn lines_of_a_pipe_are_one_conversation() {
    let bench = Bench::new();
    let model = bench.nanochat();
    let args = [model, "-n", "12"];
    let (both, said) = bench.answers(&args, "Hi\n\nAnd then?\n/save a.json\n");
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(said.contains("a.json: 4 messages"), "{said}");
    let one = bench.ok(&["chat", model, "-n", "12", "-p", "Hi"]);
    assert_eq!(one.trim_end_matches('\n'), both[0]);
    // A question of its own has another answer.
    let alone = bench.ok(&["chat", model, "-n", "12", "-p", "And then?"]);
    assert_ne!(alone.trim_end_matches('\n'), both[1]);
    let saved = bench.saved("a.json");
    let message = |role: &str, text: &str| json!({"role": role, "content": text});
    assert_eq!(
        saved["messages"],
        json!([
            message("user", "Hi"),
            message("assistant", &both[0]),
            message("user", "And then?"),
            message("assistant", &both[1]),
        ])
    );
}

#[test]
fn another_seed_gives_another_answer_and_the_same_the_same() {
    let bench = Bench::new();
    let args = [bench.nanochat(), "-n", "20"];
    let (found, said) =
        bench.answers(&args, "Hi\n/retry\n/seed 1\n/retry\n/temp 0\n/retry\n/retry\n");
    assert_ne!(found[0], found[1]);
    assert_eq!(found[0], found[2]);
    assert_eq!(found[3], found[4], "greedy");
    assert_ne!(found[0], found[3]);
    assert!(said.contains("seed 1") && said.contains("temperature 0"), "{said}");
}

#[test]
fn a_saved_conversation_goes_on_where_it_was() {
    let bench = Bench::new();
    let model = bench.nanochat();
    let args = [model, "-n", "12", "--system", "Be kind."];
    let (whole, _) = bench.answers(&args, "Hi\nMore\n");
    bench.answers(&args, "Hi\n/save a.json\n");
    assert_eq!(bench.saved("a.json")["messages"][0]["role"], "system");
    let (rest, said) = bench.answers(&[model, "-n", "12"], "/load a.json\nMore\n/save a.json\n");
    assert_eq!(rest, whole[1..]);
    assert!(said.contains("a.json: 3 messages"), "{said}");
    // /clear keeps the instructions, /system changes them.
    let (cleared, _) = bench.answers(&args, "Hi\n/clear\nHi\n/clear\n/system\nHi\n");
    assert_eq!(cleared[0], cleared[1]);
    assert_eq!(cleared[2], bench.answers(&[model, "-n", "12"], "Hi\n").0[0]);
    for (input, says) in [
        ("/load none.json\n", "cannot read none.json"),
        ("/load model/config.json\n", "is no conversation"),
        ("/save model/config.json\n", "is no conversation: give another name"),
        ("/load odd.json\n", "message 2 is of the user"),
        ("/save\n", "a name is missing: /save FILE"),
        ("/mystery\n", "there is no command /mystery"),
        ("/temp hot\n", "`hot` is no number"),
        ("/temp -1\n", "temperature -1 is not"),
        ("/retry\n", "there is no answer to try again"),
    ] {
        let odd = json!([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]);
        bench.write("odd.json", odd.to_string());
        let output = bench.piped(&args, input);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{input}: {error}");
        assert!(error.contains(says), "{input}: {error}");
        assert!(output.stdout.is_empty(), "{input}");
    }
}

/// The numbers in a line of what was said.
fn numbers(said: &str, label: &str) -> Vec<usize> {
    let line =
        said.lines().find(|line| line.starts_with(label)).unwrap_or_else(|| panic!("{said}"));
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn a_turn_reads_only_what_is_new() {
    let bench = Bench::new();
    let args = [bench.nanochat(), "-n", "30"];
    let (answers, said) = bench.answers(&args, "Tell me of it\n/stats\nMore\n/stats\n");
    // BOS, user_start, the text, user_end, assistant_start.
    assert_eq!(numbers(&said, "read"), [17, 0]);
    let second = said.rsplit_once("turns").unwrap().1;
    assert_eq!(answers[0].len(), 30);
    // The model never read the last token of its answer; its end and the new turn follow.
    assert_eq!(numbers(second, "read"), [1 + 1 + 1 + 4 + 2, 17 + 29]);
}

#[test]
fn the_oldest_turns_leave_a_full_context() {
    let bench = Bench::new();
    let model = bench.nanochat();
    let args = [model, "-n", "8", "--context", "64"];
    let lines = "abcdefghij\n".repeat(6);
    let (answers, said) = bench.answers(&args, &(lines.clone() + "/save a.json\n/stats\n"));
    assert_eq!(answers.len(), 6);
    assert!(said.contains("note: the context of 64 tokens is full: the oldest"), "{said}");
    // The file has what the model forgot.
    assert_eq!(bench.saved("a.json")["messages"].as_array().unwrap().len(), 12);
    let [all, gone] = numbers(&said.replace(',', ""), "turns")[..] else { panic!("{said}") };
    assert!(all == 6 && (1..6).contains(&gone), "{said}");
    let output = bench.piped(&args, &("a".repeat(100) + "\n"));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("104 tokens and the model reads at most 64"), "{error}");
    // What is cut off by the context is said.
    let (_, said) =
        bench.answers(&[model, "-n", "50", "--context", "32"], "aaaaaaaaaaaaaaaaaaaaaaaa\n");
    assert!(said.contains("note: cut off: the context of 32 tokens is full"), "{said}");
}

#[test]
fn a_base_model_is_continued() {
    let bench = Bench::new();
    let model = bench.talker(&[], None, 20.0);
    let output = bench.run(&["chat", model, "-p", "Once", "-n", "12", "--temperature", "0"]);
    let (text, said) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr));
    assert!(said.unwrap().contains("note: this is a base model"), "{text}");
    let generated = bench.ok(&["generate", model, "Once", "-n", "12", "--temperature", "0"]);
    assert_eq!(format!("Once{text}"), generated);
}

#[test]
fn a_template_of_the_model_is_used_and_may_refuse() {
    let bench = Bench::new();
    let model = bench.talker(&["<|im_start|>", "<|im_end|>"], Some(TEMPLATE), 20.0);
    let output = bench.run(&["chat", model, "-p", "Hi", "-n", "8"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.stdout.len(), &*said), (9, "note: cut off after 8 tokens: --max-tokens\n"));
    let output = bench.run(&["chat", model, "-p", "x", "-n", "8"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("the chat template refuses it: no x, please"), "{error}");
    bench.write("model/chat_template.jinja", "a\n{% if %}");
    let output = bench.run(&["chat", model, "-p", "x"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("chat template, line 2: syntax error"), "{error}");
}

#[test]
fn what_is_wrong_ends_with_the_code_that_other_commands_have() {
    let bench = Bench::new();
    let model = bench.talker(&NANOCHAT_TOKENS, None, f32::INFINITY);
    let output = bench.run(&["chat", model, "-p", "Hi"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("are not finite"), "{error}");
    for (args, says) in [
        (&["chat"][..], "no model given"),
        (&["chat", model, "--temperature", "-1"], "--temperature -1 must be"),
        (&["chat", model, "--min-p", "2"], "--min-p 2 must be"),
        (&["chat", model, "--repetition-penalty", "0"], "--repetition-penalty 0 must be"),
        (&["chat", model, "--context", "1"], "at least 2"),
        (
            &["chat", model, "--context", "5000"],
            "--context 5000: the model reads at most 4096 tokens",
        ),
        (
            &["serve", model, "--port", "0", "--context", "5000"],
            "the model reads at most 4096 tokens",
        ),
        (&["chat", model, "--weights", "int3"], "invalid value 'int3'"),
    ] {
        let output = bench.run(args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(says), "{args:?}: {error}");
    }
}

#[cfg(unix)]
mod in_a_terminal {
    use super::*;
    use crate::terminal::Session;

    /// Switches pasting in brackets on: the editor waits for a line. Before that the terminal reads lines
    /// itself, and a Ctrl-D would be lost.
    const PROMPT: &str = "\x1b[?2004h";

    #[test]
    fn ctrl_c_stops_an_answer_and_ctrl_d_leaves() {
        let bench = Bench::new();
        let model = bench.nanochat();
        let mut session = Session::start(&bench, &["chat", model, "-n", "4000"]);
        let hello = session.expect(PROMPT);
        assert!(
            hello.contains("nanochat's chat tokens") && hello.contains("Ctrl-D leaves"),
            "{hello}"
        );
        // At the prompt, Ctrl-C throws the line away.
        session.send("abc\x03");
        session.expect("/quit leaves");
        session.expect(PROMPT);
        session.send("/stats\r");
        session.expect("turns      0");
        session.expect(PROMPT);
        session.send("Hi\r");
        // The editor's own last words, and a part of the answer.
        session.expect("\x1b[?2004l");
        session.more(100);
        session.send("\x03");
        session.expect("[stopped]");
        session.expect(PROMPT);
        session.send("/save a.json\r");
        session.expect("2 messages");
        session.expect(PROMPT);
        session.send("\x04");
        let (status, rest) = session.end();
        assert_eq!(status.code(), Some(0), "{rest}");
        let answer = bench.saved("a.json")["messages"][1]["content"].as_str().unwrap().to_owned();
        assert!((90..4000).contains(&answer.len()), "{answer}");
    }

    #[test]
    fn lines_that_are_typed_ahead_are_all_messages() {
        let bench = Bench::new();
        let model = bench.nanochat();
        let mut session = Session::start(&bench, &["chat", model, "-n", "2000"]);
        session.expect(PROMPT);
        // The editor reads two lines at once; two more come while it does not read.
        session.send("One\rTwo\r");
        session.expect("\x1b[?2004l");
        session.more(100);
        session.send("Three\rFour\r");
        for _ in 0..4 {
            session.expect(PROMPT);
        }
        session.send("/save a.json\r");
        session.expect("8 messages");
        session.expect(PROMPT);
        session.send("\x04");
        assert_eq!(session.end().0.code(), Some(0));
        let saved = bench.saved("a.json");
        let asked = [0, 2, 4, 6].map(|at| saved["messages"][at]["content"].as_str().unwrap());
        assert_eq!(asked, ["One", "Two", "Three", "Four"]);
    }

    /// A program that a model called for does not outlive the answer, nor the command.
    #[cfg(target_os = "linux")]
    #[test]
    fn ctrl_c_stops_the_program_that_a_model_called_for() {
        let bench = Bench::new();
        bench.base_and_talks("3");
        let program = "while 1:0";
        let part = |kind: &str, text: &str| json!({"type": kind, "text": text});
        let answer = [part("python", program), part("python_output", "2"), part("text", "ok")];
        let line = json!({"messages": [
            {"role": "user", "content": "go"}, {"role": "assistant", "content": answer}
        ]});
        bench.write("calls.jsonl", format!("{line}\n").repeat(100));
        let sft = "sft -m base --data calls.jsonl --steps 60 --lr 0.02 --eval-every 0 --sample-every 0 --out caller";
        bench.ok(&sft.split_whitespace().collect::<Vec<_>>());
        let args = ["chat", "caller", "--python", "--temperature", "0", "-n", "40"];
        let mut session = Session::start(&bench, &args);
        session.expect(PROMPT);
        session.send("go\r");
        session.expect("call:   ");
        while programs(program) == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        session.send("\x03");
        // Left alone, the program would be stopped after five seconds, and the answer would go on with that.
        let shown = session.expect("[stopped]");
        assert!(!shown.contains("result:"), "{shown}");
        assert_eq!(programs(program), 0);
        session.expect(PROMPT);
        // Programs run again.
        session.send("/clear\r");
        session.expect(PROMPT);
        session.send("go\r");
        session.expect("result: ");
        session.expect(PROMPT);
        session.send("\x04");
        assert_eq!(session.end().0.code(), Some(0));

        let mut session =
            Session::start(&bench, &[&["chat", "caller", "-p", "go"], &args[2..]].concat());
        while programs(program) == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        session.send("\x03");
        assert_eq!(session.end().0.code(), Some(130));
        assert_eq!(programs(program), 0);
    }

    /// The number of processes of programs with this text.
    #[cfg(target_os = "linux")]
    fn programs(text: &str) -> usize {
        let listed = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = listed.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        let file = |line: Vec<u8>| {
            let line = String::from_utf8_lossy(&line).into_owned();
            let path = line.split('\0').find(|word| word.ends_with("/program.py"))?.to_owned();
            std::fs::read_to_string(path).ok()
        };
        lines.filter_map(file).filter(|program| program.contains(text)).count()
    }

    #[test]
    fn a_program_that_is_ended_leaves_the_terminal_as_it_was() {
        let bench = Bench::new();
        let model = bench.nanochat();
        let mut session = Session::start(&bench, &["chat", model]);
        session.expect(PROMPT);
        assert!(!session.is_plain());
        session.terminate();
        assert_eq!(session.wait().code(), Some(143));
        assert!(session.is_plain());
    }

    #[test]
    fn lines_are_edited_remembered_and_joined() {
        let bench = Bench::new();
        let model = bench.nanochat();
        let mut session = Session::start(&bench, &["chat", model, "-n", "5"]);
        session.expect(PROMPT);
        // A letter too much; a message that goes on; a command completed by a tab.
        session.send("Hix\x7f\r");
        session.expect(PROMPT);
        session.send("one \\\rtwo\r");
        session.expect(PROMPT);
        // A letter that the model does not know: said, and forgotten.
        session.send("5\r");
        let shown = session.expect(PROMPT);
        assert!(shown.contains("error:") && shown.contains("not in the vocabulary"), "{shown}");
        session.send("/sav\ta.json\r");
        session.expect("4 messages");
        session.expect(PROMPT);
        session.send("/quit\r");
        assert_eq!(session.end().0.code(), Some(0));
        let saved = bench.saved("a.json");
        assert_eq!(saved["messages"][0]["content"], "Hi");
        assert_eq!(saved["messages"][2]["content"], "one \ntwo");
        let mut session = Session::start(&bench, &["chat", model, "-n", "5"]);
        session.expect(PROMPT);
        // Up: /quit, /save, 5, the two lines of a message, the first one.
        session.send(&("\x1b[A".repeat(6) + "?\r"));
        session.expect(PROMPT);
        session.send("/save b.json\r");
        session.expect("2 messages");
        session.expect(PROMPT);
        session.send("\x04");
        assert_eq!(session.end().0.code(), Some(0));
        assert_eq!(bench.saved("b.json")["messages"][0]["content"], "Hi?");
    }

    #[test]
    fn a_base_model_says_so_and_goes_on_at_an_empty_line() {
        let bench = Bench::new();
        let model = bench.talker(&[], None, 20.0);
        let mut session = Session::start(&bench, &["chat", model, "-n", "6", "--temperature", "0"]);
        assert!(crate::words(&session.expect(PROMPT)).contains("this is a base model"));
        session.send("Once\r");
        session.expect(PROMPT);
        session.send("\r");
        session.expect(PROMPT);
        session.send("/save a.json\r");
        session.expect("4 messages");
        session.expect(PROMPT);
        session.send("\x04");
        assert_eq!(session.end().0.code(), Some(0));
        let saved = bench.saved("a.json");
        let text = |at: usize| saved["messages"][at]["content"].as_str().unwrap().to_owned();
        let generated = bench.ok(&["generate", model, "Once", "-n", "12", "--temperature", "0"]);
        assert_eq!(format!("Once{}{}{}\n", text(1), text(2), text(3)), generated);
    }
}
