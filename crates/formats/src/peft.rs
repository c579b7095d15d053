//! LoRA adapters in the files of Hugging Face's PEFT: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! An adapter changes weights W [out, in] to W + s·B·A, with A [r, in] and B [out, r]. [`Adapter::merge`] brings it into
//! the weights of a model, whose programs do not know it then.

use crate::Precision;
use crate::error::WeightsError;
use crate::tensor_file::{self, TensorFile, TensorFileError};
use gpt::params::Stored;
use gpt::{GptConfig, Layout};
use safetensors::Dtype;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file of settings, by which an adapter is known.
pub const CONFIG: &str = "adapter_config.json";
/// The file of factors.
const WEIGHTS: &str = "adapter_model.safetensors";
/// In front of the names of all modules.
const PREFIX: &str = "base_model.model.";

/// Factors of one matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// The module that has the matrix, such as `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// Extents of the matrix: [out, in].
    pub extents: [usize; 2],
    /// A [r, in].
    pub a: Vec<f32>,
    /// B [out, r].
    pub b: Vec<f32>,
}

/// An adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// The model that it is for, as its file names it.
    pub base: Option<String>,
    /// r.
    pub rank: usize,
    /// s = α/r.
    pub alpha: f64,
    /// In the order of the model's layers.
    pub factors: Vec<Factors>,
}

