//! Floor 4, edges: where the library meets the store, the processor, the engines and the clock. Async begins here.

pub mod cache;
pub mod cpu;
pub mod parent;
pub mod progress;
pub mod source;
mod staged;
pub mod store;
pub mod system;
pub mod target;
