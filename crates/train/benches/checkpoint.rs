//! Checkpoints on a disk: `cargo bench -p train --bench checkpoint [-- DIRECTORY]`.
//!
//! Writes weights and moments of as many parameters as stories15m and stories110m have, verifies and
//! reads them, beside a plain file of as many bytes (1 MiB at a time, synced, as `dd conv=fsync` does),
//! in rounds that alternate. What is read was just written and comes from the system's memory. In a
//! directory of its own in DIRECTORY [default: that for temporary files], which is removed.
#![allow(clippy::print_stdout, reason = "a benchmark tells its results")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;
use train::Checkpoint;
use train::checkpoint::{self, Contents, Tensors};

const ROUNDS: usize = 5;
const BLOCK: usize = 1 << 20;
/// Rows and columns of each tensor.
const SHAPE: [usize; 2] = [1024, 768];
/// Parameters of stories15m and of stories110m.
const SIZES: [usize; 2] = [15_191_712, 109_529_856];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args().skip(1).find(|a| !a.starts_with("--"));
    let parent = parent.map_or_else(std::env::temp_dir, PathBuf::from);
    println!("{}: MB/s, medians of {ROUNDS} alternating rounds", parent.display());
    for parameters in SIZES {
        let directory = tempfile::tempdir_in(&parent)?;
        report(parameters / (SHAPE[0] * SHAPE[1]), directory.path())?;
    }
    Ok(())
}

fn report(count: usize, directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let arena: Vec<f32> =
        (0..SHAPE[0] * SHAPE[1]).map(|i| ((i * 7919) % 2003) as f32 / 1001.5 - 1.0).collect();
    let plain = directory.join("plain");
    let mut seconds: [Vec<f64>; 4] = Default::default();
    let mut bytes = 0;
    for round in 0..=ROUNDS {
        let start = Instant::now();
        let path = write_checkpoint(&directory.join("run"), count, &arena, round as u64)?;
        let write = start.elapsed().as_secs_f64();
        bytes = size(&path)?;
        let start = Instant::now();
        read_checkpoint(&path, count)?;
        let read = start.elapsed().as_secs_f64();
        let start = Instant::now();
        write_plain(&plain, &arena, bytes)?;
        let plain_write = start.elapsed().as_secs_f64();
        let start = Instant::now();
        read_plain(&plain)?;
        let plain_read = start.elapsed().as_secs_f64();
        std::fs::remove_file(&plain)?;
        // The first round wakes everything up.
        if round > 0 {
            let found = [write, plain_write, read, plain_read];
            seconds.iter_mut().zip(found).for_each(|(all, one)| all.push(one));
        }
    }
    let [write, plain_write, read, plain_read] =
        seconds.map(|all| bytes as f64 / median(all) / 1e6);
    println!(
        "{:>7.1} MB: write {write:>7.0} of {plain_write:>7.0} plain ({:>3.0} %), verify and read \
         {read:>7.0} of {plain_read:>7.0} plain ({:>3.0} %)",
        bytes as f64 / 1e6,
        100.0 * write / plain_write,
        100.0 * read / plain_read
    );
    Ok(())
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Names of `count` tensors with each of the suffixes.
fn names(count: usize, suffixes: &[&str]) -> Vec<String> {
    let mut names = vec![];
    for suffix in suffixes {
        names.extend((0..count).map(|i| format!("layer.{i}{suffix}")));
    }
    names
}

fn write_checkpoint(
    directory: &Path,
    count: usize,
    arena: &[f32],
    step: u64,
) -> Result<PathBuf, checkpoint::CheckpointError> {
    let tensors = |suffixes: &[&str]| -> Tensors<'_> {
        names(count, suffixes)
            .into_iter()
            .map(|name| (name, SHAPE.to_vec(), arena.into()))
            .collect()
    };
    let contents = Contents {
        step,
        best: None,
        tensors: vec![
            ("model.safetensors", tensors(&[""])),
            ("optimizer.safetensors", tensors(&[".m", ".v"])),
        ],
        texts: vec![],
        state: serde_json::Value::Null,
    };
    checkpoint::write(directory, &contents, 1)
}

/// Verifies all files and reads all tensors, as resuming does.
fn read_checkpoint(path: &Path, count: usize) -> Result<(), checkpoint::CheckpointError> {
    let checkpoint = Checkpoint::open(path)?;
    let each = SHAPE[0] * SHAPE[1];
    for (file, suffixes) in
        [("model.safetensors", &[""][..]), ("optimizer.safetensors", &[".m", ".v"])]
    {
        let names = names(count, suffixes);
        let mut arena = vec![0.0; each * names.len()];
        let wanted: Vec<_> = (names.into_iter().zip(arena.chunks_exact_mut(each)))
            .map(|(name, part)| (name, SHAPE.to_vec(), part))
            .collect();
        checkpoint.read_tensors(file, wanted)?;
    }
    Ok(())
}

fn size(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

fn write_plain(path: &Path, data: &[f32], bytes: u64) -> io::Result<()> {
    let block: Vec<u8> = data.iter().take(BLOCK / 4).flat_map(|v| v.to_le_bytes()).collect();
    let mut file = File::create(path)?;
    let mut left = bytes;
    while left > 0 {
        let now = left.min(block.len() as u64);
        file.write_all(&block[..now as usize])?;
        left -= now;
    }
    file.sync_all()
}

fn read_plain(path: &Path) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut file = File::open(path)?;
    while file.read(&mut block)? > 0 {}
    Ok(())
}
