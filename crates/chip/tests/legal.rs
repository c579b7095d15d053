//! Every rule with a program that keeps it and one that breaks it.

mod cases;

use cases::{Case, attention, cases, changed, conv_program, fp16, program, unary, untouched};
use chip::legal::{self, Severity, rules};
use chip::{Profile, Violation, page};
use expect_test::{Expect, expect};
use mil::{Arg, Function, Op, Operation, Program, ValueId};

fn broken(program: &Program, profile: &str, id: &str) -> Vec<Violation> {
    let profile: Profile = profile.parse().unwrap();
    let found = legal::violations(program, &profile);
    found.into_iter().filter(|v| v.rule.id == id).collect()
}

#[test]
fn each_rule_finds_its_breach_and_nothing_else() {
    for Case { id, profile, good, bad } in cases() {
        assert_eq!(broken(&good, profile, id), [], "{id} on {profile}: the good program");
        let found = broken(&bad, profile, id);
        assert!(!found.is_empty(), "{id} on {profile}: the bad program passes");
        let profile: Profile = profile.parse().unwrap();
        let warning = legal::rule(id).unwrap().severity == Severity::Warning;
        assert!(warning || legal::check(&bad, &profile).is_err(), "{id}: accepted");
        let verdict = legal::check(&good, &profile);
        assert!(verdict.is_ok(), "{id}: the good program is refused: {verdict:?}");
    }
}

#[test]
fn every_rule_for_programs_has_a_case() {
    let cases = cases();
    for rule in rules().filter(|rule| rule.is_static()) {
        assert!(cases.iter().any(|case| case.id == rule.id), "{} has no case", rule.id);
    }
}

#[test]
fn rules_have_ids_of_their_own_and_are_complete() {
    let all: Vec<_> = rules().collect();
    let ids: std::collections::BTreeSet<_> = all.iter().map(|rule| rule.id).collect();
    assert_eq!(ids.len(), all.len());
    for rule in all {
        assert_eq!(legal::rule(rule.id), Some(rule));
        let texts = [rule.title, rule.applies, rule.does, rule.why, rule.instead, rule.evidence];
        assert!(texts.iter().all(|text| !text.is_empty()), "{}", rule.id);
        assert!(!rule.instead.ends_with('.') && rule.does.ends_with('.'), "{}", rule.id);
        let doubtful = rule.severity == Severity::Warning;
        assert!(!doubtful || rule.refusal.is_none(), "{} warns of a refusal", rule.id);
    }
}

#[test]
fn identity_is_refused_by_one_path_only() {
    let copied = unary(Op::Identity, 32);
    for profile in ["m1", "m3", "m4", "m5"] {
        assert_eq!(broken(&copied, profile, "ANE066"), [], "{profile}");
        assert!(legal::check(&copied, &profile.parse().unwrap()).is_ok(), "{profile}");
        let e5rt = format!("{profile}/e5rt");
        assert_eq!(broken(&copied, &e5rt, "ANE066").len(), 1, "{e5rt}");
    }
}

fn messages(program: &Program, profile: &str, expected: Expect) {
    let profile: Profile = profile.parse().unwrap();
    let found = legal::violations(program, &profile);
    let text: String = found.iter().map(|v| format!("{v}\n")).collect();
    expected.assert_eq(&text);
}

