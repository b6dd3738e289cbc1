//! Small blocks at hand: what a goroutine allocates and frees mostly needs no call of the allocator, and so no change of
//! thread-locals, which costs more than the allocation.
//!
//! Each worker has a magazine, which the goroutine that runs on it uses: nobody else does meanwhile, since a goroutine does
//! not change threads within an allocation. Blocks come from the allocator and go back to it several at a time.

use std::alloc::Layout;
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Sizes that differ by less are one class. No larger, or blocks would waste what allocators do not.
const GRAIN: usize = 8;
const CLASSES: usize = 64;
/// How much a magazine holds of one class: so many blocks, or so many bytes.
const MOST_BLOCKS: usize = 32;
const MOST_BYTES: usize = 4096;
/// How many bytes it holds in all: about as many as glibc keeps for each thread.
pub(super) const MOST_IN_ALL: usize = 64 << 10;

/// The size of a small block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class(usize);

impl Class {
    /// The class of an allocation; none for those that are large or aligned to more than a word.
    #[inline(always)]
    pub(super) fn of(layout: Layout) -> Option<Self> {
        let class = layout.size().wrapping_sub(1) / GRAIN;
        (class < CLASSES && layout.align() <= GRAIN).then_some(Self(class))
    }

    fn size(self) -> usize {
        (self.0 + 1) * GRAIN
    }

    /// What the allocator is asked for, and told when it gets it back.
    #[inline(always)]
    pub(super) fn layout(self) -> Layout {
        const { assert!(GRAIN.is_power_of_two() && GRAIN >= size_of::<*mut ()>()) };
        // SAFETY: a small multiple of a power of two.
        unsafe { Layout::from_size_align_unchecked(self.size(), GRAIN) }
    }

    /// How many a magazine holds at most: 8 at least.
    #[inline(always)]
    fn most(self) -> usize {
        (MOST_BYTES / self.size()).min(MOST_BLOCKS)
    }

    /// How many come and go at once.
    pub(super) fn batch(self) -> usize {
        self.most() / 2
    }
}

/// One adapter, as opposed to all others: the blocks of one must not be given to another.
#[derive(Debug, Default)]
pub(super) struct Id(AtomicU64);

/// No adapter's.
const NOBODY: u64 = u64::MAX;

impl Id {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[cold]
    fn settle(&self) -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let fresh = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        match self.0.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => fresh,
            Err(settled) => settled,
        }
    }
}

/// A free block. Its first word is the list's.
struct Block {
    next: *mut Block,
}

/// Free blocks of one class, the last one freed first.
struct List {
    first: Cell<*mut Block>,
    len: Cell<usize>,
}

/// What a worker has at hand. It belongs to the first adapter that uses it there; any other one does without.
pub(crate) struct Magazine {
    owner: Cell<u64>,
    /// How many bytes there are.
    bytes: Cell<usize>,
    lists: [List; CLASSES],
}

impl Magazine {
    pub(crate) const fn new() -> Self {
        let lists = [const { List { first: Cell::new(ptr::null_mut()), len: Cell::new(0) } }; CLASSES];
        Self { owner: Cell::new(NOBODY), bytes: Cell::new(0), lists }
    }

    #[inline(always)]
    pub(super) fn belongs_to(&self, id: &Id) -> bool {
        self.owner.get() == id.0.load(Ordering::Relaxed) || self.may_be_taken(id)
    }

    #[cold]
    fn may_be_taken(&self, id: &Id) -> bool {
        let free = self.owner.get() == NOBODY;
        if free {
            self.owner.set(id.settle());
        }
        free
    }

    /// A block of the class, or null where none is left.
    #[inline(always)]
    pub(super) fn take(&self, class: Class) -> *mut u8 {
        let list = &self.lists[class.0];
        let first = list.first.get();
        if !first.is_null() {
            // SAFETY: a block in the list is nobody else's, and `put` wrote its word.
            list.first.set(unsafe { (*first).next });
            list.len.set(list.len.get() - 1);
            self.bytes.set(self.bytes.get() - class.size());
        }
        first.cast()
    }

    /// Puts a block at hand. Says whether there are more of them than there should be now.
    ///
    /// # Safety
    ///
    /// `block` was allocated with the layout of `class` by the adapter to which the magazine belongs, and is nobody's any more.
    #[inline(always)]
    pub(super) unsafe fn put(&self, class: Class, block: *mut u8) -> bool {
        let list = &self.lists[class.0];
        let block = block.cast::<Block>();
        // SAFETY: the caller's promise; a block has room for a word, and is aligned for it.
        unsafe { block.write(Block { next: list.first.get() }) };
        list.first.set(block);
        list.len.set(list.len.get() + 1);
        self.bytes.set(self.bytes.get() + class.size());
        list.len.get() > class.most() || self.bytes.get() > MOST_IN_ALL
    }

