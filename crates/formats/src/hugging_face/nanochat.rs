//! nanochat's model. transformers has a class of its own for it, `NanoChatForCausalLM`, which computes the
//! plain model of October 2025; other models are written with code of ours beside them.

use super::entries::{extent, flag, float};
use gpt::{Family, FeedForward, GptConfig, Layout, Nanochat, Norm};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::fmt::Display;

/// Entries that are read here, and whose values other types would refuse.
const OWN: &[&str] = &["hidden_act", "final_logit_softcapping"];

/// The class of transformers.
pub(super) const CLASS: &str = "NanoChatForCausalLM";

/// nanochat's names of tensors beside those of the class; those of layers without the layer.
const NAMES: &[(&str, &str)] = &[
    ("transformer.wte", "model.embed_tokens"),
    ("attn.c_q", "self_attn.q_proj"),
    ("attn.c_k", "self_attn.k_proj"),
    ("attn.c_v", "self_attn.v_proj"),
    ("attn.c_proj", "self_attn.o_proj"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
    ("lm_head", "lm_head"),
];

/// Our code for transformers: the files' names and contents.
pub(super) const CODE: [(&str, &str); 2] = [
    ("configuration_anegpt.py", include_str!("code/configuration_anegpt.py")),
    ("modeling_anegpt.py", include_str!("code/modeling_anegpt.py")),
];

/// The class's name of nanochat's tensor `name`, if the class has it.
pub(super) fn name_of_class(name: &str) -> Option<String> {
    let part = |name: &str| {
        let own = name.strip_suffix(".weight")?;
        let (_, theirs) = NAMES.iter().find(|(known, _)| *known == own)?;
        Some(format!("{theirs}.weight"))
    };
    match name.strip_prefix("transformer.h.").and_then(|rest| rest.split_once('.')) {
        Some((layer, rest)) => Some(format!("model.layers.{layer}.{}", part(rest)?)),
        None => part(name),
    }
}

fn fault(entry: &str, found: impl Display, needed: impl Display) -> String {
    format!("`{entry}` is {found} and would have to be {needed}")
}

/// Entries that neither transformers' class nor our code computes.
fn beyond_both(c: &GptConfig) -> Vec<String> {
    let off = |entry: &str, on: bool| on.then(|| fault(entry, true, false));
    let faults = [
        (c.norm != Norm::Plain).then(|| fault("norm", c.norm.name(), "plain")),
        (c.feed_forward != FeedForward::Relu2)
            .then(|| fault("feed_forward", c.feed_forward.name(), "relu2")),
        off("bias", c.bias),
        off("learned_positions", c.learned_positions),
        off("qk_norm", c.qk_norm),
    ];
    faults.into_iter().flatten().collect()
}

/// Entries that only our code computes.
fn beyond_class(c: &GptConfig) -> Vec<String> {
    let n = &c.nanochat;
    let is = |entry: &str, found: bool, needed: bool| {
        (found != needed).then(|| fault(entry, found, needed))
    };
    let scale = || n.qk_scale.map_or("absent".to_owned(), |scale| scale.to_string());
    let windows = (0..c.n_layer).any(|layer| c.window(layer).is_some());
    let faults = [
        c.rope_theta.is_none().then(|| fault("rope_theta", "absent", "a number")),
        (!c.no_rope.is_empty()).then(|| fault("no_rope", format!("{:?}", c.no_rope), "[]")),
        windows.then(|| fault("windows", format!("{:?}", c.windows), "[]")),
        is("nanochat.rope_reversed", n.rope_reversed, true),
        (n.qk_scale != Some(1.0)).then(|| fault("nanochat.qk_scale", scale(), "1")),
        is("nanochat.value_embeds", n.value_embeds, false),
        is("nanochat.embedding_norm", n.embedding_norm, true),
        (n.smear_channels > 0).then(|| fault("nanochat.smear_channels", n.smear_channels, 0)),
        is("nanochat.residual_scales", n.residual_scales, false),
        is("nanochat.backout", n.backout, false),
    ];
    faults.into_iter().flatten().collect()
}

/// Refuses a model that is not the plain one, by every entry that says so.
///
/// # Errors
/// When there is such an entry.
pub(super) fn require_plain(c: &GptConfig) -> Result<(), String> {
    refuse([beyond_both(c), beyond_class(c)].concat(), CLASS)
}

/// Refuses a model that our code for transformers does not compute, by every entry that says so.
///
/// # Errors
/// When there is such an entry.
pub(super) fn require_computed_by_code(c: &GptConfig) -> Result<(), String> {
    match c.family.name() {
        "nanochat" => refuse(beyond_both(c), "the code for transformers"),
        other => Err(fault("family", other, "nanochat, for which the code is")),
    }
}

fn refuse(faults: Vec<String>, computes: &str) -> Result<(), String> {
    match faults.is_empty() {
        true => Ok(()),
        false => Err(format!("{} for {computes}", faults.join(", "))),
    }
}

/// True for a model that the class of transformers computes.
pub(super) fn is_plain(c: &GptConfig) -> bool {
    c.family.name() == "nanochat" && require_plain(c).is_ok()
}

/// The shape of a plain model as the class reads it.
pub(super) fn write(c: &GptConfig) -> Value {
    json!({
        "architectures": [CLASS],
        "model_type": "nanochat",
        "vocab_size": c.vocab_size,
        "hidden_size": c.n_embd,
        "intermediate_size": c.hidden,
        "num_hidden_layers": c.n_layer,
        "num_attention_heads": c.n_head,
        "num_key_value_heads": c.n_kv_head,
        "head_dim": c.head_dim,
        "max_position_embeddings": c.seq_len,
        "hidden_act": "relu2",
        "rms_norm_eps": c.norm_eps,
        "rope_theta": c.rope_theta,
        "rope_parameters": { "rope_type": "default", "rope_theta": c.rope_theta },
        "final_logit_softcapping": c.nanochat.softcap,
        "attention_bias": false,
        "tie_word_embeddings": c.tied,
        // Its default is a token of the vocabulary.
        "pad_token_id": null,
    })
}

/// Adds what transformers needs to find our code.
pub(super) fn name_code(json: &mut Value) {
    let (config, model) =
        ("configuration_anegpt.AnegptConfig", "modeling_anegpt.AnegptForCausalLM");
    json["architectures"] = json!(["AnegptForCausalLM"]);
    json["auto_map"] = json!({ "AutoConfig": config, "AutoModelForCausalLM": model });
}

/// The entries but for those that are read here.
pub(super) fn without_own(json: &Map<String, Value>) -> Map<String, Value> {
    let mut rest = json.clone();
    rest.retain(|name, _| !OWN.contains(&name.as_str()));
    rest
}

/// Reads the shape of a plain model; absent entries have the defaults of transformers. The base of the
/// rotary frequencies is `theta`.
///
/// # Errors
/// When an entry is malformed or asks for something that is not computed.
pub(super) fn read(json: &Map<String, Value>, theta: Option<f64>) -> Result<GptConfig, String> {
    let or = |name, default| Ok::<_, String>(extent(json, name)?.unwrap_or(default));
    let act = json.get("hidden_act").filter(|value| !value.is_null());
    if let Some(other) = act.filter(|value| *value != "relu2") {
        return Err(format!(
            "`hidden_act` is {other}; of nanochat's models, this program reads only relu2"
        ));
    }
    let (n_embd, n_head) = (or("hidden_size", 768)?, or("num_attention_heads", 6)?);
    let softcap = match json.contains_key("final_logit_softcapping") {
        true => float(json, "final_logit_softcapping")?,
        false => Some(15.0),
    };
    Ok(GptConfig {
        family: Family::named("nanochat").expect("a family").into(),
        n_layer: or("num_hidden_layers", 12)?,
        n_head,
        n_kv_head: or("num_key_value_heads", n_head)?,
        n_embd,
        head_dim: or("head_dim", n_embd / n_head.max(1))?,
        hidden: or("intermediate_size", 8192)?,
        vocab_size: or("vocab_size", 50_304)?,
        seq_len: or("max_position_embeddings", 2048)?,
        rope_theta: theta,
        norm: Norm::Plain,
        norm_eps: float(json, "rms_norm_eps")?.unwrap_or(1e-6),
        feed_forward: FeedForward::Relu2,
        tied: flag(json, "tie_word_embeddings")?.unwrap_or(false),
        nanochat: Nanochat {
            rope_reversed: true,
            qk_scale: Some(1.0),
            softcap,
            embedding_norm: true,
            ..Nanochat::default()
        },
        ..GptConfig::default()
    })
}

/// The model without rows that only fill tables up, and its weights.
pub(super) fn unpadded<'v>(c: &GptConfig, values: &'v [f32]) -> (GptConfig, Cow<'v, [f32]>) {
    let nanochat = Nanochat { vocab_multiple: 1, ..c.nanochat.clone() };
    let bare = GptConfig { nanochat, ..c.clone() };
    if bare.vocab_rows() == c.vocab_rows() {
        return (bare, Cow::Borrowed(values));
    }
    let (from, to) = (Layout::new(c), Layout::new(&bare));
    // Rows beyond the vocabulary are the last ones.
    let parts = from.params().iter().zip(to.params());
    let kept = parts.flat_map(|(from, to)| &values[from.offset..][..to.count()]);
    (bare, Cow::Owned(kept.copied().collect()))
}

