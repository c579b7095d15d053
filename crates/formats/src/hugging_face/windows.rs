//! Sliding windows in a `config.json`, both ways.
//!
//! A Qwen3 model has one size of window, `sliding_window`, where `use_sliding_window` is true. The layers
//! that it holds for are those that `layer_types` calls `sliding_attention`; without that list, those from
//! `max_window_layers` on. In a window of w tokens a token attends to itself and to the w − 1 before it,
//! as in [`GptConfig::windows`].
//!
//! A Llama model has no windows: transformers computes its whole sequence without one, whatever
//! `config.json` says, but forgets cached tokens by it. Two results cannot both be right, so a window
//! that would hide something is refused.

use super::entries::{extent, flag};
use gpt::GptConfig;
use serde_json::{Map, Value, json};

/// The window of a Qwen3 model that names none.
const QWEN3_WINDOW: usize = 4096;
/// Its first layer with a window.
const QWEN3_FIRST: usize = 28;

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// Returns the windows of a Qwen3 model, as [`GptConfig::windows`] lists them. A window as long as the
/// model hides nothing and is none.
///
/// # Errors
/// When an entry is malformed, or names attention that is not computed.
pub(super) fn qwen3(
    json: &Map<String, Value>,
    layers: usize,
    length: usize,
) -> Result<Vec<usize>, String> {
    let used = flag(json, "use_sliding_window")?.unwrap_or(false);
    let size = match extent(json, "sliding_window")? {
        None if !json.contains_key("sliding_window") => Some(QWEN3_WINDOW),
        size => size,
    };
    let first = extent(json, "max_window_layers")?.unwrap_or(QWEN3_FIRST);
    windows(json, size.filter(|_| used), first, [layers, length])
}

/// Refuses windows of a Llama model that hide something.
///
/// # Errors
/// As [`qwen3`], and when there is such a window.
pub(super) fn refuse(
    json: &Map<String, Value>,
    layers: usize,
    length: usize,
) -> Result<(), String> {
    let used = flag(json, "use_sliding_window")?.unwrap_or(true);
    let size = extent(json, "sliding_window")?.filter(|_| used);
    let hides = windows(json, size, 0, [layers, length])?.into_iter().find(|&window| window > 0);
    match hides {
        Some(window) => Err(format!(
            "`sliding_window` is {window}: attention within a window, which is computed for qwen3 only"
        )),
        None => Ok(()),
    }
}

/// The windows of layers from `first` on, or of those in `layer_types`.
fn windows(
    json: &Map<String, Value>,
    size: Option<usize>,
    first: usize,
    [layers, length]: [usize; 2],
) -> Result<Vec<usize>, String> {
    if size == Some(0) {
        return Err("`sliding_window` is 0: a token attends to itself at least".to_owned());
    }
    let slides: Vec<bool> = match json.get("layer_types").filter(|kinds| !kinds.is_null()) {
        Some(kinds) => kinds_of(kinds, layers)?,
        None => (0..layers).map(|layer| size.is_some() && layer >= first).collect(),
    };
    if size.is_none() && slides.contains(&true) {
        return Err(format!(
            "`layer_types` has \"{SLIDING}\", but the model has no window: give `sliding_window`, and \
             `use_sliding_window`: true"
        ));
    }
    let hiding = size.filter(|&size| size < length).unwrap_or(0);
    Ok(shortest(slides.iter().map(|&slides| if slides { hiding } else { 0 }).collect()))
}

/// For each layer of `layer_types`, true if it has a window.
fn kinds_of(kinds: &Value, layers: usize) -> Result<Vec<bool>, String> {
    let list = kinds.as_array().ok_or_else(|| format!("`layer_types` is {kinds}, not a list"))?;
    if list.len() != layers {
        return Err(format!("`layer_types` has {} entries for {layers} layers", list.len()));
    }
    let kind = |kind: &Value| match kind.as_str() {
        // The second is an older name.
        Some(FULL | "attention") => Ok(false),
        Some(SLIDING) => Ok(true),
        _ => Err(format!(
            "`layer_types` has {kind}: a kind of layer which this program does not compute"
        )),
    };
    list.iter().map(kind).collect()
}

/// The shortest list that gives the same windows to all layers when it is repeated.
fn shortest(windows: Vec<usize>) -> Vec<usize> {
    if windows.iter().all(|&window| window == 0) {
        return vec![];
    }
    let repeats = |n: &usize| (0..windows.len()).all(|layer| windows[layer] == windows[layer % n]);
    let period = (1..windows.len()).find(repeats).unwrap_or(windows.len());
    windows[..period].to_vec()
}

/// True if a Llama (which has none) or, where queries and keys are normalised, a Qwen3 (where all have one
/// size) can have the windows of `c`.
pub(super) fn can_be_written(c: &GptConfig) -> bool {
    let mut sizes = (0..c.n_layer).filter_map(|layer| c.window(layer));
    match sizes.next() {
        None => true,
        Some(first) => c.qk_norm && sizes.all(|size| size == first),
    }
}

/// Adds the windows of `c`, if it has any, to its entries as a Qwen3's.
pub(super) fn write(c: &GptConfig, json: &mut Value) {
    let slides = |layer: &usize| c.window(*layer).is_some();
    let Some(first) = (0..c.n_layer).find(slides) else { return };
    let kind = |layer| if slides(&layer) { SLIDING } else { FULL };
    json["use_sliding_window"] = json!(true);
    json["sliding_window"] = json!(c.window(first));
    json["max_window_layers"] = json!(first);
    json["layer_types"] = (0..c.n_layer).map(kind).collect();
}
