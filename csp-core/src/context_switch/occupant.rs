//! Whose stack the calling thread is on.

use std::cell::Cell;
use std::ptr;

thread_local! {
    static OCCUPANT: Cell<*const ()> = const { Cell::new(ptr::null()) };
}

/// What was last given to [`set_occupant`] with these thread-locals, or null.
///
/// Not inlined: the compiler may keep the address of a thread-local across a call, and where they are shared that may be a
/// switch.
#[inline(never)]
pub(crate) fn occupant() -> *const () {
    OCCUPANT.get()
}

/// Says whose stack the calling thread is on.
#[inline(never)]
pub(crate) fn set_occupant(occupant: *const ()) {
    OCCUPANT.set(occupant);
}
