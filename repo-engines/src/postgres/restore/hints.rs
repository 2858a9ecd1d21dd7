//! What to do about what PostgreSQL's tools say when a restore fails.

use crate::postgres::session::hinted;
use dedump_core::Error;

const KNOWN: &[(&str, &str)] = &[
    ("no password supplied", "put the password into ~/.pgpass, or give --db-password-file"),
    ("password authentication failed", "check the user, and the password in ~/.pgpass or --db-password-file"),
    ("unsupported startup parameter", "this is PgBouncer or a pooler like it; connect to the server itself"),
    ("could not translate host name", "check the host's name in the URL"),
    ("Connection refused", "check the host and the port in the URL, and that the server runs"),
    ("No such file or directory", "check the socket's folder and the port in the URL, and that the server runs"),
    ("permission denied to create database", "give the user CREATEDB, or restore as another user"),
    ("permission denied to create role", "give the user CREATEROLE, or leave roles out with --globals none"),
    ("permission denied to create extension", "restore as a superuser"),
    ("must be member of role", "restore as a superuser, or leave owners out with --no-owner"),
    ("must be able to SET ROLE", "restore as a superuser, or leave owners out with --no-owner"),
    ("must be owner of", "restore as a superuser, or leave owners out with --no-owner"),
    ("permission denied", "restore as a superuser, or as a user who has what is missing"),
    ("No space left on device", "make room on the server's disk and restore again"),
    ("could not open extension control file", "install the extension's package on the server"),
    (
        "violates foreign key constraint",
        "what it leads to is not there, or is loaded later; for data alone, a superuser has --disable-triggers",
    ),
    ("duplicate key value", "what is there is in the way; see --on-conflict"),
    ("unsupported version", "install newer client tools, or name their folder with --pg-bin"),
];

/// Adds what to do, where it is known.
pub(super) fn explain(error: Error) -> Error {
    hinted(error, KNOWN)
}

/// Makes a failure of the tools one of the target's.
pub(super) fn of_target(error: Error) -> Error {
    match explain(error) {
        Error::DumpFailed(why) => Error::Target(why),
        error => error,
    }
}
