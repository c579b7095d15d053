//! Data sets on Hugging Face's hub: the Parquet files that it keeps of nearly every one.

use super::{Download, Hub};
use crate::error::{Error, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Karpathy's shards of ClimbMix, which nanochat learns from.
const CLIMBMIX: &str = "karpathy/climbmix-400b-shuffle";
/// The shard to validate with, which is the last.
const CLIMBMIX_LAST: u32 = 6542;

/// A data set, or one split of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// `organisation/name`.
    pub name: String,
    /// Subset and split, if one is named.
    pub part: Option<(String, String)>,
}

impl Dataset {
    /// Reads `organisation/name` or `organisation/name/SUBSET/SPLIT`.
    ///
    /// # Errors
    /// [`Error::Setting`] when it is neither.
    pub fn parse(text: &str) -> Result<Dataset> {
        let plain = |part: &&str| {
            let characters = part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            characters && !["", ".", ".."].contains(part)
        };
        let parts: Vec<&str> = text.split('/').collect();
        let part = match (&parts[..], parts.iter().all(plain)) {
            ([_, _], true) => None,
            ([_, _, subset, split], true) => Some(((*subset).to_owned(), (*split).to_owned())),
            _ => {
                let expected = "ORGANISATION/NAME or ORGANISATION/NAME/SUBSET/SPLIT";
                return Err(Error::Setting {
                    name: "the data set",
                    value: text.to_owned(),
                    expected,
                });
            }
        };
        Ok(Dataset { name: format!("{}/{}", parts[0], parts[1]), part })
    }

    /// Where its files are kept by default: `ORGANISATION--NAME`.
    pub fn directory(&self) -> PathBuf {
        self.name.replace('/', "--").into()
    }

    /// Asks the hub for the Parquet files of the split that is named; without one, of the training split of the
    /// only subset, or of that called `default`.
    ///
    /// # Errors
    /// [`Error::Transfer`] when the hub cannot be reached, or has no such split (those that it has are named);
    /// [`Error::Denied`] when it asks for a token, or the token does not do.
    pub fn list(&self, hub: &Hub) -> Result<Files> {
        let url = format!("{}/api/datasets/{}/parquet", hub.endpoint(), self.name);
        let fault =
            |problem: String, advice: String| Error::Transfer { url: url.clone(), problem, advice };
        let server = || "check that HF_ENDPOINT names a server like huggingface.co".to_owned();
        let text = hub.get(&url, &format!("datasets/{}", self.name))?;
        let all: Value = serde_json::from_slice(&text)
            .map_err(|e| fault(format!("the answer is no list of Parquet files: {e}"), server()))?;
        let (subset, split) = self.part.clone().or_else(|| usual(&all)).ok_or_else(|| {
            let problem = "the data set has several parts, none of them the usual one".to_owned();
            fault(problem, self.choices(&all))
        })?;
        let urls = all[&subset][&split].as_array().filter(|urls| !urls.is_empty());
        let urls = urls.ok_or_else(|| {
            let problem = format!("there are no Parquet files of subset {subset}, split {split}");
            fault(problem, self.choices(&all))
        })?;
        let address = |url: &Value| url.as_str().and_then(|url| hub.address(url));
        let urls: Option<Vec<String>> = urls.iter().map(address).collect();
        let urls = urls.ok_or_else(|| fault("the list has no addresses".to_owned(), server()))?;
        Ok(Files { page: format!("datasets/{}", self.name), subset, split, urls })
    }

    /// The splits that there are, as advice.
    fn choices(&self, all: &Value) -> String {
        let splits = all.as_object().into_iter().flatten().flat_map(|(subset, splits)| {
            let names = splits.as_object().into_iter().flat_map(|splits| splits.keys());
            names.map(move |split| format!("hf://datasets/{}/{subset}/{split}", self.name))
        });
        let splits: Vec<String> = splits.take(20).collect();
        match splits.is_empty() {
            true => "the hub has made no Parquet files of it".to_owned(),
            false => format!("give one of {}", splits.join(", ")),
        }
    }
}

