//! A library built on csp, which its users do not depend on.

pub use csp;
pub use csp::go as start;

/// Sums by goroutines, which the caller's block does not have to know of.
#[macro_export]
macro_rules! parallel_sum {
    ($($term:expr),* $(,)?) => {{
        let goroutines = [$($crate::csp::go!(name = "term", { $term })),*];
        goroutines.into_iter().map(|goroutine| goroutine.join().unwrap()).sum::<i32>()
    }};
}

/// Receives, or gives up.
#[macro_export]
macro_rules! receive_or {
    ($rx:expr, $default:expr) => {
        $crate::csp::select! {
            Ok(value) = <-$rx => value,
            else => $default,
        }
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_macros_work_where_they_are_defined() {
        assert_eq!(parallel_sum!(1, 2), 3);
        let (_, closed) = csp::bounded(0);
        assert_eq!(receive_or!(closed, 5), 5);
    }

    #[csp::test]
    fn the_attribute_finds_the_library_under_the_name_that_is_not_its_packages() {
        assert!(csp::current().is_some());
    }
}
