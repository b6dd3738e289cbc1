//! Stacks without thread-locals of their own: the slots of the dense mode.
//!
//! With the slot at the top of its stack, one that is parked with a few frames takes one page in all.

use std::io;

use super::Slot;
use crate::context_switch::generated::Generated;
use crate::stack::{self, Stride};

/// Makes slots of the strides. They lie in them.
///
/// # Safety
///
/// The strides are unused.
#[cfg(csp_native)]
pub(crate) unsafe fn make(strides: &mut Vec<Stride>, class: u8) -> Vec<&'static Slot> {
    use crate::context_switch::Context;

    let make = |stride: Stride| {
        let end = std::ptr::with_exposed_provenance_mut(super::end(stride));
        // SAFETY: the stride is unused; below the slot is what is left of the stack.
        unsafe {
            let slot = Slot::put(stride, class);
            slot.execution.belongs_to(std::ptr::from_ref(slot).cast(), std::ptr::null());
            *slot.execution.context.get() = Context::prepare(end, 0, super::begin, slot.as_argument());
            slot
        }
    };
    strides.drain(..).map(make).collect()
}

/// Makes a slot on a stack of the `generator` crate.
pub(crate) fn generate(usable: usize, class: u8) -> io::Result<&'static Slot> {
    fn run(slot: *const ()) {
        // SAFETY: the slot for which the stack was made.
        let slot = unsafe { &*slot.cast::<Slot>() };
        // SAFETY: we run on its stack, and were just resumed for the first time.
        let commit = unsafe { slot.execution.take_mail() };
        crate::sched::slot_main(slot, commit);
        std::process::abort()
    }

    let no_stack = |why: &dyn std::fmt::Display| {
        io::Error::other(format!("cannot map another stack for a goroutine: {why} (see ulimit -v, vm.max_map_count)"))
    };
    stack::check_mappings()?;
    // The crate panics where the system gives no memory, which whoever has a panic hook would see each time.
    stack::probe(usable + stack::MIN_STRIDE).map_err(|error| no_stack(&error))?;
    let slot = Slot::leak(class);
    let owner = std::ptr::from_ref(slot).cast();
    match std::panic::catch_unwind(|| Generated::leak(usable, run, owner)) {
        Ok(generated) => {
            stack::count_mapped_guard();
            slot.execution.belongs_to(owner, generated);
            Ok(slot)
        }
        Err(_) => {
            // SAFETY: there is no stack whose slot it is.
            unsafe { Slot::free(slot) };
            Err(no_stack(&"the system refuses it"))
        }
    }
}
