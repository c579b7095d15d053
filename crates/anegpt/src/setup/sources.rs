//! The texts of a run, and the loader that makes rows of them.

use crate::corpus::{self, Corpus, Wanted};
use crate::{progress, usage};
use anyhow::{Context, Result};
use data::loader::{
    BUFFER, Batches, BestFit, BestFitConfig, Loader, LoaderConfig, Part, Split, training_range,
};
use std::sync::Arc;
use tokenizer::Tokenizer;
use train::RunConfig;

/// How documents are packed into the rows of a batch.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Packing {
    /// Windows of all documents, one after the other, in random order
    #[default]
    Concat,
    /// Whole documents, the longest that fits first, in their order (nanochat)
    BosFit,
}

/// Where the texts of a run are, and how they are packed.
#[derive(Clone)]
pub(super) struct DataChoice {
    /// A path, or `synthetic`.
    pub(super) data: String,
    /// The same for the validation part, if it does not come from `data`.
    pub(super) val_data: Option<String>,
    /// The field or column that holds the text, if it is not the usual one.
    pub(super) field: Option<String>,
    pub(super) packing: Packing,
}

/// The texts of a run before they are cut into rows.
pub(super) struct Sources {
    data: DataChoice,
    tokenizer: Tokenizer,
    material: Material,
}

enum Material {
    /// All tokens.
    Tokens { corpus: Box<Corpus>, validation: Option<Box<Corpus>> },
    /// Texts that are tokenized when they are needed.
    Texts { train: Part, validation: Part, description: String },
}

/// Where tokens come from, and the loader.
pub(super) struct Texts {
    pub(super) data: DataChoice,
    pub(super) tokenizer: Tokenizer,
    /// Until the run has it.
    pub(super) loader: Option<Box<dyn Batches>>,
    /// Tokens to train and to validate; estimates where not all are there.
    pub(super) tokens: [u64; 2],
    /// One line for people.
    pub(super) description: String,
}

impl Sources {
    /// Reads them; `spec` and `given` as in [`corpus::load`].
    pub(super) fn read(
        data: DataChoice,
        spec: Option<&str>,
        given: Option<Tokenizer>,
        seed: u64,
    ) -> Result<Sources> {
        let wanted = Wanted { data: &data.data, field: data.field.as_deref(), seed };
        // Other stories than those that are trained on.
        let judges = data.val_data.as_ref();
        let judges = judges.map(|path| Wanted { data: path, seed: seed.wrapping_add(1), ..wanted });
        let (tokenizer, material) = match data.packing {
            Packing::Concat => Material::tokens(wanted, judges, spec, given)?,
            Packing::BosFit => Material::texts(wanted, judges, spec, given)?,
        };
        Ok(Sources { data, tokenizer, material })
    }

    pub(super) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn loader_config(&self, seq: usize, seed: u64) -> LoaderConfig {
        LoaderConfig { document_start: self.tokenizer.bos(), ..LoaderConfig::new(seq, seed) }
    }

    /// Tokens that sequences of `seq` tokens are trained on.
    pub(super) fn train_tokens(&self, seq: usize, seed: u64) -> Result<u64> {
        Ok(match &self.material {
            Material::Tokens { corpus, validation: Some(_) } => corpus.source.len() as u64,
            Material::Tokens { corpus, validation: None } => {
                training_range(&corpus.source, &self.loader_config(seq, seed))?.len() as u64
            }
            Material::Texts { train, validation, .. } => {
                self.best_fit(train, validation, seq)?.tokens(Split::Train)
            }
        })
    }

    fn best_fit(&self, train: &Part, validation: &Part, seq: usize) -> Result<BestFit> {
        let document_start = self.tokenizer.bos();
        let config = BestFitConfig { seq, buffer: BUFFER, document_start };
        let tokenizer = self.tokenizer.clone();
        let tokenize = move |text: &str| tokenizer.encode(text).map_err(|e| e.to_string());
        Ok(BestFit::new(train.clone(), validation.clone(), Arc::new(tokenize), config)?)
    }

    /// Cuts them into rows of `seq` tokens.
    pub(super) fn cut(self, seq: usize, seed: u64) -> Result<Texts> {
        let config = self.loader_config(seq, seed);
        let (loader, description): (Box<dyn Batches>, String) = match &self.material {
            Material::Tokens { corpus, validation: None } => {
                let loader = Loader::new(corpus.source.clone(), config)?;
                (loader.into(), corpus.description.clone())
            }
            Material::Tokens { corpus, validation: Some(judges) } => {
                let (train, validation) = (corpus.source.clone(), judges.source.clone());
                let loader = Loader::with_validation(train, validation, config)?;
                let judges = &judges.description;
                (loader.into(), format!("{}; to validate: {judges}", corpus.description))
            }
            Material::Texts { train, validation, description } => {
                let loader = self.best_fit(train, validation, seq)?;
                let tokens = progress::count(loader.tokens(Split::Train) as f64);
                let whole = "whole documents, best fit first";
                let tokenizer = self.tokenizer.describe();
                let description =
                    format!("{description}; {whole}; about {tokens} tokens ({tokenizer})");
                (loader.into(), description)
            }
        };
        let tokens = [Split::Train, Split::Validation].map(|split| loader.tokens(split));
        let (data, tokenizer) = (self.data, self.tokenizer);
        Ok(Texts { data, tokenizer, loader: Some(loader), tokens, description })
    }
}