/// The training split of the only subset, or of the default one.
fn usual(all: &Value) -> Option<(String, String)> {
    let subsets = all.as_object()?;
    let only = subsets.keys().next().filter(|_| subsets.len() == 1);
    let subset = only.or_else(|| subsets.keys().find(|name| *name == "default"))?;
    let splits = subsets[subset].as_object()?;
    let only = splits.keys().next().filter(|_| splits.len() == 1);
    let split = splits.keys().find(|name| *name == "train").or(only)?;
    Some((subset.clone(), split.clone()))
}

/// The Parquet files of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Where people read of the data set, after the hub's address.
    page: String,
    /// Its subset.
    pub subset: String,
    /// Its split.
    pub split: String,
    /// Addresses of its files, in their order.
    pub urls: Vec<String>,
}

impl Files {
    /// The first `count` files, to be fetched into `directory` as `00000.parquet` and so on.
    pub fn downloads(&self, hub: &Hub, directory: &Path, count: usize) -> Vec<Download> {
        let numbered = self.urls.iter().take(count).enumerate();
        let download = |(n, url): (usize, &String)| {
            hub.download(url, directory.join(format!("{n:05}.parquet")), &self.page).parquet()
        };
        numbered.map(download).collect()
    }
}

/// The first `count` shards of ClimbMix, and the last, to validate with; each of about 100 MB, with about 250
/// million characters.
pub fn climbmix(hub: &Hub, directory: &Path, count: u32) -> Vec<Download> {
    let numbers = (0..count.min(CLIMBMIX_LAST)).chain([CLIMBMIX_LAST]);
    let shard = |number: u32| {
        let name = format!("shard_{number:05}.parquet");
        let url = format!("{}/datasets/{CLIMBMIX}/resolve/main/{name}", hub.endpoint());
        hub.download(&url, directory.join(name), &format!("datasets/{CLIMBMIX}")).parquet()
    };
    numbers.map(shard).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn data_sets_are_named_with_and_without_a_split() {
        let set = Dataset::parse("org/name").unwrap();
        assert_eq!((set.name.as_str(), set.part.clone()), ("org/name", None));
        assert_eq!(set.directory(), Path::new("org--name"));
        let set = Dataset::parse("allenai/ai2_arc/ARC-Easy/test").unwrap();
        assert_eq!(set.part, Some(("ARC-Easy".to_owned(), "test".to_owned())));
        for bad in ["", "name", "a/b/c", "a/b/c/d/e", "a/../c/d", "a//c/d", "a/b c", "a/b?x"] {
            let error = Dataset::parse(bad).unwrap_err().to_string();
            assert!(error.contains("ORGANISATION/NAME/SUBSET/SPLIT"), "{bad}: {error}");
        }
    }

    #[test]
    fn the_usual_split_is_the_training_one() {
        let usual = |all: Value| usual(&all).map(|(subset, split)| format!("{subset}/{split}"));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(usual(json!({"main": {"test": [], "train": []}})), some("main/train"));
        assert_eq!(
            usual(json!({"a": {"train": []}, "default": {"train": []}})),
            some("default/train")
        );
        assert_eq!(usual(json!({"a": {"test": []}})), some("a/test"));
        assert_eq!(usual(json!({"a": {"train": []}, "b": {"train": []}})), None);
        assert_eq!(usual(json!({"a": {"x": [], "y": []}})), None);
        assert_eq!(usual(json!([])), None);
    }

    #[test]
    fn shards_of_climbmix_are_named_by_number() {
        let hub = Hub::new("https://huggingface.co/", None);
        let shards = climbmix(&hub, Path::new("out"), 2);
        let names: Vec<_> = shards.iter().map(|d| d.to.display().to_string()).collect();
        let want =
            ["shard_00000", "shard_00001", "shard_06542"].map(|n| format!("out/{n}.parquet"));
        assert_eq!(names, want);
        let place = "https://huggingface.co/datasets/karpathy/climbmix-400b-shuffle/resolve/main";
        assert_eq!(shards[2].url, format!("{place}/shard_06542.parquet"));
        assert_eq!(climbmix(&hub, Path::new("out"), u32::MAX).len(), 6543);
    }
}
