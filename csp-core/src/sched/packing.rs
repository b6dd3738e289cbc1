//! Packing: fewer processors at work where more of them are slower.
//!
//! Goroutines that do little but talk to each other are through sooner on one processor than on two. Each message that
//! goes from one CPU to another takes several cache lines along: the channel's, the waiter's, the goroutine's. That takes
//! longer than such a goroutine runs from one wait to the next, so their work is not divided but delayed. Goroutines that
//! talk to others of their own processor alone, or have something to do in between, are through sooner on two.
//!
//! What tells the two apart is to try. Where two processors or more are at work, and all of them pick a goroutine more
//! than once in a microsecond or so, sysmon lets half of them sleep for a little while and counts how many are picked in
//! all. (In such programs each message has one party that waits, and so one pick.) If it is more than before, it stays so:
//! then what they need is to be left together. Else it is tried again, much later. Where the turns are longer nothing is
//! ever tried, nor where many of the goroutines picked come to their end: such work is divided well by thieves, and what a
//! processor gives up of it in the middle is not.
//!
//! Now and then the others are let in again, to see whether it is still so; and at once where fewer are picked than before
//! there was a limit, or a goroutine does not come back within microseconds: the others must not wait behind it.

use std::time::Duration;

/// A processor whose goroutines run for longer than this from one wait to the next has work that is worth dividing.
const LONG_TURN: Duration = Duration::from_nanos(1250);
/// Where one goroutine ends for so many that are picked, or for fewer, they do something else than to talk.
const PICKS_PER_END: u64 = 8;
/// How many times as many have to be picked for it to be worth it.
const GAIN: f64 = 1.1;
/// How many looks there are before the first trial.
const PATIENCE: u32 = 4;
/// For how many looks the outcome of a trial stands, at first and at most: each time it is the same again it doubles.
const SHORTEST: u32 = 40;
const LONGEST: u32 = 400;

/// What sysmon remembers.
#[derive(Debug)]
pub(crate) struct Packing {
    state: State,
    /// For how many looks the next outcome stands, if it is the same as the last.
    hold: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// All may be at work, and are for so many looks at least.
    Free { left: u32 },
    /// Some are about to give up their processor: what this look counts belongs to neither.
    Leaving { limit: usize, free: f64 },
    /// Is it better?
    Trying { limit: usize, free: f64 },
    /// It is, for so many looks.
    Packed { limit: usize, left: u32, free: f64 },
    /// They are about to come back.
    Coming { packed: f64 },
    /// Is it still better?
    Doubting { packed: f64 },
}

impl Packing {
    pub(crate) const fn new() -> Self {
        Self { state: State::Free { left: PATIENCE }, hold: SHORTEST }
    }

    /// How many processors may be at work, `None` for all.
    pub(crate) fn limit(&self) -> Option<usize> {
        match self.state {
            State::Leaving { limit, .. } | State::Trying { limit, .. } | State::Packed { limit, .. } => Some(limit),
            State::Free { .. } | State::Coming { .. } | State::Doubting { .. } => None,
        }
    }

    /// A look at the processors that are at work: how many goroutines each has picked since the last one, which was `elapsed`
    /// ago, and how many have ended in all.
    pub(crate) fn look(&mut self, picks: &[u32], ended: u64, elapsed: Duration) {
        let all: u64 = picks.iter().map(|&picks| u64::from(picks)).sum();
        let chat = !picks.is_empty()
            && picks.iter().all(|&picks| LONG_TURN * picks >= elapsed)
            && ended.saturating_mul(PICKS_PER_END) < all;
        let several = chat && picks.len() > 1;
        let rate = all as f64 / elapsed.as_secs_f64();
        let limit = picks.len() / 2;
        self.state = match self.state {
            State::Free { .. } if !several => self.state,
            State::Free { left: 0 } => State::Leaving { limit, free: rate },
            State::Free { left } => State::Free { left: left - 1 },
            State::Leaving { limit, free } if chat => State::Trying { limit, free },
            State::Trying { limit, free } if chat && picks.len() <= limit && rate > free * GAIN => {
                self.hold = SHORTEST;
                State::Packed { limit, left: SHORTEST, free }
            }
            State::Packed { left: 0, .. } if chat => State::Coming { packed: rate },
            State::Packed { limit, left, free } if chat && rate >= free => {
                State::Packed { limit, left: left - 1, free }
            }
            // Something else has begun.
            State::Packed { .. } => {
                self.hold = SHORTEST;
                State::Free { left: PATIENCE }
            }
            State::Coming { packed } if several => State::Doubting { packed },
            State::Doubting { packed } if several && packed > rate * GAIN => {
                State::Packed { limit, left: self.hold(), free: rate }
            }
            // It is no better, or cannot be told.
            State::Leaving { .. } | State::Trying { .. } | State::Coming { .. } | State::Doubting { .. } => {
                State::Free { left: self.hold() }
            }
        };
    }

