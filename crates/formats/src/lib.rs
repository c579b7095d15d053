//! Reads and writes other projects' models: configurations and weights.
//!
//! A configuration becomes a [`gpt::GptConfig`]. Weights become one f32 arena in the order of its
//! [`gpt::Layout`], converted from the file's order, names, types and rotary pairs. [`llama2c`] and
//! [`gguf`] keep both in one file, [`hugging_face`] in a directory. [`tensor_file`] is the safetensors
//! container, which checkpoints use too. Every setting in a file is honoured or rejected by name, never
//! ignored.
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
mod model;
mod parts;
pub mod peft;
mod pieces;
mod precision;
mod rotary;
pub mod tensor_file;

pub use error::WeightsError;
pub use model::Model;
pub use precision::Precision;