/// Entries that must have one of these values, or be absent.
fn plain() -> [(&'static str, Vec<Value>); 10] {
    [
        ("peft_type", vec![json!("LORA")]),
        ("bias", vec![json!("none")]),
        ("use_dora", vec![json!(false), Value::Null]),
        ("use_rslora", vec![json!(false), Value::Null]),
        ("modules_to_save", vec![Value::Null, json!([])]),
        ("rank_pattern", vec![json!({}), Value::Null]),
        ("alpha_pattern", vec![json!({}), Value::Null]),
        ("alora_invocation_tokens", vec![Value::Null]),
        ("arrow_config", vec![Value::Null]),
        ("layer_replication", vec![Value::Null, json!([])]),
    ]
}

/// Values of `init_lora_weights` that leave the weights of the model as they were. Others change them when training
/// begins, so that the adapter does not fit the original ones.
const INITS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Refuses adapters that are for weights which PEFT changed.
fn check_init(config: &Value) -> Result<(), String> {
    let init = config.get("init_lora_weights").unwrap_or(&Value::Null);
    let plain = match init {
        Value::String(name) => INITS.contains(&name.to_lowercase().as_str()),
        Value::Bool(_) | Value::Null => true,
        _ => false,
    };
    if plain {
        return Ok(());
    }
    Err(format!(
        "`init_lora_weights` is {init}: PEFT changed the model's weights before it trained this adapter, so it does not \
         fit the weights of the model's files. Merge it in PEFT (`merge_and_unload`) and save the whole model, or save the \
         adapter with `save_pretrained(..., path_initial_model_for_weight_conversion=...)`, which PEFT has for pissa, \
         corda and olora"
    ))
}

impl Adapter {
    /// Reads the adapter of a directory.
    ///
    /// # Errors
    /// When a file is missing or malformed, or an entry asks for something else than factors of matrices.
    pub fn read(directory: &Path) -> Result<Self, WeightsError> {
        let path = directory.join(CONFIG);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| WeightsError::Io { path: path.clone(), source })?;
        let fault = |reason: String| WeightsError::Adapter { path: path.clone(), reason };
        let config: Value = serde_json::from_str(&text).map_err(|e| fault(e.to_string()))?;
        for (name, allowed) in plain() {
            let found = config.get(name).unwrap_or(&allowed[0]);
            if !allowed.contains(found) {
                let only = &allowed[0];
                return Err(fault(format!("`{name}` is {found}; this program reads only {only}")));
            }
        }
        check_init(&config).map_err(fault)?;
        let rank = config.get("r").and_then(Value::as_u64).filter(|&r| r > 0);
        let rank =
            rank.ok_or_else(|| fault("`r` must be a whole number above 0".to_owned()))? as usize;
        let alpha = config.get("lora_alpha").and_then(Value::as_f64);
        let alpha = alpha.filter(|alpha| alpha.is_finite() && *alpha > 0.0);
        let alpha =
            alpha.ok_or_else(|| fault("`lora_alpha` must be a number above 0".to_owned()))?;
        let base = config.get("base_model_name_or_path").and_then(Value::as_str);
        let factors = read_factors(&directory.join(WEIGHTS), rank)?;
        Ok(Adapter { base: base.map(str::to_owned), rank, alpha, factors })
    }

    /// Adds s·B·A to the weights of a model.
    ///
    /// # Errors
    /// When the model has no such matrix, or one of other extents.
    pub fn merge(&self, config: &GptConfig, values: &mut [f32]) -> Result<(), WeightsError> {
        let layout = Layout::new(config);
        let scale = (self.alpha / self.rank as f64) as f32;
        for factors in &self.factors {
            let tensor = find(&layout, &factors.module)?;
            let extents = match (tensor.transposed, &tensor.shape[..]) {
                (false, &[out, input]) | (true, &[input, out]) => [out, input],
                _ => [0, 0],
            };
            if extents != factors.extents {
                return Err(inexpressible(format!(
                    "the adapter of `{}` is for a matrix of {:?}, the model has {extents:?}",
                    factors.module, factors.extents
                )));
            }
            let mut stored = layout.stored(tensor, values).into_owned();
            factors.add(scale, tensor.transposed, self.rank, &mut stored);
            layout.restore(tensor, &stored, values);
        }
        Ok(())
    }

    /// Writes the adapter into a directory that is there.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), WeightsError> {
        let mut targets: Vec<&str> = vec![];
        for factors in &self.factors {
            let name = factors.module.rsplit('.').next().unwrap_or_default();
            if !targets.contains(&name) {
                targets.push(name);
            }
        }
        let config = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "use_dora": false,
            "use_rslora": false,
            "init_lora_weights": true,
            "inference_mode": true,
            "target_modules": targets,
        });
        let text = serde_json::to_string_pretty(&config).expect("plain data");
        put(&directory.join(CONFIG), &[text.as_bytes()])?;
        let path = directory.join(WEIGHTS);
        let mut tensors: Vec<(String, [usize; 2], &[f32])> = vec![];
        for factors in &self.factors {
            let name = |factor: &str| format!("{PREFIX}{}.lora_{factor}.weight", factors.module);
            let [out, input] = factors.extents;
            tensors.push((name("A"), [self.rank, input], &factors.a));
            tensors.push((name("B"), [out, self.rank], &factors.b));
        }
        let infos = tensors.iter().map(|(name, shape, data)| (&name[..], &shape[..], data.len()));
        let header = tensor_file::header(Precision::F32, infos)
            .map_err(|reason| WeightsError::Adapter { path: path.clone(), reason })?;
        let data = tensors.iter().map(|(_, _, data)| bytemuck::cast_slice(data));
        let parts: Vec<&[u8]> = std::iter::once(&header[..]).chain(data).collect();
        put(&path, &parts)
    }
}

impl Factors {
    /// Adds `scale`·B·A to a matrix, which is [in, out] if it is `transposed`.
    fn add(&self, scale: f32, transposed: bool, rank: usize, to: &mut [f32]) {
        let [out, input] = self.extents;
        let mut row = vec![0.0; input];
        for (o, b) in self.b.chunks(rank).enumerate() {
            row.fill(0.0);
            for (b, a) in b.iter().zip(self.a.chunks(input)) {
                row.iter_mut().zip(a).for_each(|(sum, a)| *sum += b * a);
            }
            for (i, sum) in row.iter().enumerate() {
                to[if transposed { i * out + o } else { o * input + i }] += scale * sum;
            }
        }
    }
}

fn inexpressible(reason: String) -> WeightsError {
    WeightsError::Inexpressible { format: "an adapter", reason }
}

/// The tensor of a module. Some programs have `transformer.` in front of names.
fn find<'l>(layout: &'l Layout, module: &str) -> Result<&'l Stored, WeightsError> {
    let named = |name: &str| layout.tensors().iter().find(|tensor| tensor.name == name);
    let whole = format!("{module}.weight");
    let found = named(&whole).or_else(|| named(whole.strip_prefix("transformer.")?));
    found.ok_or_else(|| inexpressible(format!("the model has no matrix `{module}`")))
}

