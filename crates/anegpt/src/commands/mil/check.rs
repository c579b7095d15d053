//! `anegpt mil check`.

use super::source::read_text;
use super::weights::{self, Files};
use crate::commands::facts::wrapped;
use crate::progress::counted;
use anyhow::{Context, Result, anyhow, bail};
use chip::facts::facts;
use chip::legal::fix::{Applied, NotProven, Proof, has_fix};
use chip::legal::{self, Confidence, Refusal, Severity};
use chip::{Chip, Profile, Violation};
use mil::diagnostic::Place;
use mil::text::{Comments, Spans, parse_with_spans};
use mil::verify::Site;
use mil::{Diagnostic, Program, Weights};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

/// Seed of the inputs on which rewritten programs are compared.
const SEED: u64 = 0x0a11_ce55;

/// Check a program, and with --chip whether the engine would take it
///
/// Every fault is shown with its place. With --chip, every rule that the program breaks
/// is shown with its reason, its evidence and what to write instead.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt mil check program.mil
  anegpt mil check program.mil --chip m1 --fix")]
pub(crate) struct Args {
    /// Program (MIL text)
    file: PathBuf,
    /// Also check against the rules of this chip (list: anegpt devices)
    #[arg(long)]
    chip: Option<Chip>,
    /// System whose rules apply: macos15 or macos26 [default: macos15]
    #[arg(long, requires = "chip")]
    os: Option<chip::Os>,
    /// Route whose rules apply: in-memory or e5rt [default: in-memory]
    #[arg(long, value_name = "ROUTE", requires = "chip")]
    path: Option<chip::CallPath>,
    /// Rules to ignore, such as ANE070,ANE035
    #[arg(long, requires = "chip", value_delimiter = ',', value_name = "RULES")]
    allow: Vec<String>,
    /// Rewrite what is safe, prove that results stay the same, and print the program
    #[arg(long, requires = "chip")]
    fix: bool,
    /// Write the rewritten program to FILE instead of printing it
    #[arg(long, requires = "fix", value_name = "FILE")]
    output: Option<PathBuf>,
    /// Directory of weight files, @model_path [default: where FILE is]
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A program as read, and what is said of it.
struct Checked<'a> {
    args: &'a Args,
    text: String,
    program: Program,
    spans: Spans,
    /// Weight files that are there.
    weights: Weights,
    /// Faults of the language and, where there is no profile, of weight files.
    faults: Vec<Diagnostic>,
    /// The oddities of weight files, where there is no profile.
    warnings: Vec<Diagnostic>,
    profile: Option<Profile>,
    /// Breaches of rules, those of the language included, if there is a profile.
    found: Vec<Violation>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    for id in &args.allow {
        if let Some(why) = legal::withdrawn(id) {
            eprintln!("--allow {id}: this rule was withdrawn. {why}");
        } else if legal::rule(id).is_none() {
            return Err(crate::usage(format!("--allow {id}: there is no such rule")));
        }
    }
    let text = read_text(&args.file)?;
    let (program, spans) = match parse_with_spans(&text) {
        Ok(read) => read,
        Err(error) => return unreadable(args, &error.diagnostics),
    };
    let mut faults = mil::check_text(&text).err().unwrap_or_default();
    let base = weights::base(&args.file, args.weights.as_ref());
    let weights = Files::read(&program, &base).weights;
    let defaults = Profile::default();
    let profile = args.chip.map(|chip| Profile {
        chip,
        os: args.os.unwrap_or(defaults.os),
        path: args.path.unwrap_or(defaults.path),
    });
    let mut warnings = vec![];
    if profile.is_none() {
        let findings = weights::findings(&text, &program, &spans, &weights);
        faults.extend(findings.faults);
        warnings = findings.warnings;
    }
    let found = vec![];
    let mut checked =
        Checked { args, text, program, spans, weights, faults, warnings, profile, found };
    checked.found = profile.map(|profile| checked.violations(&profile)).unwrap_or_default();
    if args.fix { checked.mend() } else { checked.report() }
}

/// A text that is no program.
fn unreadable(args: &Args, faults: &[Diagnostic]) -> Result<()> {
    if args.json {
        let faults: Vec<Value> = faults.iter().map(fault_json).collect();
        let empty: [Value; 0] = [];
        print(&json!({ "file": args.file, "faults": faults, "rules": empty, "findings": empty }))?;
    } else {
        faults.iter().for_each(|fault| eprintln!("{fault}\n"));
    }
    bail!("{}: {}", args.file.display(), counted(faults.len(), "fault"))
}