    /// For how many looks the outcome of a trial stands.
    fn hold(&mut self) -> u32 {
        let hold = self.hold;
        self.hold = (self.hold * 2).min(LONGEST);
        hold
    }
}

#[cfg(all(test, not(csp_loom)))]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_micros(2500);

    /// Looks `looks` times at a program in which processors, if they are so many, pick so many goroutines each. Says at how
    /// many of these there was a limit, which then is `limit`.
    fn look(packing: &mut Packing, looks: u32, limit: usize, picks: impl Fn(Option<usize>) -> Vec<u32>) -> u32 {
        let mut packed = 0;
        for _ in 0..looks {
            let now = packing.limit();
            assert!(now.is_none_or(|now| now == limit), "{now:?}");
            packed += u32::from(now.is_some());
            packing.look(&picks(now), 0, LOOK);
        }
        packed
    }

    /// Faster together.
    fn talk(limit: Option<usize>) -> Vec<u32> {
        vec![if limit.is_some() { 40_000 } else { 10_000 }; limit.unwrap_or(2)]
    }

    /// Faster apart.
    fn pairs(limit: Option<usize>) -> Vec<u32> {
        vec![20_000; limit.unwrap_or(2)]
    }

    #[test]
    fn goroutines_that_are_faster_together_are_left_together() {
        let mut packing = Packing::new();
        let packed = look(&mut packing, 10_000, 1, talk);
        assert!((9_800..9_980).contains(&packed), "{packed}");
        let mut packing = Packing::new();
        let four = |limit: Option<usize>| vec![if limit.is_some() { 40_000 } else { 10_000 }; limit.unwrap_or(4)];
        assert!(look(&mut packing, 100, 2, four) > 80);
    }

    #[test]
    fn others_are_hardly_disturbed() {
        let mut packing = Packing::new();
        let packed = look(&mut packing, 10_000, 1, pairs);
        assert!((20..80).contains(&packed), "{packed}");
        // Long turns, on one processor at least, and one processor alone, are left alone.
        for picks in [vec![3, 3], vec![40_000, 3], vec![40_000], vec![]] {
            let mut packing = Packing::new();
            assert_eq!(look(&mut packing, 1000, 0, |_| picks.clone()), 0, "{picks:?}");
        }
    }

    #[test]
    fn goroutines_that_end_are_left_alone() {
        let mut packing = Packing::new();
        for _ in 0..1000 {
            packing.look(&[10_000, 10_000], 2_500, LOOK);
            assert_eq!(packing.limit(), None);
        }
        look(&mut packing, 20, 1, talk);
        assert_eq!(packing.limit(), Some(1));
        packing.look(&[40_000], 5_000, LOOK);
        assert_eq!(packing.limit(), None);
    }

    #[test]
    fn a_long_turn_lets_all_in_at_once() {
        let mut packing = Packing::new();
        for picks in [&[3][..], &[]] {
            look(&mut packing, 20, 1, talk);
            assert_eq!(packing.limit(), Some(1));
            packing.look(picks, 0, LOOK);
            assert_eq!(packing.limit(), None);
        }
    }

    #[test]
    fn a_program_that_changes_is_noticed() {
        let mut packing = Packing::new();
        look(&mut packing, 1000, 1, talk);
        let packed = look(&mut packing, 1000, 1, pairs);
        assert!(packed < 500, "{packed}");
        let packed = look(&mut packing, 1000, 1, talk);
        assert!(packed > 500, "{packed}");
    }
}
