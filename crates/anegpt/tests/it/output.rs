//! Standard error that cannot be written to: `/dev/full` fails every write, as a full disk does.

use crate::{Bench, with};
use std::fs::File;
use std::process::Stdio;

impl Bench {
    /// The exit code with a full standard error, and with one that can be written to.
    fn codes(&self, args: &[&str]) -> [Option<i32>; 2] {
        let full = File::options().write(true).open("/dev/full").expect("Linux has it");
        [Stdio::from(full), Stdio::null()].map(|stderr| {
            let status = self.command(args).stdout(Stdio::null()).stderr(stderr).status();
            status.expect("the program starts").code()
        })
    }
}

#[test]
fn a_full_standard_error_changes_no_exit_code() {
    let bench = Bench::new();
    bench.write(
        "wrong.mil",
        "program(1.3)\n{ func main<ios18>(tensor<fp16, [1, 2]> x) { } -> (y); }",
    );
    let pad = "program(1.3)\n{ func main<ios18>(tensor<fp16, [1, 2, 1, 16]> x) {\n\
               tensor<fp16, [1, 2, 1, 16]> y = sin(x=x)[name=string(\"y\")]; } -> (y); }";
    bench.write("refused.mil", pad);
    for (args, code) in [
        (&["generate", "--model", "/nope", "--prompt", "x"][..], 1),
        (&["devices", "facts", "no such fact"], 1),
        (&["train", "--steps", "0"], 2),
        (&["fly"], 2),
        (&["mil", "check", "wrong.mil"], 1),
        (&["mil", "check", "refused.mil", "--chip", "m1"], 1),
        (&["mil", "check", "refused.mil", "--chip", "m1", "--fix"], 1),
    ] {
        assert_eq!(bench.codes(args), [Some(code); 2], "{args:?}");
    }
}

/// A run with a warning that nobody can read ends as one whose warnings are read.
#[test]
fn a_full_standard_error_ends_no_run() {
    let bench = Bench::new();
    let run = bench.small_run();
    let args = ["--steps", "2", "--device", "emulator", "--inject-faults", "flaky-compile:1"];
    assert_eq!(bench.codes(&with(&run, &args)), [Some(0); 2]);
}
