//! One module per command.

pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod dashboard;
pub(crate) mod data;
pub(crate) mod devices;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod facts;
pub(crate) mod generate;
pub(crate) mod import;
pub(crate) mod mil;
pub(crate) mod parity;
pub(crate) mod pipe;
pub(crate) mod plan;
pub(crate) mod probe;
pub(crate) mod report;
pub(crate) mod rl;
pub(crate) mod serve;
pub(crate) mod sft;
pub(crate) mod tokenizer;
pub(crate) mod train;
