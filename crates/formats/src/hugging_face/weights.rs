//! The weights of a Hugging Face directory: one safetensors file, or an index of several.

use super::nanochat;
use crate::error::{WeightsError, check_finite};
use crate::precision::Precision;
use crate::tensor_file::{self, TensorFile, TensorFileError};
use gpt::params::Stored;
use gpt::{GptConfig, Layout};
use safetensors::Dtype;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Component, Path};

/// Values that are converted at once.
const PIECE: usize = 1 << 16;

/// Reads the parameters of `config` from a safetensors file (F32, F16 or BF16).
///
/// # Errors
/// When the file is malformed, or a tensor is missing, has another shape or type, or holds
/// something that is not a finite number.
pub fn read_safetensors(path: &Path, config: &GptConfig) -> Result<Vec<f32>, WeightsError> {
    let layout = Layout::new(config);
    let mut file = open(path)?;
    let names = Names::new(file.names(), config);
    check_tensors(path, &file, &names, layout.tensors())?;
    check_all_are_read(path, &names, &layout, config)?;
    // The file has every tensor, and so the model's size, before memory of that size is taken.
    let mut values = vec![0.0; layout.count()];
    read_tensors(path, &mut file, &names, &layout, layout.tensors(), &mut values)?;
    check_finite(path, &layout, &values)?;
    Ok(values)
}

/// Names the files that hold the tensors of a large model.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Returns the names of the files that an index names, each once.
///
/// # Errors
/// When the index is malformed, or names a file that does not lie beside it.
pub fn read_index(text: &str) -> Result<Vec<String>, String> {
    let index: Index = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    shards.iter().try_for_each(|shard| beside(shard))?;
    Ok(shards.into_iter().collect())
}

/// Refuses a path that is not the name of a file of the same directory.
fn beside(shard: &str) -> Result<(), String> {
    match Path::new(shard).components().eq([Component::Normal(shard.as_ref())]) {
        true => Ok(()),
        false => Err(format!("`{shard}` is not the name of a file beside it")),
    }
}

/// Reads the parameters of `config` from the files that a `model.safetensors.index.json` names.
///
/// # Errors
/// When the index is malformed, names no file for a tensor or one outside its directory, and as
/// [`read_safetensors`].
pub fn read_sharded(index: &Path, config: &GptConfig) -> Result<Vec<f32>, WeightsError> {
    let fault = |reason: String| WeightsError::Index { path: index.to_owned(), reason };
    let text = std::fs::read(index)
        .map_err(|source| WeightsError::Io { path: index.to_owned(), source })?;
    let map: Index = serde_json::from_slice(&text).map_err(|e| fault(e.to_string()))?;
    let layout = Layout::new(config);
    let names = Names::new(map.weight_map.keys().cloned().collect(), config);
    check_all_are_read(index, &names, &layout, config)?;
    let mut shards: BTreeMap<&str, Vec<Stored>> = BTreeMap::new();
    for tensor in layout.tensors() {
        let shard = names.find(&tensor.name).and_then(|name| map.weight_map.get(name));
        let shard = shard.ok_or_else(|| {
            fault(format!("it names no file for `{}`", names.shown(&tensor.name)))
        })?;
        beside(shard).map_err(fault)?;
        shards.entry(shard).or_default().push(tensor.clone());
    }
    // As in one file, memory is taken for what the files hold: no element has less than two bytes.
    let mut bytes = 0;
    for shard in shards.keys() {
        let path = index.with_file_name(shard);
        bytes += path.metadata().map_err(|source| WeightsError::Io { path, source })?.len();
    }
    if bytes < 2 * layout.count() as u64 {
        return Err(fault(format!("its files have {bytes} bytes, too few for {config}")));
    }
    let mut values = vec![0.0; layout.count()];
    for (shard, tensors) in shards {
        let path = index.with_file_name(shard);
        let mut file = open(&path)?;
        check_tensors(&path, &file, &names, &tensors)?;
        read_tensors(&path, &mut file, &names, &layout, &tensors, &mut values)?;
    }
    check_finite(index, &layout, &values)?;
    Ok(values)
}

