//! What a command's arguments promise about its output.

use super::Format;
use std::ffi::OsString;
use std::path::Path;

/// What a stream must look like. Only what is certain is demanded: wrappers such as `sh -c` or `docker exec` promise nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Any content will do.
    Anything,
    /// The archive that `pg_dump -Fc` writes.
    PgArchive,
    /// The text that `pg_dump` writes, or, with `-Z`, that text compressed.
    PgDump,
    /// The text that `pg_dumpall` writes.
    PgDumpAll,
}

impl Expected {
    /// Reads what these arguments, the program first, promise.
    ///
    /// Up to version 18, `pg_dump` and `pg_dumpall` begin every plain dump with their header, whatever else they are told
    /// (`-s`, `-a`, `--section`, `--no-comments`); only `--help` and `--version` do not.
    pub fn of_argv(argv: &[OsString]) -> Expected {
        let Some((program, arguments)) = argv.split_first() else { return Expected::Anything };
        let program = Path::new(program).file_name().map(|name| name.to_string_lossy());
        let pg_dumpall = match program.as_deref() {
            Some("pg_dump") => false,
            Some("pg_dumpall") => true,
            _ => return Expected::Anything,
        };
        match pg_format(arguments) {
            Some('p') if pg_dumpall => Expected::PgDumpAll,
            Some('p') => Expected::PgDump,
            Some('c') if !pg_dumpall => Expected::PgArchive,
            _ => Expected::Anything,
        }
    }

    /// Returns an error that says what is wrong if the stream is not what it must be.
    pub(super) fn check(self, format: Format) -> Result<(), String> {
        let (kept, promised) = match self {
            Expected::Anything => return Ok(()),
            Expected::PgArchive => {
                (matches!(format, Format::PgArchive { .. }), "a pg_dump archive, which begins with PGDMP")
            }
            Expected::PgDump => (
                matches!(format, Format::PgDump | Format::Compressed(_)),
                "pg_dump text, which begins with \"-- PostgreSQL database dump\"",
            ),
            Expected::PgDumpAll => (
                matches!(format, Format::PgDumpAll | Format::Compressed(_)),
                "pg_dumpall text, which begins with \"-- PostgreSQL database cluster dump\"",
            ),
        };
        if kept { Ok(()) } else { Err(format!("the output is not {promised}; look at what the command prints")) }
    }
}

/// Returns the first letter of the format that `-F` or `--format` names, 'p' without such an option, or nothing when it
/// can't be told: the option stands in a cluster (`-aFc`), is abbreviated, or stands more than once.
fn pg_format(arguments: &[OsString]) -> Option<char> {
    let mut named = None;
    let mut arguments = arguments.iter().map(|argument| argument.to_string_lossy());
    while let Some(argument) = arguments.next() {
        let value = if argument == "-F" || argument == "--format" {
            arguments.next()?.into_owned()
        } else if let Some(value) = argument.strip_prefix("-F").or_else(|| argument.strip_prefix("--format=")) {
            value.to_owned()
        } else if may_hide_format(&argument) {
            return None;
        } else {
            continue;
        };
        let letter = match value.to_ascii_lowercase().as_str() {
            "c" | "custom" => 'c',
            "p" | "plain" => 'p',
            _ => return None,
        };
        if named.replace(letter).is_some() {
            return None;
        }
    }
    Some(named.unwrap_or('p'))
}

/// Returns whether the argument may be an abbreviated `--format`, or a cluster of options with an `F` in it.
fn may_hide_format(argument: &str) -> bool {
    match argument.strip_prefix("--") {
        Some(name) => name.starts_with('f') && !name.starts_with("file") && !name.starts_with("filter"),
        None => argument.starts_with('-') && argument.contains('F'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(line: &str) -> Expected {
        Expected::of_argv(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn pg_dump_promises_the_format_that_it_is_told() {
        for line in
            ["pg_dump -Fc app", "/usr/bin/pg_dump -v -F c app", "pg_dump --format=custom app", "pg_dump --format c"]
        {
            assert_eq!(expected(line), Expected::PgArchive, "{line}");
        }
        for line in
            ["pg_dump app", "pg_dump -s -d app", "pg_dump -Fp", "pg_dump --format=plain -Z9", "pg_dump --filter=x"]
        {
            assert_eq!(expected(line), Expected::PgDump, "{line}");
        }
        assert_eq!(expected("pg_dumpall -g"), Expected::PgDumpAll);
    }

    #[test]
    fn nothing_is_demanded_where_it_is_uncertain() {
        for line in [
            "sh -c pg_dump",
            "docker exec db pg_dump -Fc",
            "pg_dump -Ft",
            "pg_dump -aFc",
            "pg_dump --form=c",
            "pg_dump -Fc -Fp",
            "pg_dump -F",
            "pg_dump -Fx",
            "pg_dumpall -Fc",
            "pg_dumps",
        ] {
            assert_eq!(expected(line), Expected::Anything, "{line}");
        }
        assert_eq!(Expected::of_argv(&[]), Expected::Anything);
    }

    #[test]
    fn output_that_breaks_the_promise_is_refused() {
        let archive = Format::PgArchive { version: 14, compression: None };
        assert!(Expected::PgArchive.check(archive).is_ok());
        assert!(Expected::PgArchive.check(Format::PgDump).is_err());
        assert!(Expected::PgDump.check(Format::PgDump).is_ok());
        assert!(Expected::PgDump.check(Format::Compressed("gzip")).is_ok());
        assert!(Expected::PgDump.check(Format::Unknown).is_err());
        assert!(Expected::PgDump.check(archive).is_err());
        assert!(Expected::PgDumpAll.check(Format::PgDumpAll).is_ok());
        assert!(Expected::PgDumpAll.check(Format::PgDump).is_err());
        assert!(Expected::Anything.check(Format::Unknown).is_ok());
    }
}