fn print(value: &Value) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{value}")?)
}

fn fault_json(fault: &Diagnostic) -> Value {
    json!({
        "line": fault.place.as_ref().map(|p| p.line),
        "column": fault.place.as_ref().map(|p| p.column),
        "context": fault.context,
        "message": fault.message,
        "hint": fault.hint,
    })
}

fn is_allowed(args: &Args, violation: &Violation) -> bool {
    args.allow.iter().any(|id| id.eq_ignore_ascii_case(violation.rule.id))
}

/// Breaches that keep the program from the engine.
fn refused<'v>(args: &Args, found: &'v [Violation]) -> Vec<&'v Violation> {
    found.iter().filter(|v| v.rule.severity != Severity::Warning && !is_allowed(args, v)).collect()
}

impl Checked<'_> {
    fn report(&self) -> Result<()> {
        let (args, file) = (self.args, self.args.file.display());
        if args.json {
            print(&self.json())?;
        } else {
            if self.profile.is_none() {
                self.faults.iter().for_each(|fault| eprintln!("{fault}\n"));
                self.warnings.iter().for_each(|warning| eprintln!("warning: {warning}\n"));
            }
            self.found.iter().for_each(|violation| eprintln!("{}", self.explained(violation)));
            if self.faults.is_empty() {
                print_well_formed(args, &self.program)?;
            }
        }
        match refused(args, &self.found).len() {
            0 if self.faults.is_empty() => Ok(()),
            0 => bail!("{file}: {}", counted(self.faults.len(), "fault")),
            n => bail!("{file}: {} broken", counted(n, "rule")),
        }
    }

    /// Every breach on a machine: of the program, its text and its weight files.
    fn violations(&self, profile: &Profile) -> Vec<Violation> {
        let mut found = legal::text_violations(&self.text, &self.program, &self.spans, profile);
        found.extend(legal::violations(&self.program, profile));
        found.extend(legal::weight_violations(&self.program, &self.weights, profile));
        found
    }

    /// Where a breach is in the text.
    fn place(&self, violation: &Violation) -> Option<Place> {
        let header = match violation.rule.id {
            "ANE007" => Some(self.spans.version),
            "ANE008" => self.spans.build_info,
            _ => None,
        };
        if let Some(span) = header {
            return Some(Place::new(&self.text, span));
        }
        let functions = &self.program.functions;
        let f = functions.iter().position(|f| f.name == violation.function)?;
        let called = |id: mil::ValueId, name: &str| {
            functions[f].values.get(id.index()).is_some_and(|v| v.name == name)
        };
        let site = match &violation.place {
            legal::Place::Whole => Site::Function(f),
            legal::Place::Parameter(name) => {
                Site::Param(f, functions[f].inputs().position(|id| called(id, name))?)
            }
            legal::Place::Output(name) => {
                Site::Output(f, functions[f].outputs.iter().position(|&id| called(id, name))?)
            }
            legal::Place::Operation { index, .. } => Site::Operation(f, *index),
        };
        Some(Place::new(&self.text, self.spans.locate(site)?))
    }

    /// Chips on which the program breaks the same rule, with the same system and path.
    fn chips(&self, violation: &Violation) -> Vec<Chip> {
        let Some(profile) = self.profile else { return vec![] };
        let breaks = |chip: &Chip| {
            let profile = Profile { chip: *chip, ..profile };
            self.violations(&profile).iter().any(|v| v.rule == violation.rule)
        };
        Chip::ALL.into_iter().filter(breaks).collect()
    }

    /// A breach in full: what, where, why, for whom, on whose word, and what to write instead.
    fn explained(&self, violation: &Violation) -> String {
        let rule = violation.rule;
        let position = self
            .place(violation)
            .map_or(String::new(), |place| format!(":{}:{}", place.line, place.column));
        let head = violation.to_string();
        let head = head.lines().next().unwrap_or_default();
        let mut text = format!("{}{position}: {head}\n", self.args.file.display());
        let chips: Vec<String> = self.chips(violation).iter().map(Chip::to_string).collect();
        let ids: Vec<&str> =
            facts().filter(|fact| fact.rules.contains(&rule.id)).map(|fact| fact.id).collect();
        let mending = if has_fix(rule) { " (--fix can do this)" } else { "" };
        let allowed = if is_allowed(self.args, violation) { "; allowed" } else { "" };
        let rows = [
            ("rule", format!("{}: {} {}", rule.title, rule.does, rule.why)),
            ("what", format!("{}{allowed}", consequence(violation))),
            ("chips", format!("{}; the rule holds: {}", chips.join(", "), rule.applies)),
            ("evidence", rule.evidence.to_owned()),
            ("conflict", rule.conflict.to_owned()),
            ("facts", ids.join(", ")),
            ("rewrite", format!("{}{mending}", violation.rewrite)),
        ];
        for (label, row) in rows.iter().filter(|(_, row)| !row.is_empty()) {
            text.push_str(&wrapped(&format!("  {label}"), row));
        }
        text
    }

    fn finding_json(&self, violation: &Violation) -> Value {
        let rule = violation.rule;
        let place = self.place(violation);
        let chips: Vec<String> = self.chips(violation).iter().map(Chip::to_string).collect();
        let ids: Vec<&str> =
            facts().filter(|fact| fact.rules.contains(&rule.id)).map(|fact| fact.id).collect();
        json!({
            "rule": rule.id,
            "title": rule.title,
            "severity": severity(violation),
            "allowed": is_allowed(self.args, violation),
            "function": violation.function,
            "line": place.as_ref().map(|p| p.line),
            "column": place.as_ref().map(|p| p.column),
            "message": violation.message,
            "does": rule.does,
            "why": rule.why,
            "chips": chips,
            "evidence": rule.evidence,
            "conflict": rule.conflict,
            "confidence": confidence(violation),
            "facts": ids,
            "rewrite": violation.rewrite,
            "fixable": has_fix(rule),
        })
    }

    fn json(&self) -> Value {
        let faults: Vec<Value> = self.faults.iter().map(fault_json).collect();
        let rules: Vec<_> = self.found.iter().map(|v| (v.rule.id, v.to_string())).collect();
        let findings: Vec<Value> = self.found.iter().map(|v| self.finding_json(v)).collect();
        json!({
            "file": self.args.file,
            "faults": faults,
            "warnings": self.warnings.iter().map(fault_json).collect::<Vec<_>>(),
            "rules": rules,
            "findings": findings,
        })
    }

    /// Rewrites, proves, writes, and lists what is left.
    fn mend(&self) -> Result<()> {
        let (args, file) = (self.args, self.args.file.display());
        let profile = self.profile.ok_or_else(|| anyhow!("--fix needs --chip"))?;
        let allowed: Vec<&str> = args.allow.iter().map(String::as_str).collect();
        let mut fixed = legal::fix(&self.program, &profile, &allowed);
        // What is written is written anew.
        let text = self.found.iter().filter(|v| v.rule.id == "ANE008" && !is_allowed(args, v));
        fixed.applied.extend(text.map(Applied::exactly));
        let proof = fixed.prove(&self.program, &self.weights, SEED);
        let mut left = legal::violations(&fixed.program, &profile);
        left.extend(legal::weight_violations(&fixed.program, &self.weights, &profile));
        let written = self.text_for(&fixed.program, &profile);
        if args.json {
            print(&self.mended_json(&fixed, &proof, &left, &written))?;
        } else {
            for applied in &fixed.applied {
                let place = place_name(&applied.place);
                let head = format!("{} {}{place}", applied.rule.id, applied.function);
                eprint!("{}", wrapped("fixed", &format!("{head}: {}", applied.rewrite)));
            }
            for violation in &left {
                eprint!("{}", wrapped("left", &violation.to_string()));
            }
        }
        let proof = proof.map_err(|error| {
            anyhow!("{file}: not shown to compute the same, so nothing was written: {error}")
        })?;
        if !args.json {
            eprint!("{}", wrapped("proof", &proven(fixed.applied.len(), &proof)));
        }
        match &args.output {
            Some(path) => std::fs::write(path, &written)
                .with_context(|| format!("cannot write {}", path.display()))?,
            None if args.json => {}
            None => std::io::stdout().write_all(written.as_bytes())?,
        }
        match refused(args, &left).len() {
            0 => Ok(()),
            n => bail!("{file}: {} still broken", counted(n, "rule")),
        }
    }

    /// The text that the machine reads, with the comments of what is left: scalars in the long form
    /// where its parser needs it.
    fn text_for(&self, program: &Program, profile: &Profile) -> String {
        let old = profile.chip.generation() <= chip::Generation::A14
            && profile.path == chip::CallPath::InMemory
            && program.version == (1, 0);
        let comments = Comments::of(&self.text, &self.program, &self.spans);
        let commented = comments.on(program);
        if old { format!("{commented:#}") } else { commented.to_string() }
    }

    fn mended_json(
        &self,
        fixed: &legal::Fixed,
        proof: &Result<Proof, NotProven>,
        left: &[Violation],
        text: &str,
    ) -> Value {
        let mut value = self.json();
        let applied = fixed.applied.iter().map(|applied| {
            json!({
                "rule": applied.rule.id,
                "function": applied.function,
                "place": place_name(&applied.place).trim_start_matches(", "),
                "rewrite": applied.rewrite,
            })
        });
        value["fixed"] = applied.collect();
        value["left"] = left.iter().map(|v| json!([v.rule.id, v.to_string()])).collect();
        value["proof"] = match proof {
            Ok(proof) => json!({
                "operations_alike": proof.alike,
                "parts": proof.parts,
                "values": proof.values,
                "largest_difference": proof.largest,
                "allowed": proof.bound,
                "values_in_f32": proof.single_values,
                "largest_difference_in_f32": proof.single_largest,
                "allowed_in_f32": proof.single_bound(),
            }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        if proof.is_ok() {
            value["program"] = json!(text);
        }
        value
    }
}

/// Describes the proof.
fn proven(rewrites: usize, proof: &Proof) -> String {
    let (rewrites, alike) = (counted(rewrites, "rewrite"), counted(proof.alike, "operation"));
    let mut text = format!("{rewrites}; unchanged: {alike}");
    match proof.parts {
        0 => text.push_str(", and nothing else is computed"),
        parts => text.push_str(&format!("; run on random inputs: {}", counted(parts, "part"))),
    }
    let results = [
        (proof.values, "f64", proof.largest, proof.bound),
        (proof.single_values, "f32", proof.single_largest, proof.single_bound()),
    ];
    for (values, precision, largest, allowed) in results {
        if values > 0 {
            text.push_str(&format!(
                ": {values} results in {precision} differ by at most {} (allowed {})",
                brief(largest),
                brief(allowed)
            ));
        }
    }
    text
}

/// A difference: 0, or its power of ten.
fn brief(difference: f64) -> String {
    if difference == 0.0 { "0".to_owned() } else { format!("{difference:.1e}") }
}

fn print_well_formed(args: &Args, program: &Program) -> Result<()> {
    let mut out = std::io::stdout();
    for f in &program.functions {
        writeln!(
            out,
            "{}: function {} is well formed: {}, {}, {}",
            args.file.display(),
            f.name,
            counted(f.params, "input"),
            counted(f.ops.iter().filter(|op| op.value.is_none()).count(), "operation"),
            counted(f.outputs.len(), "output")
        )?;
    }
    Ok(())
}

fn severity(violation: &Violation) -> &'static str {
    match violation.rule.severity {
        Severity::Error => "error",
        Severity::Silent => "silent",
        Severity::Warning => "warning",
    }
}

