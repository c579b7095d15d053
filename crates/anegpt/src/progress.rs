//! Progress bars on standard error; nothing where it is not a terminal.

use crate::term;
use console::Term;
use indicatif::{ProgressBar, ProgressStyle};

/// Columns that the bar itself takes at least.
const LEAST_BAR: usize = 8;

/// A bar over bytes.
pub(crate) fn bytes(label: &str, total: u64) -> ProgressBar {
    bar(label, total, "{prefix:>10} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
}

/// A bar over steps.
pub(crate) fn steps(label: &str, total: u64) -> ProgressBar {
    bar(label, total, "{prefix:>10} {wide_bar} {pos}/{len} {eta}")
}

/// A bar over stages, whose message says which one.
pub(crate) fn stages(label: &str, total: u64) -> ProgressBar {
    bar(label, total, "{prefix:>10} {bar:20} {pos}/{len} {wide_msg}")
}

/// A bar over the steps of a run; [`report`] gives it its message.
pub(crate) fn training(total: u64) -> ProgressBar {
    bar("", total, "{wide_bar} {pos}/{len}  {msg}  {eta} left")
}

/// Shows as many fields as the line has room for.
pub(crate) fn report(bar: &ProgressBar, fields: &[String]) {
    let total = bar.length().unwrap_or(0).to_string().len();
    // What `training` has besides the message: three or four characters for the time left.
    let others = LEAST_BAR + 1 + 2 * total + 1 + 2 + 2 + "100d left".len();
    let room = term::columns(&Term::stderr()).saturating_sub(others);
    bar.set_message(term::fit(fields, room));
}

fn bar(label: &str, total: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is ours");
    let chars = if term::unicode() { "█▉▊▋▌▍▎▏ " } else { "#- " };
    let bar = ProgressBar::new(total).with_style(style.progress_chars(chars));
    bar.set_prefix(label.to_owned());
    bar
}

/// 1234567 as 1.23 M.
pub(crate) fn count(n: f64) -> String {
    let (value, unit) = match n {
        n if n >= 1e9 => (n / 1e9, " B"),
        n if n >= 1e6 => (n / 1e6, " M"),
        n if n >= 1e4 => (n / 1e3, " K"),
        n => return format!("{n:.0}"),
    };
    format!("{value:.2}{unit}")
}

/// Bytes: `1671 bytes`, `6.00 MB`.
pub(crate) fn size(bytes: u64) -> String {
    match usize::try_from(bytes) {
        Ok(few @ ..10_000) => counted(few, "byte"),
        _ => format!("{}B", count(bytes as f64)),
    }
}

/// A number of things: `1 program`, `6 programs`.
pub(crate) fn counted(n: usize, noun: &str) -> String {
    match n {
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
}