#[test]
fn messages_say_where_what_and_how() {
    let packed = program(&[fp16(&[1, 768, 1, 17_920])], |_, x| x[0].narrow(3, 256, 16));
    messages(
        &packed,
        "m1",
        expect![[r#"
            main: ANE005 warning: m1 expects program(1.0) for ios16, got program(1.3) for ios18
              hint: print the program with version (1, 0), opset ios16 and long constants
            main, parameter `a`: ANE012 expected width (axis 3) <= 16384 on m1, got 17920 in tensor<fp16, [1, 768, 1, 17920]>
              hint: cut the tensor along the axis, or move the long axis to the channels
            main, operation 2 `y`: ANE062 warning: expected a slice that starts at 0 of the width, got 256
              hint: slice along the channels, or keep |x| <= 4094
            main, output `y`: ANE070 warning: expected a width that is a multiple of 32, got tensor<fp16, [1, 768, 1, 16]>
              hint: pad the width to a multiple of 32 and use the first part
        "#]],
    );
    messages(
        &attention(true),
        "m4",
        expect![[r#"
            main, operation 0 `y`: ANE041 silently wrong: expected no `attn_mask`, got one that is ignored
              hint: write softmax(q·kᵀ/√E + mask)·v with matmul, add and softmax
            main, parameter `d`: ANE070 warning: expected a width that is a multiple of 32, got tensor<fp16, [1, 1, 16, 16]>
              hint: pad the width to a multiple of 32 and use the first part
        "#]],
    );
    messages(
        &conv_program(&[2, 32, 32], &[32, 8, 17], 4, false),
        "m4",
        expect![[r#"
            main, operation 1 `y`: ANE030 expected x of rank 4, got tensor<fp16, [2, 32, 32]>
              hint: expand x and the weight to [N, C, 1, W] and [O, C, 1, kW]
            main, operation 1 `y`: ANE031 expected a kernel width in [1, 15] on m4, got 17 in tensor<fp16, [32, 8, 17]>
              hint: cut the kernel along the width and add the partial results, or turn the axes
            main, operation 1 `y`: ANE032 expected batch 1 with a weight given at run time, got 2
              hint: use matmul, or put the batches side by side along the width
            main, operation 1 `y`: ANE033 expected groups 1 with a weight given at run time, got 4
              hint: use one convolution per group, or a constant weight
            main, parameter `b`: ANE070 warning: expected a width that is a multiple of 32, got tensor<fp16, [32, 8, 17]>
              hint: pad the width to a multiple of 32 and use the first part
            main, output `y`: ANE070 warning: expected a width that is a multiple of 32, got tensor<fp16, [2, 32, 16]>
              hint: pad the width to a multiple of 32 and use the first part
        "#]],
    );
    messages(
        &changed(|f| f.ops[1].args.truncate(1)),
        "m4",
        expect![[r#"
        main, operation 1 `y`: ANE001 mul, argument `y`: is missing
          hint: the compiler does not fill in this argument
    "#]],
    );
    messages(
        &changed(|f| f.values[2].ty.shape[3] = 8),
        "m4",
        expect![[r#"
            main, operation 1 `y`: ANE001 `y` is declared tensor<fp16, [1, 32, 1, 8]>, but mul gives tensor<fp16, [1, 32, 1, 16]>
              hint: declare it tensor<fp16, [1, 32, 1, 16]>
        "#]],
    );
    messages(
        &changed(|f| f.outputs = vec![ValueId(2), ValueId(2)]),
        "m4",
        expect![[r#"
            main, output `y`: ANE003 `y` is returned twice
              hint: return it once
        "#]],
    );
    messages(
        &changed(|f| f.outputs[0] = ValueId(0)),
        "m4/e5rt",
        expect![[r#"
            main, output `a`: ANE004 output `a` is an input
              hint: the engine's compiler crashes on it: return mul(x = a, y = fp16(1))
        "#]],
    );
}

#[test]
fn malformed_functions_are_refused_without_a_panic() {
    type Change = fn(&mut Function);
    let broken: [(&str, Change); 9] = [
        ("operand out of range", |f| f.ops[1].args[0].1 = Arg::Value(ValueId(77))),
        ("operand of later", |f| f.ops[1].args[0].1 = Arg::Value(ValueId(2))),
        ("result out of range", |f| f.ops[1].results[0] = ValueId(77)),
        ("results in reverse", |f| f.ops[1].results[0] = ValueId(0)),
        ("no result", |f| f.ops[1].results.clear()),
        ("too many parameters", |f| f.params = 9),
        ("no output", |f| f.outputs.clear()),
        ("literal of the wrong length", |f| f.ops[0].value.as_mut().unwrap().ty.shape = vec![3]),
        ("const without a value", |f| f.ops[0].value = None),
    ];
    for (name, change) in broken {
        let found = legal::check(&changed(change), &Profile::default()).unwrap_err();
        assert!(!found.is_empty(), "{name}");
    }
    let mut two = untouched();
    two.functions.insert(0, changed(|f| f.params = 9).functions.remove(0));
    let found = legal::check(&two, &Profile::default()).unwrap_err();
    assert!(found.iter().any(|v| v.rule.id == "ANE002"));
    two.functions.clear();
    assert!(legal::check(&two, &Profile::default()).is_err());
}

#[test]
fn named_rules_can_be_lifted_except_those_of_the_language() {
    let wide = conv_program(&[1, 32_000, 1, 32], &[16, 32_000, 1, 1], 1, true);
    let profile = Profile::default();
    let refused = legal::check(&wide, &profile).unwrap_err();
    assert_eq!(refused.iter().map(|v| v.rule.id).collect::<Vec<_>>(), ["ANE035"]);
    let verdict = legal::check_allowing(&wide, &profile, &["ane035"]).unwrap();
    assert_eq!(verdict.warnings, refused);
    assert_eq!(verdict.legal.profile(), &profile);
    assert_eq!(verdict.legal.program(), &wide);
    assert_eq!(verdict.legal.constant_bytes(), 16 * 32_000 * 2 + 4); // the weight and `groups`
    let broken = changed(|f| f.outputs.clear());
    assert!(legal::check_allowing(&broken, &profile, &["ANE003"]).is_err());
}

#[test]
fn the_engine_runs_a_transformer_block_of_the_strictest_profile() {
    // Norm, projection, rotary halves, attention with an additive mask: as published programs do.
    let (c, s) = (64, 32);
    let types = [fp16(&[1, c, 1, s]), fp16(&[1, 1, c, c]), fp16(&[1, 1, s, s])];
    let block = program(&types, |_, p| {
        let mean = (p[0] * p[0]).reduce_mean(&[1]);
        let x = (p[0] * (mean + 1e-5).pow(-0.5)).reshape(&[1, 1, c, s]);
        let q = p[1].matmul(x, false, false).reshape(&[1, 4, c / 4, s]);
        let scores = q.matmul(q, true, false) + p[2];
        scores.softmax(-1).matmul(q, false, true).reshape(&[1, c, 1, s])
    });
    for profile in ["m4", "m5-pro/macos26", "m3", "m1", "m2/e5rt"] {
        assert!(legal::check(&block, &profile.parse().unwrap()).is_ok(), "{profile}");
    }
}

#[test]
fn the_kernels_of_a_model_keep_the_rules() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../gpt/tests/golden");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "mil") {
            continue;
        }
        seen += 1;
        let program = mil::check_text(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for profile in ["m4", "m4/macos26/e5rt", "m1", "m2", "m3", "m3-ultra", "m5-pro/macos26"] {
            let verdict = legal::check(&program, &profile.parse().unwrap());
            assert!(verdict.is_ok(), "{} on {profile}: {verdict:?}", path.display());
        }
    }
    assert_eq!(seen, 19, "kernels of baseline, offload, gradients and layers in {folder}");
}

/// Forms of text that published programs have, with the rules that refuse them, by profile.
#[test]
fn published_forms_are_judged_as_reported() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../mil/tests/text");
    let refused_by = |name: &str, profile: &str| -> Vec<&str> {
        let text = std::fs::read_to_string(format!("{folder}/{name}.mil")).unwrap();
        let program = mil::check_text(&text).unwrap();
        let found = legal::check(&program, &profile.parse().unwrap()).err().unwrap_or_default();
        let errors = found.iter().filter(|v| v.rule.severity != Severity::Warning);
        let mut ids: Vec<_> = errors.map(|v| v.rule.id).collect();
        ids.dedup();
        ids
    };
    let none: [&str; 0] = [];
    for (name, m1, e5rt) in [
        ("conv_fp32_io", &["ANE021", "ANE024"][..], &["ANE022"][..]),
        ("packed_matmul", &["ANE021", "ANE024"], &["ANE022"]),
        ("inline_literals", &[], &[]),
        ("int8_weights", &[], &[]),
        ("several_functions", &[], &[]),
        ("verbose_constants", &[], &[]),
    ] {
        assert_eq!(refused_by(name, "m4"), none, "{name}");
        assert_eq!(refused_by(name, "m1"), m1, "{name}");
        assert_eq!(refused_by(name, "m5/macos26/e5rt"), e5rt, "{name}");
    }
    // A list of all operations, not a published program: cast to int32, masks.
    assert_eq!(refused_by("every_operation", "m4"), ["ANE025", "ANE028", "ANE041"]);
}

#[test]
fn operations_written_by_hand_are_checked_too() {
    let program = changed(|f| {
        let y = f.values[2].clone();
        f.values.push(mil::Value { name: "z".to_owned(), ..y });
        f.ops.push(Operation {
            op: Op::Gelu,
            args: vec![("x", Arg::Value(ValueId(2)))],
            value: None,
            results: vec![ValueId(3)],
            name: "z".to_owned(),
        });
    });
    let found = broken(&program, "m4", "ANE001");
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().contains("`mode`"), "{}", found[0]);
}

#[test]
fn the_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ane-rules.md");
    let page = page::rules();
    if std::env::var_os("ANEGPT_BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        stored == page,
        "run ANEGPT_BLESS=1 cargo test -p chip --test legal the_page_is_current"
    );
}
