//! The integration tests: one binary, one file a subject. `tidy` fails on a file that is not named here.

mod allocation;
mod fuzz_corpus;
mod licences;
mod sources;
mod surface;
mod tidy;

#[global_allocator]
static ALLOCATOR: allocation::Measured = allocation::Measured;
