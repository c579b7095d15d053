//! The C header, printed from the list of functions in [`crate::abi`].

/// How C writes a type, by how Rust writes it.
const TYPES: &[(&str, &str)] = &[
    ("()", "void"),
    ("bool", "bool"),
    ("c_char", "char"),
    ("c_int", "int"),
    ("c_void", "void"),
    ("f32", "float"),
    ("f64", "double"),
    ("i8", "int8_t"),
    ("u8", "uint8_t"),
    ("usize", "size_t"),
    ("ANEKernelHandle", "ANEKernelHandle"),
    ("ANEDeviceHandle", "ANEDeviceHandle"),
];

/// The C type for the Rust type `rust`, as the source has it.
fn c_type(rust: &str) -> String {
    if let Some(target) = rust.strip_prefix("*const ") {
        return match c_type(target) {
            pointer if pointer.ends_with('*') => format!("{pointer}const *"),
            value => format!("const {value} *"),
        };
    }
    if let Some(target) = rust.strip_prefix("*mut ") {
        return match c_type(target) {
            pointer if pointer.ends_with('*') => format!("{pointer}*"),
            value => format!("{value} *"),
        };
    }
    let row = TYPES.iter().find(|(name, _)| *name == rust);
    row.expect("every type of the interface is in the table").1.to_owned()
}

/// A function of the interface.
#[derive(Clone, Copy, Debug)]
pub struct Declaration {
    /// Lines of its documentation.
    pub doc: &'static [&'static str],
    /// Its name.
    pub name: &'static str,
    /// Types, as Rust writes them, and names of its parameters.
    pub parameters: &'static [(&'static str, &'static str)],
    /// Type of its result, as Rust writes it.
    pub returns: &'static str,
}

const WIDTH: usize = 100;

impl Declaration {
    fn comment(&self) -> String {
        let lines: Vec<&str> = self.doc.iter().map(|line| line.trim()).collect();
        match lines.as_slice() {
            [line] => format!("/* {line} */\n"),
            lines => {
                let body = lines.iter().map(|line| format!(" * {line}").trim_end().to_owned());
                format!("/*\n{}\n */\n", body.collect::<Vec<_>>().join("\n"))
            }
        }
    }

    fn prototype(&self) -> String {
        let joined = |ty: &str, name: &str| match c_type(ty) {
            pointer if pointer.ends_with('*') => format!("{pointer}{name}"),
            value => format!("{value} {name}"),
        };
        let parameters: Vec<String> =
            self.parameters.iter().map(|(ty, name)| joined(ty, name)).collect();
        let start = joined(self.returns, self.name);
        let list = if parameters.is_empty() { "void".to_owned() } else { parameters.join(", ") };
        let line = format!("{start}({list});\n");
        if line.len() <= WIDTH {
            return line;
        }
        format!("{start}(\n    {});\n", parameters.join(",\n    "))
    }
}

/// The text of `ane_bridge.h`.
pub fn text() -> String {
    let functions: Vec<String> =
        crate::abi::DECLARATIONS.iter().map(|d| d.comment() + &d.prototype()).collect();
    format!("{HEAD}\n{}\n{TAIL}", functions.join("\n"))
}

const HEAD: &str = r#"/*
 * ane_bridge.h: compile and run MIL programs on a Neural Engine, or on its emulator.
 *
 * Printed from the list of functions in crates/bridge/src/abi.rs; do not edit.
 *
 * Any thread may call any function at any time. A function that fails returns what its comment
 * says and leaves a message for ane_bridge_last_error. Handles may be null, freed, or invented:
 * such a call fails and does nothing else. So does every call in a process that was forked after a
 * device was opened. Pointers to data must be null or point to as many bytes as the call says; that
 * cannot be checked.
 *
 * Inputs and outputs are numbered in alphabetical order of their names in the program, which is the
 * order in which the engine binds them. Their elements are in the type that the program declares,
 * for instance 2 bytes for fp16, row by row without gaps.
 */
#ifndef ANE_BRIDGE_H
#define ANE_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A compiled program with a surface for each port. Not a pointer to anything: a number. */
typedef struct ANEKernelHandle ANEKernelHandle;

/* An open device. Not a pointer to anything: a number. */
typedef struct ANEDeviceHandle ANEDeviceHandle;
"#;

const TAIL: &str = r#"#ifdef __cplusplus
}
#endif

#endif
"#;
