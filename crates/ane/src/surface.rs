//! Surfaces: the buffers that requests are bound to, and the one place where precision changes.

#![allow(unsafe_code, reason = "a machine's own memory is seen as slices between lock and unlock")]

use crate::error::AneError;
use cpu::Elements;
use cpu::simd::{self, Round};
use half::f16;
use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt;
use mil::{DType, TensorType};
use rayon::prelude::*;
use std::any::Any;
use std::fmt::Debug;
use std::ptr::NonNull;
use std::slice::{from_raw_parts, from_raw_parts_mut};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

/// A shared buffer for one tensor, packed from byte 0 in row-major order. Clones are handles of
/// the same buffer.
///
/// fp16 tensors are held in binary16 or in f32 ([`Precision`]); all other element types are held in
/// f32.
#[derive(Clone, Debug)]
pub struct Surface {
    ty: TensorType,
    allocation: usize,
    storage: Arc<RwLock<Storage>>,
}

/// How a surface holds fp16 elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// In binary16, as the engine does.
    Half,
    /// In f32, for devices that compute in reference precision.
    Single,
}

/// The memory of a surface in the hands of code that is not Rust. It stays in its place as long as
/// this lives; whoever holds this sees to it that nothing else uses the surface meanwhile.
#[derive(Debug)]
pub struct Lent {
    /// The machine's lock, given back first.
    _locked: Option<Locked>,
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

/// Memory that belongs to a machine, such as an IOSurface: the CPU touches it between
/// [`lock`](ForeignMemory::lock) and [`unlock`](ForeignMemory::unlock) only.
///
/// # Safety
/// While locked, the address returned is that of at least as many bytes as the surface made of it
/// allocates, aligned to 16, initialised, valid for reading, for writing too if locked for that,
/// and not written by anyone else. Several readers may hold locks at once.
pub unsafe trait ForeignMemory: Any + Send + Sync + Debug {
    /// Makes the bytes visible to the CPU; calls nest.
    ///
    /// # Errors
    /// When the machine refuses; nothing is locked then.
    fn lock(&self, access: Access) -> Result<NonNull<u8>, AneError>;

    /// Gives the bytes back to the machine: once for every lock that succeeded.
    fn unlock(&self, access: Access);
}

/// The access that the CPU asks for to a machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read it.
    Read,
    /// To read and to change it.
    Write,
}

/// The elements of a surface.
#[derive(Debug)]
enum Storage {
    F16(Vec<f16>),
    F32(Vec<f32>),
    Foreign { memory: Arc<dyn ForeignMemory>, half: bool, count: usize },
}

/// Elements that may be changed.
#[derive(Debug)]
pub(crate) enum ElementsMut<'a> {
    F16(&'a mut [f16]),
    F32(&'a mut [f32]),
}

/// The lock of a machine's memory, given back when dropped.
#[derive(Debug)]
struct Locked {
    memory: Arc<dyn ForeignMemory>,
    address: NonNull<u8>,
    access: Access,
    half: bool,
    count: usize,
}

impl Locked {
    fn new(storage: &Storage, access: Access) -> Result<Option<Self>, AneError> {
        match storage {
            Storage::Foreign { memory, half, count } => {
                let (memory, half, count) = (Arc::clone(memory), *half, *count);
                let address = memory.lock(access)?;
                Ok(Some(Locked { memory, address, access, half, count }))
            }
            _ => Ok(None),
        }
    }

    fn elements(&self) -> Elements<'_> {
        // SAFETY: the memory is locked as long as `self` lives and holds `count` elements of that
        // size (contract of `ForeignMemory`; `Surface::foreign` checked the size); every pattern of
        // bits is a number.
        unsafe {
            match self.half {
                true => Elements::F16(from_raw_parts(self.address.as_ptr().cast(), self.count)),
                false => Elements::F32(from_raw_parts(self.address.as_ptr().cast(), self.count)),
            }
        }
    }

    fn elements_mut(&mut self) -> ElementsMut<'_> {
        debug_assert_eq!(self.access, Access::Write);
        // SAFETY: as in `elements`; the lock is one for writing, taken under the write lock of the
        // surface, so that nobody else has a view.
        unsafe {
            match self.half {
                true => {
                    ElementsMut::F16(from_raw_parts_mut(self.address.as_ptr().cast(), self.count))
                }
                false => {
                    ElementsMut::F32(from_raw_parts_mut(self.address.as_ptr().cast(), self.count))
                }
            }
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.memory.unlock(self.access);
    }
}