#[cfg(test)]
mod tests {
    use super::super::{Reader, expressible, read_config, read_safetensors, read_sharded, write};
    use super::*;
    use crate::model::Model;
    use crate::precision::Precision;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn small(preset: &str) -> GptConfig {
        let extents = GptConfig {
            n_layer: 3,
            n_head: 4,
            n_kv_head: 2,
            n_embd: 32,
            head_dim: 10,
            hidden: 24,
            vocab_size: 50,
            seq_len: 16,
            windows: vec![5, 9, 0],
            ..GptConfig::preset(preset).unwrap()
        };
        extents.validate().unwrap();
        extents
    }

    /// With 64 rows for 50 tokens.
    fn plain() -> GptConfig {
        let own = Nanochat {
            rope_reversed: true,
            qk_scale: Some(1.0),
            softcap: Some(15.0),
            vocab_multiple: 64,
            embedding_norm: true,
            ..Nanochat::default()
        };
        GptConfig { windows: vec![0], nanochat: own, ..small("nanochat-d3") }
    }

    fn names(path: &Path) -> BTreeSet<String> {
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        file.names().into_iter().map(|name| name.to_owned()).collect()
    }

    fn described(directory: &Path) -> GptConfig {
        let text = std::fs::read_to_string(directory.join("config.json")).unwrap();
        let described = read_config(&text).unwrap();
        assert!(described.unknown.is_empty(), "{:?}", described.unknown);
        described.config
    }

