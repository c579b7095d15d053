//! `anegpt devices`.

use super::facts;
use crate::machine::{self, DeviceChoice};
use crate::{engine, power};
use ane::cost::{CONSTANTS, Silicon};
use ane::{Chip, Profile};
use anyhow::Result;
use std::path::PathBuf;

/// Show what this machine can compute on, and which engines can be emulated.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Run the known-answer program by this route (or read the counters of `power`) and print what
    /// was found: the part of a probe that has a process of its own.
    #[arg(long, hide = true, value_name = "ROUTE")]
    probe: Option<String>,
    /// Compile the program in this directory by this route: the part of a compile that has a
    /// process of its own.
    #[arg(long, hide = true, num_args = 2, value_names = ["ROUTE", "DIR"])]
    compile: Option<Vec<PathBuf>>,
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
        None => devices(),
    }
}

fn devices() -> Result<()> {
    let found = engine::probe_all();
    for (route, result) in &found {
        match result {
            Ok(found) => println!(
                "{route:10} available: the known-answer program was compiled in {:.1} ms and runs \
                 in {:.3} ms",
                found.compile_seconds * 1e3,
                found.run_seconds * 1e3
            ),
            Err(reason) => println!("{route:10} unavailable: {reason:#}"),
        }
    }
    for choice in [DeviceChoice::Emulator, DeviceChoice::Cpu] {
        let machine = machine::open_any(choice, None, None, None)?;
        let name = if choice == DeviceChoice::Cpu { "cpu" } else { "emulator" };
        println!("{name:10} available: {}", machine.device.describe());
    }
    println!(
        "           {} cores, vector instructions: {:?}",
        std::thread::available_parallelism().map_or(1, usize::from),
        ane::emulator::simd::Level::best()
    );
    if let Some(reading) = power::once() {
        match reading {
            Ok((source, sample)) => println!("power      {sample} (whole machine, by {source})"),
            Err(reason) => println!("power      no reading: {reason:#}"),
        }
    }
    match engine::choose(&found) {
        Ok(engine::Choice { route, reason, .. }) => println!("auto takes {route}: {reason}"),
        Err(reason) => println!("auto takes the emulator: {reason:#}"),
    }
    println!();
    chips();
    println!();
    speeds();
    println!();
    profiles();
    println!("\nWhere each of these comes from: anegpt devices facts --chip CHIP");
    Ok(())
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "-" }
}

/// What is known of each chip: limits of shapes, then where its arithmetic and speed differ.
fn chips() {
    println!("Chips that the emulator can be (--chip):");
    println!(
        "{:9} {:5} {:>7} {:>6} {:>6} {:>5} {:>4} | {:>8} {:>6} {:>7} {:>6} {:>6}",
        "", "", "", "widest", "widest", "fp32", "sin", "slice", "round", "3x3", "sums", "1 MiB"
    );
    println!(
        "{:9} {:5} {:>7} {:>6} {:>6} {:>5} {:>4} | {:>8} {:>6} {:>7} {:>6} {:>6}",
        "chip",
        "arch",
        "engines",
        "tensor",
        "kernel",
        "ports",
        "cos",
        "gain 16",
        "fault",
        "rounded",
        "like",
        "notch"
    );
    for chip in Chip::ALL {
        let (facts, limits, numerics) = (chip.facts(), chip.limits(), chip.numerics());
        println!(
            "{:9} {:5} {:>7} {:>6} {:>6} {:>5} {:>4} | {:>8} {:>6} {:>7} {:>6} {:>6}",
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
        );
    }
    println!(
        "all chips: rank <= 5; channels <= 65536; products saturate at 2^15; no NaN is ever emitted"
    );
}

/// What the cost model takes for the speed of each chip.
fn speeds() {
    println!("Speed, by the cost model (docs/cost-model.md; not confirmed on hardware):");
    println!(
        "{:9} {:>10} {:>14} {:>12} {:>12} {:>12}",
        "", "dispatch", "matmul roof", "weights", "host in", "host out"
    );
    for chip in Chip::ALL {
        let name = chip.facts().name;
        let c = CONSTANTS.chip(name);
        println!(
            "{name:9} {:>7.3} ms {:>7.1} TFLOP/s {:>7.1} GB/s {:>7.1} GB/s {:>7.1} GB/s",
            c.floor_ms,
            CONSTANTS.shared.matmul * Silicon::named(name).peak_tflops(),
            c.stream,
            c.read,
            c.write
        );
    }
}

fn profiles() {
    println!("Systems and call paths:");
    println!(
        "{:22} {:>16} {:>15} {:>9} {:>7} {:>10}",
        "", "smallest surface", "equal surfaces", "compiles", "loaded", "in flight"
    );
    for os in ane::Os::ALL {
        for path in ane::CallPath::ALL {
            let limits = Profile { os, path, ..Profile::default() }.limits();
            let compiles = limits.compiles.map_or("no limit".to_owned(), |n| n.to_string());
            println!(
                "{:22} {:>16} {:>15} {:>9} {:>7} {:>10}",
                format!("{os}/{path}"),
                limits.min_surface_bytes,
                yes(limits.uniform_surfaces),
                compiles,
                limits.loaded,
                limits.in_flight
            );
        }
    }
}
