//! The integration tests: one binary, one file a subject. `tidy` fails on a file that is not named here.

#![allow(clippy::print_stderr)] // what a test that failed says besides: its seed, its server's messages

mod allocation;
mod backup;
mod cache;
mod calls;
mod clickhouse;
mod clickhouse_failures;
mod clickhouse_restore;
mod commands;
mod copy;
mod crash;
mod damage;
mod delta;
mod delta_damage;
mod durable;
mod explore;
mod faults;
mod files;
mod files_chosen;
mod files_restore;
mod fixtures;
mod fuzz_corpus;
mod golden;
mod holds;
mod kit;
mod licences;
mod model;
mod mongodb;
mod mongodb_restore;
mod mysql;
mod mysql_restore;
mod postgres;
mod postgres_engine;
mod postgres_engine_failures;
mod postgres_parts;
mod postgres_promises;
mod postgres_restore;
mod postgres_restore_failures;
mod postgres_rows;
mod postgres_servers;
mod postgres_versions;
mod protocol;
mod prune;
mod redis;
mod redis_restore;
mod restore;
mod restore_plan;
mod retention;
mod retention_calendar;
mod reuse;
mod simulation;
mod sources;
mod spawned;
mod sqlite;
mod sqlite_restore;
mod stores;
mod surface;
mod tidy;

#[global_allocator]
static ALLOCATOR: allocation::Measured = allocation::Measured;