    #[test]
    fn a_plain_model_is_written_for_its_class_and_read_back() {
        for (shard_bytes, tied, softcap) in [(None, false, Some(15.0)), (Some(3000), true, None)] {
            let mut config = GptConfig { tied, ..plain() };
            config.nanochat.softcap = softcap;
            let values = gpt::initialise(&config, 3);
            let dir = tempfile::tempdir().unwrap();
            let (model, reader) = (Model::new(&config), Reader::Transformers);
            write(dir.path(), &model, &values, Precision::F32, shard_bytes, reader).unwrap();
            let (bare, expected) = unpadded(&config, &values);
            assert_eq!(bare.vocab_rows(), 50);
            assert_eq!(described(dir.path()), GptConfig { windows: vec![], ..bare.clone() });
            let path = dir.path().join("model.safetensors");
            let read = match shard_bytes {
                None => read_safetensors(&path, &bare),
                Some(_) => read_sharded(&path.with_extension("safetensors.index.json"), &bare),
            };
            assert_eq!(read.unwrap(), *expected);
            // The first row of the classifier is where it was.
            if let Some(place) = Layout::new(&bare).find("classifier", None) {
                let from = Layout::new(&config).range("classifier");
                assert_eq!(expected[place.range()], values[from][..50 * 32]);
            }
        }
    }

