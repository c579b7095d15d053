//! Tests of the help of every command.

use crate::Cli;
use clap::{Arg, Command, CommandFactory};
use unicode_width::UnicodeWidthStr;

/// Every command that is shown, with its path, such as `anegpt mil run`.
fn commands() -> Vec<(String, Command)> {
    let mut root = Cli::command();
    root.build();
    let mut found = vec![];
    collect("anegpt".to_owned(), root, &mut found);
    found
}

fn collect(path: String, command: Command, found: &mut Vec<(String, Command)>) {
    let below = command.get_subcommands().filter(|c| c.get_name() != "help");
    for sub in below.filter(|c| !c.is_hide_set()) {
        collect(format!("{path} {}", sub.get_name()), sub.clone(), found);
    }
    found.push((path, command));
}

/// Flags that are shown, by their long names.
fn flags(command: &Command) -> impl Iterator<Item = &str> {
    command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(Arg::get_long)
}

#[test]
fn help_fits_80_columns() {
    for (path, mut command) in commands() {
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let long = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        let wide = after.lines().chain(long.lines()).find(|line| line.width() > 80);
        assert_eq!(wide, None, "{path}");
        for columns in [80, 60] {
            command = command.term_width(columns);
            for text in [command.render_help(), command.render_long_help()] {
                let text = text.to_string();
                // Examples and usage are lines to be typed; 80 columns are what they are written for.
                let wide = text.lines().find(|line| columns == 80 && line.width() > 80);
                assert_eq!(wide, None, "{path}: {text}");
            }
        }
    }
    assert!(crate::engine::TOPIC.lines().all(|line| line.width() <= 80));
}

#[test]
fn every_flag_and_command_has_help() {
    for (path, command) in commands() {
        let about = command.get_about().expect("a first line").to_string();
        assert!(!about.ends_with('.') && !about.contains('\n'), "{path}: {about}");
        for arg in command.get_arguments() {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let id = arg.get_id();
            assert!(help.chars().next().is_some_and(|c| !c.is_lowercase()), "{path} {id}: {help}");
            assert!(!help.contains('\n'), "{path} {id}: one paragraph in -h: {help}");
        }
        let leaf = command.get_subcommands().all(|c| c.get_name() == "help");
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(!leaf || after.contains("Example") || path == "anegpt probe", "{path}: {after}");
    }
}

/// What a flag takes has a name that was chosen: clap's own repeats the flag with underscores.
#[test]
fn values_have_names() {
    for (path, command) in commands() {
        for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
            for name in arg.get_value_names().unwrap_or_default() {
                assert!(!name.contains('_'), "{path}: {arg}");
            }
        }
    }
    let name = |path: &str, flag: &str| {
        let (_, command) = commands().into_iter().find(|(other, _)| other == path).unwrap();
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(flag)).unwrap();
        arg.get_value_names().unwrap()[0].to_string()
    };
    assert_eq!(name("anegpt rl", "advantage-norm"), "NORM");
    assert_eq!(name("anegpt generate", "weights"), name("anegpt chat", "weights"));
}

#[test]
fn flags_are_shown_where_they_are_used() {
    let engine =
        ["evaluate", "packed", "no-packed", "compile-cache", "compile-in", "compile-limit"];
    for (path, command) in commands() {
        let has = |flag: &str| flags(&command).any(|f| f == flag);
        let opens = has("device") || path == "anegpt devices";
        for flag in engine {
            assert_eq!(has(flag), opens, "{path} --{flag}");
        }
        // What the hardware says of its times is shown by these two.
        let timed = ["anegpt mil run", "anegpt probe"].contains(&path.as_str());
        assert_eq!(has("hardware-time"), timed, "{path}");
        let trains =
            ["anegpt train", "anegpt sft", "anegpt rl", "anegpt parity"].contains(&path.as_str());
        assert_eq!(has("host-gemm"), trains, "{path}");
        let numerics = opens && !["anegpt devices", "anegpt probe"].contains(&path.as_str());
        assert_eq!(has("numerics"), numerics || path == "anegpt mil replay", "{path}");
    }
}

#[test]
fn the_topic_of_the_engine_explains_its_flags() {
    let (_, probe) = commands().into_iter().find(|(path, _)| path == "anegpt probe").unwrap();
    let of_engine = |arg: &&Arg| arg.get_help_heading().is_some_and(|h| h.starts_with("Neural"));
    let flags: Vec<&str> =
        probe.get_arguments().filter(of_engine).filter_map(Arg::get_long).collect();
    assert_eq!(flags.len(), 8, "{flags:?}");
    for flag in flags.into_iter().filter(|&flag| flag != "runtime") {
        assert!(crate::engine::TOPIC.contains(&format!("--{flag}")), "{flag}");
    }
    let mut root = Cli::command();
    let shown =
        root.try_get_matches_from_mut(["anegpt", "help", "engine"]).unwrap_err().to_string();
    assert_eq!(shown.trim_end(), crate::engine::TOPIC.trim_end());
}