// SAFETY: the address is only reached through `&self` and `&mut self`, as a slice of numbers.
unsafe impl Send for Locked {}
// SAFETY: as above.
unsafe impl Sync for Locked {}

/// A surface locked for reading. Fields are dropped in order: the machine's lock first.
#[derive(Debug)]
pub struct ReadGuard<'s> {
    locked: Option<Locked>,
    storage: RwLockReadGuard<'s, Storage>,
}

impl ReadGuard<'_> {
    /// The elements, in the precision in which they are held.
    pub fn elements(&self) -> Elements<'_> {
        match (&self.locked, &*self.storage) {
            (Some(locked), _) => locked.elements(),
            (None, Storage::F16(v)) => Elements::F16(v),
            (None, Storage::F32(v)) => Elements::F32(v),
            (None, Storage::Foreign { .. }) => unreachable!("foreign memory is locked"),
        }
    }
}

/// A surface locked for writing. Fields are dropped in order: the machine's lock first.
#[derive(Debug)]
pub struct WriteGuard<'s> {
    locked: Option<Locked>,
    storage: RwLockWriteGuard<'s, Storage>,
}

impl WriteGuard<'_> {
    pub(crate) fn elements_mut(&mut self) -> ElementsMut<'_> {
        match (&mut self.locked, &mut *self.storage) {
            (Some(locked), _) => locked.elements_mut(),
            (None, Storage::F16(v)) => ElementsMut::F16(v),
            (None, Storage::F32(v)) => ElementsMut::F32(v),
            (None, Storage::Foreign { .. }) => unreachable!("foreign memory is locked"),
        }
    }

    /// The contents, to be replaced part by part.
    pub fn parts(&mut self) -> Parts<'_> {
        let blocks = match self.elements_mut() {
            ElementsMut::F16(to) => to.chunks_mut(BLOCK).map(ElementsMut::F16).collect::<Vec<_>>(),
            ElementsMut::F32(to) => to.chunks_mut(BLOCK).map(ElementsMut::F32).collect(),
        };
        Parts(blocks.into_iter().map(Mutex::new).collect())
    }
}

/// Elements that threads lock together when they write to [`Parts`].
const BLOCK: usize = 1 << 15;

/// The contents of a surface that several threads replace, each a part of its own.
#[derive(Debug)]
pub struct Parts<'a>(Vec<Mutex<ElementsMut<'a>>>);

impl Parts<'_> {
    /// Replaces the elements from number `start` on, rounded as by [`Surface::write`].
    ///
    /// # Panics
    /// If there are fewer.
    pub fn write(&self, mut start: usize, mut from: &[f32]) {
        while !from.is_empty() {
            let (block, at) = (start / BLOCK, start % BLOCK);
            let (part, rest) = from.split_at(from.len().min(BLOCK - at));
            let range = at..at + part.len();
            match &mut *self.0[block].lock().unwrap_or_else(PoisonError::into_inner) {
                ElementsMut::F16(to) => simd::narrow(part, &mut to[range], Round::IEEE),
                ElementsMut::F32(to) => to[range].copy_from_slice(part),
            }
            (start, from) = (start + part.len(), rest);
        }
    }
}

/// A surface that nobody on the CPU's side may change, or touch, while the machine works on it.
#[derive(Debug)]
#[allow(dead_code, reason = "guards are held, not looked at")]
enum Held<'s> {
    Reading(RwLockReadGuard<'s, Storage>),
    Writing(RwLockWriteGuard<'s, Storage>),
}

/// Surfaces of a request in flight: inputs may be read by others, outputs may not be touched.
#[derive(Debug)]
pub struct InFlight<'s> {
    _held: Vec<Held<'s>>,
}