    #[test]
    fn tensors_have_the_names_of_the_class() {
        let config = plain();
        let dir = tempfile::tempdir().unwrap();
        let (model, values) = (Model::new(&config), gpt::initialise(&config, 3));
        write(dir.path(), &model, &values, Precision::F32, None, Reader::Transformers).unwrap();
        let parts =
            ["q_proj", "k_proj", "v_proj", "o_proj"].map(|part| format!("self_attn.{part}"));
        let parts = [&parts[..], &["mlp.fc1".to_owned(), "mlp.fc2".to_owned()]].concat();
        let mut expected: BTreeSet<String> = (0..3)
            .flat_map(|i| parts.iter().map(move |part| format!("model.layers.{i}.{part}.weight")))
            .collect();
        expected.extend(["model.embed_tokens.weight".to_owned(), "lm_head.weight".to_owned()]);
        assert_eq!(names(&dir.path().join("model.safetensors")), expected);
    }

    #[test]
    fn every_entry_that_the_class_lacks_is_named() {
        let error =
            |config: &GptConfig, reader| expressible(config, reader).unwrap_err().to_string();
        let july = error(&small("nanochat-d3"), Reader::Transformers);
        for says in [
            "Hugging Face cannot express this: ",
            "`windows` is [5, 9, 0] and would have to be []",
            "`nanochat.qk_scale` is 1.2 and would have to be 1",
            "`nanochat.value_embeds` is true",
            "`nanochat.smear_channels` is 24 and would have to be 0",
            "`nanochat.residual_scales` is true",
            "`nanochat.backout` is true",
        ] {
            assert!(july.contains(says), "{july}");
        }
        let february = error(&small("nanochat-2026-02-d3"), Reader::Transformers);
        for absent in ["qk_scale", "smear", "backout"] {
            assert!(!february.contains(absent), "{february}");
        }
        // One entry alone, of each kind.
        for (change, says) in [
            (GptConfig { rope_theta: None, ..plain() }, "`rope_theta` is absent"),
            (GptConfig { no_rope: vec![1], ..plain() }, "`no_rope` is [1]"),
            (GptConfig { bias: true, ..plain() }, "`bias` is true"),
            (GptConfig { qk_norm: true, ..plain() }, "`qk_norm` is true"),
            (GptConfig { norm: Norm::Rms, ..plain() }, "`norm` is rms"),
            (GptConfig { feed_forward: FeedForward::Gelu, ..plain() }, "`feed_forward` is gelu"),
        ] {
            let error = error(&change, Reader::Transformers);
            assert!(error.contains(says) && !error.contains(','), "{error}");
        }
        let other = |change: fn(&mut Nanochat)| {
            let mut config = plain();
            change(&mut config.nanochat);
            error(&config, Reader::Transformers)
        };
        assert!(other(|n| n.rope_reversed = false).contains("`nanochat.rope_reversed` is false"));
        assert!(other(|n| n.qk_scale = None).contains("`nanochat.qk_scale` is absent"));
        assert!(other(|n| n.embedding_norm = false).contains("`nanochat.embedding_norm` is false"));
        expressible(&plain(), Reader::Transformers).unwrap();
    }

