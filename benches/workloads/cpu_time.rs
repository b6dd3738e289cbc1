//! Shared by all benchmarks that look at it.

use std::time::Duration;

/// The processor time that this process has had.
pub(crate) fn cpu_time() -> Duration {
    // SAFETY: all zeros is a `rusage`, which the call may write.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0);
        usage
    };
    let duration = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    duration(usage.ru_utime) + duration(usage.ru_stime)
}
