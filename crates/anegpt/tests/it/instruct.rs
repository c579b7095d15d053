//! Finetuning models of others: a GPT-2 and a Qwen3 as Hugging Face has them, with a chat template.

use crate::sft::SAID;
use crate::{Bench, events, of};
use formats::{Model, Precision, hugging_face};
use gpt::{GptConfig, initialise};
use serde_json::json;
use std::fmt::Write;
use tokenizer::Tokenizer;

/// ChatML, as most instruct models have it.
const CHATML: &str = "\
{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Behaves as Qwen 3's: the last answer always has a block of thoughts, if need be an empty one, and earlier ones have none.
const THINKING: &str = "\
{% for message in messages %}
{%- set content = message.content %}
{%- if message.role == 'assistant' %}
    {%- set thought = content.split('</think>')[0].split('<think>')[-1] if '</think>' in content else '' %}
    {%- set content = content.split('</think>')[-1].lstrip('\n') %}
    {%- if loop.last %}
        {%- set content = '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content %}
    {%- endif %}
{%- endif %}
{{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

fn tokenizer() -> Tokenizer {
    let text = "red blue one two cat dogs hi hello system user assistant <think>\n</think>\n\n";
    let learned = Tokenizer::train_bpe([text], 280, &mut |_| {}).unwrap();
    learned.with_special_tokens(&["<|im_start|>", "<|im_end|>"]).unwrap()
}

/// A small model of this kind.
pub(crate) fn shape(preset: &str, vocab_size: usize, seq_len: usize) -> GptConfig {
    GptConfig {
        n_layer: 2,
        n_head: 2,
        n_kv_head: 2,
        n_embd: 32,
        head_dim: 16,
        hidden: 64,
        vocab_size,
        seq_len,
        ..GptConfig::preset(preset).unwrap()
    }
}

impl Bench {
    /// Writes an untrained model into `untuned`, as transformers would.
    fn theirs(&self, config: &GptConfig) {
        let tokenizer = tokenizer();
        let ends = [tokenizer.special("<|im_end|>").unwrap()];
        let described = Model { ends: &ends, ..Model::new(config).with_tokenizer(&tokenizer) };
        let place = self.path("untuned");
        std::fs::create_dir(&place).unwrap();
        let (values, reader) = (initialise(config, 4), hugging_face::Reader::Transformers);
        hugging_face::write(&place, &described, &values, Precision::F32, None, reader).unwrap();
    }

    fn model_type(&self, directory: &str) -> String {
        let text = std::fs::read(self.path(directory).join("config.json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        json["model_type"].as_str().unwrap().to_owned()
    }

    /// Writes `talks.jsonl`: every question behind every other, with these answers.
    fn two_turns(&self, answer: impl Fn(&str) -> String) {
        let mut lines = String::new();
        for (first, second) in SAID.iter().flat_map(|first| SAID.iter().map(move |s| (first, s))) {
            let turns = [first, second].map(|(question, said)| {
                json!([{"role": "user", "content": question},
                       {"role": "assistant", "content": answer(said)}])
            });
            let all: Vec<_> = turns.iter().flat_map(|turn| turn.as_array().unwrap()).collect();
            writeln!(lines, "{}", json!({"messages": all})).unwrap();
        }
        self.write("talks.jsonl", lines);
    }

    /// Finetunes `untuned` on `talks.jsonl`; returns how the first event describes them. The loss must fall to nothing: it
    /// would not if questions were learned, which come in no order.
    fn tune(&self, more: &[&str]) -> String {
        let sft = "sft -m untuned --data talks.jsonl --val-data talks.jsonl --seq 96 --batch 8 --log-format json \
                   --out tuned --lr 0.01 --steps";
        let sft = sft.split_whitespace().chain(more.iter().copied());
        let events = events(&self.ok(&sft.collect::<Vec<_>>()));
        let loss = |kind, name: &str| -> Vec<f64> {
            of(&events, kind).iter().map(|event| event[name].as_f64().unwrap()).collect()
        };
        for losses in [loss("step", "loss"), loss("eval", "val_loss")] {
            let (first, last) = (losses[0], losses[losses.len() - 1]);
            assert!(first > 4.0 && last < 0.05, "{losses:?}");
        }
        of(&events, "start")[0]["text"].as_str().unwrap().to_owned()
    }

    /// The answers of a model to lines of one conversation.
    fn answers_of(&self, model: &str, lines: &str) -> String {
        self.answers(&[model, "--temperature", "0", "-n", "60"], lines).0.join("\n")
    }
}

/// How many tokens of these texts and of their ends there are.
fn learned<'t>(texts: impl Iterator<Item = &'t str>) -> usize {
    let tokenizer = tokenizer();
    texts.map(|text| tokenizer.encode(text).unwrap().len() + 1).sum()
}

#[test]
fn a_gpt2_with_a_chat_template_learns_to_answer() {
    let bench = Bench::new();
    bench.theirs(&shape("gpt2-tiny", tokenizer().vocab_size(), 128));
    assert_eq!(bench.model_type("untuned"), "gpt2");
    // Where most programs have looked for it.
    let entry = json!({"chat_template": CHATML, "eos_token": "<|im_end|>"});
    bench.write("untuned/tokenizer_config.json", entry.to_string());
    bench.two_turns(str::to_owned);
    let text = bench.tune(&["110"]);
    // Two answers in each of 16 conversations: every answer comes eight times.
    let own = 8 * learned(SAID.iter().map(|(_, answer)| *answer));
    assert!(
        text.contains("16 conversations to train, 16 to validate, by the model's chat"),
        "{text}"
    );
    assert!(text.contains(&format!("; {own} of ")), "{own}: {text}");
    bench.ok(&["export", "tuned", "--to", "hf", "--out", "exported"]);
    assert_eq!(bench.model_type("exported"), "gpt2");
    let template = std::fs::read_to_string(bench.path("exported/chat_template.jinja")).unwrap();
    assert_eq!(template, CHATML);
    for model in ["tuned", "exported"] {
        for (question, answer) in SAID {
            let said = bench.ok(&["chat", model, "-p", question, "--temperature", "0"]);
            assert_eq!(said, format!("{answer}\n"), "{model}: {question}");
        }
        assert_eq!(bench.answers_of(model, "cat\nred\n"), "dogs\nblue", "{model}");
    }
}

/// Each answer is learned with its thoughts, behind a history without thoughts.
#[test]
fn a_qwen3_learns_its_thoughts_in_every_turn() {
    let bench = Bench::new();
    bench.theirs(&shape("qwen3-0.6b", tokenizer().vocab_size(), 128));
    assert_eq!(bench.model_type("untuned"), "qwen3");
    bench.write("untuned/chat_template.jinja", THINKING);
    let thought = |answer: &str| format!("<think>\n{answer}?\n</think>\n\n{answer}");
    bench.two_turns(thought);
    let text = bench.tune(&["140"]);
    let own = 8 * learned(SAID.map(|(_, answer)| thought(answer)).iter().map(String::as_str));
    let says = "32 pieces of 16 conversations to train, 32 to validate, by the model's chat";
    assert!(text.contains(says) && text.contains(&format!("; {own} of ")), "{own}: {text}");
    bench.ok(&["export", "tuned", "--to", "hf", "--out", "exported"]);
    assert_eq!(bench.model_type("exported"), "qwen3");
    for model in ["tuned", "exported"] {
        for (question, answer) in SAID {
            let said = bench.ok(&["chat", model, "-p", question, "--temperature", "0"]);
            assert_eq!(said.trim_end(), thought(answer), "{model}: {question}");
        }
        let said = bench.answers_of(model, "cat\nred\n");
        assert_eq!(said, format!("{}\n{}", thought("dogs"), thought("blue")), "{model}");
    }
    // Answers without thoughts are learned with the empty block that the template writes.
    bench.two_turns(str::to_owned);
    bench.ok(&["sft", "-m", "tuned", "--data", "talks.jsonl", "--steps", "40", "--out", "brief"]);
    let said = bench.ok(&["chat", "brief", "-p", "cat", "--temperature", "0"]);
    assert_eq!(said.trim_end(), "<think>\n\n</think>\n\ndogs");
}
