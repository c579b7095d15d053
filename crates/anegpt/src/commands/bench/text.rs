//! The report for people.

use super::figures::{percent, short};
use super::peaks::Ceiling;
use super::report::{MeasuredStep, Products, Report, Settings};
use super::scaling::Threads;
use super::spread::Spread;
use super::tasks::{CheckpointWrite, Encoding, Generation};
use crate::progress::counted;
use crate::{host_gemm, progress, term};
use std::fmt::Write;

/// For people.
pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    let w = &mut out;
    header(w, report);
    ceilings(w, report);
    if let Some(step) = &report.step {
        step_table(w, report, step);
    }
    if let Some(products) = &report.products {
        products_table(w, products, report.peak.gflops.best());
    }
    if !report.scaling.is_empty() {
        scaling_table(w, &report.scaling);
    }
    if !report.generation.is_empty() {
        generation_table(w, &report.generation);
    }
    if let Some(encoding) = &report.tokenizer {
        encoding_lines(w, encoding);
    }
    if let Some(checkpoint) = &report.checkpoint {
        checkpoint_lines(w, checkpoint);
    }
    footer(w, report);
    out
}

/// A line of text; a string takes everything.
macro_rules! line {
    ($to:expr) => { line!($to, "") };
    ($to:expr, $($text:tt)*) => { writeln!($to, $($text)*).expect("a string takes everything") };
}

fn header(w: &mut String, report: &Report) {
    let (host, settings) = (&report.machine, &report.settings);
    let memory = host
        .memory_bytes
        .map_or(String::new(), |b| format!(", {:.1} GiB of memory", b / 2f64.powi(30)));
    let cores = counted(host.cores, "core");
    let machine =
        format!("{}, {cores} ({}, {}, {}){memory}", host.cpu, host.os, host.arch, host.simd);
    line!(w, "{}", term::labelled("machine", &machine));
    line!(w, "{}", term::labelled("device", &settings.device));
    let parameters = progress::count(settings.parameters as f64);
    let model = format!("{}: {parameters} parameters, {}", settings.model, settings.shape);
    line!(w, "{}", term::labelled("model", &model));
}

fn ceilings(w: &mut String, report: &Report) {
    let cores = report.machine.cores;
    line!(
        w,
        "\nThe most this machine does (best of {})",
        counted(report.peak.gflops.all_threads.rounds, "round")
    );
    line!(w, "  {:<38} {:>10} {:>12}", "", "1 thread", format!("{cores} threads"));
    let row = |w: &mut String, name: &str, unit: &str, ceiling: &Ceiling| {
        line!(
            w,
            "  {name:<38} {:>10} {:>12} {unit}",
            short(ceiling.one_thread.max),
            short(ceiling.all_threads.max)
        );
    };
    row(w, "f32 multiply-adds in registers", "GFLOP/s", &report.peak.gflops);
    row(w, "reading memory", "GB/s", &report.peak.read_gbps);
    row(w, "triad, a = b + s·c", "GB/s", &report.peak.triad_gbps);
}

/// Name of the row, its times, its share of the step, its rate and share of a ceiling.
fn step_row(w: &mut String, name: &str, ms: Option<Spread>, share: &str, rate: &str, of: &str) {
    let [median, min, p90] = match ms {
        Some(ms) => [ms.median, ms.min, ms.p90].map(short),
        None => [const { String::new() }; 3],
    };
    let row = format!("  {name:<12} {median:>9} {min:>9} {p90:>9} {share:>8} {rate:>15} {of:>8}");
    line!(w, "{}", row.trim_end());
}

fn step_table(w: &mut String, report: &Report, step: &MeasuredStep) {
    let Settings { batch, accum, seq, .. } = report.settings;
    line!(
        w,
        "\nA training step: {accum} × {batch} × {seq} tokens (micro-batches, sequences, length); {}",
        counted(step.ms.rounds, "step")
    );
    line!(
        w,
        "  {:<12} {:>9} {:>9} {:>9} {:>8} {:>15} {:>8}",
        "",
        "median ms",
        "min",
        "p90",
        "of step",
        "rate",
        "of peak"
    );
    let share = |share: Option<f64>| share.map_or(String::new(), percent);
    let gflops = |rate: f64| format!("{} GFLOP/s", short(rate));
    step_row(w, "whole step", Some(step.ms), "", &gflops(step.gflops), &share(step.share_of_peak));
    for part in &step.parts {
        // What an optimizer needs is memory; all other parts with known work are products.
        let (rate, of) = match part.name.as_str() {
            "optimizer" => {
                (part.gbps.map(|r| format!("{} GB/s   ", short(r))), part.share_of_memory)
            }
            _ => (part.gflops.map(gflops), part.share_of_peak),
        };
        let of_step = percent(part.share_of_step);
        step_row(w, &part.name, Some(part.ms), &of_step, &rate.unwrap_or_default(), &share(of));
    }
    let mut notes = vec![format!("{} tokens/s", progress::count(step.tokens_per_s))];
    notes.push(format!("all programs ready in {} ms", short(step.compile_ms)));
    if step.host_gemm != host_gemm::OURS {
        notes.push(format!("products on the CPU by {}", step.host_gemm));
    }
    if let Some(mib) = step.peak_memory_mib {
        notes.push(format!("peak memory {mib:.0} MiB"));
    }
    if step.skipped > 0 {
        notes.push(format!("{} steps without an update not counted", step.skipped));
    }
    line!(w, "  {}", notes.join("; "));
    if step.parts.iter().any(|p| p.name == "optimizer" && p.share_of_memory > Some(1.0)) {
        line!(w, "  above 100 % of memory: this model's weights stay in the cache");
    }
}

