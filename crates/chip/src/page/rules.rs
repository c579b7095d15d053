//! The page of documentation that is written from the table of rules.

use super::facts::links_of_rule;
use crate::legal::fix::has_fix;
use crate::legal::{RULES, Refusal, Rule, Severity, WITHDRAWN};

/// Abbreviations of the evidence, and what they stand for.
const SOURCES: [(&str, &str); 25] = [
    ("751K", "751K/Apple-Neural-Engine-Microarchitecture-Study-M6"),
    ("AF", "sbryngelson/ANEForge and the Python package aneforge"),
    ("ANEGPT", "vipuldivyanshu92/ANEgpt"),
    ("CMT", "apple/coremltools"),
    ("ELA", "electricapp/ane-bridge-rs"),
    ("ESP", "christopherkarani/Espresso"),
    ("GUIDE", "sbryngelson/ane-guide, arXiv 2606.22283"),
    ("IMP", "imperatormk/ane-train"),
    ("INF", "thebasedcapital/ane-infer"),
    ("LM", "hbanaharis/ANE-LM"),
    ("LUE", "luengnat/rustane"),
    ("MAD", "maderix/ANE"),
    ("MID", "MidasMulli/ane-compiler"),
    ("MLXF", "probe notes of the mlxfast challenges"),
    ("OMLX", "jundot/omlx"),
    ("ORI", "mechramc/Orion"),
    ("RUS", "ncdrone/rustane and ncdrone/ane"),
    ("SKY", "skyfallsin/apple-neural-engine-field-guide"),
    ("A", "section A of the catalogue: programs and weight files"),
    ("B", "section B: operations and error texts"),
    ("C", "section C: surfaces"),
    ("D", "section D: limits and budgets"),
    ("E", "section E: numerics"),
    ("G", "section G: call paths"),
    ("I", "section I: rules of an emulator"),
];

/// All rules as Markdown: what `docs/ane-rules.md` holds.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Rules of the Neural Engine\n\n\
         Written from the table of rules in `crates/chip/src/legal`; do not edit. To write it anew: \
         `ANEGPT_BLESS=1 cargo test -p chip --test legal the_page_is_current`.\n\n\
         A program is checked against these rules before it is compiled, for a chip, a system and a \
         call path. *Error*: the machine refuses it. *Silently wrong*: the machine runs it and gives \
         wrong numbers, so it is refused here. *Warning*: it depends on the data, or sources \
         disagree. Evidence names sections of the catalogue of facts and, in brackets, published \
         sources; nothing was measured by this project.\n",
    );
    for (subject, rules) in &RULES {
        text.push_str(&format!("\n## {subject}\n"));
        rules.iter().for_each(|rule| section(rule, &mut text));
    }
    text.push_str("\n## Withdrawn\n\nThe ids of these rules are not given again.\n\n");
    for (id, why) in &WITHDRAWN {
        text.push_str(&format!("- {id}. {why}\n"));
    }
    text.push_str("\n## Sources\n\n`#n` after a name is an issue or pull request.\n\n");
    for (name, source) in &SOURCES {
        text.push_str(&format!("- {name}: {source}\n"));
    }
    text
}

fn section(rule: &Rule, text: &mut String) {
    let severity = match rule.severity {
        Severity::Error => "error",
        Severity::Silent => "silently wrong",
        Severity::Warning => "warning",
    };
    let confidence = rule.confidence;
    let refusal = match rule.refusal {
        Some(Refusal::InvalidMilProgram) => ", reported as InvalidMILProgram",
        Some(Refusal::CompilationFailure) => ", reported as CompilationFailure",
        Some(Refusal::LoadFailure) => ", reported as a load failure",
        Some(Refusal::Unreported) | None => "",
    };
    text.push_str(&format!(
        "\n### {} {}\n\n*{severity}{refusal}; confidence {confidence}; holds: {}*\n\n{} {}\n\n\
         Instead: {}.\n\nEvidence: {}.\n",
        rule.id, rule.title, rule.applies, rule.does, rule.why, rule.instead, rule.evidence
    ));
    if !rule.conflict.is_empty() {
        text.push_str(&format!("\nConflict: {}\n", rule.conflict));
    }
    text.push_str(&format!("\nFacts: {}\n", links_of_rule(rule.id)));
    if has_fix(rule) {
        text.push_str("\n`mil check --fix` rewrites it where that is safe.\n");
    }
}
