//! Progress bars on standard error; nothing where it is not a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over bytes.
pub(crate) fn bytes(label: &str, total: u64) -> ProgressBar {
    bar(label, total, "{prefix:>10} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
}

/// A bar over steps, with a message.
pub(crate) fn steps(label: &str, total: u64) -> ProgressBar {
    bar(label, total, "{prefix:>10} {bar:24} {pos}/{len} {msg} eta {eta}")
}

/// A bar over stages, whose message says which one.
pub(crate) fn stages(label: &str, total: u64) -> ProgressBar {
    bar(label, total, "{prefix:>10} {bar:24} {pos}/{len} {msg}")
}

fn bar(label: &str, total: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is ours");
    let bar = ProgressBar::new(total).with_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
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

/// Memory of this machine in bytes, where the system tells.
pub(crate) fn memory_bytes() -> Option<f64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(1024.0 * kib)
}

/// Most memory this process has held, in MiB, where the system tells.
pub(crate) fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
