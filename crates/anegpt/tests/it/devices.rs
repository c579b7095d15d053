//! `anegpt devices`, and what is said of chips of which nothing was measured.

use crate::{Bench, words};
use serde_json::Value;

#[test]
fn facts_are_listed_filtered_and_shown() {
    let bench = Bench::new();
    let all = bench.ok(&["devices", "facts"]);
    // In a pipe nothing is cut.
    for fact in chip::facts::facts() {
        assert!(all.lines().any(|line| line.contains(fact.id) && line.ends_with(fact.statement)));
    }
    assert!(
        bench
            .ok(&["devices", "facts", "E2-saturation", "32752"])
            .ends_with("1 fact, * 1 held by a named test, ! 0 not in force\n")
    );
    let list = |more: &[&str]| -> Vec<Value> {
        let text = bench.ok(&[&["devices", "facts", "--json"], more].concat());
        serde_json::from_str(&text).unwrap()
    };
    let ids = |facts: &[Value]| -> Vec<String> {
        facts.iter().map(|f| f["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(list(&[]).len(), ane_facts());
    let e = list(&["--chip", "m2", "--section", "E.2"]);
    assert!(ids(&e).contains(&"E2-width-slice-gain".to_owned()));
    assert!(e.iter().all(|f| f["section"] == "E.2"));
    let newer = list(&["--chip", "m4", "--section", "e2"]);
    assert!(!ids(&newer).contains(&"E2-width-slice-gain".to_owned()));
    let old = ids(&list(&["--os", "15", "--path", "in-memory", "surface"]));
    assert!(old.contains(&"C1-minimum-size".to_owned()));
    assert!(!ids(&list(&["--os", "26", "surface"])).contains(&"C1-minimum-size".to_owned()));
    assert!(!ids(&list(&["--path", "e5rt"])).contains(&"C1-alphabetical".to_owned()));
    let conflicts = list(&["--conflicts"]);
    assert!(conflicts.iter().all(|f| !f["alternatives"].as_array().unwrap().is_empty()));
    let sure = list(&["--confidence", "high"]);
    assert!(sure.iter().all(|f| f["confidence"] == "high") && sure.len() < ane_facts());
    let one = bench.ok(&["devices", "facts", "e2-saturation"]);
    assert!(one.contains("32752") && one.contains("evidence") && one.contains("E2-fp32-range"));
    assert_eq!(bench.run(&["devices", "facts", "no-such-fact"]).status.code(), Some(1));
}

fn ane_facts() -> usize {
    chip::facts::facts().count()
}

#[test]
fn devices_show_chips_and_profiles() {
    let bench = Bench::new();
    let text = bench.ok(&["devices"]);
    assert!(text.contains("emulator") && text.contains("auto takes"));
    for chip in chip::Chip::ALL {
        assert!(text.lines().any(|line| line.starts_with(&format!("{chip} "))), "{chip}");
    }
    assert!(text.contains("macos15/in-memory") && text.contains("49152"));
    assert!(text.lines().all(|line| line.chars().count() <= 80));
    let row = |chip: &str| {
        let mut rows = text.lines().filter(|line| line.starts_with(&format!("{chip} ")));
        [rows.next().unwrap(), rows.next().unwrap()]
    };
    assert!(row("m2-max").iter().all(|row| row.ends_with("  as m2-pro")), "{text}");
    assert!(row("m2-pro").iter().all(|row| !row.contains(" as ")), "{text}");
    assert!(text.contains("as m3: limits and speed of m3, since nothing was measured"), "{text}");
}

#[test]
fn devices_and_probes_are_listed_for_programs() {
    let bench = Bench::new();
    let json = |args: &[&str]| -> Value { serde_json::from_str(&bench.ok(args)).unwrap() };
    let all = json(&["devices", "--json"]);
    assert_eq!(all["anegpt"], env!("CARGO_PKG_VERSION"));
    let names: Vec<&str> =
        all["devices"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["in-memory", "espresso", "emulator", "cpu"]);
    assert_eq!(all["devices"][0]["available"], false);
    assert!(all["devices"][0]["reason"].as_str().unwrap().contains("ANEGPT_NO_ENGINE"));
    assert_eq!(
        (&all["devices"][2]["available"], &all["auto"]["device"]),
        (&true.into(), &"emulator".into())
    );
    let chips = all["chips"].as_array().unwrap();
    assert_eq!(chips.len(), chip::Chip::ALL.len());
    let chip = |name: &str| chips.iter().find(|chip| chip["name"] == name).unwrap();
    assert_eq!(
        (&chip("m2-max")["nearest"], &chip("m2-pro")["nearest"]),
        (&"m2-pro".into(), &Value::Null)
    );
    assert_eq!(chip("m2-max")["forecast"], chip("m2-pro")["forecast"]);
    assert_eq!(
        (&chip("m1")["limits"]["kernel_width"], &chip("m6")["engines"]),
        (&13.into(), &2.into())
    );
    let profile = &all["profiles"][0];
    assert_eq!(
        (&profile["os"], &profile["min_surface_bytes"]),
        (&"macos15".into(), &49_152.into())
    );
    let probes = json(&["probe", "list", "--json"]);
    let named = probes["probes"].as_array().unwrap();
    assert_eq!(named.len(), lab::probe::PROBES.len());
    assert!(named.iter().any(|p| p["name"] == "dispatch" && p["open"] == false));
}

/// Chips of which nothing was measured are accepted, and said to be.
#[test]
fn a_chip_without_figures_is_marked_wherever_it_is_shown() {
    let bench = Bench::new();
    let note = "limits and speed of m3: not measured on this chip";
    let plan = bench.ok(&["plan", "--chip", "m3-pro"]);
    assert_eq!(words(&plan).matches(note).count(), 2, "{plan}");
    assert!(!bench.ok(&["plan", "--chip", "m3"]).contains("not measured"));
    let seconds = |chip| -> Value {
        let text = bench.ok(&["plan", "--json", "--chip", chip]);
        serde_json::from_str(&text).unwrap()
    };
    let (own, near) = (seconds("m3-pro"), seconds("m3"));
    assert_eq!(own["step"]["seconds"], near["step"]["seconds"]);
    assert_eq!((&own["nearest"], &near["nearest"]), (&"m3".into(), &Value::Null));
    bench.write(
        "relu.mil",
        "program(1.3)\n{ func main<ios18>(tensor<fp16, [1, 2, 1, 16]> x) {\n\
         tensor<fp16, [1, 2, 1, 16]> y = relu(x=x)[name=string(\"y\")]; } -> (y); }",
    );
    assert!(bench.ok(&["mil", "estimate", "relu.mil", "--chip", "m3-pro"]).contains(note));
    let doctor = bench.ok(&["doctor", "--device", "emulator", "--chip", "m3-pro"]);
    assert!(words(&doctor).contains(&format!("m3-pro/macos15/in-memory ({note})")), "{doctor}");
    let facts = bench.ok(&["devices", "facts", "--chip", "m2-max", "--section", "E.2"]);
    assert!(
        facts.starts_with("m2-max is taken for m2-pro, which these facts are about"),
        "{facts}"
    );
    let mut run = bench.small_run();
    run.extend(["--steps", "1", "--device", "emulator", "--chip", "m3-pro"].map(str::to_owned));
    let train = bench.ok(&crate::with(&run, &[]));
    let words: Vec<&str> = train.split_whitespace().collect();
    // The device, the forecast before the run, and the report.
    assert_eq!(words.join(" ").matches(note).count(), 3, "{train}");
    let unknown = bench.run(&["plan", "--chip", "m9"]);
    let error = String::from_utf8_lossy(&unknown.stderr);
    assert!(unknown.status.code() == Some(2) && error.contains("m3-max, m3-ultra, m4"), "{error}");
}
