//! `anegpt devices`.

use crate::machine::{self, DeviceChoice};
use anyhow::Result;

/// Show what this machine can compute on.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(Args {}: Args) -> Result<()> {
    println!("in-memory  unavailable: {}", machine::no_engine());
    println!("espresso   unavailable: {}", machine::no_engine());
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
    println!("auto takes the emulator: {}", machine::no_engine());
    Ok(())
}
