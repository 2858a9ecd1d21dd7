//! What the integration tests share: the bodies of the fuzz targets, which the tests replay too.

pub mod fuzz;