/// Keeps the CPU off the surfaces of a request. They are taken in the order of their addresses and
/// each once, so that any number of threads with requests that cross each other make progress.
pub fn hold<'s>(inputs: &[&'s Surface], outputs: &[&'s Surface]) -> InFlight<'s> {
    let writing = outputs.iter().map(|s| (Arc::as_ptr(&s.storage), *s, true));
    let reading = inputs.iter().map(|s| (Arc::as_ptr(&s.storage), *s, false));
    let mut wanted: Vec<_> = writing.chain(reading).collect();
    // Stable: of two places of one surface, the one that writes comes first and is kept.
    wanted.sort_by_key(|(address, ..)| *address);
    wanted.dedup_by_key(|(address, ..)| *address);
    let held = wanted.into_iter().map(|(_, surface, write)| match write {
        true => Held::Writing(surface.storage.write().unwrap_or_else(|p| p.into_inner())),
        false => Held::Reading(surface.storage.read().unwrap_or_else(|p| p.into_inner())),
    });
    InFlight { _held: held.collect() }
}

/// The surfaces of a request, locked for a run on the CPU.
#[derive(Debug)]
pub(crate) struct Locks<'s> {
    pub(crate) read: Vec<ReadGuard<'s>>,
    /// For each input, its guard: one surface may be bound to several inputs.
    pub(crate) guard_of_input: Vec<usize>,
    /// In order of address.
    pub(crate) written: Vec<WriteGuard<'s>>,
    /// For each guard of `written`, its output.
    pub(crate) output_of_guard: Vec<usize>,
}

/// Locks the surfaces of a request, no output of which is bound twice, in the order of their
/// addresses and each once, so that requests that cross each other on several threads make progress.
///
/// # Errors
/// When a machine does not let the CPU at its memory.
pub(crate) fn lock_all<'s>(
    inputs: &[&'s Surface],
    outputs: &[&'s Surface],
) -> Result<Locks<'s>, AneError> {
    let reading = inputs.iter().enumerate().map(|(i, s)| (Arc::as_ptr(&s.storage), *s, false, i));
    let writing = outputs.iter().enumerate().map(|(i, s)| (Arc::as_ptr(&s.storage), *s, true, i));
    let mut wanted: Vec<_> = reading.chain(writing).collect();
    wanted.sort_by_key(|(address, ..)| *address);
    let mut locks = Locks {
        read: vec![],
        guard_of_input: vec![0; inputs.len()],
        written: vec![],
        output_of_guard: vec![],
    };
    let mut last = None;
    for (address, surface, write, place) in wanted {
        if write {
            locks.written.push(surface.lock_mut()?);
            locks.output_of_guard.push(place);
        } else {
            if last != Some(address) {
                locks.read.push(surface.lock()?);
            }
            locks.guard_of_input[place] = locks.read.len() - 1;
        }
        last = Some(address);
    }
    Ok(locks)
}

/// A surface recognised later without being kept alive.
#[derive(Clone, Debug)]
pub struct SurfaceKey(Weak<RwLock<Storage>>);

impl SurfaceKey {
    /// True if it is the key of `surface`.
    pub fn is(&self, surface: &Surface) -> bool {
        Weak::as_ptr(&self.0) == Arc::as_ptr(&surface.storage)
    }

    /// True if both are keys of one surface.
    pub fn same(&self, other: &SurfaceKey) -> bool {
        Weak::ptr_eq(&self.0, &other.0)
    }

