//! A model that is tuned to conversations in a format of its own: it ends its answers itself, and the format stays
//! with it, in every checkpoint and export.

use crate::Bench;
use crate::instruct::shape;
use crate::serve::Serving;
use crate::sft::SAID;
use formats::{Model, Precision, hugging_face};
use gpt::initialise;
use std::io::Write;
use std::process::Stdio;
use tokenizer::Tokenizer;
use tokenizer::chat::{ChatTemplate, Message, Role};

/// Its end of a turn is a name that no list knows: only `eos_token_id` says what it is.
const SPECIAL: [&str; 2] = ["<|turn|>", "<|fin|>"];

const TEMPLATE: &str =
    "{% for m in messages %}<|turn|>{{ 'bot' if m.role == 'assistant' else 'you' }}:
{{- m.content | trim }}<|fin|>{% endfor %}{% if add_generation_prompt %}<|turn|>bot:{% endif %}";

impl Bench {
    /// An untrained model, and `talk.bin` with the tokens of many conversations.
    fn untuned(&self) {
        let letters = Tokenizer::train_char(["abcdefghijklmnopqrstuvwxyz:"]).unwrap();
        let tokenizer = letters.with_special_tokens(&SPECIAL).unwrap();
        let config = shape("tiny", tokenizer.vocab_size(), 96);
        let ends = [tokenizer.special("<|fin|>").unwrap()];
        let described = Model {
            tokenizer: Some(&tokenizer),
            ends: &ends,
            chat_template: Some(TEMPLATE),
            ..Model::new(&config)
        };
        let place = self.path("untuned");
        std::fs::create_dir(&place).unwrap();
        let (values, reader) = (initialise(&config, 4), hugging_face::Reader::Anegpt);
        hugging_face::write(&place, &described, &values, Precision::F32, None, reader).unwrap();
        let format = ChatTemplate::find(&tokenizer, Some(TEMPLATE)).unwrap().unwrap();
        // In no order that could be learned.
        let mut state = 1u32;
        let conversation = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (question, answer) = SAID[(state >> 30) as usize];
            let messages =
                [Message::new(Role::User, question), Message::new(Role::Assistant, answer)];
            format.render(&messages, &tokenizer).unwrap().remove(0).tokens
        };
        let tokens = (0..1500).flat_map(conversation);
        let bytes: Vec<u8> = tokens.flat_map(|token| (token as u16).to_le_bytes()).collect();
        self.write("talk.bin", bytes);
    }

    /// Answers to lines in one conversation, and what was said beside them.
    fn talk(&self, model: &str, lines: &str) -> (String, String) {
        let mut command = self.command(&["chat", model, "--temperature", "0", "-n", "30"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }
}

#[test]
fn a_tuned_model_ends_its_answers_and_keeps_its_format() {
    let bench = Bench::new();
    bench.untuned();
    let train =
        ["train", "--init", "untuned", "--data", "talk.bin", "--steps", "250", "--seq", "48"];
    let more = ["--batch", "8", "--lr", "1e-2", "--device", "cpu", "--sample-every", "0"];
    bench.ok(&[&train[..], &more, &["--out", "tuned"]].concat());
    let resume = ["train", "--resume", "tuned", "--steps", "252", "--sample-every", "0"];
    bench.ok(&resume);
    bench.ok(&["export", "tuned", "--to", "hf", "--out", "exported"]);
    for model in ["tuned", "tuned/step-00000250", "exported"] {
        for (question, answer) in SAID {
            let args = ["chat", model, "-p", question, "--temperature", "0", "-n", "30"];
            assert_eq!(bench.ok(&args), format!("{answer}\n"), "{model}: {question}");
        }
        let (answers, said) = bench.talk(model, "cat\n  hi \nred\n");
        assert_eq!(answers, "dogs\nhello\nblue\n", "{model}: {said}");
        assert!(!said.contains("cut off"), "{said}");
    }

    let path = bench.path("tuned");
    let serving = Serving::start(&bench, path.to_str().unwrap(), &[]);
    for (question, answer) in SAID {
        let body = format!(
            "{{\"messages\": [{{\"role\": \"user\", \"content\": \"{question}\"}}], \"temperature\": 0, \"max_tokens\": 30}}"
        );
        let reply = serving.ask("POST", "/v1/chat/completions", &body);
        let json = reply.split("\r\n\r\n").nth(1).unwrap();
        let json: serde_json::Value =
            serde_json::from_str(json).unwrap_or_else(|_| panic!("{reply}"));
        let choice = &json["choices"][0];
        assert_eq!(choice["message"]["content"], answer, "{json}");
        assert_eq!(choice["finish_reason"], "stop", "{json}");
        assert_eq!(json["usage"]["completion_tokens"], answer.len(), "{json}");
        // "<|turn|>you:…<|fin|><|turn|>bot:", where every letter is a token.
        assert_eq!(json["usage"]["prompt_tokens"], 1 + 4 + question.len() + 1 + 1 + 4, "{json}");
    }
    // Another template, another prompt: the model was not tuned to it.
    let other = TEMPLATE.replace("<|turn|>bot:{% endif", "<|turn|>you:{% endif");
    bench.write("exported/chat_template.jinja", other);
    let answers = SAID.map(|(question, _)| {
        bench.ok(&["chat", "exported", "-p", question, "--temperature", "0", "-n", "30"])
    });
    assert_ne!(answers, SAID.map(|(_, answer)| format!("{answer}\n")));
}