    /// Takes out the blocks that are too many after one of `class` was put in: a batch of that class, or half of all; those
    /// that were put in first. Hands each to `free`, with its class.
    pub(super) fn take_surplus(&self, class: Class, free: impl Fn(*mut u8, Class)) {
        if self.bytes.get() > MOST_IN_ALL {
            (0..CLASSES)
                .map(Class)
                .for_each(|class| self.take_oldest(class, self.lists[class.0].len.get().div_ceil(2), &free));
        } else {
            self.take_oldest(class, class.batch(), &free);
        }
    }

    fn take_oldest(&self, class: Class, count: usize, free: impl Fn(*mut u8, Class)) {
        let list = &self.lists[class.0];
        let kept = list.len.get() - count;
        // SAFETY: as in `take`: as many as `len` blocks are in the list. Each is read before it is freed.
        unsafe {
            let mut end = list.first.as_ptr();
            for _ in 0..kept {
                end = &raw mut (**end).next;
            }
            let mut block = end.replace(ptr::null_mut());
            list.len.set(kept);
            self.bytes.set(self.bytes.get() - count * class.size());
            while !block.is_null() {
                let next = (*block).next;
                free(block.cast(), class);
                block = next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn class(size: usize) -> Class {
        Class::of(Layout::from_size_align(size, 1).unwrap()).unwrap()
    }

    #[test]
    fn a_class_has_room_for_what_is_in_it_and_wastes_less_than_a_word() {
        for size in 1..=GRAIN * CLASSES {
            for align in [1, 2, 4, 8] {
                let layout = class(size).layout();
                assert!((size..size + GRAIN).contains(&layout.size()) && align <= layout.align(), "{size}");
                assert_eq!(Class::of(layout), Some(class(size)));
                assert!(class(size).batch() >= 2 && class(size).batch() < class(size).most());
            }
        }
        for (size, align) in [(513, 1), (4096, 8), (16, 16), (64, 4096)] {
            assert_eq!(Class::of(Layout::from_size_align(size, align).unwrap()), None);
        }
    }

    #[test]
    fn the_last_one_freed_is_used_first_and_the_first_ones_go_back() {
        let magazine = Magazine::new();
        let class = class(100);
        let mut memory = vec![[0_u64; 13]; class.most() + 1];
        let blocks = memory.iter_mut().map(|block| block.as_mut_ptr().cast::<u8>()).collect::<Vec<_>>();
        for (index, &block) in blocks.iter().enumerate() {
            // SAFETY: memory of that size, of which nobody else has a pointer in use.
            assert_eq!(unsafe { magazine.put(class, block) }, index == class.most());
        }
        let gone = RefCell::new(Vec::new());
        magazine.take_surplus(class, |block, _| gone.borrow_mut().push(block));
        let gone = gone.into_inner();
        assert_eq!(gone.len(), class.batch());
        assert!(gone.iter().all(|block| blocks[..class.batch()].contains(block)));
        for &block in blocks[class.batch()..].iter().rev() {
            assert_eq!(magazine.take(class), block);
        }
        assert!(magazine.take(class).is_null());
    }

    #[test]
    fn half_of_all_goes_where_it_is_too_much() {
        let magazine = Magazine::new();
        let mut memory = Vec::new();
        let mut held = Vec::new();
        'full: for class in (0..CLASSES).map(Class) {
            for _ in 0..class.most() {
                memory.push(vec![0_u64; class.0 + 1]);
                let block = memory.last_mut().unwrap().as_mut_ptr().cast::<u8>();
                held.push((block, class));
                // SAFETY: memory of that size, of which nobody else has a pointer in use.
                if unsafe { magazine.put(class, block) } {
                    break 'full;
                }
            }
        }
        let size = |blocks: &[(*mut u8, Class)]| blocks.iter().map(|(_, class)| class.size()).sum::<usize>();
        assert!(size(&held) > MOST_IN_ALL && size(&held) <= MOST_IN_ALL + 512);
        let gone = RefCell::new(Vec::new());
        magazine.take_surplus(held.last().unwrap().1, |block, class| gone.borrow_mut().push((block, class)));
        let mut all = gone.into_inner();
        assert!((MOST_IN_ALL / 2..MOST_IN_ALL * 3 / 4).contains(&size(&all)), "{}", size(&all));
        for class in (0..CLASSES).map(Class) {
            all.extend(
                std::iter::repeat_with(|| magazine.take(class)).take_while(|b| !b.is_null()).map(|b| (b, class)),
            );
        }
        assert_eq!(magazine.bytes.get(), 0);
        let sorted = |mut blocks: Vec<(*mut u8, Class)>| {
            blocks.sort_unstable_by_key(|(block, _)| block.addr());
            blocks
        };
        assert_eq!(sorted(all), sorted(held));
    }

    #[test]
    fn a_magazine_belongs_to_one_adapter() {
        let (first, second, magazine) = (Id::new(), Id::new(), Magazine::new());
        assert!(magazine.belongs_to(&first) && magazine.belongs_to(&first));
        assert!(!magazine.belongs_to(&second));
        // It has a name by now, or none: no other is without an owner.
        second.settle();
        assert!(!magazine.belongs_to(&second) && !magazine.belongs_to(&Id::new()));
        assert!(Magazine::new().belongs_to(&second));
    }
}
