//! Prints the cost model against every published row: `cargo run --release -p ane --example cost_report`.

#![allow(clippy::print_stdout, reason = "this is what it is for")]

fn main() {
    print!("{}", ane::cost::markdown(&ane::cost::report()));
}
