//! Turns what a server answers, or what keeps it from answering, into one line that says what to do.

use super::url::ClickHouseUrl;
use dedump_core::Error;

/// Characters of a server's own words that are shown, at most.
const SHOWN_CHARS: usize = 300;

/// Codes of exceptions (ClickHouse's `ErrorCodes.cpp`).
pub(super) mod code {
    pub const UNKNOWN_DATABASE: u32 = 81;
    pub const READONLY: u32 = 164;
    pub const UNKNOWN_USER: u32 = 192;
    pub const WRONG_PASSWORD: u32 = 193;
    pub const REQUIRED_PASSWORD: u32 = 194;
    pub const IP_ADDRESS_NOT_ALLOWED: u32 = 195;
    pub const MEMORY_LIMIT_EXCEEDED: u32 = 241;
    pub const DATABASE_ACCESS_DENIED: u32 = 291;
    pub const SETTING_CONSTRAINT_VIOLATION: u32 = 452;
    pub const ACCESS_DENIED: u32 = 497;
    pub const AUTHENTICATION_FAILED: u32 = 516;
    pub const NOT_ENOUGH_SPACE: u32 = 243;
    pub const TIMEOUT_EXCEEDED: u32 = 159;
    pub const TOO_MANY_SIMULTANEOUS_QUERIES: u32 = 202;
}

/// Why a server did not do what it was asked for.
#[derive(Debug)]
pub(super) enum Failure {
    /// It can't be reached, or ended the connection, or answers what is no answer.
    Broken(String),
    /// It answered with an exception: its code, 0 if there is none, and its words.
    Refused(u32, String),
    /// Something of ours failed.
    Ours(Error),
}

impl Failure {
    /// Takes an exception's text apart.
    pub fn refused(text: &str) -> Self {
        let text = text.trim();
        let digits: String =
            text.strip_prefix("Code: ").unwrap_or("").chars().take_while(char::is_ascii_digit).collect();
        Failure::Refused(digits.parse().unwrap_or(0), words(text))
    }

    /// Returns whether the server says that the user may not.
    pub fn is_denied(&self) -> bool {
        matches!(self, Failure::Refused(code::ACCESS_DENIED | code::DATABASE_ACCESS_DENIED | code::READONLY, _))
    }

    /// Returns the line for people: what was done at which server, and what to do next.
    pub fn explain(&self, url: &ClickHouseUrl) -> String {
        let host = url.host();
        let (number, words) = match self {
            Failure::Broken(why) => return format!("ClickHouse at {host}: {why}"),
            Failure::Ours(error) => return error.to_string(),
            Failure::Refused(number, words) => (*number, words),
        };
        match number {
            code::UNKNOWN_USER | code::WRONG_PASSWORD | code::REQUIRED_PASSWORD | code::AUTHENTICATION_FAILED => {
                format!(
                    "ClickHouse at {host} does not take this user and password; correct them in the URL, in CLICKHOUSE_PASSWORD, or give \
                 --db-password-file"
                )
            }
            code::IP_ADDRESS_NOT_ALLOWED => {
                format!("ClickHouse at {host} does not let this user in from here: {words}; allow this address")
            }
            code::ACCESS_DENIED | code::DATABASE_ACCESS_DENIED => {
                format!("ClickHouse at {host} does not let this user do that: {words}; grant it")
            }
            code::READONLY | code::SETTING_CONSTRAINT_VIOLATION => format!(
                "ClickHouse at {host} does not let this user set what we need: {words}; give the user a profile with readonly = 2 to back \
                 up, 0 to restore"
            ),
            code::UNKNOWN_DATABASE => {
                format!("ClickHouse at {host} has no such database: {words}; correct its name in the URL")
            }
            code::MEMORY_LIMIT_EXCEEDED => {
                format!("ClickHouse at {host} has too little memory for that: {words}; raise max_memory_usage")
            }
            code::NOT_ENOUGH_SPACE => format!("ClickHouse at {host} has no room left: {words}"),
            code::TIMEOUT_EXCEEDED => {
                format!("ClickHouse at {host} gave up: {words}; raise max_execution_time for this user")
            }
            code::TOO_MANY_SIMULTANEOUS_QUERIES => {
                format!("ClickHouse at {host} is busy: {words}; try again")
            }
            _ => format!("ClickHouse at {host} answers: {words}"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Ours(error)
    }
}

/// Returns what an exception says, without the frame that each version puts around it.
fn words(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line =
        line.strip_prefix("Code: ").map_or(line.as_str(), |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    let line = line.trim_start_matches(['.', ',', ' ']);
    let line = line.strip_prefix("e.displayText() = ").unwrap_or(line);
    let line = line.strip_prefix("DB::Exception: ").unwrap_or(line);
    let line = line.split(", e.what() = ").next().unwrap_or(line);
    let line = line.rsplit_once(" (version ").map_or(line, |(line, _)| line);
    line.trim().chars().take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_of_all_versions_are_taken_apart() {
        let check = |text: &str, number: u32, words: &str| match Failure::refused(text) {
            Failure::Refused(found, said) => assert_eq!((found, said.as_str()), (number, words)),
            other => panic!("{other:?}"),
        };
        check(
            "Code: 193, e.displayText() = DB::Exception: Wrong password for user me, e.what() = DB::Exception\n",
            193,
            "Wrong password for user me",
        );
        check(
            "Code: 60. DB::Exception: Table a.b does not exist. (UNKNOWN_TABLE) (version 26.9.2.1)",
            60,
            "Table a.b does not exist. (UNKNOWN_TABLE)",
        );
        check("<html>502</html>", 0, "<html>502</html>");
    }
}
