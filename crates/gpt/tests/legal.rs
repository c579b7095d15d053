//! The programs of every family keep the rules of the engine: a GPT-2 or a nanochat runs wherever a Llama of
//! its extents does.

use chip::legal::check;
use chip::{CallPath, Chip, Os, Profile};
use gpt::block::Memory;
use gpt::plan::{BASELINE, DECODE, Plan, Programs};
use gpt::{Dims, GptConfig};
use mil::{DType, Program};

/// The programs of the engine by which a preset trains, and by which it generates.
fn programs(preset: &str, seq: usize) -> Vec<Program> {
    let config = GptConfig::preset(preset).unwrap();
    let of = |plan: &Plan, seq, memory| {
        let dims = Dims { config: &config, batch: 1, seq, dtype: DType::Fp16 };
        let programs = Programs::new(plan, &dims, memory).unwrap();
        programs.engine().cloned().map(Program::new).collect::<Vec<_>>()
    };
    let mut all = of(&BASELINE, seq, Memory::Sequence);
    assert!(all.len() >= 6, "{}", all.len());
    all.extend(of(&DECODE, 16, Memory::Cache { capacity: seq }));
    all
}

fn profiles() -> impl Iterator<Item = Profile> {
    Chip::ALL.into_iter().flat_map(|chip| {
        let systems = Os::ALL.into_iter();
        systems.flat_map(move |os| CallPath::ALL.map(|path| Profile { chip, os, path }))
    })
}

/// The first program that a machine refuses, and the first reason.
fn refused(programs: &[Program], profile: &Profile) -> Option<String> {
    programs.iter().find_map(|program| {
        let found = check(program, profile).err()?;
        Some(format!("{} on {profile}: {}", program.functions[0].name, found[0]))
    })
}

#[test]
fn other_families_run_wherever_a_llama_does() {
    for (llama, gpt2, nanochat, seq) in [
        ("tiny", "gpt2-tiny", "nanochat-d4", 256),
        ("stories110m", "gpt2", "nanochat-d12", 256),
        ("stories110m", "gpt2", "nanochat-2026-02-d12", 1024),
    ] {
        let all = [llama, gpt2, nanochat].map(|preset| programs(preset, seq));
        for profile in profiles() {
            all.iter().for_each(|programs| assert_eq!(refused(programs, &profile), None));
        }
    }
}