impl Material {
    fn tokens(
        wanted: Wanted<'_>,
        judges: Option<Wanted<'_>>,
        spec: Option<&str>,
        given: Option<Tokenizer>,
    ) -> Result<(Tokenizer, Material)> {
        let (corpus, validation) = match judges {
            Some(judges) => {
                let corpus = corpus::load(wanted, spec, given)?;
                let tokenizer = Some(corpus.tokenizer.clone());
                let judges = corpus::load(judges, None, tokenizer).context("--val-data")?;
                (corpus, Some(judges))
            }
            None => corpus::load_split(wanted, spec, given)?,
        };
        let tokenizer = corpus.tokenizer.clone();
        let (corpus, validation) = (Box::new(corpus), validation.map(Box::new));
        Ok((tokenizer, Material::Tokens { corpus, validation }))
    }

    fn texts(
        wanted: Wanted<'_>,
        judges: Option<Wanted<'_>>,
        spec: Option<&str>,
        given: Option<Tokenizer>,
    ) -> Result<(Tokenizer, Material)> {
        let open = |wanted: Wanted<'_>| {
            corpus::open(wanted)?.ok_or_else(|| {
                usage(format!(
                    "{}: --packing bos-fit reads texts, not token ids: give the text, or leave out --packing",
                    wanted.data
                ))
            })
        };
        let mut text = open(wanted)?;
        let judges = match judges {
            Some(judges) => Some(open(judges).context("--val-data")?),
            None => text.split_last(),
        };
        let tokenizer = corpus::choose(&text, spec, given)?;
        let size = progress::size(text.text_bytes()?);
        let description = format!("{}: {size} of text", corpus::label(wanted));
        let (train, validation) = match judges {
            Some(judges) => (Part::whole(text), Part::whole(judges)),
            None => Part::split(text),
        };
        Ok((tokenizer, Material::Texts { train, validation, description }))
    }
}

impl Texts {
    /// How often a run sees the training part. Packing whole documents drops the rests of those that are cut,
    /// so it is seen more often then.
    pub(super) fn epochs(&self, run: &RunConfig) -> f64 {
        let seen = run.schedule.total as f64 * run.tokens_per_step() as f64;
        seen / self.tokens[0] as f64
    }

    /// Takes another text to validate with than that of the resumed run.
    pub(super) fn judge_anew(&mut self) {
        if let Some(loader) = &mut self.loader {
            loader.judge_anew();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: String, packing: Packing) -> Sources {
        let data = DataChoice { data, val_data: None, field: None, packing };
        Sources::read(data, Some("char"), None, 1).unwrap()
    }

    /// Of a text of at most about 2000 tokens, half is kept for validation, not a tenth.
    #[test]
    fn training_tokens_are_those_of_the_loader() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("text.txt");
        for length in [600, 1500, 2000, 3000, 12_000] {
            std::fs::write(&path, "abcdefg\n".repeat(length / 8)).unwrap();
            let sources = read(path.display().to_string(), Packing::Concat);
            let Material::Tokens { corpus, .. } = &sources.material else { panic!("tokens") };
            let (all, expected) =
                (corpus.source.len() as u64, sources.train_tokens(256, 1).unwrap());
            let texts = sources.cut(256, 1).unwrap();
            assert_eq!(expected, texts.tokens[0], "{length}");
            assert_eq!(expected < all * 3 / 5, length < 2100, "{expected} of {all}");
        }
    }

    /// 100 documents of 9 characters, which a vocabulary of characters encodes as 9 tokens after a mark.
    #[test]
    fn training_tokens_of_whole_documents_are_estimated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("text.jsonl");
        std::fs::write(&path, "{\"text\": \"abcdefghi\"}\n".repeat(100)).unwrap();
        let sources = read(path.display().to_string(), Packing::BosFit);
        let expected = sources.train_tokens(16, 1).unwrap();
        let texts = sources.cut(16, 1).unwrap();
        assert_eq!(expected, texts.tokens[0]);
        // Nine tenths of the documents, nine characters each.
        assert_eq!(expected, 90 * 9);
        assert!(texts.description.contains("whole documents"), "{}", texts.description);
    }
}
