//! Where the secret comes from. Never from the arguments: other users see those.

use crate::exit::Failure;
use crate::output;
use dedump_core::Credential;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Longest password or key file that is read, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Where a secret is to be had from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The first line of a file.
    PasswordFile(PathBuf),
    /// The first line that a command prints.
    PasswordCommand(String),
    /// A key file.
    KeyFile(PathBuf),
    /// The value of an environment variable.
    PasswordVariable(&'static str),
}

/// The variables that say where the secret of a repository is, and the flags that do.
#[derive(Debug)]
pub struct Variables {
    password: &'static str,
    password_file: &'static str,
    password_command: &'static str,
    key_file: &'static str,
    /// The flags, the most usual first.
    pub flags: [&'static str; 3],
}

/// Those of the repository that a command works on.
const OWN: Variables = Variables {
    password: "DEDUMP_PASSWORD",
    password_file: "DEDUMP_PASSWORD_FILE",
    password_command: "DEDUMP_PASSWORD_COMMAND",
    key_file: "DEDUMP_KEY_FILE",
    flags: ["--password-file", "--password-command", "--key-file"],
};

/// Those of the repository that copies go to.
pub const TO: Variables = Variables {
    password: "DEDUMP_TO_PASSWORD",
    password_file: "DEDUMP_TO_PASSWORD_FILE",
    password_command: "DEDUMP_TO_PASSWORD_COMMAND",
    key_file: "DEDUMP_TO_KEY_FILE",
    flags: ["--to-password-file", "--to-password-command", "--to-key-file"],
};

/// Those of the repository that a new one is to be like.
pub const LIKE: Variables = Variables {
    password: "DEDUMP_LIKE_PASSWORD",
    password_file: "DEDUMP_LIKE_PASSWORD_FILE",
    password_command: "DEDUMP_LIKE_PASSWORD_COMMAND",
    key_file: "DEDUMP_LIKE_KEY_FILE",
    flags: ["--like-password-file", "--like-password-command", "--like-key-file"],
};

/// What a dump command must not inherit.
pub const PASSWORD_VARIABLES: [&str; 3] = [OWN.password, TO.password, LIKE.password];

/// What the flags say; at most one is given, which clap sees to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretFlags {
    /// `--password-file`.
    pub password_file: Option<PathBuf>,
    /// `--password-command`.
    pub password_command: Option<String>,
    /// `--key-file`.
    pub key_file: Option<PathBuf>,
}

impl SecretFlags {
    fn source(self) -> Option<SecretSource> {
        let file = self.password_file.map(SecretSource::PasswordFile);
        let command = || self.password_command.map(SecretSource::PasswordCommand);
        file.or_else(command).or_else(|| self.key_file.map(SecretSource::KeyFile))
    }
}

/// Chooses: a flag, or else the environment, which may name one place only.
///
/// # Errors
/// The environment names two.
pub fn choose(
    flags: SecretFlags,
    variables: &'static Variables,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<SecretSource>, Failure> {
    if let Some(source) = flags.source() {
        return Ok(Some(source));
    }
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let command = |words: OsString| SecretSource::PasswordCommand(words.to_string_lossy().into_owned());
    let &Variables { password, password_file, password_command, key_file, .. } = variables;
    let named = [
        (password, set(password).map(|_| SecretSource::PasswordVariable(password))),
        (password_file, set(password_file).map(|path| SecretSource::PasswordFile(path.into()))),
        (password_command, set(password_command).map(command)),
        (key_file, set(key_file).map(|path| SecretSource::KeyFile(path.into()))),
    ];
    let mut found = named.into_iter().filter_map(|(name, source)| source.map(|source| (name, source)));
    match (found.next(), found.next()) {
        (Some((one, _)), Some((other, _))) => {
            Err(Failure::usage(format!("{one} and {other} are both set; unset one, or say which secret with a flag")))
        }
        (found, _) => Ok(found.map(|(_, source)| source)),
    }
}

/// Gets the secret that opens the repository: from the flags, the environment, or the terminal.
///
/// # Errors
/// It cannot be had.
pub fn existing(flags: SecretFlags) -> Result<Credential, Failure> {
    match from_environment(flags)? {
        Some(source) => get(&source),
        None => ask("password: ", HOW),
    }
}

