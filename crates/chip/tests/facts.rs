//! The table of facts holds together: ids, conflicts, rules, tests that exist, and its page.

use chip::facts::{self, Confidence, Fact, fact, facts};
use chip::{CallPath, Chip, Os, Profile};
use chip::{legal, page};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

#[test]
fn there_are_enough_rows_and_tests() {
    assert!(facts().count() >= 120, "{} rows", facts().count());
    let tested = facts().filter(|fact| !fact.tests.is_empty()).count();
    assert!(tested >= 80, "{tested} rows name a test");
}

#[test]
fn ids_are_unique_and_name_their_section() {
    let mut seen = BTreeSet::new();
    for fact in facts() {
        let id = fact.id;
        assert!(seen.insert(id.to_lowercase()), "{id} twice");
        let (section, words) = id.split_once('-').expect("a section and words");
        assert_eq!(section, fact.section.replace('.', ""), "{id}");
        assert!("ABCDEFGI".contains(&section[..1]) && section.len() <= 2, "{id}");
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        assert!(words.split('-').all(|w| !w.is_empty() && w.chars().all(plain)), "{id}");
        assert_eq!(facts::fact(&id.to_uppercase()), Some(fact));
    }
    assert_eq!(fact("E9-nothing"), None);
}

#[test]
fn rows_come_in_the_order_of_the_catalogue() {
    for (subject, rows) in facts::FACTS {
        let sections: Vec<_> = rows.iter().map(|fact| fact.section).collect();
        assert!(sections.windows(2).all(|w| w[0] <= w[1]), "{subject}");
    }
}

#[test]
fn rows_are_complete() {
    for fact in facts() {
        let Fact { id, statement, evidence, .. } = fact;
        assert!(statement.ends_with('.') || statement.ends_with('`'), "{id}: {statement}");
        assert!(!evidence.is_empty() && !evidence.ends_with('.'), "{id}: {evidence}");
        for text in [statement, evidence] {
            assert!(!text.contains("  ") && text.is_ascii() || text.chars().all(printable), "{id}");
        }
        assert!(Chip::ALL.into_iter().any(|chip| fact.chips.covers(chip)), "{id}");
    }
}

fn printable(c: char) -> bool {
    c.is_ascii_graphic() || " ×·µ…≥≤−–·²⁻§".contains(c)
}

/// Rows that contradict each other name each other, and one of them is in force.
#[test]
fn conflicts_have_one_default() {
    for fact in facts() {
        let id = fact.id;
        assert!(
            fact.default || !fact.alternatives.is_empty(),
            "{id} is out of force for no reason"
        );
        for &other in fact.alternatives {
            let other = facts::fact(other).unwrap_or_else(|| panic!("{id} names {other}"));
            assert_ne!(other.id, id);
            assert!(other.alternatives.contains(&id), "{} does not name {id}", other.id);
            assert_ne!(fact.default, other.default, "{id} and {}", other.id);
        }
        if !fact.default {
            let force = fact.alternatives.iter().filter(|id| facts::fact(id).unwrap().default);
            assert_eq!(force.count(), fact.alternatives.len(), "{id}");
        }
    }
    assert!(facts().filter(|fact| !fact.default).count() >= 20);
}

#[test]
fn every_rule_is_a_fact() {
    for fact in facts() {
        for id in fact.rules {
            assert!(legal::rule(id).is_some(), "{} names the rule {id}", fact.id);
        }
    }
    for rule in legal::rules() {
        let facts: Vec<_> = facts().filter(|fact| fact.rules.contains(&rule.id)).collect();
        assert!(!facts.is_empty(), "{} is no fact", rule.id);
        // A rule that refuses is not less sure than the fact that it stands for.
        let sure = facts.iter().map(|fact| fact.confidence).min().unwrap();
        assert!(sure <= rule.confidence.max(Confidence::Medium), "{}", rule.id);
    }
}

/// Names of the tests in a source file: functions below `#[test]`, those of `proptest!` included.
fn tests_of(source: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut marked = false;
    for line in source.lines().map(str::trim) {
        if line == "#[test]" {
            marked = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            if std::mem::take(&mut marked) {
                names.insert(rest.split(['(', '<']).next().unwrap());
            }
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            marked = false;
        }
    }
    names
}

