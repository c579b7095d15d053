//! `anegpt dashboard`: runs on a terminal, from their logs. [`app`] is the state, [`draw`] and [`pages`] its picture,
//! [`source`] where events come from and where requests go, [`screen`] the terminal.

mod app;
mod chart;
mod draw;
mod look;
mod pages;
mod screen;
mod source;

pub(crate) use look::Look;
pub(crate) use screen::show;
pub(crate) use source::Source;