    #[test]
    fn code_is_written_for_the_other_models() {
        for preset in ["nanochat-d3", "nanochat-2026-02-d3"] {
            let config = small(preset);
            let values = gpt::initialise(&config, 5);
            let dir = tempfile::tempdir().unwrap();
            let (model, reader) = (Model::new(&config), Reader::TransformersWithCode);
            write(dir.path(), &model, &values, Precision::F32, None, reader).unwrap();
            assert_eq!(described(dir.path()), config);
            let path = dir.path().join("model.safetensors");
            assert_eq!(read_safetensors(&path, &config).unwrap(), values);
            let text = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
            let json: Value = serde_json::from_str(&text).unwrap();
            for entry in ["AutoConfig", "AutoModelForCausalLM"] {
                let (module, class) =
                    json["auto_map"][entry].as_str().unwrap().split_once('.').unwrap();
                let code =
                    std::fs::read_to_string(dir.path().join(format!("{module}.py"))).unwrap();
                assert!(code.contains(&format!("\nclass {class}(")), "{entry}");
            }
        }
        let llama = GptConfig::preset("tiny").unwrap();
        let beyond = GptConfig { bias: true, ..small("nanochat-d3") };
        for (config, says) in [(llama, "`family` is llama"), (beyond, "`bias` is true")] {
            let error = expressible(&config, Reader::TransformersWithCode).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn what_the_class_does_not_compute_here_is_refused_by_name() {
        let read = |entries: Value| {
            let mut json = super::write(&plain());
            json.as_object_mut().unwrap().extend(entries.as_object().unwrap().clone());
            read_config(&json.to_string()).map(|described| described.config)
        };
        for (entries, says) in [
            (json!({"hidden_act": "silu"}), "`hidden_act` is \"silu\""),
            (json!({"attention_bias": true}), "biases"),
            (json!({"sliding_window": 4}), "`sliding_window` is 4"),
            (json!({"final_logit_softcapping": "15"}), "not a number"),
            (json!({"final_logit_softcapping": 50.0}), "`softcap` is 50"),
            (json!({"num_key_value_heads": 3}), "`n_kv_head` is 3"),
            (json!({"architectures": ["NanoChatModel"]}), "`NanoChatForCausalLM` is read"),
        ] {
            let error = read(entries.clone()).unwrap_err();
            assert!(error.contains(says), "{entries}: {error}");
        }
        // Defaults of transformers.
        let mut json = super::write(&plain());
        for name in ["head_dim", "num_key_value_heads", "rms_norm_eps", "final_logit_softcapping"] {
            json.as_object_mut().unwrap().remove(name);
        }
        let config = read_config(&json.to_string()).unwrap().config;
        assert_eq!((config.head_dim, config.n_kv_head, config.norm_eps), (8, 4, 1e-6));
        assert_eq!(config.nanochat.softcap, Some(15.0));
    }

    /// Faults name tensors as the file has them.
    #[test]
    fn tensors_of_the_class_are_named_as_it_names_them() {
        let config = plain();
        let dir = tempfile::tempdir().unwrap();
        let (model, values) = (Model::new(&config), gpt::initialise(&config, 3));
        write(dir.path(), &model, &values, Precision::F32, None, Reader::Transformers).unwrap();
        let (path, bare) = (dir.path().join("model.safetensors"), unpadded(&config, &values).0);
        for (change, says) in [
            (GptConfig { vocab_size: 49, ..bare.clone() }, "`model.embed_tokens.weight` has shape"),
            (
                GptConfig { n_layer: 4, ..bare.clone() },
                "`model.layers.3.self_attn.q_proj.weight` is",
            ),
        ] {
            let error = read_safetensors(&path, &change).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        // Layers behind the last one, and a copy of a tied classifier, may lie there.
        read_safetensors(&path, &GptConfig { tied: true, n_layer: 2, ..bare }).unwrap();
    }

    /// A model with value embeddings, read as one without.
    #[test]
    fn tensors_without_a_place_are_refused() {
        let config = small("nanochat-d3");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let values = gpt::initialise(&config, 5);
        super::super::write_safetensors(&path, &config, &values).unwrap();
        for (change, names) in [
            (Nanochat { value_embeds: false, ..config.nanochat.clone() }, "ve_gate"),
            (Nanochat { backout: false, ..config.nanochat.clone() }, "backout_lambda"),
            (Nanochat { residual_scales: false, ..config.nanochat.clone() }, "resid_lambdas"),
            (Nanochat { smear_channels: 0, ..config.nanochat.clone() }, "smear_gate"),
        ] {
            let less = GptConfig { nanochat: change, ..config.clone() };
            let error = read_safetensors(&path, &less).unwrap_err().to_string();
            assert!(error.contains(names) && error.contains("has no place"), "{error}");
        }
    }
}