fn confidence(violation: &Violation) -> &'static str {
    match violation.rule.confidence {
        Confidence::High => "high",
        Confidence::Medium => "medium",
        Confidence::Low => "low",
    }
}

/// Returns the consequence of a breach, and how sure it is.
fn consequence(violation: &Violation) -> String {
    let reported = match violation.rule.refusal {
        Some(Refusal::InvalidMilProgram) => ", reported as InvalidMILProgram",
        Some(Refusal::CompilationFailure) => ", reported as CompilationFailure",
        Some(Refusal::LoadFailure) => ", reported as a load failure",
        Some(Refusal::Unreported) | None => "",
    };
    let what = match violation.rule.severity {
        Severity::Error => "the machine refuses it",
        Severity::Silent => "the machine runs it and gives wrong numbers",
        Severity::Warning => "it may fail: it depends on the data, or sources disagree",
    };
    format!("{what}{reported}; confidence {}", confidence(violation))
}

fn place_name(place: &legal::Place) -> String {
    match place {
        legal::Place::Whole => String::new(),
        legal::Place::Parameter(name) => format!(", parameter `{name}`"),
        legal::Place::Output(name) => format!(", output `{name}`"),
        legal::Place::Operation { index, name } => format!(", operation {index} `{name}`"),
    }
}