fn put(path: &Path, parts: &[&[u8]]) -> Result<(), WeightsError> {
    let written = std::fs::File::create(path)
        .and_then(|mut file| parts.iter().try_for_each(|part| file.write_all(part)));
    written.map_err(|source| WeightsError::Write { path: path.to_owned(), source })
}

fn read_factors(path: &Path, rank: usize) -> Result<Vec<Factors>, WeightsError> {
    let fault = |reason: String| WeightsError::Adapter { path: path.to_owned(), reason };
    let mut file = TensorFile::open(path).map_err(|error| match error {
        TensorFileError::Io(source) => WeightsError::Io { path: path.to_owned(), source },
        TensorFileError::Malformed(reason) => fault(reason),
    })?;
    let mut modules: BTreeMap<String, [Option<String>; 2]> = BTreeMap::new();
    for name in file.names() {
        let bare = name.strip_prefix(PREFIX).unwrap_or(&name);
        let parts = ["A", "B"].iter().enumerate().find_map(|(at, factor)| {
            Some((bare.strip_suffix(&format!(".lora_{factor}.weight"))?.to_owned(), at))
        });
        let (module, at) = parts.ok_or_else(|| {
            fault(format!("`{name}` is not a factor of a matrix: this program reads no others"))
        })?;
        modules.entry(module).or_default()[at] = Some(name);
    }
    let mut read = |name: &str| {
        let info = file.info(name).map(|(dtype, shape)| (dtype, shape.to_vec()));
        let Some((Dtype::F32 | Dtype::F16 | Dtype::BF16, shape)) = info else {
            return Err(fault(format!("`{name}` is not of F32, F16 or BF16")));
        };
        let [rows, columns] = shape[..] else {
            return Err(fault(format!("`{name}` is not a matrix")));
        };
        let mut values = vec![0.0; rows * columns];
        file.read(name, &mut values)
            .map_err(|source| WeightsError::Io { path: path.to_owned(), source })?;
        if let Some(at) = tensor_file::not_finite(&values) {
            return Err(fault(format!("element {at} of `{name}` is not a number")));
        }
        Ok(([rows, columns], values))
    };
    let mut all = vec![];
    for (module, names) in modules {
        let [Some(a), Some(b)] = names else {
            return Err(fault(format!("`{module}` has one factor without the other")));
        };
        let (([above, input], a), ([out, across], b)) = (read(&a)?, read(&b)?);
        if [above, across] != [rank; 2] {
            return Err(fault(format!("the factors of `{module}` are not of rank {rank}")));
        }
        all.push(Factors { module, extents: [out, input], a, b });
    }
    Ok(all)
}

