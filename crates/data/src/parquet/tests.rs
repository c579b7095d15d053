//! The files in `tests/parquet` were written by pyarrow (`scripts/parquet_compare.py --fixtures`).

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet").join(name)
}

fn rows(path: &Path, group: usize, row: u64) -> Result<Vec<Row>> {
    let mut rows = ParquetFile::open(path, "text")?.rows_from(group, row);
    std::iter::from_fn(|| rows.next().transpose()).collect()
}

/// The texts that went in, without those that are blank or absent.
fn expected() -> Vec<String> {
    let lines = std::fs::read_to_string(fixture("texts.jsonl")).unwrap();
    let text = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["text"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    lines.lines().map(text).collect()
}

const GOOD: [(&str, usize, &str); 4] = [
    ("snappy_v1.parquet", 4, "snappy"),
    ("zstd_v2.parquet", 3, "zstd"),
    ("plain_v1.parquet", 1, "uncompressed"),
    ("gzip_v2.parquet", 9, "gzip"),
];

#[test]
fn files_of_pyarrow_hold_the_texts_that_went_in() {
    let want = expected();
    assert!(want.len() > 40 && want.iter().any(|text| text.contains("日本語")));
    for (name, groups, compression) in GOOD {
        let path = fixture(name);
        let file = ParquetFile::open(&path, "text").unwrap();
        let compressions = file.compressions();
        assert_eq!((file.groups(), file.rows(), compressions), (groups, 60, [compression].into()));
        let got = rows(&path, 0, 0).unwrap();
        let texts: Vec<&str> = got.iter().map(|row| row.text.as_str()).collect();
        assert_eq!(texts, want, "{name}");
        let bytes = std::fs::metadata(&path).unwrap().len();
        assert!(got.is_sorted_by_key(|row| row.bytes_done));
        assert!(got.iter().all(|row| row.bytes_done > 4 && row.bytes_done < bytes));
    }
}

/// From any row on, what follows is the same: also where no text begins, and behind the last row.
#[test]
fn reading_begins_at_any_row() {
    for (name, groups, _) in GOOD {
        let path = fixture(name);
        let all = rows(&path, 0, 0).unwrap();
        for group in 0..=groups {
            for row in 0..20 {
                let from = all.iter().position(|r| (r.group, r.row) >= (group, row));
                let want = &all[from.unwrap_or(all.len())..];
                assert_eq!(rows(&path, group, row).unwrap(), want, "{name} {group} {row}");
            }
        }
    }
}

fn refused(path: &Path, column: &str) -> String {
    let file = ParquetFile::open(path, column);
    let all = file.and_then(|file| {
        let mut rows = file.rows_from(0, 0);
        while rows.next()?.is_some() {}
        Ok(())
    });
    all.unwrap_err().to_string()
}

#[test]
fn what_is_not_read_is_named() {
    let lz4 = refused(&fixture("lz4.parquet"), "text");
    assert!(lz4.contains("LZ4") && lz4.contains("compression=\"zstd\""), "{lz4}");
    let delta = refused(&fixture("delta.parquet"), "text");
    assert!(delta.contains("row group 0") && delta.contains("DELTA_LENGTH_BYTE_ARRAY"), "{delta}");
    let path = fixture("zstd_v2.parquet");
    assert!(refused(&path, "tags").contains("`tags` holds lists or structures, not texts"));
    assert!(refused(&path, "id").contains("`id` holds integers, not texts"));
    let none = refused(&path, "content");
    assert!(none.contains("no column `content`") && none.contains("are `text`:"), "{none}");
    assert!(refused(&fixture("texts.jsonl"), "text").contains("no Parquet file"));
}

/// Where the pages of a file are, without their headers.
fn bodies(path: &Path) -> Vec<std::ops::Range<usize>> {
    let bytes = std::fs::read(path).unwrap();
    let mut bodies = vec![];
    for chunk in &ParquetFile::open(path, "text").unwrap().chunks {
        let mut at = chunk.start as usize;
        while at < chunk.end as usize {
            let header = Header::parse(&bytes[at..]).unwrap();
            let start = at + header.length;
            at = start + header.stored().unwrap();
            bodies.push(start..at);
        }
    }
    bodies
}

/// `zstd_v2.parquet` has a checksum for each page.
#[test]
fn every_changed_byte_of_a_page_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("changed.parquet");
    let good = std::fs::read(fixture("zstd_v2.parquet")).unwrap();
    let bodies = bodies(&fixture("zstd_v2.parquet"));
    assert!(bodies.len() >= 6, "a dictionary and a page at least in each row group");
    for at in bodies.into_iter().flatten() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&path, &bytes).unwrap();
        let error = rows(&path, 0, 0).unwrap_err().to_string();
        assert!(error.contains("its checksum is wrong"), "byte {at}: {error}");
    }
}

#[test]
fn no_truncation_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cut.parquet");
    for (name, _, _) in GOOD {
        let good = std::fs::read(fixture(name)).unwrap();
        for length in (0..good.len()).step_by(37).chain([good.len() - 1]) {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(matches!(rows(&path, 0, 0), Err(Error::Parquet { .. })), "{name} {length}");
        }
    }
}

fn records(path: &Path, fields: &[&str]) -> Result<Vec<serde_json::Value>> {
    Records::open(path, fields)?.collect()
}

const NESTED: [&str; 2] = ["nested_v1.parquet", "nested_v2.parquet"];

/// Lists, structures, and both within another, with rows that have none.
#[test]
fn records_are_what_went_in() {
    let lines = std::fs::read_to_string(fixture("nested.jsonl")).unwrap();
    let want: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let fields = ["id", "n", "text", "choices", "messages", "deep"];
    for name in NESTED {
        let path = fixture(name);
        assert_eq!(records(&path, &fields).unwrap(), want, "{name}");
        for (row, want) in records(&path, &["deep", "id"]).unwrap().iter().zip(&want) {
            assert_eq!(row, &serde_json::json!({"deep": want["deep"], "id": want["id"]}));
        }
        let error = records(&path, &["answer"]).unwrap_err().to_string();
        assert!(error.contains("no column `answer`, but `id`, `n`, `text`"), "{error}");
    }
}

/// Damage is an error or another value, never a panic or an endless loop.
#[test]
fn damaged_records_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged.parquet");
    for name in NESTED {
        let good = std::fs::read(fixture(name)).unwrap();
        for at in (0..good.len()).step_by(5) {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bytes).unwrap();
            let rows = Records::open(&path, &["choices", "messages", "deep"]);
            assert!(rows.map_or(0, |rows| rows.take(1000).count()) <= 1000);
        }
        for length in (0..good.len()).step_by(97) {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(matches!(records(&path, &["deep"]), Err(Error::Parquet { .. })), "{length}");
        }
    }
}
