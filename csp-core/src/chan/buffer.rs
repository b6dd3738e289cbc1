//! Where a channel keeps its messages: a ring of fixed size, or a list of blocks.
//!
//! Everything here is used under the channel's lock, and does not run code of the message type.

use std::alloc::{self, Layout};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

/// The capacity of a channel whose buffer is a [`List`].
pub(crate) const UNBOUNDED: usize = usize::MAX;

/// A ring, unless the channel's capacity is [`UNBOUNDED`]. Which one, only the channel knows: it has one word for it.
pub(crate) union Buffer<T> {
    pub(crate) ring: Ring<T>,
    pub(crate) list: List<T>,
}

impl<T> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Buffer<T> {}

/// A ring of slots.
pub(crate) struct Ring<T> {
    slots: NonNull<T>,
    /// The oldest message.
    head: usize,
    /// Where the next one goes.
    tail: usize,
}

impl<T> Clone for Ring<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Ring<T> {}

impl<T> Ring<T> {
    /// # Panics
    ///
    /// Where `cap` messages exceed what an allocation can be.
    pub(crate) fn new(cap: usize) -> Self {
        let Some(layout) = Self::layout(cap) else {
            // The texts are crossbeam's.
            panic!(
                "{}",
                if cap as u64 >> 62 == 0 { "capacity overflow" } else { "bounded channel capacity is too large" }
            )
        };
        let slots = if layout.size() == 0 {
            NonNull::dangling()
        } else {
            // SAFETY: the layout has a size.
            let slots = unsafe { alloc::alloc(layout) };
            NonNull::new(slots.cast()).unwrap_or_else(|| alloc::handle_alloc_error(layout))
        };
        Self { slots, head: 0, tail: 0 }
    }

    fn layout(cap: usize) -> Option<Layout> {
        Layout::array::<T>(cap).ok().filter(|_| cap <= isize::MAX as usize)
    }

    /// # Safety
    ///
    /// `cap` is the one given to `new`. The ring is not used again.
    pub(crate) unsafe fn free(&mut self, cap: usize) {
        match Self::layout(cap) {
            // SAFETY: allocated in `new` with this layout.
            Some(layout) if layout.size() != 0 => unsafe { alloc::dealloc(self.slots.as_ptr().cast(), layout) },
            _ => {}
        }
    }

    /// The slot for a new message.
    ///
    /// # Safety
    ///
    /// Fewer than `cap` messages are in the ring. The caller writes one to the slot.
    #[inline]
    pub(crate) unsafe fn push_slot(&mut self, cap: usize) -> *mut T {
        // SAFETY: `tail` is less than the capacity.
        let slot = unsafe { self.slots.as_ptr().add(self.tail) };
        self.tail = if self.tail + 1 == cap { 0 } else { self.tail + 1 };
        slot
    }

    /// The slot of the oldest message.
    ///
    /// # Safety
    ///
    /// There is one. The caller takes it out.
    #[inline]
    pub(crate) unsafe fn pop_slot(&mut self, cap: usize) -> *mut T {
        // SAFETY: `head` is less than the capacity.
        let slot = unsafe { self.slots.as_ptr().add(self.head) };
        self.head = if self.head + 1 == cap { 0 } else { self.head + 1 };
        slot
    }
}

impl<T> Ring<T> {
    /// Slots for at most `count` new messages, which are next to each other: the first one, and how many.
    ///
    /// # Safety
    ///
    /// At least `count` slots are free, and it is not 0. The caller writes a message to each.
    pub(crate) unsafe fn push_slots(&mut self, cap: usize, count: usize) -> (*mut T, usize) {
        let count = count.min(cap - self.tail);
        // SAFETY: `tail` is less than the capacity.
        let slots = unsafe { self.slots.as_ptr().add(self.tail) };
        self.tail = if self.tail + count == cap { 0 } else { self.tail + count };
        (slots, count)
    }

    /// The slots of at most `count` of the oldest messages, which are next to each other: the first one, and how many.
    ///
    /// # Safety
    ///
    /// There are at least `count` messages, and it is not 0. The caller takes them out.
    pub(crate) unsafe fn pop_slots(&mut self, cap: usize, count: usize) -> (*mut T, usize) {
        let count = count.min(cap - self.head);
        // SAFETY: `head` is less than the capacity.
        let slots = unsafe { self.slots.as_ptr().add(self.head) };
        self.head = if self.head + count == cap { 0 } else { self.head + count };
        (slots, count)
    }
}

/// A list of blocks, the oldest first. No block is there before the first message.
pub(crate) struct List<T> {
    head: *mut Block<T>,
    tail: *mut Block<T>,
    /// The oldest message, as a slot of `head`.
    read: u32,
    /// Where the next one goes, as a slot of `tail`. Past the last slot where it needs a new block.
    write: u32,
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for List<T> {}

impl<T> List<T> {
    pub(crate) const fn new() -> Self {
        Self { head: ptr::null_mut(), tail: ptr::null_mut(), read: 0, write: Block::<T>::SLOTS }
    }

    /// Whether a push needs [`add_block`](Self::add_block) first.
    #[inline]
    pub(crate) fn needs_block(&self) -> bool {
        self.write == Block::<T>::SLOTS
    }

