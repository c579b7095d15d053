//! Rules of weight files. They need the files, so they are not among those of [`super::violations`].

use super::place::Place;
use super::rule::{Check, Refusal, Rule, Severity};
use super::violation::Violation;
use crate::confidence::Confidence;
use crate::machine::{CallPath, Generation, Profile};
use mil::blob::Oddity;
use mil::verify::Site;
use mil::weights::{Finding, Found, inspect};
use mil::{Program, Weights};

pub(super) static RULES: [Rule; 3] = [
    Rule {
        id: "ANE015",
        title: "weight files hold what the program asks for",
        applies: "everywhere",
        does: "Refuses constants whose record in the weight file is missing, truncated, of another \
               version, or of another type or size than the program says.",
        why: "The reader refuses some of them and takes garbage for others without a word.",
        instead: "write the file with mil::blob::BlobWriter, and the offset of the record, not of the data",
        evidence: "A.5 (CMT:mlmodel/src/MILBlob/Blob/StorageReader.cpp, ORI #8)",
        conflict: "M4 and M5 were seen to take records of another size, and int8 coded as fp16, in \
                   memory: ANE016 and ANE017.",
        severity: Severity::Error,
        confidence: Confidence::High,
        refusal: Some(Refusal::Unreported),
        check: Check::Weights,
    },
    Rule {
        id: "ANE016",
        title: "records give the size of their data",
        applies: "M4, M5; in memory (elsewhere ANE015)",
        does: "Warns of records in a weight file that give another size than the tensor's, or 0 as the \
               place of the data.",
        why: "A published benchmark writes one size for all shapes, and 0 as the place. On M4 and M5 its \
              programs of 256 to 768 channels and more compile and run; on M3 only those of 512, whose \
              size it is. What numbers the engine reads was not looked at.",
        instead: "write the size and the place of the data into each record",
        evidence: "A.5 (MAD:benchmarks/ANE_BENCHMARK_REPORT.md, MAD:ane_int8_bench.m, MAD:inmem_peak.m)",
        conflict: "Apple's published reader refuses another size (CMT). Hence a warning; ANE015 on other \
                   chips and by e5rt.",
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        refusal: None,
        check: Check::Weights,
    },
    Rule {
        id: "ANE017",
        title: "int8 weights are coded as int8",
        applies: "in memory (by e5rt ANE015)",
        does: "Warns of int8 and uint8 constants whose record says fp16.",
        why: "Two sources code int8 as fp16 and their programs run in memory; one of them compared the \
              results.",
        instead: "write the code 4 for int8 and 3 for uint8 into the record",
        evidence: "A.5 (MAD:ane_int8_bench.m, on M4; MLXF: int8.md, within 0.8 % of the product)",
        conflict: "Apple's published reader refuses another type (CMT). Hence a warning.",
        severity: Severity::Warning,
        confidence: Confidence::Medium,
        refusal: None,
        check: Check::Weights,
    },
];

/// The faults in constants of `program` in those of its weight files that are given, as
/// breaches of ANE015 to ANE017. Files that are not given are not missed here.
pub fn weight_violations(
    program: &Program,
    weights: &Weights,
    profile: &Profile,
) -> Vec<Violation> {
    inspect(program, weights).into_iter().map(|found| breach(program, profile, found)).collect()
}

/// The rule that a finding breaks on a machine.
fn rule_of(finding: &Finding, profile: &Profile) -> &'static Rule {
    let in_memory = profile.path == CallPath::InMemory;
    match finding {
        Finding::Unreadable(_) => &RULES[0],
        Finding::Odd(Oddity::Code { .. }) if in_memory => &RULES[2],
        Finding::Odd(Oddity::Size { .. } | Oddity::Place { .. })
            if in_memory && profile.chip.generation() >= Generation::A16 =>
        {
            &RULES[1]
        }
        Finding::Odd(_) => &RULES[0],
    }
}

fn breach(program: &Program, profile: &Profile, found: Found<'_>) -> Violation {
    let rule = rule_of(&found.finding, profile);
    let message = found.message();
    let (Site::Value(f, index) | Site::Arg(f, index, _)) = found.stored.site else {
        unreachable!("weights are constants or arguments")
    };
    let function = &program.functions[f];
    let hint = if found.hint.is_empty() { rule.instead.to_owned() } else { found.hint };
    Violation {
        rule,
        function: function.name.clone(),
        place: Place::Operation { index, name: function.ops[index].name.clone() },
        message,
        rewrite: hint.clone(),
        hint,
    }
}