#[test]
fn every_named_test_exists() {
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    for fact in facts() {
        let mut seen = BTreeSet::new();
        for test in fact.tests {
            assert!(seen.insert(test), "{} names {test} twice", fact.id);
            let (file, name) = test.split_once("::").expect("a file and a name");
            let source = files.entry(file).or_insert_with(|| {
                std::fs::read_to_string(Path::new(ROOT).join(file))
                    .unwrap_or_else(|e| panic!("{}: {file}: {e}", fact.id))
            });
            assert!(tests_of(source).contains(name), "{}: no test {name} in {file}", fact.id);
        }
    }
}

/// The parts of the code that refer to facts by id find them.
#[test]
fn ids_written_in_the_code_exist() {
    fn visit(dir: &Path, seen: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                visit(&path, seen);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                seen.extend(text.split('`').filter(|word| is_id(word)).map(str::to_owned));
            }
        }
    }
    fn is_id(word: &str) -> bool {
        let section = word.split('-').next().unwrap_or_default();
        let mut letters = section.chars();
        let head = letters.next().is_some_and(|c| ('A'..='I').contains(&c));
        let tail = letters.as_str();
        let tail =
            tail.is_empty() || (tail.len() == 1 && tail.starts_with(|c: char| c.is_ascii_digit()));
        let rest = word.get(section.len() + 1..).unwrap_or_default();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        head && tail && rest.len() > 2 && rest.chars().all(plain)
    }
    let mut seen = BTreeSet::new();
    for room in ["ane", "apple", "chip", "cpu", "lab"] {
        visit(&Path::new(ROOT).join("crates").join(room).join("src"), &mut seen);
    }
    assert!(seen.len() >= 6, "{seen:?}");
    for id in seen {
        assert!(fact(&id).is_some(), "there is no fact `{id}`");
    }
}

/// Ids that reports of other tools name.
#[test]
fn ids_in_use_elsewhere_stay() {
    let used = "E1-product-grid E1-product-gate E1-exact-sum E2-saturation E2-width-slice-gain \
        E3-half-away E3-never-nan E3-denormals E4-activation-tables E4-reduction E4-sigmoid-table \
        C1-alphabetical C1-uniform-sizes C1-minimum-size C1-packed D-compiles D-loaded D-in-flight \
        F1-floor-m1 F3-dma-notch";
    for id in used.split_whitespace() {
        assert!(fact(id).is_some_and(|fact| fact.default), "{id}");
    }
}

#[test]
fn facts_know_whom_they_are_about() {
    let holds =
        |id: &str, profile: &str| fact(id).unwrap().holds(&profile.parse::<Profile>().unwrap());
    assert!(holds("E2-width-slice-gain", "m2-pro") && !holds("E2-width-slice-gain", "m3"));
    assert!(holds("C1-minimum-size", "m1/macos15") && !holds("C1-minimum-size", "m1/macos26"));
    assert!(!holds("C1-alphabetical", "m4/e5rt") && holds("C2-named-ports", "m4/e5rt"));
    assert!(holds("D-extent-65536", "m5-max") && !holds("D-extent-65536", "m3-ultra"));
    // Every profile has facts of every section.
    for chip in Chip::ALL {
        for (os, path) in Os::ALL.into_iter().zip(CallPath::ALL) {
            let profile = Profile { chip, os, path };
            assert!(facts::FACTS.iter().all(|(_, rows)| rows.iter().any(|f| f.holds(&profile))));
        }
    }
}

#[test]
fn the_page_is_current() {
    let path = format!("{ROOT}/docs/ane-facts.md");
    let page = page::facts();
    if std::env::var_os("ANEGPT_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == page,
        "run ANEGPT_BLESS=1 cargo test -p chip --test facts the_page_is_current"
    );
    // Links within the page and to the page of rules lead somewhere.
    let rules = page::rules();
    let anchor = |heading: &str| -> String {
        let kept: String = heading
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .collect();
        kept.replace(' ', "-")
    };
    let anchors = |text: &str| -> BTreeSet<String> {
        text.lines().filter_map(|line| line.strip_prefix("### ")).map(anchor).collect()
    };
    let (here, there) = (anchors(&page), anchors(&rules));
    let mut links = 0;
    for part in page.split("](").skip(1) {
        let target = part.split(')').next().unwrap();
        match target.split_once('#').unwrap() {
            ("", id) => assert!(here.contains(id), "#{id}"),
            ("ane-rules.md", id) => assert!(there.contains(id), "ane-rules.md#{id}"),
            _ => panic!("{target}"),
        }
        links += 1;
    }
    assert!(links > 100);
}
