//! How a command ends: the exit codes, and the one line that says what went wrong.

use dedump_core::{Error, ErrorKind};

/// The exit codes, as `dedump --help` documents them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// It failed; nothing was committed.
    Failed = 1,
    /// The command line can't be.
    Usage = 2,
    /// It was done, but the snapshot is partial or suspicious.
    Doubtful = 3,
    /// Damage was found in the repository.
    Damage = 4,
    /// The secret opens no key slot.
    WrongKey = 5,
    /// Somebody else came first; trying again is safe.
    Conflict = 6,
    /// The reader of our output went away, as if SIGPIPE had killed us.
    BrokenPipe = 141,
    /// Ctrl-C.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

/// The list of exit codes for help texts.
pub const HELP: &str = "\
Exit codes:
  0  done
  1  failed; nothing was committed
  2  usage: the command line can't be
  3  done, but the snapshot is partial or suspicious
  4  damage found in the repository
  5  wrong key: the secret opens no key slot
  6  conflict: somebody else came first; try again
  130, 143  interrupted by Ctrl-C, by SIGTERM; nothing was committed";

/// Why a command ended early.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// One line for stderr; empty where there is nobody to tell.
    pub message: String,
}

impl Failure {
    /// It did not work.
    pub fn failed(message: impl Into<String>) -> Self {
        Failure { exit: Exit::Failed, message: message.into() }
    }

    /// The command line can't be.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure { exit: Exit::Usage, message: message.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::Usage => Exit::Usage,
            ErrorKind::Damage => Exit::Damage,
            ErrorKind::WrongKey => Exit::WrongKey,
            ErrorKind::Conflict => Exit::Conflict,
            _ => Exit::Failed,
        };
        Failure { exit, message: error.to_string() }
    }
}

/// What every command returns.
pub type Outcome = Result<Exit, Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_exit_code() {
        let object = || "packs/00".to_owned();
        for (error, code) in [
            (Error::NotARepository { location: "/x".to_owned() }, 1),
            (Error::DumpFailed("exit status 1".to_owned()), 1),
            (Error::Invalid("no".to_owned()), 2),
            (Error::Damaged { object: object(), why: "a bit".to_owned() }, 4),
            (Error::Missing { object: object(), why: "gone".to_owned() }, 4),
            (Error::WrongKey { slots: 1, secret: "passphrase" }, 5),
            (Error::Conflict("fenced".to_owned()), 6),
        ] {
            let failure = Failure::from(error);
            assert_eq!(failure.exit as i32, code, "{}", failure.message);
            assert!(HELP.contains(&format!("\n  {code}  ")), "the help lists {code}");
        }
    }
}
