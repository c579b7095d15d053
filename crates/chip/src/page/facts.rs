//! The page of documentation that is written from the table of facts.

use crate::facts::{FACTS, Fact, fact, facts};
use std::fmt::Write;

/// Abbreviations of the evidence that the page of rules does not explain.
const SOURCES: [(&str, &str); 35] = [
    ("751K", "751K/Apple-Neural-Engine-Microarchitecture-Study-M6"),
    ("AF", "sbryngelson/ANEForge and the Python package aneforge"),
    ("ALB", "allbilly/ane"),
    ("ANEGPT", "vipuldivyanshu92/ANEgpt"),
    ("ANEMLL", "Anemll/anemll-bench"),
    ("CMT", "apple/coremltools"),
    (
        "DEC",
        "Apple's own frameworks of iOS 16 to 26 and of macOS, as decompiled, in several public \
         repositories",
    ),
    ("eiln", "eiln/ane and eiln.github.io"),
    ("ELA", "electricapp/ane-bridge-rs"),
    ("ESP", "christopherkarani/Espresso"),
    ("GUIDE", "sbryngelson/ane-guide, arXiv 2606.22283"),
    ("HOL", "hollance/neural-engine"),
    ("IMP", "imperatormk/ane-train"),
    ("INF", "thebasedcapital/ane-infer"),
    ("InvokeAI", "invoke-ai/InvokeAI"),
    ("JSW", "joshuaswarren/ane-linux-experiments"),
    ("LARQL", "chrishayuk/larql"),
    ("LM", "hbanaharis/ANE-LM"),
    ("LUE", "luengnat/rustane"),
    ("MAD", "maderix/ANE"),
    ("maderix part 2", "the second article on maderix's engine measurements"),
    ("MID", "MidasMulli/ane-compiler"),
    ("MLXF", "probe notes of the mlxfast challenges"),
    ("ncdrone/ane", "the repository of that name, which RUS compiles with"),
    ("OMLX", "jundot/omlx"),
    ("ORI", "mechramc/Orion"),
    ("pytorch", "pytorch/pytorch"),
    ("RIN", "rindi's notes on an assembler for the engine"),
    ("RUS", "ncdrone/rustane"),
    ("SHC", "kasper0406/stablehlo-coreml"),
    ("SKY", "skyfallsin/apple-neural-engine-field-guide"),
    ("TMC", "tmc/ane-training-experiments"),
    ("tmc/apple", "the repository of that name"),
    ("apple/coreai-torch", "the repository of that name"),
    ("E1-…, D-…", "other rows of this page"),
];

/// All facts as Markdown: what `docs/ane-facts.md` holds.
pub fn markdown() -> String {
    let all = facts().count();
    let tested = facts().filter(|fact| !fact.tests.is_empty()).count();
    let conflicts = facts().filter(|fact| !fact.default).count();
    let mut text = format!(
        "# Facts of the Neural Engine\n\n\
         Written from the table of facts in `crates/chip/src/facts`; do not edit. To write it anew: \
         `ANEGPT_BLESS=1 cargo test -p chip --test facts the_page_is_current`. \
         `anegpt devices facts` lists and filters the same table.\n\n\
         {all} rows, {tested} of them held by a named test, {conflicts} not in force because another \
         row contradicts them. *Measured*: a source measured it. *Derived*: a source read it out of \
         binaries or code. *Asserted*: said without data. *Inferred*: it explains what was seen; \
         nobody tested it. *Verified*: computed anew from published data and found to agree. Nothing \
         was measured by this project.\n"
    );
    for (subject, facts) in &FACTS {
        let _ = write!(text, "\n## {subject}\n");
        facts.iter().for_each(|fact| row(fact, &mut text));
    }
    text.push_str("\n## Sources\n\n`#n` after a name is an issue or pull request.\n\n");
    for (name, source) in &SOURCES {
        let _ = writeln!(text, "- {name}: {source}");
    }
    text
}

fn row(fact: &Fact, text: &mut String) {
    let force = if fact.default { "" } else { " (not in force)" };
    let _ = write!(
        text,
        "\n### {}{force}\n\n{}\n\n*{}, confidence {}; {}*\n\nEvidence: {}.\n",
        fact.id,
        fact.statement,
        fact.basis,
        fact.confidence,
        fact.scope(),
        fact.evidence
    );
    if !fact.alternatives.is_empty() {
        let links = fact.alternatives.iter().map(|id| format!("[{id}](#{})", anchor(id)));
        let _ = write!(text, "\nContradicted by: {}\n", links.collect::<Vec<_>>().join(", "));
    }
    if !fact.rules.is_empty() {
        let links = fact.rules.iter().filter_map(|id| {
            let rule = crate::legal::rule(id)?;
            Some(format!(
                "[{id}](ane-rules.md#{})",
                heading_anchor(&format!("{id} {}", rule.title))
            ))
        });
        let _ = write!(text, "\nRules: {}\n", links.collect::<Vec<_>>().join(", "));
    }
    if !fact.tests.is_empty() {
        let tests = fact.tests.iter().map(|test| format!("`{test}`"));
        let _ = write!(text, "\nTests: {}\n", tests.collect::<Vec<_>>().join(", "));
    }
}

/// Links from another page to the facts that a rule stands for.
pub(super) fn links_of_rule(rule: &str) -> String {
    let of = facts().filter(|fact| fact.rules.contains(&rule));
    let links = of.map(|fact| format!("[{}](ane-facts.md#{})", fact.id, anchor(fact.id)));
    links.collect::<Vec<_>>().join(", ")
}

/// The anchor of a fact's own heading.
fn anchor(id: &str) -> String {
    let force = fact(id).is_none_or(|fact| fact.default);
    heading_anchor(&if force { id.to_owned() } else { format!("{id} (not in force)") })
}

/// The anchor that Markdown readers give a heading: lower case, without punctuation, hyphens for
/// spaces.
fn heading_anchor(heading: &str) -> String {
    let kept = heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .collect::<String>();
    kept.replace(' ', "-")
}