/// The names by which checkpoints have the tensors of a family.
struct Scheme {
    /// In front of all names of the model, or absent.
    prefix: &'static str,
    /// In front of the number of a layer.
    layers: &'static str,
    /// How names of the model begin.
    parts: &'static [&'static str],
    /// The name of a tensor that the family calls otherwise.
    renamed: fn(&str) -> Option<String>,
}

const LLAMA: Scheme = Scheme {
    prefix: "",
    layers: "model.layers.",
    parts: &["model.", "lm_head."],
    renamed: |_| None,
};
const GPT2: Scheme = Scheme {
    prefix: "transformer.",
    layers: "h.",
    parts: &["h.", "wte.", "wpe.", "ln_f.", "lm_head."],
    renamed: |_| None,
};
const NANOCHAT: Scheme = Scheme {
    prefix: "",
    layers: "transformer.h.",
    parts: &[
        "transformer.",
        "lm_head.",
        "value_embeds.",
        "resid_lambdas",
        "x0_lambdas",
        "smear_",
        "backout_",
    ],
    renamed: |_| None,
};
/// Those of transformers' class.
const NANOCHAT_CLASS: Scheme = Scheme { renamed: nanochat::name_of_class, ..LLAMA };

/// Names of the tensors of a checkpoint.
struct Names {
    scheme: Scheme,
    /// By the name without the prefix.
    all: BTreeMap<String, String>,
}

impl Names {
    fn new(names: Vec<String>, config: &GptConfig) -> Self {
        let scheme = match config.family.name() {
            "gpt2" => GPT2,
            "nanochat" if names.iter().any(|name| name.starts_with("model.")) => NANOCHAT_CLASS,
            "nanochat" => NANOCHAT,
            _ => LLAMA,
        };
        let bare = |name: String| (bare(scheme.prefix, &name).to_owned(), name);
        let all = names.into_iter().map(bare).collect();
        Names { scheme, all }
    }

    /// The name, without the prefix, of the tensor that the family calls `name`.
    fn bare(&self, name: &str) -> String {
        let renamed = (self.scheme.renamed)(name);
        renamed.unwrap_or_else(|| bare(self.scheme.prefix, name).to_owned())
    }

    /// The name, for people, of the tensor that the family calls `name`: as it is, or would be, in the checkpoint.
    fn shown(&self, name: &str) -> String {
        let absent = || (self.scheme.renamed)(name).unwrap_or_else(|| name.to_owned());
        self.find(name).map_or_else(absent, str::to_owned)
    }

    /// The checkpoint's name of the tensor that the family calls `name`.
    fn find(&self, name: &str) -> Option<&str> {
        self.all.get(&self.bare(name)).map(String::as_str)
    }
}

fn bare<'n>(prefix: &str, name: &'n str) -> &'n str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// Refuses weights that belong to the model and have no place in `config`, such as biases or norms of
/// queries under the name of a model without them: leaving them out would compute another model.
/// Tables of rotations, masks, a copy of tied embeddings, layers behind the last one and what is outside
/// of the model may lie there.
fn check_all_are_read(
    path: &Path,
    names: &Names,
    layout: &Layout,
    config: &GptConfig,
) -> Result<(), WeightsError> {
    let own = layout.tensors().iter().map(|tensor| names.bare(&tensor.name));
    let read: BTreeSet<String> = own.collect();
    let Scheme { layers, parts, .. } = names.scheme;
    const TABLES: [&str; 3] = [".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"];
    let harmless = |name: &str| {
        let layer = name.strip_prefix(layers).and_then(|rest| rest.split('.').next());
        TABLES.iter().any(|end| name.ends_with(end))
            || (name == "lm_head.weight" && config.tied)
            || layer.and_then(|n| n.parse().ok()).is_some_and(|n: usize| n >= config.n_layer)
            || !parts.iter().any(|part| name.starts_with(part))
    };
    let mut left =
        names.all.iter().filter(|(name, _)| !read.contains(&name[..]) && !harmless(name));
    match left.next() {
        None => Ok(()),
        Some((_, name)) => Err(WeightsError::Tensor {
            path: path.to_owned(),
            name: name.clone(),
            reason: "has no place in the model that config.json describes".to_owned(),
        }),
    }
}