    /// True if anybody still has a handle of the surface.
    pub fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl Surface {
    /// A zeroed surface for a tensor of type `ty`; `allocation` is its size in bytes as requests
    /// see it (at least the tensor's own size).
    pub fn new(ty: &TensorType, allocation: usize, precision: Precision) -> Self {
        let n = ty.count();
        let half = ty.dtype == DType::Fp16 && precision == Precision::Half;
        // Zeros of a primitive type come untouched from the system: the first write touches them.
        let storage = match half {
            true => Storage::F16(vec![0u16; n].reinterpret_into()),
            false => Storage::F32(vec![0.0; n]),
        };
        Surface {
            ty: ty.clone(),
            allocation: allocation.max(ty.bytes()),
            storage: Arc::new(RwLock::new(storage)),
        }
    }

    /// A surface over `allocation` bytes of a machine's memory.
    ///
    /// # Errors
    /// [`AneError::SurfaceDtype`] when elements are neither fp16 nor fp32, and
    /// [`AneError::SurfaceLength`] when the tensor needs more than `allocation` bytes.
    pub fn foreign(
        ty: &TensorType,
        allocation: usize,
        memory: Arc<dyn ForeignMemory>,
    ) -> Result<Self, AneError> {
        let half = match ty.dtype {
            DType::Fp16 => true,
            DType::Fp32 => false,
            _ => return Err(AneError::SurfaceDtype { ty: ty.clone() }),
        };
        let count = ty.count();
        if ty.bytes() > allocation {
            return Err(AneError::SurfaceLength { count: allocation, got: ty.bytes() });
        }
        let storage = Storage::Foreign { memory, half, count };
        Ok(Surface { ty: ty.clone(), allocation, storage: Arc::new(RwLock::new(storage)) })
    }

    /// Type of the tensor held.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// Size in bytes that requests see.
    pub fn allocation(&self) -> usize {
        self.allocation
    }

    /// True if two handles are of one buffer.
    pub fn same(&self, other: &Surface) -> bool {
        Arc::ptr_eq(&self.storage, &other.storage)
    }

    /// Returns what recognises the surface later.
    pub fn key(&self) -> SurfaceKey {
        SurfaceKey(Arc::downgrade(&self.storage))
    }

    /// The machine's memory that this surface is made of, if it is of type `M`.
    pub fn memory<M: ForeignMemory>(&self) -> Option<Arc<M>> {
        let storage = self.storage.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Storage::Foreign { memory, .. } = &*storage else { return None };
        let memory: Arc<dyn Any + Send + Sync> = Arc::clone(memory) as _;
        memory.downcast().ok()
    }

    /// Locks the contents for reading. To lock several surfaces that others may write to, mind the
    /// order: two threads that lock two surfaces in opposite orders may wait for each other.
    ///
    /// # Errors
    /// When the machine does not let the CPU at its memory.
    pub fn lock(&self) -> Result<ReadGuard<'_>, AneError> {
        let storage = self.storage.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        Ok(ReadGuard { locked: Locked::new(&storage, Access::Read)?, storage })
    }

