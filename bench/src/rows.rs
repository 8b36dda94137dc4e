//! The rows of the suite (benchmarks, section 5).

pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod resolve;
pub(crate) mod write;
