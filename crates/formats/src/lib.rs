//! Models of other programs: their weights, their configurations, and the files that they read of ours.
//!
//! A *shape* is a [`gpt::GptConfig`], however another program spells it. *Weights* are one arena of
//! f32 in the order of its [`gpt::Layout`], whatever order, names, types and rotary pairs the file has:
//! [`llama2c`] and [`gguf`] have both in one file, [`hugging_face`] in the files of a
//! directory. [`tensor_file`] is the container of safetensors, which checkpoints use too.
//! What a file asks for is computed or refused by name, never ignored.
//!
//! Nothing here knows training, devices, terminals or requests.
//!
//! ```
//! use formats::hugging_face;
//! use gpt::GptConfig;
//! use tokenizer::Tokenizer;
//!
//! let shape = GptConfig::preset("tiny")?;
//! let characters = Tokenizer::train_char(["Once upon a time"])?;
//! let files = hugging_face::files(&shape, &characters)?;
//! let (name, text) = &files[0];
//! assert_eq!(*name, "config.json");
//! assert_eq!(hugging_face::read_config(text)?.config, shape);
//!
//! let gelu = text.replace("\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"");
//! let refusal = hugging_face::read_config(&gelu).unwrap_err();
//! assert_eq!(refusal, "`hidden_act` is \"gelu\"; this program reads only silu, swish");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![warn(missing_docs)]

mod error;
pub mod gguf;
pub mod hugging_face;
pub mod llama2c;
mod parts;
mod rotary;
pub mod tensor_file;

pub use error::WeightsError;
