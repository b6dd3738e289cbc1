//! In which order a select looks at its arms.

/// How a select chooses among several arms that are ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any of them, with equal chances.
    Random,
    /// The first in the source.
    Biased,
}

/// A random number less than `bound`, from the calling goroutine's or thread's own sequence.
///
/// wyrand: an addition, a multiplication and a handful of moves. The bias of the final multiplication is `bound /
/// 2^32`.
///
/// Not inlined: where thread-locals are shared, the compiler is not to keep their addresses across a wait.
#[cfg(not(csp_loom))]
#[inline(never)]
pub(super) fn random_below(bound: u32) -> u32 {
    use std::cell::Cell;

    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }

    #[cold]
    fn seed() -> u64 {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(0) | 1
    }

    // While a thread's own destructors run there may be no sequence left: the first will do.
    STATE
        .try_with(|state| {
            let mut s = state.get();
            if s == 0 {
                s = seed();
            }
            s = s.wrapping_add(0xa076_1d64_78bd_642f);
            state.set(s);
            let wide = u128::from(s) * u128::from(s ^ 0xe703_7ed1_a0b4_28db);
            let random = ((wide >> 64) ^ wide) as u32;
            ((u64::from(random) * u64::from(bound)) >> 32) as u32
        })
        .unwrap_or(0)
}

/// Loom explores interleavings, not dice.
#[cfg(csp_loom)]
pub(super) fn random_below(_bound: u32) -> u32 {
    0
}
