//! x
pub mod gates;
