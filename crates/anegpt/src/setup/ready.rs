//! A run of `anegpt train` that is ready for its first step.

use super::frame::{About, Ready};
use super::{Notes, Setup};
use crate::progress;
use anyhow::Result;
use train::RunConfig;
use train::objective::Pretrain;

/// Times that a text is seen before a warning is due.
const OFTEN: f64 = 4.0;
/// Times that a small text is seen in the advice.
const ADVISED: f64 = 3.0;

impl Setup {
    /// Compiles the model, and brings a resumed run to where it stood. `faults` are those to inject.
    ///
    /// # Errors
    /// When the device does not take the model, or the checkpoint is of another run.
    pub(crate) fn ready(self, faults: Option<&str>) -> Result<Ready<Pretrain>> {
        let warnings = self.warnings();
        let Setup { frame, mut texts, prompt, judged_anew, core, .. } = self;
        let mut intervals = frame.intervals();
        let loader = texts.loader.take().expect("a run is made once");
        let model = &frame.config.model;
        let prompt = match intervals.sample {
            0 => None,
            _ => prompt.choose(&texts.tokenizer, &*loader, model.seq_len)?,
        };
        if prompt.is_none() {
            intervals.sample = 0;
        }
        let unigram_entropy = loader.unigram_entropy(model.vocab_size as u32)?;
        let epochs = texts.epochs(&frame.config);
        let objective = Pretrain::new(loader, &frame.config);
        let (frame, mut run) = frame.compile(faults, objective)?;
        if judged_anew {
            run.forget_validation();
        }
        let notes = Notes {
            data: texts.data.data.clone(),
            val_data: texts.data.val_data.clone(),
            text_field: texts.data.field.clone(),
            packing: texts.data.packing,
            prompt: prompt.clone().unwrap_or_default(),
            core,
            frame: frame.notes(),
        };
        let about = About {
            data: texts.data.data,
            val_data: texts.data.val_data,
            text: texts.description,
            tokens: texts.tokens,
            epochs,
            unigram_entropy,
            question: None,
        };
        frame.ready(run, texts.tokenizer, about, intervals, prompt, &notes, warnings)
    }

    fn warnings(&self) -> Vec<String> {
        let config = &self.frame.config;
        let epochs = self.texts.epochs(config);
        let small = match &config.dial {
            Some(_) if epochs > 1.0 => Some(too_small(config, epochs)),
            _ => too_often(config, epochs),
        };
        self.dial_warnings.iter().cloned().chain(self.frame.warnings()).chain(small).collect()
    }
}

/// A warning where the text is seen more often than a model learns from.
pub(super) fn too_often(run: &RunConfig, epochs: f64) -> Option<String> {
    let steps = run.schedule.total;
    let fewer = ((steps as f64 * ADVISED / epochs) as u64).max(1);
    (epochs > OFTEN).then(|| {
        format!(
            "the text is small: all of it will be seen {epochs:.1} times in {steps} steps, and a model \
             may learn it by heart instead of learning from it. More text helps, or --steps {fewer}; \
             the checkpoint with the lowest validation loss is kept as `best`"
        )
    })
}

/// A warning where a text has fewer tokens than the rules of the dial want.
fn too_small(run: &RunConfig, epochs: f64) -> String {
    let steps = run.schedule.total;
    let wanted = steps as f64 * run.tokens_per_step() as f64;
    let fewer = ((steps as f64 * ADVISED.min(epochs) / epochs) as u64).max(1);
    format!(
        "the run is to see {} tokens and the text has {}: all of it will be seen {epochs:.1} times, and a \
         model may learn it by heart. More text helps; --steps {fewer} sees it {:.0} times, a smaller \
         --token-param-ratio less often too",
        progress::count(wanted),
        progress::count(wanted / epochs),
        ADVISED.min(epochs)
    )
}
