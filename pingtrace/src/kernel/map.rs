//! Values of BPF maps: the mapped memory of array maps, and the bytes of others.
//!
//! Programs may write mapped memory at any time, so no reference into it is ever made: it is accessed by
//! volatile reads and writes of [`Plain`] values, of which any bytes are valid, at indices and in fields whose
//! bounds are checked. A value that is written meanwhile is a mix of old and new; readers find that out by
//! sequence numbers.

#![expect(
    unsafe_code,
    reason = "memory shared with the kernel is accessed through raw pointers"
)]

use anyhow::{Context, Result};
use bpf::Plain;
use libbpf_rs::MapCore;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::ptr::null_mut;

/// The elements of an array map, or of memory that no program knows.
pub struct Mapping<T: Plain> {
    base: *mut T,
    count: usize,
    writable: bool,
}

// SAFETY: all accesses are volatile, of values that are valid whatever their bytes are.
unsafe impl<T: Plain> Send for Mapping<T> {}
// SAFETY: as above.
unsafe impl<T: Plain> Sync for Mapping<T> {}

impl<T: Plain> Mapping<T> {
    /// Maps the first `count` elements of an array map (`BPF_F_MMAPABLE`) to read them. Fails if it has fewer.
    pub fn read_only(map: BorrowedFd<'_>, count: usize) -> Result<Self> {
        Self::new(Some(map), count, ProtFlags::READ)
    }

    /// Maps them to read and write them.
    pub fn shared(map: BorrowedFd<'_>, count: usize) -> Result<Self> {
        Self::new(Some(map), count, ProtFlags::READ | ProtFlags::WRITE)
    }

    /// Memory of zeros for this process alone.
    pub fn anonymous(count: usize) -> Result<Self> {
        Self::new(None, count, ProtFlags::READ | ProtFlags::WRITE)
    }

    fn new(map: Option<BorrowedFd<'_>>, count: usize, access: ProtFlags) -> Result<Self> {
        let length = length::<T>(count);
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe {
            match map {
                Some(map) => mmap(null_mut(), length, access, MapFlags::SHARED, map, 0),
                None => mmap_anonymous(null_mut(), length, access, MapFlags::PRIVATE),
            }
        };
        let base =
            base.with_context(|| format!("map {length} bytes of memory for BPF programs"))?;
        Ok(Self {
            base: base.cast(),
            count,
            writable: access.contains(ProtFlags::WRITE),
        })
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        self.count
    }

    /// An element.
    pub fn get(&self, index: usize) -> T {
        self.read(index, Field::at(0, |whole| whole))
    }

    /// A field of an element.
    pub fn read<F: Plain>(&self, index: usize, field: Field<T, F>) -> F {
        // SAFETY: within the mapping and aligned (`place`); any bytes are a valid value.
        unsafe { self.place(index, field).read_volatile() }
    }

    /// Writes a field of an element.
    pub fn write<F: Plain>(&self, index: usize, field: Field<T, F>, value: F) {
        assert!(self.writable, "mapped to be read only");
        // SAFETY: within the mapping, which is writable, and aligned (`place`).
        unsafe { self.place(index, field).write_volatile(value) }
    }

    fn place<F>(&self, index: usize, field: Field<T, F>) -> *mut F {
        assert!(index < self.count, "{index} of {}", self.count);
        // SAFETY: the mapping has `count` elements, and the field is within its element (`Field::at`).
        unsafe { self.base.add(index).byte_add(field.offset).cast() }
    }
}

impl<T: Plain> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, with this length; no pointer into it is left.
        let _ = unsafe { munmap(self.base.cast(), length::<T>(self.count)) };
    }
}

/// The kernel rounds elements to 8 bytes and maps whole pages.
fn length<T>(count: usize) -> usize {
    const { assert!(size_of::<T>().is_multiple_of(8)) };
    (size_of::<T>() * count).next_multiple_of(rustix::param::page_size())
}

/// A place within each `T` that holds an `F`: see [`field!`].
pub struct Field<T, F> {
    offset: usize,
    types: PhantomData<fn(&T) -> &F>,
}