/// Gets the secret of a new repository: like [`existing`], but a terminal is asked twice.
///
/// # Errors
/// It cannot be had.
pub fn first(flags: SecretFlags) -> Result<Credential, Failure> {
    match from_environment(flags)? {
        Some(source) => get(&source),
        None => ask_twice(HOW),
    }
}

/// Gets another secret: from the flags or the terminal; the environment holds the one that opens the repository.
///
/// # Errors
/// It cannot be had.
pub fn another(flags: SecretFlags) -> Result<Credential, Failure> {
    match flags.source() {
        Some(source) => get(&source),
        None => ask_twice(HOW_NEW),
    }
}

const HOW: &str = "no secret was given and there is no terminal to ask on; use --password-file, --password-command or \
                   --key-file, or set DEDUMP_PASSWORD, DEDUMP_PASSWORD_FILE, DEDUMP_PASSWORD_COMMAND or DEDUMP_KEY_FILE";
const HOW_NEW: &str = "no new secret was given and there is no terminal to ask on; use --new-password-file, \
                       --new-password-command or --new-key-file";

fn from_environment(flags: SecretFlags) -> Result<Option<SecretSource>, Failure> {
    choose(flags, &OWN, |name| std::env::var_os(name))
}

/// Gets the secret of a second repository from its own flags and variables; `None` if they say nothing.
///
/// # Errors
/// It cannot be had.
pub fn own(flags: SecretFlags, variables: &'static Variables) -> Result<Option<Credential>, Failure> {
    choose(flags, variables, |name| std::env::var_os(name))?.as_ref().map(get).transpose()
}

fn get(source: &SecretSource) -> Result<Credential, Failure> {
    match source {
        SecretSource::PasswordFile(path) => Ok(Credential::passphrase(first_line(read(path, "password file")?, path)?)),
        SecretSource::PasswordCommand(command) => from_command(command),
        SecretSource::KeyFile(path) => from_key_file(path),
        SecretSource::PasswordVariable(name) => {
            // Bytes as they are: a password need not be UTF-8.
            Ok(Credential::passphrase(std::env::var_os(name).unwrap_or_default().into_vec()))
        }
    }
}

fn from_key_file(path: &Path) -> Result<Credential, Failure> {
    let bytes = read(path, "key file").map_err(|failure| match path.exists() {
        true => failure,
        false => Failure::failed(format!(
            "there is no key file {}; `dedump key generate {}` makes one",
            path.display(),
            path.display()
        )),
    })?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    Credential::from_key_file_text(&text).map_err(|_| {
        Failure::failed(format!(
            "{} is no key file of dedump; `dedump key generate FILE` makes one, and passwords go with --password-file",
            path.display()
        ))
    })
}

/// Runs a command and takes the first line that it prints. Words are split as a shell would, and no shell is run.
fn from_command(command: &str) -> Result<Credential, Failure> {
    printed_by(command).map(Credential::passphrase)
}

/// Gets a database's password from a file or a command; `None` for neither.
///
/// # Errors
/// It cannot be had.
pub fn of_database(file: Option<&Path>, command: Option<&str>) -> Result<Option<String>, Failure> {
    let password = match (file, command) {
        (Some(path), _) => first_line(read(path, "password file")?, path)?,
        (None, Some(command)) => printed_by(command)?,
        (None, None) => return Ok(None),
    };
    String::from_utf8(password).map(Some).map_err(|_| Failure::failed("the database's password is not UTF-8"))
}

fn printed_by(command: &str) -> Result<Vec<u8>, Failure> {
    let argv = shlex::split(command).filter(|argv| !argv.is_empty());
    let argv = argv.ok_or_else(|| Failure::usage("the password command has no words, or a quote that does not end"))?;
    let program = &argv[0];
    let output = Command::new(program)
        .args(&argv[1..])
        // Standard input may be the dump; a prompt belongs on the terminal.
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::failed(format!("cannot run the password command {program}: {error}")))?;
    if !output.status.success() {
        return Err(Failure::failed(format!("the password command {program} failed: {}", output.status)));
    }
    let mut password = output.stdout;
    strip_line_end(&mut password);
    if password.is_empty() {
        return Err(Failure::failed(format!("the password command {program} printed no password")));
    }
    Ok(password)
}

