//! Which literals of a program are in weight files, and what reading them shows.
//!
//! ```
//! use mil::weights::{inspect, stored};
//! use mil::Weights;
//!
//! let text = r#"program(1.3) { func main<ios18>(tensor<fp16, [1, 4]> x) {
//!     tensor<fp16, [4]> w = const()[name = string("w"), val = tensor<fp16, [4]>(
//!         BLOBFILE(path = string("@model_path/w.bin"), offset = uint64(64)))];
//!     tensor<fp16, [1, 4]> y = mul(x = x, y = w)[name = string("y")];
//! } -> (y); }"#;
//! let program = mil::check_text(text).unwrap();
//! assert_eq!(stored(&program).next().unwrap().name, "constant `w`");
//!
//! let files = Weights::from([("@model_path/w.bin".to_owned(), vec![0; 40])]);
//! let found = inspect(&program, &files);
//! assert!(found[0].message().starts_with("constant `w` in @model_path/w.bin: "));
//! ```

use crate::blob::{self, BlobError, Oddity, Weights};
use crate::ir::{Arg, Program};
use crate::op::Op;
use crate::types::{Literal, Payload};
use crate::verify::Site;
use std::collections::BTreeSet;

/// A literal that is in a weight file.
#[derive(Clone, Debug)]
pub struct Stored<'p> {
    /// Where the program names it.
    pub site: Site,
    /// Its name in messages: ``constant `W` `` or ``argument `weight` of `y` ``.
    pub name: String,
    /// The literal.
    pub literal: &'p Literal,
    /// The file, as the program writes it.
    pub path: &'p str,
    /// Offset of its record.
    pub offset: u64,
}

/// The result of reading a literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It cannot be read.
    Unreadable(BlobError),
    /// It can, although its record is not as it should be.
    Odd(Oddity),
}

/// A literal and what is wrong with it in its file.
#[derive(Clone, Debug)]
pub struct Found<'p> {
    /// The literal.
    pub stored: Stored<'p>,
    /// The fault.
    pub finding: Finding,
    /// How to mend it; may be empty.
    pub hint: String,
}

impl Found<'_> {
    /// The literal, its file and what is wrong, in one line.
    pub fn message(&self) -> String {
        let Stored { name, path, .. } = &self.stored;
        match &self.finding {
            Finding::Unreadable(error) => format!("{name} in {path}: {error}"),
            Finding::Odd(oddity) => format!("{name} in {path}: {oddity}"),
        }
    }
}

/// Every literal in a weight file, constants and literals in place of arguments alike, in the order
/// of the program.
pub fn stored(program: &Program) -> impl Iterator<Item = Stored<'_>> {
    let operations = program.functions.iter().enumerate().flat_map(|(f, function)| {
        function.ops.iter().enumerate().map(move |(k, op)| (f, k, function, op))
    });
    operations.flat_map(|(f, k, function, op)| {
        let result = op.results.first().and_then(|id| function.values.get(id.index()));
        let result = result.map_or(op.name.as_str(), |value| value.name.as_str());
        let value = op.value.iter().map(move |literal| {
            let name = match op.op {
                Op::Const => format!("constant `{result}`"),
                _ => format!("value of `{result}`"),
            };
            (Site::Value(f, k), name, literal)
        });
        let args = op.args.iter().enumerate().filter_map(move |(a, (key, arg))| {
            let what = if matches!(arg, Arg::Attribute(_)) { "attribute" } else { "argument" };
            let name = format!("{what} `{key}` of `{result}`");
            Some((Site::Arg(f, k, a), name, arg.literal()?))
        });
        value.chain(args).filter_map(|(site, name, literal)| match &literal.payload {
            Payload::Blob { path, offset } => {
                Some(Stored { site, name, literal, path, offset: *offset })
            }
            Payload::Inline(_) => None,
        })
    })
}

/// Paths of the weight files that a program names.
pub fn paths(program: &Program) -> BTreeSet<&str> {
    stored(program).map(|stored| stored.path).collect()
}

/// Returns the faults in literals of the files given; those in other files are left out.
pub fn inspect<'p>(program: &'p Program, weights: &Weights) -> Vec<Found<'p>> {
    let mut all = vec![];
    for stored in stored(program) {
        let Some(file) = weights.get(stored.path) else { continue };
        let found = |finding| {
            let hint = hint(file, stored.offset, &finding);
            Found { stored: stored.clone(), finding, hint }
        };
        match blob::inspect(file, stored.offset, &stored.literal.ty) {
            Ok(odd) => all.extend(odd.into_iter().map(|oddity| found(Finding::Odd(oddity)))),
            Err(error) => all.push(found(Finding::Unreadable(error))),
        }
    }
    all
}

fn hint(file: &[u8], offset: u64, finding: &Finding) -> String {
    match finding {
        Finding::Unreadable(BlobError::Sentinel { .. } | BlobError::Truncated { .. }) => {
            match blob::record_of_data(file, offset) {
                Some(record) => format!(
                    "the data are at {offset}, their record at {record}: write offset = \
                     uint64({record})"
                ),
                None => String::new(),
            }
        }
        Finding::Unreadable(_) => String::new(),
        Finding::Odd(_) => "write the file with a record per blob that fits it".to_owned(),
    }
}
