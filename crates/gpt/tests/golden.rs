//! The text of every kernel of the plans `baseline`, `offload`, `gradients` and `layers`, pinned: what a Mac compiles is what runs here.
//! `ANEGPT_UPDATE_GOLDEN=1` writes the files anew; the difference is then to be read.

use ane::{Device, Emulator};
use chip::Profile;
use cpu::Numerics;
use gpt::block::Memory;
use gpt::plan::{BASELINE, GRADIENTS, LAYERS, OFFLOAD, Programs};
use gpt::{Dims, GptConfig};
use mil::{DType, Program, Weights};
use std::path::Path;

#[test]
fn kernels_have_the_pinned_text() {
    let config = GptConfig { n_kv_head: 2, ..GptConfig::preset("tiny").unwrap() };
    let dims = Dims { config: &config, batch: 1, seq: 64, dtype: DType::Fp16 };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let [six, more, most, joined] = [&BASELINE, &OFFLOAD, &GRADIENTS, &LAYERS].map(|plan| {
        let programs = Programs::new(plan, &dims, Memory::Sequence).unwrap();
        programs.engine().cloned().collect::<Vec<_>>()
    });
    assert_eq!((six.len(), more.len()), (6, 13));
    assert!(six.iter().all(|function| more.contains(function)));
    // Three are new: their names, but for one, are those of programs without weight gradients.
    let new: Vec<_> = most.iter().filter(|function| !more.contains(function)).collect();
    let names: Vec<_> = new.iter().map(|function| &function.name[..]).collect();
    assert_eq!(names, ["wclsGrad", "ffnBwd", "attnBwd"]);
    let files = more.iter().map(|function| (function, function.name.clone()));
    let new = new.into_iter().map(|function| (function, format!("{}-gradients", function.name)));
    // Of these, programs of one pass take all layers, and the classifier's forward programs are one.
    let joined: Vec<_> = joined.iter().filter(|f| !more.contains(f) && !most.contains(f)).collect();
    let names: Vec<_> = joined.iter().map(|function| &function.name[..]).collect();
    assert_eq!(names, ["fwdLayers", "probabilities", "bwdLayers"]);
    let joined = joined.into_iter().map(|function| (function, function.name.clone()));
    for (function, file) in files.chain(new).chain(joined) {
        let program = Program::new(function.clone());
        assert_eq!(mil::verify(&program), []);
        let text = mil::text::print(&program);
        assert_eq!(mil::parse(&text).unwrap(), program, "{} reads back equal", function.name);
        let path = folder.join(format!("{file}.mil"));
        if std::env::var_os("ANEGPT_UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let pinned = std::fs::read_to_string(&path).unwrap();
        assert!(text == pinned, "{} differs from {}", function.name, path.display());
        let device = Emulator::engine(Profile::default(), Numerics::Fast);
        device.compile(&mil::parse(&pinned).unwrap(), &Weights::new()).unwrap();
    }
}