/// Reads a small file that others had better not read.
///
/// # Errors
/// It cannot be read, or is too long.
pub fn read(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("cannot read the {what} {}: {error}", path.display()));
    let file = File::open(path).map_err(failed)?;
    warn_if_open_to_others(&file, path, what);
    let mut bytes = Vec::with_capacity(256);
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(Failure::failed(format!(
            "the {what} {} is longer than any secret; is it the right file?",
            path.display()
        )));
    }
    Ok(bytes)
}

fn first_line(mut bytes: Vec<u8>, path: &Path) -> Result<Vec<u8>, Failure> {
    strip_line_end(&mut bytes);
    if bytes.is_empty() {
        return Err(Failure::failed(format!("the password file {} is empty", path.display())));
    }
    Ok(bytes)
}

/// Takes the line end away that editors and `echo` put behind a password.
fn strip_line_end(bytes: &mut Vec<u8>) {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
}

fn warn_if_open_to_others(file: &File, path: &Path, what: &str) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(metadata) = file.metadata() else { return };
    // A pipe, such as bash's <(...), has no mode worth looking at.
    if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
        let path = path.display();
        output::warning(&format!("the {what} {path} is open to others than its owner; close it: chmod 600 {path}"));
    }
}

fn ask(prompt: &str, otherwise: &str) -> Result<Credential, Failure> {
    Ok(Credential::passphrase(ask_once(prompt, otherwise)?))
}

fn ask_twice(otherwise: &str) -> Result<Credential, Failure> {
    let password = ask_once("new password: ", otherwise)?;
    if password.is_empty() {
        return Err(Failure::usage("the password is empty; give one, or use a key file"));
    }
    let again = ask_once("new password again: ", otherwise)?;
    if password != again {
        return Err(Failure::usage("the two passwords differ; nothing was done"));
    }
    Ok(Credential::passphrase(password))
}

fn ask_once(prompt: &str, otherwise: &str) -> Result<String, Failure> {
    // A prompt that nobody sees would hang.
    if !std::io::stderr().is_terminal() {
        return Err(Failure::usage(otherwise));
    }
    rpassword::prompt_password(prompt).map_err(|_| Failure::usage(otherwise))
}

/// Writes a new key file that nobody else may read.
///
/// # Errors
/// There is such a file, or it cannot be written.
pub fn create_key_file(path: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::failed(format!("{} exists and was left as it is; name another file", path.display()))
        }
        _ => Failure::failed(format!("cannot write the key file {}: {error}", path.display())),
    };
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Half a key file is worse than none.
        let _ = fs::remove_file(path);
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(flags: SecretFlags, variables: &[(&str, &str)]) -> Result<Option<SecretSource>, Failure> {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into());
        choose(flags, &OWN, lookup)
    }

    #[test]
    fn a_flag_goes_before_the_environment() {
        let flags = SecretFlags { key_file: Some("k".into()), ..SecretFlags::default() };
        let both = [("DEDUMP_PASSWORD", "x"), ("DEDUMP_PASSWORD_FILE", "y")];
        assert_eq!(chosen(flags, &both).expect("a flag decides"), Some(SecretSource::KeyFile("k".into())));
    }

    #[test]
    fn the_environment_may_name_one_secret_only() {
        let none = SecretFlags::default;
        assert_eq!(chosen(none(), &[]).expect("none is fine"), None);
        assert_eq!(chosen(none(), &[("DEDUMP_PASSWORD", "")]).expect("empty is unset"), None);
        let one = chosen(none(), &[("DEDUMP_PASSWORD_COMMAND", "pass x")]).expect("one is fine");
        assert_eq!(one, Some(SecretSource::PasswordCommand("pass x".to_owned())));
        let two = chosen(none(), &[("DEDUMP_PASSWORD", "x"), ("DEDUMP_KEY_FILE", "y")]).expect_err("two are not");
        assert!(two.message.contains("DEDUMP_PASSWORD and DEDUMP_KEY_FILE"), "{}", two.message);
        assert!(!two.message.contains('x'), "a secret is never printed: {}", two.message);
    }

    #[test]
    fn one_line_end_is_no_part_of_a_password() {
        for (bytes, password) in
            [("x\n", "x"), ("x\r\n", "x"), ("x", "x"), ("x\n\n", "x\n"), ("x\r", "x\r"), (" x ", " x "), ("\n", "")]
        {
            let mut stripped = bytes.as_bytes().to_vec();
            strip_line_end(&mut stripped);
            assert_eq!(stripped, password.as_bytes(), "{bytes:?}");
        }
    }
}
