//! The system's error reports, and advice for each (docs/ane-facts.md B.3).

use ane::AneError;

/// A known report: words that occur in it, their meaning, and true if a retry helps.
struct Known {
    words: &'static str,
    hint: &'static str,
    transient: bool,
}

/// Known reports, the more particular first.
const KNOWN: [Known; 14] = [
    Known {
        words: "InvalidMILProgram",
        hint: "the compiler refuses the program as it is written; `anegpt mil check` names the \
               operation if the reason is a known one",
        transient: false,
    },
    Known {
        words: "status=0x1d",
        hint: "number, size or order of the surfaces does not suit the program (too small, not of \
               one size, or a width that is no multiple of 32)",
        transient: false,
    },
    Known {
        words: "status=0xf ",
        hint: "the engine gave up on a request that took too long; cut the program into smaller \
               ones",
        transient: true,
    },
    Known {
        words: "status=0x2 ",
        hint: "a procedure or symbol index is wrong, or the programs loaded are too large together",
        transient: false,
    },
    Known {
        words: "0x20004",
        hint: "the program does not fit the engine's address window; cut it into several or give \
               weights as inputs",
        transient: false,
    },
    Known {
        words: "0x50004",
        hint: "the engine has no room for another program; programs of other processes, or ones \
               that were not released, hold it; close what else uses the engine",
        transient: true,
    },
    Known {
        words: "must re-compile",
        hint: "128 programs are loaded, the most that a process may hold; by one source Espresso has \
               room for 15, of all processes together: close what else uses the engine, or use \
               --device in-memory",
        transient: true,
    },
    Known {
        words: "CompilationFailure",
        hint: "the compiler gave up; it does so now and then under load, and always on programs \
               with some operations or shapes",
        transient: true,
    },
    Known {
        words: "ANECCompile() FAILED",
        hint: "the compiler gave up; it does so now and then under load, and always on programs \
               with some operations or shapes",
        transient: true,
    },
    Known {
        words: "Code=15 ",
        hint: "requests cannot be chained on the engine without an entitlement",
        transient: false,
    },
    Known {
        words: "Code=13 ",
        hint: "the surfaces could not be mapped into the engine; allocate them anew",
        transient: true,
    },
    Known {
        words: "Code=10 ",
        hint: "the system does not accept the compiled program's directory (seen on macOS 27); use \
               the other device",
        transient: false,
    },
    Known {
        words: "create_precompiled_compute_operation_with_options",
        hint: "Espresso could not load the program; by one source it has room for 15, of all \
               processes together: close what else uses the engine, or use --device in-memory",
        transient: true,
    },
    Known { words: "hostTooOld", hint: "a virtual machine has no Neural Engine", transient: false },
];

/// The error for `action` ("compiling", "loading" …) that the system explained by `report`.
pub(super) fn reported(action: &'static str, report: String) -> AneError {
    let known = KNOWN.iter().find(|known| report.contains(known.words));
    let hint = known.map_or("no published work explains this report; please send it", |k| k.hint);
    let transient = known.is_some_and(|known| known.transient);
    AneError::Reported { action, hint, report, transient }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chip::CallPath;

    #[test]
    fn our_own_words_for_the_machine_are_recognised() {
        // The errors that the emulator gives are those of published logs.
        for (error, part, transient) in [
            (AneError::ResourcesExhausted, "no room", true),
            (AneError::Timeout, "too long", true),
            (AneError::Chaining, "chained", false),
            (AneError::InvalidBundle, "directory", false),
            (AneError::SurfaceMap { code: 4 }, "mapped", true),
            (AneError::Procedure { index: 3, count: 1 }, "index is wrong", false),
            (AneError::CompileBudget { limit: 119 }, "now and then", true),
            (AneError::TooManyPrograms { limit: 128, path: CallPath::E5rt }, "128 programs", true),
            (
                AneError::SurfaceCount { what: "input", expected: 1, got: 2 },
                "does not suit the program",
                false,
            ),
        ] {
            let report = error.ns_error().unwrap().to_string();
            let found = reported("running", report.clone());
            assert!(found.to_string().contains(part), "{found}");
            assert!(found.to_string().ends_with(&report), "{found}");
            assert_eq!(found.is_retryable(), transient, "{found}");
        }
        // 13 and 10 are codes of their own.
        for code in [99, 134_060, 1004] {
            let report = format!("Error Domain=x Code={code} \"(null)\"");
            let unknown = reported("loading", report).to_string();
            assert!(unknown.contains("no published work"), "{unknown}");
        }
    }
}
