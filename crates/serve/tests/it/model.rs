//! Models that are small, or whose texts are known.

use gpt::{GptConfig, Layout, Parameters, initialise};
use infer::{Calculator, Engine, EngineOptions, Tools};
use serve::Described;
use std::sync::Arc;
use tokenizer::Tokenizer;
use tokenizer::chat::{ChatTemplate, NANOCHAT_TOKENS};

pub(crate) const VOCAB: usize = 264;
pub(crate) const BOS: u32 = 1;
const EOS: u32 = 2;
pub(crate) const A: u32 = 260;
pub(crate) const B: u32 = 261;
pub(crate) const C: u32 = 262;
pub(crate) const D: u32 = 263;

#[derive(Clone)]
pub(crate) struct Model {
    parameters: Arc<Parameters>,
    tokenizer: Arc<Tokenizer>,
    template: Option<&'static str>,
}

impl Model {
    fn new(config: &GptConfig, values: Vec<f32>) -> Model {
        let parameters = Arc::new(Parameters::new(config, values));
        Model { parameters, tokenizer: tokenizer(), template: None }
    }

    /// The same with a format of conversations in Jinja.
    pub(crate) fn with_template(self, template: &'static str) -> Model {
        Model { template: Some(template), ..self }
    }

    pub(crate) fn engine(&self, options: EngineOptions) -> Engine {
        Engine::new(&self.parameters, Arc::clone(&self.tokenizer), options).unwrap()
    }

    pub(crate) fn described(&self) -> Described {
        let template = ChatTemplate::find(&self.tokenizer, self.template).unwrap();
        let tools = Tools::find(&self.tokenizer, Calculator::default());
        Described { template, tools, ..Described::new("letters") }
    }
}

/// The token of a byte.
pub(crate) fn byte(byte: u8) -> u32 {
    3 + u32::from(byte)
}

/// llama2.c's format: markers, bytes, then pieces, each with a score.
pub(crate) fn tokenizer() -> Arc<Tokenizer> {
    let mut bytes = 8i32.to_le_bytes().to_vec();
    let markers = ["<unk>", "\n<s>\n", "\n</s>\n"].map(str::to_owned);
    let all = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let pieces = [" ", "a", "b", "c", "d"].map(str::to_owned);
    for piece in markers.into_iter().chain(all).chain(pieces) {
        bytes.extend(0f32.to_le_bytes());
        bytes.extend((piece.len() as i32).to_le_bytes());
        bytes.extend(piece.as_bytes());
    }
    Arc::new(Tokenizer::from_llama2c(&bytes, None).unwrap())
}

/// A model in which `next[i].1` follows `next[i].0`: blocks add nothing.
fn table(next: &[(u32, u32)], seq_len: usize) -> Model {
    table_of(VOCAB, next, seq_len)
}

fn table_of(vocab: usize, next: &[(u32, u32)], seq_len: usize) -> Model {
    let config = GptConfig {
        n_layer: 1,
        n_head: 1,
        n_kv_head: 1,
        n_embd: vocab,
        head_dim: 2,
        hidden: 2,
        vocab_size: vocab,
        seq_len,
        tied: false,
        ..GptConfig::default()
    };
    let layout = Layout::new(&config);
    let mut params = vec![0.0; layout.count()];
    for param in layout.params() {
        let part = &mut params[param.range()];
        match param.port {
            "embedding" => (0..vocab).for_each(|i| part[i * vocab + i] = 1.0),
            "classifier" => {
                next.iter().for_each(|&(from, to)| part[to as usize * vocab + from as usize] = 9.0)
            }
            _ if !param.decays() => part.fill(1.0),
            _ => {}
        }
    }
    Model::new(&config, params)
}

/// After a colon comes "abcd", and then the end; "é" repeats itself, in two bytes.
pub(crate) fn letters() -> Model {
    let [e0, e1] = [byte(0xC3), byte(0xA9)];
    let next = [(byte(b':'), A), (A, B), (B, C), (C, D), (D, EOS), (e0, e1), (e1, e0)];
    table(&next, 512)
}

/// "abcdabcd…" without end.
pub(crate) fn endless() -> Model {
    table(&[(byte(b':'), A), (A, B), (B, C), (C, D), (D, A)], 200_000)
}

/// Answers "i", has 2*3 computed, and goes on with "ok", in nanochat's format.
pub(crate) fn calling() -> Model {
    let bytes = Tokenizer::train_bpe(["abc"], 257, &mut |_| {}).unwrap();
    let tokenizer = Arc::new(bytes.with_special_tokens(&NANOCHAT_TOKENS).unwrap());
    let letter = |name: &str| tokenizer.encode(name).unwrap()[0];
    let id = |name: &str| tokenizer.special(name).unwrap_or_else(|| letter(name));
    let paths: [&[&str]; 2] = [
        &["<|assistant_start|>", "i", "<|python_start|>", "2", "*", "3", "<|python_end|>"],
        &["<|output_end|>", "o", "k", "<|assistant_end|>"],
    ];
    let pairs = paths.iter().flat_map(|path| path.windows(2));
    let next: Vec<(u32, u32)> = pairs.map(|pair| (id(pair[0]), id(pair[1]))).collect();
    Model { tokenizer: Arc::clone(&tokenizer), ..table_of(tokenizer.vocab_size(), &next, 512) }
}

/// A model whose texts differ with everything that they are made of.
pub(crate) fn random() -> Model {
    let config = GptConfig {
        n_layer: 2,
        n_head: 4,
        n_kv_head: 2,
        n_embd: 24,
        head_dim: 6,
        hidden: 40,
        vocab_size: VOCAB,
        seq_len: 600,
        ..GptConfig::default()
    };
    let values = initialise(&config, 5).into_iter().map(|v| v * 8.0).collect();
    Model::new(&config, values)
}

/// A model whose logits are not numbers.
pub(crate) fn damaged() -> Model {
    let letters = letters();
    let config = letters.parameters.config();
    Model::new(config, vec![f32::NAN; Layout::new(config).count()])
}
