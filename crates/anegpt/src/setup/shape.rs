//! The model that a configuration starts from: a preset, or the depth of a nanochat.

use crate::settings::{ConfigFile, ModelSection, Switch};
use crate::usage;
use anyhow::Result;
use gpt::{Depth, Edition, GptConfig};

/// Tokens of a vocabulary that nothing else says.
const VOCABULARY: usize = 32_768;

/// The model that a configuration starts from.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    /// Its shape.
    pub(crate) config: GptConfig,
    /// What the shape follows from, where it follows from its depth.
    pub(crate) depth: Option<Depth>,
    /// True if the numbers of a run follow from the depth too.
    pub(crate) dial: bool,
}

impl Base {
    /// The model that `file` names, for sequences of `seq` tokens if that is asked for.
    pub(crate) fn new(file: &ConfigFile, seq: Option<usize>) -> Result<Base> {
        let section = &file.model;
        let (depth, dial) = match (file.depth, file.preset.as_deref()) {
            (Some(_), Some(_)) => {
                return Err(usage("a configuration has either a depth or a preset, not both"));
            }
            (Some(depth), None) => (Some(of_depth(depth, section)?), true),
            (None, preset) => (preset.and_then(Depth::preset), false),
        };
        let Some(mut depth) = depth else {
            refuse_others(section)?;
            let preset = file.preset.as_deref().unwrap_or("tiny");
            let config = GptConfig::preset(preset).map_err(|e| usage(e.to_string()))?;
            return Ok(Base { config, depth: None, dial });
        };
        let usual = depth.seq_len;
        // A dial is turned for one length; other runs may train on parts of what the model reads.
        let asked = seq.map(|seq| if dial { seq } else { seq.max(usual) });
        depth.seq_len = section.seq_len.or(asked).unwrap_or(usual);
        give(&mut depth, section)?;
        let config = depth.config();
        config.validate().map_err(|e| usage(e.to_string()))?;
        Ok(Base { config, depth: Some(depth), dial })
    }
}

fn of_depth(depth: usize, section: &ModelSection) -> Result<Depth> {
    if !(1..=Depth::MOST).contains(&depth) {
        return Err(usage(format!("--depth {depth} must be between 1 and {}", Depth::MOST)));
    }
    if let Some(layers) = section.n_layer.filter(|&layers| layers != depth) {
        return Err(usage(format!(
            "`n_layer` is {layers} and the depth {depth}, which is the number of layers: leave one of them out"
        )));
    }
    let edition = section.edition.map_or(Edition::July2026, Edition::from);
    Ok(Depth { vocab_size: VOCABULARY, ..Depth::new(edition, depth) })
}

/// Brings what `section` says to `depth`.
fn give(depth: &mut Depth, section: &ModelSection) -> Result<()> {
    if section.edition.is_some_and(|edition| Edition::from(edition) != depth.edition) {
        return Err(usage("--edition is not that of the preset: leave one of them out"));
    }
    for (name, value) in
        [("--aspect-ratio", section.aspect_ratio), ("--head-dim", section.head_dim)]
    {
        if let Some(value) = value.filter(|value| !(1..=1 << 12).contains(value)) {
            return Err(usage(format!("{name} {value} must be between 1 and 4096")));
        }
    }
    depth.aspect_ratio = section.aspect_ratio.unwrap_or(depth.aspect_ratio);
    depth.head_dim = section.head_dim.unwrap_or(depth.head_dim);
    depth.value_embeds = section.value_embeds != Some(Switch::Off);
    if let Some(pattern) = &section.window_pattern {
        if pattern.is_empty() || pattern.chars().any(|letter| !"SL".contains(letter)) {
            return Err(usage(format!(
                "--window-pattern {pattern} must be letters S (short) and L (long), such as SSSL"
            )));
        }
        depth.window_pattern.clone_from(pattern);
    }
    Ok(())
}

/// Refuses what only models of a depth have.
fn refuse_others(section: &ModelSection) -> Result<()> {
    let given = [
        ("--edition", section.edition.is_some()),
        ("--aspect-ratio", section.aspect_ratio.is_some()),
        ("--window-pattern", section.window_pattern.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => {
            Err(usage(format!("{flag} is for --depth N and for --preset nanochat-dN")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str, seq: Option<usize>) -> Result<Base> {
        Base::new(&toml::from_str(text).unwrap(), seq)
    }

    #[test]
    fn longer_sequences_have_longer_windows() {
        let windows = |text: &str, seq| base(text, seq).unwrap().config.windows;
        for text in ["preset = \"nanochat-d2\"", "depth = 2"] {
            assert_eq!(windows(text, None), [513, 0]);
            assert_eq!(windows(text, Some(4096)), [1025, 0], "{text}");
        }
        // A preset may be trained on less than it reads; a dial makes what is asked for.
        assert_eq!(windows("preset = \"nanochat-d2\"", Some(512)), [513, 0]);
        assert_eq!(windows("depth = 2", Some(512)), [129, 0]);
        assert_eq!(
            windows("preset = \"nanochat-2026-02-d2\"\n[model]\nseq_len = 4096", None),
            [2049, 0]
        );
    }

    #[test]
    fn the_shape_follows_from_what_is_given() {
        let text = "depth = 3\n[model]\nedition = \"2026-02\"\naspect_ratio = 50\nhead_dim = 32\n\
                    window_pattern = \"L\"\nvalue_embeds = \"off\"";
        let Base { config, depth, dial } = base(text, None).unwrap();
        assert_eq!((config.n_head, config.n_embd, dial), (5, 160, true));
        assert_eq!((config.windows, config.nanochat.value_embeds), (vec![0; 3], false));
        assert_eq!(depth.unwrap().edition, Edition::February2026);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (text, says) in [
            ("depth = 2\npreset = \"tiny\"", "either a depth or a preset"),
            ("depth = 0", "--depth 0 must be between 1 and 1024"),
            ("preset = \"tiny\"\n[model]\naspect_ratio = 3", "--aspect-ratio is for --depth N"),
            ("depth = 2\n[model]\nwindow_pattern = \"SX\"", "letters S (short) and L (long)"),
            ("depth = 2\n[model]\nhead_dim = 33", "even width"),
            ("depth = 2\n[model]\nn_layer = 3", "leave one of them out"),
            (
                "preset = \"nanochat-d2\"\n[model]\nedition = \"2026-02\"",
                "is not that of the preset",
            ),
        ] {
            let error = base(text, None).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
