//! Prints the cost model against every published row: `cargo run --release -p chip --example cost_report`.

#![allow(clippy::print_stdout, reason = "this is what it is for")]

fn main() {
    print!("{}", chip::cost::markdown(&chip::cost::report()));
}
