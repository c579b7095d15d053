//! Surfaces as the machine knows them: bytes without type or shape.

use crate::bytes::{decode, encode};
use crate::error::AneError;
use mil::TensorType;
use std::sync::{Arc, Mutex, MutexGuard};

/// How the rows (last axis) of a tensor lie in a surface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DataLayout {
    /// One after the other: the only layout that the machine reads and writes.
    #[default]
    Packed,
    /// Each begins `stride` bytes after the last began.
    Rows {
        /// Bytes from row to row; at least those of a row.
        stride: usize,
    },
}

impl DataLayout {
    /// Length of a row in bytes, and distance between rows.
    fn rows(self, ty: &TensorType) -> (usize, usize) {
        let row = ty.dtype.bytes(ty.shape.last().copied().unwrap_or(1));
        match self {
            DataLayout::Packed => (row, row),
            DataLayout::Rows { stride } => (row, stride.max(row)),
        }
    }
}

/// The contents that the writer of a surface meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Name of the tensor.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
    /// How it lies in the bytes.
    pub layout: DataLayout,
}

#[derive(Debug)]
pub(super) struct Contents {
    pub(super) bytes: Vec<u8>,
    pub(super) holding: Option<Holding>,
}

/// Bytes that requests read and write, as an IOSurface is to the machine: an allocation without
/// type or shape. Clones are handles of the same bytes. What was written as a tensor is remembered,
/// so that a strict request can tell when it is read as another.
#[derive(Clone, Debug)]
pub struct RawSurface {
    contents: Arc<Mutex<Contents>>,
}

impl RawSurface {
    /// `allocation` bytes of zero.
    pub fn new(allocation: usize) -> Self {
        let contents = Contents { bytes: vec![0; allocation], holding: None };
        RawSurface { contents: Arc::new(Mutex::new(contents)) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Size in bytes.
    pub fn allocation(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Returns the contents as they were last written; nothing after [`RawSurface::write_bytes`].
    pub fn holding(&self) -> Option<Holding> {
        self.lock().holding.clone()
    }

    /// True if two handles are of the same bytes.
    pub fn same(&self, other: &RawSurface) -> bool {
        Arc::ptr_eq(&self.contents, &other.contents)
    }

    /// Replaces the first bytes, of which nothing is known then.
    ///
    /// # Errors
    /// When there are more bytes than the allocation has.
    pub fn write_bytes(&self, bytes: &[u8]) -> Result<(), AneError> {
        let mut contents = self.lock();
        let (count, got) = (contents.bytes.len(), bytes.len());
        let to = contents.bytes.get_mut(..got).ok_or(AneError::SurfaceLength { count, got })?;
        to.copy_from_slice(bytes);
        contents.holding = None;
        Ok(())
    }

    /// A copy of all bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// Writes `values` as a tensor.
    ///
    /// # Errors
    /// When they are not as many as the tensor has, it does not fit the allocation, or its element
    /// type takes no whole bytes.
    pub fn write(&self, holding: Holding, values: &[f32]) -> Result<(), AneError> {
        let (count, got) = (holding.ty.count(), values.len());
        if got != count {
            return Err(AneError::SurfaceLength { count, got });
        }
        let mut packed = vec![];
        encode(holding.ty.dtype, values, &mut packed)?;
        let (row, stride) = holding.layout.rows(&holding.ty);
        let mut contents = self.lock();
        for (i, from) in packed.chunks(row.max(1)).enumerate() {
            let (start, count) = (i.saturating_mul(stride), contents.bytes.len());
            let end = start.saturating_add(from.len());
            let to = contents.bytes.get_mut(start..end);
            to.ok_or(AneError::SurfaceLength { count, got: end })?.copy_from_slice(from);
        }
        contents.holding = Some(holding);
        Ok(())
    }

    /// Reads the surface as a tensor. A surface that a strict request wrote, or [`Self::write`],
    /// is only read as what it holds.
    ///
    /// # Errors
    /// When the tensor does not fit the allocation, its element type takes no whole bytes, or
    /// ([`AneError::SilentlyWrong`]) the surface is known to hold something else.
    pub fn read(&self, wanted: &Holding) -> Result<Vec<f32>, AneError> {
        let contents = self.lock();
        if let Some(held) = &contents.holding {
            matches("output surface", held, wanted)?;
        }
        let (row, stride) = wanted.layout.rows(&wanted.ty);
        let rows = wanted.ty.count() / wanted.ty.shape.last().copied().unwrap_or(1).max(1);
        let count = contents.bytes.len();
        let mut packed = vec![];
        for start in (0..rows).map(|i| i.saturating_mul(stride)) {
            let got = start.saturating_add(row);
            let from = contents.bytes.get(start..got);
            packed.extend_from_slice(from.ok_or(AneError::SurfaceLength { count, got })?);
        }
        Ok(decode(wanted.ty.dtype, &packed)?)
    }
}

/// Compares what a surface holds with what is read from it.
pub(super) fn matches(what: &str, held: &Holding, wanted: &Holding) -> Result<(), AneError> {
    if held.name != wanted.name {
        let message = format!(
            "{what} holds `{}` but is taken for `{}`: inputs and outputs are bound in alphabetical \
             order of their names",
            held.name, wanted.name
        );
        return Err(AneError::SilentlyWrong { fact: "C1-alphabetical", message });
    }
    if held.layout.rows(&held.ty) != wanted.layout.rows(&wanted.ty) {
        let message = format!(
            "{what} `{}` has rows of {} bytes at a distance of {}, but they are taken to be at a \
             distance of {}: data are packed from byte 0, whatever the allocation",
            held.name,
            held.layout.rows(&held.ty).0,
            held.layout.rows(&held.ty).1,
            wanted.layout.rows(&wanted.ty).1
        );
        return Err(AneError::SilentlyWrong { fact: "C1-packed", message });
    }
    match held.ty == wanted.ty {
        true => Ok(()),
        false => Err(AneError::SurfaceType {
            port: wanted.name.clone(),
            expected: wanted.ty.clone(),
            got: held.ty.clone(),
        }),
    }
}

/// A place for a surface, as `_ANEIOSurfaceObject` is: requests are built from places, and keep the
/// surface that was there when they were built.
#[derive(Clone, Debug)]
pub struct SurfaceObject {
    current: Arc<Mutex<RawSurface>>,
}

impl SurfaceObject {
    /// A place with a surface.
    pub fn new(surface: RawSurface) -> Self {
        SurfaceObject { current: Arc::new(Mutex::new(surface)) }
    }

    /// The surface that is there.
    pub fn surface(&self) -> RawSurface {
        self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Puts another surface there. Requests that were built before go on with the old one: the
    /// machine needs a new request (docs/ane-facts.md C.1, IMP `ane_rewire`).
    pub fn replace(&self, surface: RawSurface) {
        *self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = surface;
    }
}
