//! Reports of runs for other programs and for people without a terminal.

mod csv;
mod html;
pub(crate) mod pipeline;
mod tags;
mod tensorboard;

pub(crate) use csv::write as write_csv;
pub(crate) use html::page;
pub(crate) use tensorboard::write as write_tensorboard;
