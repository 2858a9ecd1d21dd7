//! `dedump demo`.

use crate::context::Context;
use crate::exit::{Failure, Outcome};
use clap::Args;

/// See it work
#[derive(Debug, Args)]
pub struct DemoArgs {}

/// Runs it.
pub fn run(_: &Context, _: DemoArgs) -> Outcome {
    Err(Failure::failed("not yet"))
}
