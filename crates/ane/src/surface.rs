//! Surfaces: the buffers that requests are bound to, and the one place where precision changes.

use crate::emulator::Numerics;
use crate::emulator::gemm::Elements;
use crate::emulator::simd::{self, Round};
use crate::error::AneError;
use half::f16;
use half::slice::HalfFloatSliceExt;
use mil::{DType, TensorType};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A shared buffer for one tensor, packed from byte 0 in row-major order. Clones are handles of
/// the same buffer.
///
/// Half-precision tensors are held in binary16, or in f32 where the device computes in reference
/// precision ([`Numerics::F32`]); all other element types are held in f32.
#[derive(Clone, Debug)]
pub struct Surface {
    ty: TensorType,
    allocation: usize,
    storage: Arc<RwLock<Storage>>,
}

/// The memory of a surface in the hands of code that is not Rust. It stays in its place as long as
/// this lives; whoever holds this sees to it that nothing else uses the surface meanwhile.
#[derive(Debug)]
pub struct Lent {
    /// Owns the memory.
    _surface: Surface,
    address: usize,
    bytes: usize,
}

impl Lent {
    /// The first byte.
    pub fn start(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.address)
    }

    /// Bytes of the tensor.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The elements of a surface.
#[derive(Debug)]
pub(crate) enum Storage {
    F16(Vec<f16>),
    F32(Vec<f32>),
}

impl Storage {
    pub(crate) fn elements(&self) -> Elements<'_> {
        match self {
            Storage::F16(v) => Elements::F16(v),
            Storage::F32(v) => Elements::F32(v),
        }
    }
}

impl Surface {
    /// A zeroed surface for a tensor of type `ty`; `allocation` is its size in bytes as requests
    /// see it (at least the tensor's own size).
    pub fn new(ty: &TensorType, allocation: usize, numerics: Numerics) -> Self {
        let n = ty.count();
        let half = ty.dtype == DType::Fp16 && numerics != Numerics::F32;
        let storage =
            if half { Storage::F16(vec![f16::ZERO; n]) } else { Storage::F32(vec![0.0; n]) };
        Surface {
            ty: ty.clone(),
            allocation: allocation.max(ty.bytes()),
            storage: Arc::new(RwLock::new(storage)),
        }
    }

    /// Type of the tensor held.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// Size in bytes that requests see.
    pub fn allocation(&self) -> usize {
        self.allocation
    }

    /// Whether two handles are of one buffer.
    pub fn same(&self, other: &Surface) -> bool {
        Arc::ptr_eq(&self.storage, &other.storage)
    }

    pub(crate) fn lock(&self) -> RwLockReadGuard<'_, Storage> {
        self.storage.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn lock_mut(&self) -> RwLockWriteGuard<'_, Storage> {
        self.storage.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn check(&self, got: usize) -> Result<(), AneError> {
        let count = self.ty.count();
        if got == count { Ok(()) } else { Err(AneError::SurfaceLength { count, got }) }
    }

    /// Replaces the contents, rounding to nearest even where they are held in binary16.
    ///
    /// # Errors
    /// When `from` has another number of elements than the tensor.
    pub fn write(&self, from: &[f32]) -> Result<(), AneError> {
        self.check(from.len())?;
        match &mut *self.lock_mut() {
            Storage::F16(to) => simd::narrow(from, to, Round::IEEE),
            Storage::F32(to) => to.copy_from_slice(from),
        }
        Ok(())
    }

    /// Copies the contents.
    ///
    /// # Errors
    /// When `to` has another number of elements than the tensor.
    pub fn read(&self, to: &mut [f32]) -> Result<(), AneError> {
        self.check(to.len())?;
        match &*self.lock() {
            Storage::F16(from) => simd::widen(from, to),
            Storage::F32(from) => to.copy_from_slice(from),
        }
        Ok(())
    }

    /// Calls `f` with the memory of the tensor, packed; `None` where elements are held as another
    /// type than the tensor's own.
    ///
    /// # Errors
    /// When the memory cannot be reached.
    pub fn bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, AneError> {
        Ok(match (self.lock().elements(), self.ty.dtype) {
            (Elements::F16(v), DType::Fp16) => Some(f(bytemuck::cast_slice(v.reinterpret_cast()))),
            (Elements::F32(v), DType::Fp32) => Some(f(bytemuck::cast_slice(v))),
            _ => None,
        })
    }

