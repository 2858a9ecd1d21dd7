//! What the integration tests share: the bodies of the fuzz targets, which the tests replay too, and the exploration of all
//! interleavings, which a binary runs at length.

pub mod explore;
pub mod fuzz;
