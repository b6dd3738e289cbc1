//! csp
#![forbid(unsafe_code)]
pub use csp_core::*;
