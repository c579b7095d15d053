//! `anegpt parity`: the same training under different arithmetic and plans, compared.

mod args;
mod compare;
mod picture;
mod runs;
mod text;

pub(crate) use args::Args;

use crate::usage;
use anyhow::{Context, Result};
use compare::Comparison;
use runs::Job;
use std::fs;
use std::path::Path;
use train::checkpoint;

pub(crate) fn run(args: &Args) -> Result<()> {
    if !(args.own.divergence > 0.0 && args.own.divergence.is_finite()) {
        return Err(usage("--divergence must be a share above 0, such as 0.01"));
    }
    if args.variants.len() < 2 {
        return Err(usage(
            "nothing to compare: give at least two of --numerics or of --plan, as in --numerics f32,fast",
        ));
    }
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot create {}", args.out.display()))?;
    let jobs = args.jobs();
    if checkpoint::exists(&args.out) || args.out.join("log.jsonl").exists() {
        return Err(usage(format!(
            "{} holds a run, and a comparison needs a directory of its own: give another --out",
            args.out.display()
        )));
    }
    args.claim()?;
    let finished = runs::to_end(&jobs, &args.flags, args.own.compare_every)?;
    let comparison = Comparison::of(&args.variants, &finished, args.own.divergence)?;
    for (name, contents) in [
        ("parity.json", serde_json::to_string_pretty(&comparison)? + "\n"),
        ("losses.svg", picture::losses(&comparison, &finished)),
        ("layers.svg", picture::layers(&comparison)),
    ] {
        write(&args.out.join(name), &contents)?;
    }
    print!("{}", text::report(&comparison));
    println!("\npictures and figures: {}", args.out.display());
    Ok(())
}

fn write(path: &Path, contents: &str) -> Result<()> {
    fs::write(path, contents).with_context(|| format!("cannot write {}", path.display()))
}

/// The flags that stand in one of two lists alone, each list as JSON.
fn differing(before: &str, now: &str) -> String {
    let [before, now] = [before, now].map(|text| {
        serde_json::from_str::<Vec<String>>(text).unwrap_or_else(|_| vec![text.trim().to_owned()])
    });
    let only = |of: &[String], other: &[String], place: &str| {
        let flags: Vec<&str> =
            of.iter().filter(|flag| !other.contains(flag)).map(String::as_str).collect();
        (!flags.is_empty()).then(|| format!("Only {place}: {}", flags.join(" ")))
    };
    let sides = [only(&before, &now, "there"), only(&now, &before, "here")];
    let said: Vec<String> = sides.into_iter().flatten().collect();
    if said.is_empty() { "Their order differs".to_owned() } else { said.join(". ") }
}

impl Args {
    /// Every run: all kinds of one seed, then those of the next.
    fn jobs(&self) -> Vec<Job> {
        let seeds = (0..self.own.seeds).map(|n| self.first_seed.wrapping_add(n));
        seeds
            .flat_map(|seed| {
                self.variants.iter().enumerate().map(move |(variant, kind)| Job {
                    variant,
                    kind: *kind,
                    seed,
                    first: seed == self.first_seed,
                    directory: self.out.join(format!("{}-seed-{seed}", kind.file_name())),
                })
            })
            .collect()
    }

    /// True if a run in the directory has a checkpoint.
    fn has_runs(&self) -> Result<bool> {
        let entries = fs::read_dir(&self.out)
            .with_context(|| format!("cannot read {}", self.out.display()))?;
        Ok(entries.flatten().any(|entry| checkpoint::exists(&entry.path())))
    }

    /// Notes the flags of the runs, or refuses a directory whose runs have others.
    fn claim(&self) -> Result<()> {
        let path = self.out.join("flags.json");
        let flags: Vec<String> =
            self.flags.first.iter().map(|flag| flag.to_string_lossy().into_owned()).collect();
        let flags = serde_json::to_string(&flags)?;
        match fs::read_to_string(&path) {
            Ok(before) if before.trim() == flags => Ok(()),
            Ok(_) if !self.has_runs()? => write(&path, &(flags + "\n")),
            Ok(before) => Err(usage(format!(
                "{} has runs with other flags. {}. Give the same flags to go on with them, or another --out",
                self.out.display(),
                differing(&before, &flags)
            ))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                write(&path, &(flags + "\n"))
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}