    /// Calls `f` with the memory of the tensor to change it; `None` as in [`Surface::bytes`].
    ///
    /// # Errors
    /// When the memory cannot be reached.
    pub fn bytes_mut<R>(&self, f: impl FnOnce(&mut [u8]) -> R) -> Result<Option<R>, AneError> {
        Ok(match (&mut *self.lock_mut(), self.ty.dtype) {
            (Storage::F16(v), DType::Fp16) => {
                Some(f(bytemuck::cast_slice_mut(v.reinterpret_cast_mut())))
            }
            (Storage::F32(v), DType::Fp32) => Some(f(bytemuck::cast_slice_mut(v))),
            _ => None,
        })
    }

    /// Lends the memory of the tensor to code that is not Rust; `None` as in [`Surface::bytes`].
    ///
    /// # Errors
    /// When the memory cannot be reached.
    pub fn lend(&self) -> Result<Option<Lent>, AneError> {
        let place = |bytes: &mut [u8]| (bytes.as_mut_ptr().expose_provenance(), bytes.len());
        let lent = self.bytes_mut(place)?;
        Ok(lent.map(|(address, bytes)| Lent { _surface: self.clone(), address, bytes }))
    }

    /// Replaces a block of rows: element (i, j) of `from` [rows, run] goes to start + i·stride + j.
    ///
    /// # Errors
    /// When a row of the block lies outside the tensor.
    pub fn write_block(
        &self,
        start: usize,
        stride: usize,
        run: usize,
        from: &[f32],
    ) -> Result<(), AneError> {
        let count = self.ty.count();
        let rows = from.len() / run.max(1);
        let end = start + rows.saturating_sub(1) * stride + run;
        if end > count {
            return Err(AneError::SurfaceLength { count, got: end });
        }
        let mut storage = self.lock_mut();
        for (i, row) in from.chunks_exact(run.max(1)).enumerate() {
            let at = start + i * stride;
            match &mut *storage {
                Storage::F16(to) => simd::narrow(row, &mut to[at..at + run], Round::IEEE),
                Storage::F32(to) => to[at..at + run].copy_from_slice(row),
            }
        }
        Ok(())
    }

    /// to ← to + contents: the residual connection of a host-side stream.
    ///
    /// # Errors
    /// When `to` has another number of elements than the tensor.
    pub fn add_to(&self, to: &mut [f32]) -> Result<(), AneError> {
        self.check(to.len())?;
        match &*self.lock() {
            Storage::F16(from) => {
                let mut run = [0.0f32; 512];
                for (to, from) in to.chunks_mut(run.len()).zip(from.chunks(run.len())) {
                    simd::widen(from, &mut run[..from.len()]);
                    simd::add(to, &run[..from.len()]);
                }
            }
            Storage::F32(from) => simd::add(to, from),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_seen_where_it_holds_the_tensors_own_type() {
        let ty = TensorType::fp16([3]);
        let surface = Surface::new(&ty, 0, Numerics::Fast);
        surface.write(&[1.0, -2.0, 0.5]).unwrap();
        let seen = surface.bytes(<[u8]>::to_vec).unwrap().unwrap();
        let want = [1.0, -2.0, 0.5].map(|x| f16::from_f32(x).to_ne_bytes()).concat();
        assert_eq!(seen, want);
        surface.bytes_mut(|bytes| bytes[..2].copy_from_slice(&want[2..4])).unwrap().unwrap();
        let mut back = [0.0; 3];
        surface.read(&mut back).unwrap();
        assert_eq!(back, [-2.0, -2.0, 0.5]);
        let lent = surface.lend().unwrap().unwrap();
        assert_eq!(lent.bytes(), 6);
        assert_eq!(surface.bytes(<[u8]>::as_ptr).unwrap(), Some(lent.start().cast_const()));
    }

    #[test]
    fn memory_in_another_type_is_not_shown() {
        for ty in [TensorType::fp16([3]), TensorType::new(DType::Int32, [3])] {
            let surface = Surface::new(&ty, 0, Numerics::F32);
            assert!(surface.bytes(|_| ()).unwrap().is_none());
            assert!(surface.bytes_mut(|_| ()).unwrap().is_none());
            assert!(surface.lend().unwrap().is_none());
        }
        let single = Surface::new(&TensorType::fp32([3]), 0, Numerics::F32);
        assert_eq!(single.bytes(<[u8]>::len).unwrap(), Some(12));
    }
}