/// Returns where an adapter's model is: a path beside the adapter, or a name for whoever fetches models.
pub fn base_path(directory: &Path, base: &str) -> Option<PathBuf> {
    [PathBuf::from(base), directory.join(base)].into_iter().find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpt::initialise;

    fn adapter(config: &GptConfig) -> Adapter {
        let of = |module: &str, [out, input]: [usize; 2]| Factors {
            module: module.to_owned(),
            extents: [out, input],
            a: (0..2 * input).map(|i| (i as f32 * 0.7).sin()).collect(),
            b: (0..2 * out).map(|i| (i as f32 * 0.3).cos()).collect(),
        };
        let width = config.n_embd;
        let factors = match config.family.name() {
            "gpt2" => vec![
                of("transformer.h.0.attn.c_attn", [3 * width, width]),
                of("transformer.h.1.mlp.c_proj", [width, config.hidden]),
            ],
            _ => vec![
                of("model.layers.0.mlp.down_proj", [width, config.hidden]),
                of("model.layers.1.self_attn.q_proj", [width, width]),
            ],
        };
        Adapter { base: Some("elsewhere".to_owned()), rank: 2, alpha: 3.0, factors }
    }

    fn config(preset: &str) -> GptConfig {
        GptConfig { vocab_size: 60, ..GptConfig::preset(preset).unwrap() }
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let own = adapter(&config("tiny"));
        own.write(directory.path()).unwrap();
        assert_eq!(Adapter::read(directory.path()).unwrap(), own);
    }

    /// W + 3/2·B·A, also where a file has the transpose, or several matrices in one.
    #[test]
    fn factors_are_added_to_their_matrices() {
        for preset in ["tiny", "gpt2-tiny"] {
            let config = config(preset);
            let (layout, own) = (Layout::new(&config), adapter(&config));
            let before = initialise(&config, 5);
            let mut after = before.clone();
            own.merge(&config, &mut after).unwrap();
            for tensor in layout.tensors() {
                let [before, after] = [&before, &after].map(|values| layout.stored(tensor, values));
                let module = format!("transformer.{}", tensor.name);
                let factors = own.factors.iter().find(|factors| {
                    let name = format!("{}.weight", factors.module);
                    name == tensor.name || name == module
                });
                let Some(Factors { extents: [out, input], a, b, .. }) = factors else {
                    assert_eq!(before, after, "{}", tensor.name);
                    continue;
                };
                for o in 0..*out {
                    for i in 0..*input {
                        let change = b[2 * o] * a[i] + b[2 * o + 1] * a[input + i];
                        let at = if tensor.transposed { i * out + o } else { o * input + i };
                        let found = after[at] - before[at];
                        assert!((found - 1.5 * change).abs() < 1e-5, "{} {o} {i}", tensor.name);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_obeyed_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let own = adapter(&config("tiny"));
        own.write(directory.path()).unwrap();
        let path = directory.path().join(CONFIG);
        let text = std::fs::read_to_string(&path).unwrap();
        for (from, to, says) in [
            (
                "\"use_dora\": false",
                "\"use_dora\": true",
                "`use_dora` is true; this program reads only false",
            ),
            ("\"bias\": \"none\"", "\"bias\": \"all\"", "`bias` is \"all\""),
            ("\"LORA\"", "\"IA3\"", "`peft_type` is \"IA3\""),
            ("\"r\": 2", "\"r\": 0", "`r` must be a whole number above 0"),
            ("\"r\": 2", "\"r\": 0.5", "`r` must be a whole number above 0"),
            ("\"r\": 2", "\"r\": -2", "`r` must be a whole number above 0"),
            ("\"lora_alpha\": 3.0", "\"lora_alpha\": 0", "`lora_alpha` must be a number above 0"),
            (
                "_weights\": true",
                "_weights\": \"pissa_niter_4\"",
                "is \"pissa_niter_4\": PEFT changed",
            ),
            (
                "_weights\": true",
                "_weights\": \"olora\"",
                "save_pretrained(..., path_initial_model_for",
            ),
            ("_weights\": true", "_weights\": \"loftq\"", "(`merge_and_unload`)"),
            ("_weights\": true", "_weights\": \"corda\"", "is \"corda\""),
            (
                "\"bias\"",
                "\"alora_invocation_tokens\": [1], \"bias\"",
                "`alora_invocation_tokens` is [1]",
            ),
            ("\"r\": 2", "\"r\": 4", "are not of rank 4"),
            ("{", "", "is not an adapter"),
        ] {
            std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
            let error = Adapter::read(directory.path()).unwrap_err().to_string();
            assert!(error.contains(says), "{to}: {error}");
        }
        for plain in ["false", "\"gaussian\"", "\"eva\"", "\"orthogonal\"", "null"] {
            let other = text.replace("_weights\": true", &format!("_weights\": {plain}"));
            assert_ne!(other, text);
            std::fs::write(&path, other).unwrap();
            assert_eq!(Adapter::read(directory.path()).unwrap(), own, "{plain}");
        }
        let small = GptConfig { n_layer: 1, ..config("tiny") };
        let mut values = initialise(&small, 1);
        let error = own.merge(&small, &mut values).unwrap_err().to_string();
        assert!(error.contains("no matrix `model.layers.1.self_attn.q_proj`"), "{error}");
        let wide = GptConfig { hidden: 64, ..config("tiny") };
        let error = own.merge(&wide, &mut initialise(&wide, 1)).unwrap_err().to_string();
        assert!(error.contains("is for a matrix of"), "{error}");
    }
}
