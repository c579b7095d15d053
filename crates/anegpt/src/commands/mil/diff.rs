//! `anegpt mil diff`.

use super::replay::{distance, histogram};
use super::source::read_program;
use crate::progress::counted;
use crate::{arrays, usage};
use anyhow::{Result, bail};
use half::f16;
use lab::array::Array;
use lab::trace::{Comparison, compare};
use mil::{DType, TensorType};
use std::path::{Path, PathBuf};

/// Compare two programs, or two sets of arrays
///
/// Programs (.mil) are compared operation by operation; names of values do not
/// matter. Arrays (.npy, .npz, or directories of .npy) are compared by name, in
/// units in the last place: of fp16 if one side holds only fp16 numbers, otherwise
/// of fp32.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt mil diff a.mil b.mil
  anegpt mil diff out/ expected.npz --tolerance 1e-3")]
pub(crate) struct Args {
    /// Program or arrays
    left: PathBuf,
    /// Program to compare it with
    right: PathBuf,
    /// Maximum difference that passes, relative to the larger element (absolute
    /// below 1)
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    tolerance: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if !(args.tolerance >= 0.0 && args.tolerance.is_finite()) {
        return Err(usage(format!(
            "--tolerance {} must be a number of at least 0",
            args.tolerance
        )));
    }
    let program = |path: &Path| path.extension().is_some_and(|extension| extension == "mil");
    match (program(&args.left), program(&args.right)) {
        (true, true) => programs(args),
        (false, false) => all_arrays(args),
        _ => Err(usage("one is a program and the other is not: compare like with like")),
    }
}

fn programs(args: &Args) -> Result<()> {
    let found = mil::diff(&read_program(&args.left)?, &read_program(&args.right)?);
    if args.json {
        let changes: Vec<String> = found.changes.iter().map(ToString::to_string).collect();
        println!("{}", serde_json::json!({ "notes": found.notes, "changes": changes }));
    } else {
        found.notes.iter().for_each(|note| println!("  {note}"));
        found.changes.iter().for_each(|change| println!("{change}"));
    }
    match found.changes.len() {
        0 => Ok(()),
        n => bail!("the programs differ in {}", counted(n, "place")),
    }
}

/// One array on both sides.
#[derive(serde::Serialize)]
struct Line {
    name: String,
    shape: Vec<usize>,
    comparison: Comparison,
    beyond_tolerance: usize,
}

fn all_arrays(args: &Args) -> Result<()> {
    let (left, right) = (arrays::read_all(&args.left)?, arrays::read_all(&args.right)?);
    let (mut lines, mut faults) = (vec![], vec![]);
    for (name, a) in left.iter().cloned() {
        let Some((_, b)) = right.iter().find(|(other, _)| *other == name).cloned() else {
            faults.push(format!("{name}: only in {}", args.left.display()));
            continue;
        };
        let shapes = [a.ty.shape.clone(), b.ty.shape.clone()];
        let half = holds_half(&a) || holds_half(&b);
        let dtype = if half { DType::Fp16 } else { DType::Fp32 };
        let [a, b] = [a, b].map(|array| Array {
            ty: TensorType::new(dtype, array.ty.shape),
            values: array.values,
        });
        match compare(&a, &b) {
            Some(comparison) => lines.push(Line {
                beyond_tolerance: beyond(&a, &b, args.tolerance),
                shape: a.ty.shape,
                name,
                comparison,
            }),
            None => faults.push(format!("{name}: shapes {:?} and {:?}", shapes[0], shapes[1])),
        }
    }
    let new = right.iter().filter(|(name, _)| left.iter().all(|(other, _)| other != name));
    faults.extend(new.map(|(name, _)| format!("{name}: only in {}", args.right.display())));
    if args.json {
        println!("{}", serde_json::json!({ "arrays": lines, "faults": faults }));
    } else {
        lines.iter().for_each(show);
        faults.iter().for_each(|fault| println!("{fault}"));
    }
    let different = lines.iter().filter(|line| line.beyond_tolerance > 0).count() + faults.len();
    match different {
        0 => Ok(()),
        1 => bail!("1 array differs by more than the tolerance of {}", args.tolerance),
        n => bail!("{n} arrays differ by more than the tolerance of {}", args.tolerance),
    }
}

/// True if the array holds nothing but numbers of fp16.
fn holds_half(array: &Array) -> bool {
    array.values.iter().all(|v| v.is_nan() || f16::from_f32(*v).to_f32() == *v)
}

/// Elements whose difference does not pass.
fn beyond(a: &Array, b: &Array, tolerance: f64) -> usize {
    let passes = |(a, b): (&f32, &f32)| {
        let (a, b) = (f64::from(*a), f64::from(*b));
        let scale = a.abs().max(b.abs()).max(1.0);
        a == b
            || (a.is_nan() && b.is_nan())
            || (a - b).abs() <= tolerance * scale && scale < f64::INFINITY
    };
    a.values.iter().zip(&b.values).filter(|pair| !passes(*pair)).count()
}

fn show(line: &Line) {
    let c = &line.comparison;
    println!(
        "{} {:?}: {} of {} elements differ, {}; absolute {:.3e}, relative {:.3e}; {} beyond the \
         tolerance",
        line.name,
        line.shape,
        c.differing,
        c.elements,
        distance(c.max_ulp),
        c.max_abs,
        c.max_rel,
        line.beyond_tolerance
    );
    if let Some(first) = c.first {
        println!("  first at {}: {} and {}", first.index, first.left, first.right);
        println!("  {}", histogram(&c.histogram));
    }
}
