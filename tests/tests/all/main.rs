//! The integration tests: one binary, one file a subject. `tidy` fails on a file that is not named here.

mod allocation;
mod backup;
mod calls;
mod commands;
mod crash;
mod damage;
mod durable;
mod fixtures;
mod fuzz_corpus;
mod golden;
mod kit;
mod licences;
mod model;
mod postgres;
mod protocol;
mod restore;
mod sources;
mod surface;
mod tidy;

#[global_allocator]
static ALLOCATOR: allocation::Measured = allocation::Measured;