fn products_table(w: &mut String, products: &Products, peak: f64) {
    // Those of a real engine are not measured one by one.
    let all = products.list.iter().any(|p| p.part.starts_with("engine"));
    line!(
        w,
        "\nIts matrix products{} alone: {} ms, {} GFLOP/s, {} of peak",
        if all { "" } else { " on the host" },
        short(products.ms),
        short(products.gflops),
        percent(products.share_of_peak)
    );
    line!(
        w,
        "  {:<10} {:<18} {:>18} {:>5} {:>7} {:>7} {:>7}",
        "part",
        "product",
        "rows×columns×inner",
        "runs",
        "ms each",
        "GFLOP/s",
        "of peak"
    );
    for p in &products.list {
        let heads = if p.together > 1 { format!("{}·", p.together) } else { String::new() };
        line!(
            w,
            "  {:<10} {:<18} {:>18} {:>5} {:>7} {:>7} {:>7}",
            p.part,
            p.what,
            format!("{heads}{}×{}×{}", p.m, p.n, p.k),
            p.count,
            short(p.ms.median),
            short(p.gflops()),
            percent(p.gflops() / peak)
        );
    }
}

fn scaling_table(w: &mut String, scaling: &[Threads]) {
    line!(w, "\nThe step on fewer threads ({}, in turn)", counted(scaling[0].ms.rounds, "round"));
    line!(w, "  {:>7} {:>11} {:>9} {:>9} {:>9}", "threads", "median ms", "min", "p90", "speedup");
    for row in scaling {
        let [median, min, p90] = [row.ms.median, row.ms.min, row.ms.p90].map(short);
        line!(w, "  {:>7} {median:>11} {min:>9} {p90:>9} {:>8.2}×", row.threads, row.speedup);
    }
}

fn generation_table(w: &mut String, generation: &[Generation]) {
    line!(w, "\nGeneration, tokens/s");
    line!(w, "  {:>9} {:>9} {:>9}", "prompt", "one text", "together");
    for g in generation {
        let [read, written] = [g.prompt_tokens_per_s, g.tokens_per_s].map(short);
        let (together, texts) = match &g.together {
            Some(many) => (short(many.tokens_per_s), format!(", {} texts", many.texts)),
            None => (String::new(), String::new()),
        };
        let how = format!(
            "{} tokens, then {}{texts}; up to {} tokens at once, on {}",
            g.prompt_tokens, g.new_tokens, g.chunk, g.device
        );
        let speeds = format!("  {read:>9} {written:>9} {together:>9}");
        line!(w, "{}", term::hanging(&speeds, &how, 34, term::text_width()));
    }
}

fn encoding_lines(w: &mut String, e: &Encoding) {
    let speed = format!(
        "{} MB/s on one thread, {} tokens/s ({} tokens from {:.1} MB, vocabulary of {})",
        short(e.mb_per_s),
        progress::count(e.tokens_per_s),
        progress::count(e.tokens as f64),
        e.text_bytes as f64 / 1e6,
        e.vocab_size
    );
    line!(w, "\n{}", term::hanging("Tokenizer:", &speed, 11, term::text_width()));
}

fn checkpoint_lines(w: &mut String, c: &CheckpointWrite) {
    let system = c.file_system.as_ref().map_or(String::new(), |kind| format!(" ({kind})"));
    line!(
        w,
        "\nCheckpoint of {} MB{system}, everything synced to disk",
        short(c.bytes as f64 / 1e6)
    );
    line!(w, "  {:<24} {:>9} {:>9} {:>9} {:>9}", "", "median ms", "min", "p90", "MB/s");
    for (name, ms, rate) in [
        ("with checksums, in place", c.ms, c.mb_per_s),
        ("one plain file", c.plain_ms, c.plain_mb_per_s),
    ] {
        let [median, min, p90, rate] = [ms.median, ms.min, ms.p90, rate].map(short);
        line!(w, "  {name:<24} {median:>9} {min:>9} {p90:>9} {rate:>9}");
    }
    line!(w, "  {} of the plain write's speed", percent(c.share));
}

fn footer(w: &mut String, report: &Report) {
    line!(w);
    let others = match report.others_cores {
        Some(cores) => format!(
            "other programs took {cores:.2} of {} cores",
            std::thread::available_parallelism().map_or(1, usize::from)
        ),
        None => "what other programs took is not known on this system".to_owned(),
    };
    line!(w, "measured in {:.1} s; {others}", report.seconds);
    for warning in &report.warnings {
        line!(w, "{}", term::hanging("warning:", warning, 9, term::text_width()));
    }
}
