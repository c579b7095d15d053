//! `anegpt devices`.

use super::facts;
use crate::engine::EngineArgs;
use crate::machine::{self, DeviceChoice};
use crate::progress::counted;
use crate::{engine, power, term};
use anyhow::Result;
use apple::{Choice, Findings, Route};
use chip::cost::model::ChipConstants;
use chip::cost::{CONSTANTS, Silicon};
use chip::{CallPath, Chip, Os, Profile};
use cpu::simd::Level;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Show the devices of this machine, and the chips that can be emulated
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("hardware_time", |arg| arg.hide(true)),
    after_help = "\
Examples:
  anegpt devices
  anegpt devices facts --chip m2 softmax"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Run the known-answer program by this route (or read the counters of `power`) and print what
    /// was found: the part of a probe that has a process of its own
    #[arg(long, hide = true, value_name = "ROUTE")]
    probe: Option<String>,
    /// Compile the program in this directory by this route: the part of a compile that has a
    /// process of its own
    #[arg(long, hide = true, num_args = 2, value_names = ["ROUTE", "DIR"])]
    compile: Option<Vec<PathBuf>>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Facts(facts::Args),
}

pub(crate) fn run(args: Args) -> Result<()> {
    if let Some(route) = args.probe {
        engine::end_with_standard_input();
        return match route.as_str() {
            "power" => engine::tell(power::probe_here()),
            _ => engine::tell(engine::probe_here(&route)),
        };
    }
    if let Some([route, directory]) = args.compile.as_deref() {
        return engine::compile_here(&route.to_string_lossy(), directory);
    }
    match args.command {
        Some(Command::Facts(args)) => facts::run(&args),
        None if args.json => json(),
        None => people(),
    }
}