    /// As [`Surface::lock`], for writing.
    ///
    /// # Errors
    /// When the machine does not let the CPU at its memory.
    pub fn lock_mut(&self) -> Result<WriteGuard<'_>, AneError> {
        let storage = self.storage.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        Ok(WriteGuard { locked: Locked::new(&storage, Access::Write)?, storage })
    }

    fn check(&self, got: usize) -> Result<(), AneError> {
        let count = self.ty.count();
        if got == count { Ok(()) } else { Err(AneError::SurfaceLength { count, got }) }
    }

    /// Replaces the contents, rounding to nearest even where they are held in binary16.
    ///
    /// # Errors
    /// When `from` has another number of elements than the tensor, or the machine does not let the
    /// CPU at its memory.
    pub fn write(&self, from: &[f32]) -> Result<(), AneError> {
        self.check(from.len())?;
        match self.lock_mut()?.elements_mut() {
            ElementsMut::F16(to) => simd::narrow(from, to, Round::IEEE),
            ElementsMut::F32(to) => to.copy_from_slice(from),
        }
        Ok(())
    }

    /// Copies the contents.
    ///
    /// # Errors
    /// When `to` has another number of elements than the tensor, or the machine does not let the
    /// CPU at its memory.
    pub fn read(&self, to: &mut [f32]) -> Result<(), AneError> {
        self.check(to.len())?;
        match self.lock()?.elements() {
            Elements::F16(from) => simd::widen(from, to),
            Elements::F32(from) => to.copy_from_slice(from),
        }
        Ok(())
    }

    /// Calls `f` with the memory of the tensor, packed; `None` where elements are held as another
    /// type than the tensor's own.
    ///
    /// # Errors
    /// When the machine does not let the CPU have the memory.
    pub fn bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, AneError> {
        Ok(match (self.lock()?.elements(), self.ty.dtype) {
            (Elements::F16(v), DType::Fp16) => Some(f(bytemuck::cast_slice(v.reinterpret_cast()))),
            (Elements::F32(v), DType::Fp32) => Some(f(bytemuck::cast_slice(v))),
            _ => None,
        })
    }

    /// Calls `f` with the memory of the tensor to change it; `None` as in [`Surface::bytes`].
    ///
    /// # Errors
    /// When the machine does not let the CPU have the memory.
    pub fn bytes_mut<R>(&self, f: impl FnOnce(&mut [u8]) -> R) -> Result<Option<R>, AneError> {
        Ok(match (self.lock_mut()?.elements_mut(), self.ty.dtype) {
            (ElementsMut::F16(v), DType::Fp16) => {
                Some(f(bytemuck::cast_slice_mut(v.reinterpret_cast_mut())))
            }
            (ElementsMut::F32(v), DType::Fp32) => Some(f(bytemuck::cast_slice_mut(v))),
            _ => None,
        })
    }

    /// Lends the memory of the tensor to code that is not Rust; `None` as in [`Surface::bytes`].
    /// A machine's memory stays locked for the CPU meanwhile.
    ///
    /// # Errors
    /// When the machine does not let the CPU have the memory.
    pub fn lend(&self) -> Result<Option<Lent>, AneError> {
        let locked = {
            let storage = self.storage.read().unwrap_or_else(|p| p.into_inner());
            Locked::new(&storage, Access::Write)?
        };
        let place = |bytes: &mut [u8]| (bytes.as_mut_ptr().expose_provenance(), bytes.len());
        let lent = self.bytes_mut(place)?;
        Ok(lent.map(|(address, bytes)| Lent {
            _locked: locked,
            _surface: self.clone(),
            address,
            bytes,
        }))
    }

    /// Replaces a block of rows: element (i, j) of `from` [rows, run] goes to start + i·stride + j.
    ///
    /// # Errors
    /// When a row of the block lies outside the tensor, or the machine does not let the CPU at its
    /// memory.
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
        let mut guard = self.lock_mut()?;
        let mut elements = guard.elements_mut();
        for (i, row) in from.chunks_exact(run.max(1)).enumerate() {
            let at = start + i * stride;
            match &mut elements {
                ElementsMut::F16(to) => simd::narrow(row, &mut to[at..at + run], Round::IEEE),
                ElementsMut::F32(to) => to[at..at + run].copy_from_slice(row),
            }
        }
        Ok(())
    }

    /// Replaces the contents by those of `from`, which `f` changes in f32: `run` elements at a time, several runs
    /// at once. `f` gets the number of a run and its elements.
    ///
    /// # Errors
    /// When `from` has another number of elements than the tensor, or the machine does not let the
    /// CPU at its memory.
    pub fn rewrite(
        &self,
        from: &Surface,
        run: usize,
        f: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<(), AneError> {
        self.check(from.ty.count())?;
        let (read, mut written) = (from.lock()?, self.lock_mut()?);
        let changed = |i: usize, part: &mut [f32]| {
            let start = i * run;
            match read.elements() {
                Elements::F16(from) => simd::widen(&from[start..][..part.len()], part),
                Elements::F32(from) => part.copy_from_slice(&from[start..][..part.len()]),
            }
            f(i, part);
        };
        match written.elements_mut() {
            ElementsMut::F16(to) => to.par_chunks_mut(run).enumerate().for_each_init(
                || vec![0.0; run],
                |part, (i, to)| {
                    let part = &mut part[..to.len()];
                    changed(i, part);
                    simd::narrow(part, to, Round::IEEE);
                },
            ),
            ElementsMut::F32(to) => {
                to.par_chunks_mut(run).enumerate().for_each(|(i, to)| changed(i, to))
            }
        }
        Ok(())
    }

    /// to ← to + contents: the residual connection of a host-side stream.
    ///
    /// # Errors
    /// When `to` has another number of elements than the tensor, or the machine does not let the
    /// CPU at its memory.
    pub fn add_to(&self, to: &mut [f32]) -> Result<(), AneError> {
        self.check(to.len())?;
        match self.lock()?.elements() {
            Elements::F16(from) => {
                let mut run = [0.0f32; 512];
                for (to, from) in to.chunks_mut(run.len()).zip(from.chunks(run.len())) {
                    simd::widen(from, &mut run[..from.len()]);
                    simd::add(to, &run[..from.len()]);
                }
            }
            Elements::F32(from) => simd::add(to, from),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

    const PRECISIONS: [Precision; 2] = [Precision::Half, Precision::Single];

    #[test]
    fn memory_is_seen_where_it_holds_the_tensors_own_type() {
        let ty = TensorType::fp16([3]);
        let surface = Surface::new(&ty, 0, Precision::Half);
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
    fn contents_are_those_of_another_surface_changed_in_f32() {
        let ty = TensorType::fp16([10]);
        for precision in PRECISIONS {
            let [from, to] = [(); 2].map(|()| Surface::new(&ty, 0, precision));
            let values: Vec<f32> = (0..10).map(|n| n as f32 / 8.0).collect();
            from.write(&values).unwrap();
            // Runs of four: the last one has two elements. The third of ten needs more bits than binary16 has.
            let third = |i: usize, part: &mut [f32]| {
                part.iter_mut().for_each(|v| *v = (*v + i as f32) / 3.0);
            };
            to.rewrite(&from, 4, third).unwrap();
            let mut got = [0.0; 10];
            to.read(&mut got).unwrap();
            for (i, (&got, value)) in got.iter().zip(values).enumerate() {
                let want = (value + (i / 4) as f32) / 3.0;
                let rounded = f16::from_f32(want).to_f32();
                assert_eq!(got, if precision == Precision::Half { rounded } else { want });
            }
            let other = Surface::new(&TensorType::fp16([9]), 0, precision);
            assert!(to.rewrite(&other, 4, third).is_err());
        }
    }

    #[test]
    fn memory_in_another_type_is_not_shown() {
        for ty in [TensorType::fp16([3]), TensorType::new(DType::Int32, [3])] {
            let surface = Surface::new(&ty, 0, Precision::Single);
            assert!(surface.bytes(|_| ()).unwrap().is_none());
            assert!(surface.bytes_mut(|_| ()).unwrap().is_none());
            assert!(surface.lend().unwrap().is_none());
        }
        let single = Surface::new(&TensorType::fp32([3]), 0, Precision::Single);
        assert_eq!(single.bytes(<[u8]>::len).unwrap(), Some(12));
    }

    /// Memory that nobody may ask for.
    #[derive(Debug)]
    struct Short;

    // SAFETY: no address is ever returned.
    unsafe impl ForeignMemory for Short {
        fn lock(&self, _: Access) -> Result<NonNull<u8>, AneError> {
            panic!("this memory is too short for its surface")
        }

        fn unlock(&self, _: Access) {}
    }

    #[test]
    fn foreign_memory_holds_the_whole_tensor() {
        for (ty, bytes) in [(TensorType::fp16([3, 5]), 30), (TensorType::fp32([7]), 28)] {
            let error = Surface::foreign(&ty, bytes - 1, Arc::new(Short)).unwrap_err();
            assert_eq!(error, AneError::SurfaceLength { count: bytes - 1, got: bytes });
            let surface = Surface::foreign(&ty, bytes, Arc::new(Short)).unwrap();
            assert_eq!((surface.allocation(), surface.ty()), (bytes, &ty));
        }
        let ty = TensorType::new(DType::Int32, [3]);
        let error = Surface::foreign(&ty, 64, Arc::new(Short)).unwrap_err();
        assert_eq!(error, AneError::SurfaceDtype { ty });
    }

    /// Returns the elements of `surface`.
    fn contents(surface: &Surface) -> Vec<f32> {
        let mut values = vec![f32::NAN; surface.ty().count()];
        surface.read(&mut values).unwrap();
        values
    }

    #[test]
    fn a_block_of_rows_goes_where_it_belongs() {
        for precision in PRECISIONS {
            let surface = Surface::new(&TensorType::fp16([4, 5]), 0, precision);
            surface.write_block(6, 5, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
            let mut want = [0.0; 20];
            want[6..9].copy_from_slice(&[1.0, 2.0, 3.0]);
            want[11..14].copy_from_slice(&[4.0, 5.0, 6.0]);
            assert_eq!(contents(&surface), want);
            // The last that fits, and one further.
            surface.write_block(12, 5, 3, &[7.0; 6]).unwrap();
            want[12..15].fill(7.0);
            want[17..20].fill(7.0);
            assert_eq!(contents(&surface), want);
            let error = surface.write_block(13, 5, 3, &[8.0; 6]).unwrap_err();
            assert_eq!(error, AneError::SurfaceLength { count: 20, got: 21 });
            assert_eq!(contents(&surface), want);
        }
    }

    #[test]
    fn parts_that_threads_write_make_the_whole() {
        let count = 2 * BLOCK + 7;
        let values: Vec<f32> = (0..count).map(|i| i as f32 / 3.0).collect();
        for precision in PRECISIONS {
            let [whole, in_parts] =
                [(); 2].map(|()| Surface::new(&TensorType::fp16([count]), 0, precision));
            whole.write(&values).unwrap();
            let mut guard = in_parts.lock_mut().unwrap();
            let parts = guard.parts();
            // Of any size: larger than a block, and across the ends of blocks.
            let cuts = [0, 1, 1000, BLOCK + 5, 2 * BLOCK + 6, count];
            cuts.par_windows(2).for_each(|cut| parts.write(cut[0], &values[cut[0]..cut[1]]));
            drop(parts);
            drop(guard);
            assert_eq!(contents(&in_parts), contents(&whole));
        }
    }

    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn a_part_beyond_the_end_is_refused() {
        let surface = Surface::new(&TensorType::fp16([BLOCK]), 0, Precision::Half);
        surface.lock_mut().unwrap().parts().write(BLOCK - 1, &[1.0, 2.0]);
    }

    #[test]
    fn contents_are_added_to_a_stream_of_their_length() {
        for precision in PRECISIONS {
            let surface = Surface::new(&TensorType::fp16([1300]), 0, precision);
            let values: Vec<f32> = (0..1300).map(|i| i as f32).collect();
            surface.write(&values).unwrap();
            let mut stream = vec![0.5; 1300];
            surface.add_to(&mut stream).unwrap();
            assert!(stream.iter().zip(&values).all(|(sum, value)| *sum == value + 0.5));
            let wrong = AneError::SurfaceLength { count: 1300, got: 1299 };
            assert_eq!(surface.add_to(&mut stream[1..]), Err(wrong.clone()));
            assert_eq!(surface.read(&mut stream[1..]), Err(wrong.clone()));
            assert_eq!(surface.write(&values[1..]), Err(wrong));
        }
    }

    #[test]
    fn keys_recognise_a_surface_as_long_as_it_lives() {
        let surface = || Surface::new(&TensorType::fp16([3]), 0, Precision::Half);
        let (one, other) = (surface(), surface());
        let key = one.key();
        assert!(key.is(&one) && key.is(&one.clone()) && !key.is(&other));
        assert!(key.same(&one.key()) && !key.same(&other.key()));
        drop(other);
        assert!(key.is_alive());
        drop(one);
        assert!(!key.is_alive());
    }

    /// Four numbers, and the locks on them.
    #[derive(Debug, Default)]
    struct Counted {
        numbers: [AtomicU32; 4],
        locks: AtomicUsize,
    }

    // SAFETY: the address is that of 16 bytes that live as long as `self`, may be changed through a
    // shared reference, and are touched by these tests under a lock only.
    unsafe impl ForeignMemory for Counted {
        fn lock(&self, _: Access) -> Result<NonNull<u8>, AneError> {
            self.locks.fetch_add(1, Ordering::Relaxed);
            Ok(NonNull::from(&self.numbers).cast())
        }

        fn unlock(&self, _: Access) {
            self.locks.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn foreign_memory_is_locked_while_it_is_touched() {
        let memory = Arc::new(Counted::default());
        let surface =
            Surface::foreign(&TensorType::fp32([4]), 16, Arc::<Counted>::clone(&memory)).unwrap();
        let locks = || memory.locks.load(Ordering::Relaxed);
        surface.write(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        surface.bytes_mut(|bytes| bytes[4..8].fill(0)).unwrap().unwrap();
        assert_eq!((contents(&surface), locks()), (vec![1.0, 0.0, 3.0, 4.0], 0));
        let lent = surface.lend().unwrap().unwrap();
        assert_eq!((lent.bytes(), locks()), (16, 1));
        drop(lent);
        assert_eq!(locks(), 0);
        assert!(Arc::ptr_eq(&surface.memory::<Counted>().unwrap(), &memory));
        assert!(surface.memory::<Short>().is_none());
    }
}
