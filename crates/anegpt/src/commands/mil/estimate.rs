//! `anegpt mil estimate`: what the cost model says of a program.

use super::source::read_program;
use crate::term;
use anyhow::Result;
use chip::{Chip, Estimate, Os, Profile, estimate};
use std::path::PathBuf;

/// Characters of a full bar.
const BAR: f64 = 40.0;

/// Forecast the time of a program on a chip (not confirmed on hardware)
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  anegpt mil estimate program.mil --chip m4-pro")]
pub(crate) struct Args {
    /// Program (MIL text)
    file: PathBuf,
    /// Chip (list: anegpt devices)
    #[arg(long, default_value = "m4")]
    chip: Chip,
    /// System: macos15 or macos26
    #[arg(long, default_value = "macos15")]
    os: Os,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints the forecast of every function of the program.
pub(crate) fn run(args: &Args) -> Result<()> {
    let program = read_program(&args.file)?;
    let profile = &Profile { chip: args.chip, os: args.os, ..Profile::default() };
    let estimates: Vec<(&str, Estimate)> =
        program.functions.iter().map(|f| (f.name.as_str(), estimate(f, profile))).collect();
    if args.json {
        let functions: Vec<_> = estimates.iter().map(|(name, e)| e.json(name)).collect();
        let object = serde_json::json!({
            "file": args.file,
            "anegpt": env!("CARGO_PKG_VERSION"),
            "profile": profile.to_string(),
            "nearest": profile.chip.nearest().map(|chip| chip.to_string()),
            "confirmed_on_hardware": false,
            "functions": functions,
        });
        println!("{object}");
        return Ok(());
    }
    for (name, e) in &estimates {
        print!("{}", human(name, e));
    }
    Ok(())
}

fn human(name: &str, e: &Estimate) -> String {
    let ms = |seconds: f64| 1e3 * seconds;
    let constants = match e.profile.chip.note() {
        _ if e.fitted => "constants of the chip fitted to its published timings".to_owned(),
        Some(note) => note,
        None => "constants of the chip mostly from scaling rules: no table of it is published"
            .to_owned(),
    };
    let text = format!(
        "function {name} on {}: {:.3} ms forecast ({:.3} to {:.3}), bound by {}\n\
         not confirmed on hardware; {constants}",
        e.profile,
        ms(e.seconds),
        ms(e.low),
        ms(e.high),
        e.bound().name()
    );
    let mut text = term::wrap(&text, term::text_width(), "", "  ") + "\n\n";
    for (cause, seconds) in e.parts.list() {
        let share = seconds / e.seconds;
        let bar = "#".repeat((share * BAR).round() as usize);
        let line = format!(
            "  {:<12}{:>9.3} ms {:>4.0} %  {bar}",
            cause.name(),
            ms(seconds),
            100.0 * share
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str(
        "\n  operation                               µs      MFLOP         KB  bound by\n",
    );
    for o in &e.operations {
        let what = format!("{} {}", o.op, o.name);
        let notch = if o.notch { ", in the 1-MiB DMA notch" } else { "" };
        text.push_str(&format!(
            "  {what:<32} {:>9.2} {:>10.2} {:>10.1}  {}{notch}\n",
            1e6 * o.seconds,
            o.flops / 1e6,
            o.bytes / 1e3,
            o.bound.name()
        ));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use mil::{Builder, TensorType};

    fn example() -> Estimate {
        let b = Builder::new("main");
        let x = b.input("x", TensorType::fp16([1, 1, 64, 64]));
        let w = b.input("w", TensorType::fp16([1, 1, 64, 64]));
        let f = b.finish(&[w.matmul(x, false, false).sigmoid()]).unwrap();
        estimate(&f, &Profile::default())
    }

    fn keys(value: &serde_json::Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    /// Scripts rely on these names.
    #[test]
    fn the_schema_is_stable() {
        let value = example().json("main");
        let mut found = keys(&value);
        found.sort_unstable();
        let top =
            ["bound_by", "fitted", "function", "high", "low", "operations", "parts", "seconds"];
        assert_eq!(found, top);
        let mut parts = keys(&value["parts"]);
        parts.sort_unstable();
        let causes = ["activations", "compute", "dispatch", "host_copy", "layers", "weights"];
        assert_eq!(parts, causes);
        let mut operation = keys(&value["operations"][0]);
        operation.sort_unstable();
        assert_eq!(operation, ["bound_by", "bytes", "flops", "name", "notch", "op", "seconds"]);
        assert_eq!(value["operations"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn people_see_that_it_is_a_forecast() {
        let text = human("main", &example());
        assert!(text.contains("forecast") && text.contains("not confirmed on hardware"), "{text}");
        assert!(
            text.contains("dispatch") && text.contains('#') && text.contains("matmul"),
            "{text}"
        );
    }
}