/// The devices that need no engine, by name, with their descriptions.
fn emulated() -> Result<[(&'static str, String); 2]> {
    let describe = |choice| -> Result<String> {
        Ok(machine::open_any(choice, None, None, None)?.device.describe())
    };
    Ok([("emulator", describe(DeviceChoice::Emulator)?), ("cpu", describe(DeviceChoice::Cpu)?)])
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn people() -> Result<()> {
    let found = engine::probe_all();
    for (route, result) in &found {
        match result {
            Ok(found) => label(
                &route.to_string(),
                &format!(
                    "available: the known-answer program compiles in {:.1} ms and runs in {:.3} ms",
                    found.compile_seconds * 1e3,
                    found.run_seconds * 1e3
                ),
            ),
            Err(reason) => label(&route.to_string(), &format!("unavailable: {reason:#}")),
        }
    }
    for (name, description) in emulated()? {
        label(name, &format!("available: {description}"));
    }
    let cores = counted(cores(), "core");
    label("", &format!("{cores}, vector instructions: {}", Level::best()));
    if let Some(reading) = power::once() {
        match reading {
            Ok((source, sample)) => {
                label("power", &format!("{sample} (whole machine, by {source})"))
            }
            Err(reason) => label("power", &format!("no reading: {reason:#}")),
        }
    }
    match engine::choose(&found) {
        Ok(Choice { route, reason, .. }) => line(&format!("auto takes {route}: {reason}")),
        Err(reason) => line(&format!("auto takes the emulator: {reason:#}")),
    }
    println!();
    chips();
    println!();
    speeds();
    println!();
    profiles();
    println!("\nSources of these figures: anegpt devices facts --chip CHIP");
    Ok(())
}

/// A name and what is said of it.
fn label(name: &str, text: &str) {
    println!("{}", term::labelled(name, text));
}

fn line(text: &str) {
    println!("{}", term::wrap(text, term::text_width(), "", "           "));
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "-" }
}

/// Behind the row of a chip without figures of its own: whose they are.
fn like(chip: Chip) -> String {
    chip.nearest().map_or(String::new(), |nearest| format!("  as {nearest}"))
}

/// Prints the facts about each chip: limits of shapes, then where its arithmetic and speed differ.
fn chips() {
    println!("Chips to emulate (--chip):");
    println!(
        "{:8} {:4} {:>4} {:>6} {:>4} {:>4} {:>3} {:>5} {:>5} {:>4} {:>4} {:>5}",
        "", "", "", "widest", "max", "fp32", "sin", "slice", "round", "3x3", "sums", "1 MiB"
    );
    println!(
        "{:8} {:4} {:>4} {:>6} {:>4} {:>4} {:>3} {:>5} {:>5} {:>4} {:>4} {:>5}",
        "chip",
        "arch",
        "ANEs",
        "tensor",
        "kern",
        "port",
        "cos",
        "x16",
        "fault",
        "fast",
        "like",
        "notch"
    );
    for chip in Chip::ALL {
        let (facts, limits, numerics) = (chip.facts(), chip.limits(), chip.numerics());
        println!(
            "{:8} {:4} {:>4} {:>6} {:>4} {:>4} {:>3} {:>5} {:>5} {:>4} {:>4} {:>5}{}",
            facts.name,
            facts.architecture,
            facts.engines,
            limits.extent,
            limits.kernel_width,
            yes(limits.float_cast),
            yes(limits.trigonometry),
            yes(numerics.width_slice_gain),
            yes(numerics.round_fault),
            yes(numerics.conv3x3_anomaly),
            format!("{:?}", numerics.reduction),
            yes(chip.dma_notch()),
            like(chip),
        );
    }
    println!(
        "all chips: rank <= 5; channels <= 65536; products saturate at 2^15; never a NaN\n\
         as m3: limits and speed of m3, since nothing was measured on this chip"
    );
}

/// The roof of matrix products in TFLOP/s, by the cost model.
fn matmul_tflops(chip: Chip) -> f64 {
    CONSTANTS.shared.matmul * Silicon::of(chip).peak_tflops()
}

/// Prints the speed of each chip in the cost model.
fn speeds() {
    println!("Speed by the cost model (docs/cost-model.md), not confirmed on hardware:");
    for (chip, columns) in [
        ("", ["dispatch", "matmul", "weights", "host in", "host out"]),
        ("chip", ["ms", "TFLOP/s", "GB/s", "GB/s", "GB/s"]),
    ] {
        let columns = columns.map(|column| format!(" {column:>9}")).concat();
        println!("{chip:8}{columns}");
    }
    for chip in Chip::ALL {
        let ChipConstants { floor_ms, read, write, stream, .. } = CONSTANTS.of(chip);
        println!(
            "{:8} {floor_ms:>9.3} {:>9.1} {stream:>9.1} {read:>9.1} {write:>9.1}{}",
            chip.facts().name,
            matmul_tflops(chip),
            like(chip),
        );
    }
}

fn every_profile() -> impl Iterator<Item = Profile> {
    let paths = |os| CallPath::ALL.map(|path| Profile { os, path, ..Profile::default() });
    Os::ALL.into_iter().flat_map(paths)
}

fn profiles() {
    println!("Systems and call paths:");
    println!(
        "{:18} {:>16} {:>15} {:>9} {:>7} {:>10}",
        "", "smallest surface", "equal surfaces", "compiles", "loaded", "in flight"
    );
    for profile in every_profile() {
        let limits = profile.limits();
        let compiles = limits.compiles.map_or("no limit".to_owned(), |n| n.to_string());
        println!(
            "{:18} {:>16} {:>15} {:>9} {:>7} {:>10}",
            format!("{}/{}", profile.os, profile.path),
            limits.min_surface_bytes,
            yes(limits.uniform_surfaces),
            compiles,
            limits.loaded,
            limits.in_flight
        );
    }
}

/// The same for programs. Fields are added, never renamed.
fn json() -> Result<()> {
    let found = engine::probe_all();
    let route = |(route, result): &(Route, Result<Findings>)| match result {
        Ok(found) => json!({
            "name": route.to_string(), "available": true, "compile_seconds": found.compile_seconds,
            "run_seconds": found.run_seconds, "packed": found.packed,
        }),
        Err(reason) => json!({
            "name": route.to_string(), "available": false, "reason": format!("{reason:#}"),
        }),
    };
    let routes = found.iter().map(route);
    let ours = emulated()?
        .map(|(name, text)| json!({ "name": name, "available": true, "description": text }));
    let auto = match engine::choose(&found) {
        Ok(Choice { route, reason, .. }) => {
            json!({ "device": route.to_string(), "reason": reason })
        }
        Err(reason) => json!({ "device": "emulator", "reason": format!("{reason:#}") }),
    };
    let power = power::once().map(|reading| match reading {
        Ok((source, sample)) => json!({ "source": source, "mean": sample }),
        Err(reason) => json!({ "error": format!("{reason:#}") }),
    });
    println!(
        "{}",
        json!({
            "anegpt": env!("CARGO_PKG_VERSION"),
            "devices": routes.chain(ours).collect::<Vec<_>>(),
            "auto": auto,
            "cores": cores(),
            "vector_instructions": format!("{:?}", Level::best()),
            "power": power,
            "chips": Chip::ALL.map(chip_json),
            "profiles": every_profile().map(profile_json).collect::<Vec<_>>(),
        })
    );
    Ok(())
}

fn chip_json(chip: Chip) -> Value {
    let (facts, limits, numerics) = (chip.facts(), chip.limits(), chip.numerics());
    let speed = CONSTANTS.of(chip);
    json!({
        "name": facts.name,
        "architecture": facts.architecture,
        "engines": facts.engines,
        // Whose limits and speed these are, where they are not the chip's own.
        "nearest": chip.nearest().map(|nearest| nearest.to_string()),
        "limits": {
            "rank": limits.rank, "extent": limits.extent, "channels": limits.channels,
            "depth": limits.depth, "kernel_width": limits.kernel_width,
            "conv_input_channels": limits.conv_input_channels, "fp32_ports": limits.float_cast,
            "trigonometry": limits.trigonometry, "reflect_padding": limits.reflect_padding,
        },
        "numerics": {
            "width_slice_gain": numerics.width_slice_gain, "round_fault": numerics.round_fault,
            "conv3x3_anomaly": numerics.conv3x3_anomaly,
            "reduction": format!("{:?}", numerics.reduction), "dma_notch": chip.dma_notch(),
        },
        "forecast": {
            "confirmed_on_hardware": false, "dispatch_ms": speed.floor_ms,
            "matmul_tflops": matmul_tflops(chip), "weights_gb_s": speed.stream,
            "host_in_gb_s": speed.read, "host_out_gb_s": speed.write,
        },
    })
}

fn profile_json(profile: Profile) -> Value {
    let limits = profile.limits();
    json!({
        "os": profile.os.to_string(), "path": profile.path.to_string(),
        "min_surface_bytes": limits.min_surface_bytes, "equal_surfaces": limits.uniform_surfaces,
        "compiles": limits.compiles, "loaded": limits.loaded, "in_flight": limits.in_flight,
    })
}