impl<T, F> Clone for Field<T, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, F> Copy for Field<T, F> {}

impl<T, F> Field<T, F> {
    /// The field at this offset, which `_like` has the type of. Panics if there is no room for an `F`.
    pub const fn at(offset: usize, _like: fn(&T) -> &F) -> Self {
        assert!(offset + size_of::<F>() <= size_of::<T>());
        assert!(offset.is_multiple_of(align_of::<F>()) && align_of::<F>() <= align_of::<T>());
        Self {
            offset,
            types: PhantomData,
        }
    }

    /// A field of this field.
    pub const fn then<G>(self, inner: Field<F, G>) -> Field<T, G> {
        Field {
            offset: self.offset + inner.offset,
            types: PhantomData,
        }
    }
}

impl<T, E, const N: usize> Field<T, [E; N]> {
    /// An element of this array.
    pub const fn element(self, index: usize) -> Field<T, E> {
        assert!(index < N);
        Field {
            offset: self.offset + index * size_of::<E>(),
            types: PhantomData,
        }
    }

    /// Number of elements of this array.
    pub const fn elements(self) -> usize {
        N
    }
}

/// The [`Field`] of a struct with this name.
macro_rules! field {
    ($type:ty, $name:ident) => {
        $crate::kernel::map::Field::<$type, _>::at(std::mem::offset_of!($type, $name), |whole| {
            &whole.$name
        })
    };
}
pub(crate) use field;

/// The value that these bytes are; the kernel gives values rounded up to 8 bytes.
pub fn value<T: Plain>(bytes: &[u8]) -> T {
    assert!(bytes.len() >= size_of::<T>(), "a short value of a map");
    // SAFETY: long enough, and any bytes are a valid value.
    unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }
}

/// The value of a key; `None` if there is none.
pub fn look_up<V: Plain>(map: &impl MapCore, key: &impl Plain) -> Result<Option<V>> {
    let found = map.lookup(bytes(key), libbpf_rs::MapFlags::ANY);
    let found = found.with_context(|| format!("read the map {}", map.name().display()))?;
    Ok(found.map(|bytes| value(&bytes)))
}

/// The keys of a map. One that comes or goes meanwhile may be left out.
pub fn keys<K: Plain>(map: &impl MapCore) -> impl Iterator<Item = K> {
    map.keys().map(|key| value(&key))
}

/// The entries of a map, likewise.
pub fn entries<K: Plain, V: Plain>(map: &impl MapCore) -> impl Iterator<Item = Result<(K, V)>> {
    keys(map).filter_map(|key| {
        let found = look_up(map, &key).transpose()?;
        Some(found.map(|value| (key, value)))
    })
}

/// The bytes of a value.
pub fn bytes<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: every byte of a plain value belongs to a field.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpf::pingtrace::types::{pt_drop, pt_stamp_slot};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn fields_are_where_the_compiler_puts_them() {
        let slots = Mapping::<pt_stamp_slot>::anonymous(4).unwrap();
        slots.write(3, field!(pt_stamp_slot, sequence), 7);
        let drop = field!(pt_stamp_slot, drop);
        slots.write(3, drop.then(field!(pt_drop, reason)), 9);
        slots.write(3, field!(pt_stamp_slot, used).element(1), 5);
        let slot = slots.get(3);
        assert_eq!((slot.sequence, slot.drop.reason, slot.used), (7, 9, [0, 5]));
        assert_eq!(slots.get(2).sequence, 0);
        assert_eq!(value::<pt_stamp_slot>(bytes(&slot)).sequence, 7);
    }

    #[test]
    fn what_is_out_of_bounds_panics() {
        let words = Mapping::<u64>::anonymous(4).unwrap();
        let panics = |access: &dyn Fn() -> u64| catch_unwind(AssertUnwindSafe(access)).is_err();
        assert!(!panics(&|| words.get(3)));
        assert!(panics(&|| words.get(4)));
        assert!(panics(&|| value(&[0; 7])));
        let used = field!(pt_stamp_slot, used);
        assert!(panics(&|| used.element(2).offset as u64));
    }
}