/// Writes the parameters of `config` as one safetensors file of F32 tensors, in the order of their
/// names, which [`read_safetensors`] reads back to the same bits.
///
/// # Errors
/// When an element is not a finite number or the file cannot be written.
pub fn write_safetensors(
    path: &Path,
    config: &GptConfig,
    values: &[f32],
) -> Result<(), WeightsError> {
    let layout = Layout::new(config);
    check_finite(path, &layout, values)?;
    write_file(path, &layout, &ordered(layout.tensors()), values, Precision::F32)
}

/// The tensors in the order of their names.
fn ordered(tensors: &[Stored]) -> Vec<&Stored> {
    let mut tensors: Vec<&Stored> = tensors.iter().collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    tensors
}

/// How weights are written.
pub(super) struct Form {
    pub(super) precision: Precision,
    /// Most bytes of a file.
    pub(super) shard_bytes: Option<u64>,
    /// The name of a tensor where it is not the family's.
    pub(super) renamed: fn(&str) -> Option<String>,
}

/// Writes `model.safetensors`, or several files of at most `shard_bytes` with an index of them.
pub(super) fn write(
    directory: &Path,
    config: &GptConfig,
    values: &[f32],
    form: &Form,
) -> Result<(), WeightsError> {
    let (layout, precision) = (Layout::new(config), form.precision);
    check_finite(directory, &layout, values)?;
    let named = |tensor: &Stored| {
        let name = (form.renamed)(&tensor.name).unwrap_or_else(|| tensor.name.clone());
        Stored { name, ..tensor.clone() }
    };
    let tensors: Vec<Stored> = layout.tensors().iter().map(named).collect();
    let shards = shards(ordered(&tensors), precision, form.shard_bytes.unwrap_or(u64::MAX));
    if let [all] = &shards[..] {
        return write_file(&directory.join("model.safetensors"), &layout, all, values, precision);
    }
    let mut map = BTreeMap::new();
    for (i, tensors) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
        write_file(&directory.join(&name), &layout, tensors, values, precision)?;
        map.extend(tensors.iter().map(|tensor| (&tensor.name, name.clone())));
    }
    let total: u64 = tensors.iter().map(|tensor| bytes(tensor, precision)).sum();
    let index = serde_json::json!({ "metadata": { "total_size": total }, "weight_map": map });
    let path = directory.join("model.safetensors.index.json");
    let text = serde_json::to_string_pretty(&index).expect("names");
    std::fs::write(&path, text).map_err(|source| WeightsError::Write { path, source })
}

fn bytes(tensor: &Stored, precision: Precision) -> u64 {
    precision.bytes(&tensor.shape).unwrap_or(0)
}

/// Cuts the list where one more tensor would be too much for a file.
fn shards(tensors: Vec<&Stored>, precision: Precision, most: u64) -> Vec<Vec<&Stored>> {
    let (mut shards, mut filled) = (vec![vec![]], 0);
    for tensor in tensors {
        let bytes = bytes(tensor, precision);
        if filled > 0 && filled + bytes > most {
            shards.push(vec![]);
            filled = 0;
        }
        filled += bytes;
        shards.last_mut().expect("there is one").push(tensor);
    }
    shards
}

fn write_file(
    path: &Path,
    layout: &Layout,
    tensors: &[&Stored],
    values: &[f32],
    precision: Precision,
) -> Result<(), WeightsError> {
    let infos = tensors.iter().map(|t| (&t.name[..], &t.shape[..], t.shape.iter().product()));
    let fault = |source| WeightsError::Write { path: path.to_owned(), source };
    let header = tensor_file::header(precision, infos);
    let header = header.map_err(|reason| fault(std::io::Error::other(reason)))?;
    let mut file = BufWriter::new(File::create(path).map_err(fault)?);
    file.write_all(&header).map_err(fault)?;
    let mut piece = vec![];
    for tensor in tensors {
        let stored = layout.stored(tensor, values);
        if let Some(value) = precision.beyond(&stored) {
            return Err(WeightsError::Tensor {
                path: path.to_owned(),
                name: tensor.name.clone(),
                reason: format!("has {value}, which is beyond {precision}: write f32"),
            });
        }
        for part in stored.chunks(PIECE) {
            piece.clear();
            precision.encode(part, &mut piece);
            file.write_all(&piece).map_err(fault)?;
        }
    }
    file.flush().map_err(fault)
}