    /// # Safety
    ///
    /// `block` is fresh from [`Block::new`] or from a pop, and belongs to nobody. The list needs one.
    pub(crate) unsafe fn add_block(&mut self, block: *mut Block<T>) {
        // SAFETY: both blocks are ours.
        unsafe {
            (*block).next = ptr::null_mut();
            if self.tail.is_null() {
                self.head = block;
                self.read = 0;
            } else {
                (*self.tail).next = block;
            }
        }
        self.tail = block;
        self.write = 0;
    }

    /// The slot for a new message.
    ///
    /// # Safety
    ///
    /// The list does not need a block. The caller writes a message to the slot.
    #[inline]
    pub(crate) unsafe fn push_slot(&mut self) -> *mut T {
        // SAFETY: `write` is less than `SLOTS`, so `tail` is there.
        let slot = unsafe { Block::slot(self.tail, self.write) };
        self.write += 1;
        slot
    }

    /// Slots for at most `count` new messages, which are next to each other: the first one, and how many.
    ///
    /// # Safety
    ///
    /// The list does not need a block, and `count` is not 0. The caller writes a message to each.
    pub(crate) unsafe fn push_slots(&mut self, count: usize) -> (*mut T, usize) {
        let count = count.min((Block::<T>::SLOTS - self.write) as usize);
        // SAFETY: `write` is less than `SLOTS`, so `tail` is there.
        let slots = unsafe { Block::slot(self.tail, self.write) };
        self.write += count as u32;
        (slots, count)
    }

    /// The slot of the oldest message, and a block that the list needs no more, or null. The slot may be in that block.
    ///
    /// # Safety
    ///
    /// There is a message. The caller takes it out before it uses the list or the block in any other way.
    #[inline]
    pub(crate) unsafe fn pop(&mut self) -> (*mut T, *mut Block<T>) {
        // SAFETY: there is a message, so `head` is a block and `read` is within it.
        let slot = unsafe { Block::slot(self.head, self.read) };
        (slot, self.popped(1))
    }

    /// The slots of at most `count` of the oldest messages, which are next to each other: the first one, and how many; and
    /// a block that the list needs no more, or null. The slots may be in that block.
    ///
    /// # Safety
    ///
    /// There are at least `count` messages, and it is not 0. The caller takes them out before it uses the list or the block
    /// in any other way.
    pub(crate) unsafe fn pop_slots(&mut self, count: usize) -> (*mut T, usize, *mut Block<T>) {
        let end = if self.head == self.tail { self.write } else { Block::<T>::SLOTS };
        let count = count.min((end - self.read) as usize);
        // SAFETY: there is a message, so `head` is a block and `read` is within it.
        let slots = unsafe { Block::slot(self.head, self.read) };
        (slots, count, self.popped(count as u32))
    }

    /// Goes on by so many messages, which are in `head`.
    #[inline]
    fn popped(&mut self, count: u32) -> *mut Block<T> {
        let head = self.head;
        self.read += count;
        if head == self.tail {
            if self.read == self.write {
                // Empty: begin this block anew.
                self.read = 0;
                self.write = 0;
            }
        } else if self.read == Block::<T>::SLOTS {
            // SAFETY: a block before the tail has a next one.
            self.head = unsafe { (*head).next };
            self.read = 0;
            return head;
        }
        ptr::null_mut()
    }

    /// Frees the block that an empty list may keep.
    ///
    /// # Safety
    ///
    /// The list is empty, and not used again.
    pub(crate) unsafe fn free(&mut self) {
        debug_assert_eq!(self.head, self.tail);
        // SAFETY: the caller's promise.
        unsafe { Block::free(self.head) };
    }
}

/// A block of messages: this header, and `SLOTS` slots behind it.
#[repr(C)]
pub(crate) struct Block<T> {
    pub(super) next: *mut Block<T>,
    slots: PhantomData<T>,
    /// Gives the header the alignment of the slots.
    align: [T; 0],
}

impl<T> Block<T> {
    /// About a kilobyte of messages, and one at least.
    pub(crate) const SLOTS: u32 = match size_of::<T>() {
        0 => 1 << 16,
        1..=1000 => (1000 / size_of::<T>()) as u32,
        _ => 1,
    };

    fn layout() -> Layout {
        let slots = Layout::array::<T>(Self::SLOTS as usize);
        match slots.and_then(|slots| Layout::new::<Self>().extend(slots)) {
            Ok((layout, offset)) => {
                debug_assert_eq!(offset, size_of::<Self>());
                layout
            }
            Err(_) => panic!("capacity overflow"),
        }
    }

    pub(crate) fn new() -> *mut Self {
        let layout = Self::layout();
        // SAFETY: the layout has the size of the header at least.
        let block = unsafe { alloc::alloc(layout) }.cast::<Self>();
        if block.is_null() {
            alloc::handle_alloc_error(layout);
        }
        block
    }

    /// # Safety
    ///
    /// `block` is from `new` and holds no message, or is null.
    pub(crate) unsafe fn free(block: *mut Self) {
        if !block.is_null() {
            // SAFETY: allocated in `new` with this layout.
            unsafe { alloc::dealloc(block.cast(), Self::layout()) };
        }
    }

    /// # Safety
    ///
    /// `block` is a block, and `index` is less than `SLOTS`.
    #[inline]
    unsafe fn slot(block: *mut Self, index: u32) -> *mut T {
        // SAFETY: the slots begin behind the header, whose alignment is theirs at least (see `layout`).
        unsafe { block.add(1).cast::<T>().add(index as usize) }
    }
}
