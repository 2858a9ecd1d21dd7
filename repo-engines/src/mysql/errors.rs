//! What to do about what the client tools say.

use dedump_core::Error;

/// What they say, and what to do; the first that fits.
const KNOWN: &[(&str, &str)] = &[
    ("there is no such program", "install the Debian package mariadb-client, or name the folder with --mysql-bin"),
    (
        ": not found",
        "install the client tools there, the Debian package mariadb-client, or name their folder with --mysql-bin",
    ),
    ("(using password: NO)", "put the password into ~/.my.cnf or MYSQL_PWD, or give --db-password-file"),
    ("(using password: YES)", "check the user, and the password in ~/.my.cnf or --db-password-file"),
    ("1698", "this user is known by the system's user alone; give another with a password"),
    ("Unknown database", "check the database's name in the URL"),
    ("2005", "check the host's name in the URL"),
    ("Unknown server host", "check the host's name in the URL"),
    ("Can't connect to", "check the host and the port or socket in the URL, and that the server runs"),
    ("2026", "check the URL's tls and ssl-ca, and the server's certificate"),
    ("TLS/SSL error", "check the URL's tls and ssl-ca, and the server's certificate"),
    ("Lost connection to", "the server ended, or the network to it broke; look into its log, and try again"),
    ("server has gone away", "the server ended, or the network to it broke; look into its log, and try again"),
    ("Lock wait timeout exceeded", "somebody uses a table that is to be replaced; end that transaction, and try again"),
    ("Table definition has changed", "somebody changed the table meanwhile; back up again when no schema is changed"),
    ("Got a packet bigger than", "raise the server's max_allowed_packet, and try again"),
    ("max_allowed_packet", "raise the server's max_allowed_packet, and try again"),
    ("Unknown collation", "restore to a server of the same or a newer version, or change the collation first"),
    ("Unknown character set", "restore to a server of the same or a newer version"),
    ("Unknown storage engine", "install the storage engine's plugin on the server"),
    ("Binlogging on server not active", "try again; the server's settings were changed meanwhile"),
    ("No space left on device", "make room on the server's disk, and try again"),
    ("is full", "make room on the server's disk, and try again"),
    ("read-only", "restore to a server that takes changes"),
    (
        "log_bin_trust_function_creators",
        "SET GLOBAL log_bin_trust_function_creators = ON there first, or restore as a user who has SUPER",
    ),
    ("SUPER", "give the user SUPER or SET USER, or leave definers out with --no-definers"),
    ("SET USER", "give the user SET USER, or leave definers out with --no-definers"),
    ("command denied to user", "grant that to the user, or use another"),
    ("Access denied", "grant what is missing to the user, or use another"),
];

/// Adds what to do to what a tool says, where it is known.
pub(super) fn explain(error: Error) -> Error {
    let Error::DumpFailed(why) = error else { return error };
    // What was explained once comes by again on its way up.
    let is_explained = KNOWN.iter().any(|(_, hint)| why.contains(hint));
    let hint = KNOWN.iter().find(|(said, _)| why.contains(said)).filter(|_| !is_explained);
    Error::DumpFailed(match hint {
        Some((_, hint)) => format!("{why}; {hint}"),
        None => why,
    })
}

/// Makes a failure of the tools one of the target's.
pub(super) fn of_target(error: Error) -> Error {
    match explain(error) {
        Error::DumpFailed(why) => Error::Target(why),
        error => error,
    }
}