/// Opens a safetensors file.
fn open(path: &Path) -> Result<TensorFile, WeightsError> {
    TensorFile::open(path).map_err(|error| match error {
        TensorFileError::Io(source) => WeightsError::Io { path: path.to_owned(), source },
        TensorFileError::Malformed(reason) => {
            WeightsError::Safetensors { path: path.to_owned(), reason }
        }
    })
}

/// Refuses a file that lacks one of the tensors, or has it in another shape or type.
fn check_tensors(
    path: &Path,
    file: &TensorFile,
    names: &Names,
    tensors: &[Stored],
) -> Result<(), WeightsError> {
    for tensor in tensors {
        let fault = |reason: String| WeightsError::Tensor {
            path: path.to_owned(),
            name: names.shown(&tensor.name),
            reason,
        };
        let found = names.find(&tensor.name).and_then(|name| file.info(name));
        let (dtype, shape) = found.ok_or_else(|| fault("is missing".to_owned()))?;
        if shape != tensor.shape {
            return Err(fault(format!("has shape {shape:?}, the model needs {:?}", tensor.shape)));
        }
        if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(fault(format!("has type {dtype:?}; F32, F16 and BF16 are read")));
        }
    }
    Ok(())
}

/// Reads tensors to their places in the arena.
fn read_tensors(
    path: &Path,
    file: &mut TensorFile,
    names: &Names,
    layout: &Layout,
    tensors: &[Stored],
    values: &mut [f32],
) -> Result<(), WeightsError> {
    let mut read = |name: &str, to: &mut [f32]| {
        file.read(names.find(name).unwrap_or(name), to)
            .map_err(|source| WeightsError::Io { path: path.to_owned(), source })
    };
    tensors.iter().try_for_each(|tensor| {
        if let Some(place) = layout.place(tensor) {
            return read(&tensor.name, &mut values[place]);
        }
        let mut packed = vec![0.0; tensor.shape.iter().product()];
        read(&tensor.name, &mut packed)?;
        layout.restore(tensor, &packed, values);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};
    use safetensors::tensor::TensorView;

    /// Two files hold what one file held, in both short formats; the tensors' values are exact in them.
    #[test]
    fn shards_are_read_as_one_file() {
        let tiny = GptConfig::preset("tiny").unwrap();
        let config = GptConfig { n_layer: 1, n_embd: 8, hidden: 4, vocab_size: 5, ..tiny };
        let layout = Layout::new(&config);
        let values: Vec<f32> = (0..layout.count()).map(|i| (i % 97) as f32 - 48.0).collect();
        let dir = tempfile::tempdir().unwrap();
        let index = dir.path().join("model.safetensors.index.json");
        let mut map = BTreeMap::new();
        let half = |v: &f32| f16::from_f32(*v).to_le_bytes();
        let brain = |v: &f32| bf16::from_f32(*v).to_le_bytes();
        for shard in 0..2 {
            let name = format!("model-0000{}-of-00002.safetensors", shard + 1);
            let dtype = [Dtype::F16, Dtype::BF16][shard];
            let own = || layout.params().iter().skip(shard).step_by(2);
            let data: Vec<Vec<u8>> = own()
                .map(|p| match dtype {
                    Dtype::F16 => values[p.range()].iter().flat_map(half).collect(),
                    _ => values[p.range()].iter().flat_map(brain).collect(),
                })
                .collect();
            let views = own().zip(&data).map(|(p, data)| {
                (p.name.clone(), TensorView::new(dtype, p.shape.clone(), data).unwrap())
            });
            let bytes = safetensors::serialize(views, None).unwrap();
            std::fs::write(dir.path().join(&name), bytes).unwrap();
            own().for_each(|p| drop(map.insert(p.name.clone(), name.clone())));
        }
        let write = |map: &BTreeMap<String, String>| {
            let json = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
            std::fs::write(&index, json.to_string()).unwrap();
        };
        write(&map);
        assert_eq!(read_sharded(&index, &config).unwrap(), values);
        let refused = |change: &dyn Fn(&mut BTreeMap<String, String>), expected: &str| {
            let mut map = map.clone();
            change(&mut map);
            write(&map);
            let error = read_sharded(&index, &config).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let embedding = "model.embed_tokens.weight";
        refused(&|map| drop(map.remove(embedding)), "it names no file for `model.embed_tokens");
        for elsewhere in ["../model.safetensors", "/model.safetensors", ".", ""] {
            let put = |map: &mut BTreeMap<String, String>| {
                drop(map.insert(embedding.to_owned(), elsewhere.to_owned()));
            };
            refused(&put, "is not the name of a file beside it");
        }
        let absent = |map: &mut BTreeMap<String, String>| {
            drop(map.insert(embedding.to_owned(), "model-3.safetensors".to_owned()));
        };
        refused(&absent, "model-3.safetensors");
        let other = |map: &mut BTreeMap<String, String>| {
            let name = "model-00002-of-00002.safetensors";
            drop(map.insert(embedding.to_owned(), name.to_owned()));
        };
        refused(&other, "is missing");
        let more = |map: &mut BTreeMap<String, String>| {
            let name = "model.layers.0.self_attn.q_proj.bias";
            drop(map.insert(name.to_owned(), "model-00001-of-00002.safetensors".to_owned()));
        };
        refused(&more, "q_proj.bias` has no place in the model");
    }

    /// The library of the format reads it too.
    #[test]
    fn what_is_written_is_read_back() {
        let tiny = GptConfig::preset("tiny").unwrap();
        let config = GptConfig { n_layer: 1, qk_norm: true, tied: false, ..tiny };
        let values = gpt::initialise(&config, 4);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        write_safetensors(&path, &config, &values).unwrap();
        assert_eq!(read_safetensors(&path, &config).unwrap(), values);
        let bytes = std::fs::read(&path).unwrap();
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let head = theirs.tensor("lm_head.weight").unwrap();
        assert_eq!((head.dtype(), head.shape()), (Dtype::F32, &[2048, 128][..]));
        let mut values = values;
        values[9] = f32::NAN;
        let error = write_safetensors(&path, &config, &values).unwrap_err().to_string();
        assert!(error.contains("element 9 is NaN"), "{error}");
    }

    /// A model with norms of queries and keys, read as one without.
    #[test]
    fn weights_without_a_place_are_refused() {
        let tiny = GptConfig::preset("tiny").unwrap();
        let config = GptConfig { n_layer: 1, n_embd: 8, hidden: 4, vocab_size: 5, ..tiny };
        let layout = Layout::new(&config);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let read = |also: &str| {
            let zeros = vec![0; 4 * layout.count()];
            let mut views: BTreeMap<&str, TensorView<'_>> = (layout.params().iter())
                .map(|p| (p.name.as_str(), (p.shape.clone(), 4 * p.count())))
                .map(|(name, (shape, bytes))| {
                    (name, TensorView::new(Dtype::F32, shape, &zeros[..bytes]).unwrap())
                })
                .collect();
            let more = TensorView::new(Dtype::F32, vec![2], &zeros[..8]).unwrap();
            views.entry(also).or_insert(more);
            std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
            read_safetensors(&path, &config).map(drop).map_err(|e| e.to_string())
        };
        for harmless in [
            "model.embed_tokens.weight",
            "lm_head.weight",
            "model.layers.0.self_attn.rotary_emb.inv_freq",
            "model.layers.1.self_attn.q_norm.weight",
            "value_head.weight",
        ] {
            assert_eq!(read(harmless), Ok(()), "{harmless}");
        }
        for name in [
            "model.layers.0.self_attn.q_norm.weight",
            "model.layers.0.mlp.down_proj.bias",
            "model.norm.bias",
            "lm_head.bias",
        ] {
            let error = read(name).unwrap_err();
            assert!(error.contains(name) && error.contains("has no place"), "{error}");
        }
    }

    /// Memory for these weights would be hundreds of terabytes; the file has ten bytes.
    #[test]
    fn memory_is_taken_for_what_the_file_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        std::fs::write(&path, b"\x02\0\0\0\0\0\0\0{}").unwrap();
        let tiny = GptConfig::preset("tiny").unwrap();
        let absurd = GptConfig { n_layer: 4096, n_embd: 1 << 16, hidden: 1 << 18, ..tiny };
        absurd.validate().unwrap();
        let error = read_safetensors(&path, &absurd).unwrap_err().to_string();
        assert!(error.contains("`model.embed_tokens.weight` is missing"), "{error}");
    }
}
