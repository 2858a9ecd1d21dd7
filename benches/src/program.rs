//! The real binary `dedump`.

use crate::Result;
use std::path::PathBuf;
use std::process::Command;

/// Builds the binary as it is shipped, and returns where it is.
///
/// # Errors
/// It does not build, or the program was not started by cargo.
pub fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").ok_or("run this by `cargo bench`: it builds the binary that it measures")?;
    let status = Command::new(cargo).args(["build", "--release", "--package", "dedump", "--quiet"]).status()?;
    if !status.success() {
        return Err("the binary `dedump` does not build".into());
    }
    // This program is TARGET/PROFILE/deps/numbers-….
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(3).ok_or("this program is in no target folder")?;
    let binary = target.join("release").join("dedump");
    if binary.is_file() { Ok(binary) } else { Err(format!("there is no {}", binary.display()).into()) }
}
