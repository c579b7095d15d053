//! `anegpt devices`.

use crate::engine;
use crate::machine::{self, DeviceChoice};
use anyhow::Result;

/// Show what this machine can compute on.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run the known-answer program by this route and print what was found: the part of a probe
    /// that has a process of its own.
    #[arg(long, hide = true, value_name = "ROUTE")]
    probe: Option<String>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    if let Some(route) = args.probe {
        println!("{}", serde_json::to_string(&engine::probe_here(&route)?)?);
        return Ok(());
    }
    for route in engine::ROUTES {
        match engine::probe(route) {
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
        let machine = machine::open(choice, None, None)?;
        let name = if choice == DeviceChoice::Cpu { "cpu" } else { "emulator" };
        println!("{name:10} available: {}", machine.device.describe());
    }
    println!(
        "           {} cores, vector instructions: {:?}",
        std::thread::available_parallelism().map_or(1, usize::from),
        ane::emulator::simd::Level::best()
    );
    match engine::best() {
        Ok((route, reason)) => println!("auto takes {route}: {reason}"),
        Err(reason) => println!("auto takes the emulator: {reason:#}"),
    }
    Ok(())
}
