//! Where a document stands.

use serde::{Deserialize, Serialize};

/// Where a document of a [`super::TextSource`] stands: enough to read it again, and all after it. In JSON it
/// is an array of its three numbers.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(from = "(u32, u64, u64)", into = "(u32, u64, u64)")]
pub struct Place {
    /// Number of the file, from 0.
    pub file: u32,
    /// Of a Parquet file the row group, of documents in memory the document, of other files the byte.
    pub at: u64,
    /// Of a Parquet file the row in its group, of JSON lines the lines before it, of plain text what is known
    /// of the text before it.
    pub detail: u64,
}

impl From<(u32, u64, u64)> for Place {
    fn from((file, at, detail): (u32, u64, u64)) -> Place {
        Place { file, at, detail }
    }
}

impl From<Place> for (u32, u64, u64) {
    fn from(place: Place) -> Self {
        (place.file, place.at, place.detail)
    }
}
