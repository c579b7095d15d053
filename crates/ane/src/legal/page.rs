//! The page of documentation that is written from the table of rules.

use super::{Confidence, RULES, Refusal, Rule, Severity};

/// All rules as Markdown: what `docs/ane-rules.md` holds.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Rules of the Neural Engine\n\n\
         Written from the table of rules in `crates/ane/src/legal`; do not edit. To write it anew: \
         `ANEGPT_BLESS=1 cargo test -p ane --test legal the_page_is_current`.\n\n\
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
    text
}

fn section(rule: &Rule, text: &mut String) {
    let severity = match rule.severity {
        Severity::Error => "error",
        Severity::Silent => "silently wrong",
        Severity::Warning => "warning",
    };
    let confidence = match rule.confidence {
        Confidence::High => "high",
        Confidence::Medium => "medium",
        Confidence::Low => "low",
    };
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
}
