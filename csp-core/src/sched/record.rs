//! Memory for the records of goroutines.
//!
//! A goroutine is often started on one processor and ended on another, many at a time: what an allocator makes of that is
//! a free list that is always too short on one side and too long on the other. Here every processor has *magazines* of
//! free blocks, one in use and one in reserve, and full ones change hands through a shared list: one lock for
//! [`MAGAZINE`] goroutines.
//!
//! A block that nobody holds is only ever in one place: in a magazine, which belongs to a processor (and so to the runtime
//! code of its worker), or to the shared list. Blocks of other sizes, and those for which the shared list has no room, go
//! to the global allocator, as all do where a tool is to see each one come and go.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::{self, NonNull};

use parking_lot::Mutex;

/// The sizes of blocks, smallest first.
const SIZES: [usize; 2] = [128, 256];
const ALIGN: usize = 16;
/// How many blocks a magazine holds.
const MAGAZINE: u32 = 32;
/// How many magazines of each size the shared list keeps.
const KEPT: usize = 256;
/// Whether a sanitizer or the like watches the allocator.
const WATCHED: bool = cfg!(any(csp_tsan, csp_asan, csp_loom, miri));

/// A free block.
#[derive(Debug)]
struct Free {
    next: *mut Free,
}

/// A list of free blocks of one size.
#[derive(Clone, Copy, Debug)]
struct Magazine {
    head: *mut Free,
    len: u32,
}

// SAFETY: it owns its blocks, which nobody else refers to.
unsafe impl Send for Magazine {}

impl Magazine {
    const EMPTY: Self = Self { head: ptr::null_mut(), len: 0 };
}

static FULL: [Mutex<Vec<Magazine>>; SIZES.len()] = [const { Mutex::new(Vec::new()) }; SIZES.len()];

/// A processor's free blocks. Used by its owner.
#[derive(Debug)]
pub(crate) struct Records {
    sizes: [(Cell<Magazine>, Cell<Magazine>); SIZES.len()],
}

impl Records {
    pub(crate) fn new() -> Self {
        Self { sizes: [const { (Cell::new(Magazine::EMPTY), Cell::new(Magazine::EMPTY)) }; SIZES.len()] }
    }

    #[inline(always)]
    fn take(&self, size: usize) -> Option<NonNull<u8>> {
        let (current, _) = &self.sizes[size];
        let mut magazine = current.get();
        if magazine.len == 0 {
            magazine = self.another(size)?;
        }
        let block = NonNull::new(magazine.head)?;
        // SAFETY: a block in a magazine is free, and headed by its link.
        let next = unsafe { block.as_ref().next };
        current.set(Magazine { head: next, len: magazine.len - 1 });
        Some(block.cast())
    }

    /// A magazine that is not empty, in place of the empty one in use.
    #[cold]
    fn another(&self, size: usize) -> Option<Magazine> {
        let (_, reserve) = &self.sizes[size];
        let magazine = reserve.replace(Magazine::EMPTY);
        if magazine.len != 0 { Some(magazine) } else { FULL[size].lock().pop() }
    }

    /// # Safety
    ///
    /// `block` has the size with that index and nobody else's.
    #[inline(always)]
    unsafe fn put(&self, size: usize, block: NonNull<u8>) {
        let (current, _) = &self.sizes[size];
        let mut magazine = current.get();
        if magazine.len == MAGAZINE {
            current.set(Magazine::EMPTY);
            self.put_away(size, magazine);
            magazine = current.get();
        }
        let block = block.cast::<Free>();
        // SAFETY: the caller's promise; every size is large enough, and aligned, for a link.
        unsafe { block.write(Free { next: magazine.head }) };
        current.set(Magazine { head: block.as_ptr(), len: magazine.len + 1 });
    }

    /// A magazine is full.
    #[cold]
    fn put_away(&self, size: usize, magazine: Magazine) {
        let (_, reserve) = &self.sizes[size];
        let full = reserve.replace(magazine);
        if full.len == 0 {
            return;
        }
        let mut shared = FULL[size].lock();
        if shared.len() < KEPT {
            shared.push(full);
            return;
        }
        drop(shared);
        let mut block = full.head;
        while !block.is_null() {
            // SAFETY: as in `take`; allocated with this layout.
            unsafe {
                let next = (*block).next;
                dealloc(block.cast(), layout_of(size));
                block = next;
            }
        }
    }
}

/// The index of the size for blocks of `layout`.
#[inline(always)]
fn size_for(layout: Layout) -> Option<usize> {
    if WATCHED || layout.align() > ALIGN {
        return None;
    }
    SIZES.iter().position(|&size| layout.size() <= size)
}

fn layout_of(size: usize) -> Layout {
    Layout::from_size_align(SIZES[size], ALIGN).expect("a size and an alignment")
}

/// Memory for a record of that layout, which is not empty.
#[inline]
pub(crate) fn allocate(layout: Layout) -> NonNull<u8> {
    let size = size_for(layout);
    if let Some(size) = size
        && let Some(entered) = super::enter()
        && let Some(processor) = entered.processor
        && let Some(block) = processor.records.take(size)
    {
        return block;
    }
    let layout = size.map_or(layout, layout_of);
    // SAFETY: the layout is not empty.
    let block = unsafe { alloc(layout) };
    NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Gives the memory of a record back.
///
/// # Safety
///
/// `block` came from [`allocate`] with the same layout, and nobody refers to it.
#[inline]
pub(crate) unsafe fn free(block: NonNull<u8>, layout: Layout) {
    let size = size_for(layout);
    if let Some(size) = size
        && let Some(entered) = super::enter()
        && let Some(processor) = entered.processor
    {
        // SAFETY: the caller's promise.
        unsafe { processor.records.put(size, block) };
        return;
    }
    // SAFETY: the caller's promise; `allocate` used the same layout.
    unsafe { dealloc(block.as_ptr(), size.map_or(layout, layout_of)) };
}
