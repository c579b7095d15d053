//! Unpacking `.tar.gz` from strangers: only plain files and directories, only below the target.

use super::{Progress, Stage};
use crate::error::{Error, Result};
use crate::tokens::sibling;
use flate2::read::MultiGzDecoder;
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use tar::EntryType;

/// Counts what is read of the archive.
struct Counted {
    file: BufReader<File>,
    read: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(out)?;
        self.read.set(self.read.get() + n as u64);
        Ok(n)
    }
}

/// Unpacks `archive` into the new directory `into`, which appears only when everything is there.
/// Returns the files, in the order of the archive.
///
/// # Errors
/// [`Error::Archive`] for a damaged or cut archive, for links and devices, for names that lead
/// out of the directory, and for a name that comes twice; [`Error::DiskFull`]; [`Error::Io`].
pub fn unpack_tar_gz(
    archive: &Path,
    into: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<PathBuf>> {
    if into.exists() {
        let problem = format!("{} exists already; delete it first", into.display());
        return Err(Error::Archive { path: archive.to_owned(), problem });
    }
    let temporary = sibling(into, &format!(".{}.tmp", std::process::id()));
    let result = unpack(archive, &temporary, progress).and_then(|names| {
        std::fs::rename(&temporary, into).map_err(Error::io(into, "rename to"))?;
        Ok(names.into_iter().map(|name| into.join(name)).collect())
    });
    if result.is_err() {
        let _ = std::fs::remove_dir_all(&temporary); // the error is what matters
    }
    result
}

fn unpack(archive: &Path, into: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Vec<PathBuf>> {
    let fault = |problem: String| Error::Archive { path: archive.to_owned(), problem };
    let damaged = |e: std::io::Error| {
        fault(format!("damaged or cut short ({e}); delete it and download it again"))
    };
    let file = File::open(archive).map_err(Error::io(archive, "open"))?;
    let total = Some(file.metadata().map_err(Error::io(archive, "read"))?.len());
    let read = Rc::new(Cell::new(0));
    let counted = Counted { file: BufReader::with_capacity(1 << 16, file), read: Rc::clone(&read) };
    let mut tar = tar::Archive::new(MultiGzDecoder::new(counted));
    std::fs::create_dir_all(into).map_err(Error::io(into, "create"))?;
    let mut names = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    let mut long_name = None;
    for entry in tar.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let kind = entry.header().entry_type();
        if let EntryType::XGlobalHeader | EntryType::XHeader | EntryType::GNULongName = kind {
            long_name = name_record(&mut entry, kind).map_err(damaged)?.or(long_name);
            continue;
        }
        let name = match long_name.take() {
            Some(name) => name,
            None => entry.path().map_err(damaged)?.into_owned(),
        };
        let Some(relative) = safe_name(&name) else {
            return Err(fault(format!("refused: the name {name:?} leads out of the directory")));
        };
        match kind {
            EntryType::Directory => {
                let dir = into.join(&relative);
                std::fs::create_dir_all(&dir).map_err(Error::io(&dir, "create"))?;
                continue;
            }
            EntryType::Regular | EntryType::Continuous => {}
            _ => return Err(fault(format!("refused: {name:?} is neither a file nor a directory"))),
        }
        let mut out = Output::create(into, &relative, archive)?;
        loop {
            progress(Progress { stage: Stage::Unpack, done: read.get(), total });
            let n = entry.read(&mut buffer).map_err(damaged)?;
            if n == 0 {
                break;
            }
            out.write(&buffer[..n])?;
        }
        if out.written != entry.size() {
            return Err(fault(format!("{name:?} is cut short; delete it and download it again")));
        }
        names.push(relative);
    }
    // The checksum of the compressed stream stands at its very end, after the archive's.
    std::io::copy(&mut tar.into_inner(), &mut std::io::sink()).map_err(damaged)?;
    if names.is_empty() {
        return Err(fault("there are no files in it".into()));
    }
    Ok(names)
}

/// Most bytes of a record that goes before an entry, where a long name stands.
const RECORD: u64 = 64 << 10;

/// The name that a GNU or pax record gives to the next entry. They are read here, not by the
/// `tar` crate, because that reads them into memory whatever their size, and a small archive can
/// unpack to a huge one.
fn name_record(entry: &mut impl Read, kind: EntryType) -> std::io::Result<Option<PathBuf>> {
    let mut bytes = Vec::new();
    entry.take(RECORD + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > RECORD {
        return Err(std::io::Error::other("a header record is longer than 64 KiB"));
    }
    let name = match kind {
        EntryType::GNULongName => {
            let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
            Some(bytes[..end].to_vec())
        }
        EntryType::XHeader => {
            let mut path = None;
            for record in tar::PaxExtensions::new(&bytes) {
                let record = record?;
                if record.key_bytes() == b"path" {
                    path = Some(record.value_bytes().to_vec());
                }
            }
            path
        }
        _ => None, // a global header: comments
    };
    name.map(|bytes| String::from_utf8(bytes).map(PathBuf::from))
        .transpose()
        .map_err(std::io::Error::other)
}

/// The name without `.`; `None` if it is empty or has a root, a drive or `..`.
fn safe_name(name: &Path) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => relative.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (!relative.as_os_str().is_empty() || name == Path::new("./")).then_some(relative)
}

struct Output {
    path: PathBuf,
    file: File,
    written: u64,
}

impl Output {
    fn create(into: &Path, relative: &Path, archive: &Path) -> Result<Output> {
        let path = into.join(relative);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
        }
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => Ok(Output { path, file, written: 0 }),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::Archive {
                path: archive.to_owned(),
                problem: format!("refused: the name {relative:?} comes twice"),
            }),
            Err(e) => Err(Error::io(&path, "create")(e)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::write(&self.path, self.written, false, e))?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}
