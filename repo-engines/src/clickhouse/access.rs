//! Users, roles, and what they may: a statement each, as the server shows them.

use super::client::{Client, Result};
use serde::{Deserialize, Serialize};

/// The stream, one statement a line.
pub(super) const STREAM: &str = "access.jsonl";

/// A statement that makes a user, a role, a row policy, a quota, a profile, or grants something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Statement {
    pub create: String,
    /// Whether the server keeps back how this user shows who they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lacks_password: bool,
}

/// What the server tells of who may what.
pub(super) enum Access {
    Told(Vec<Statement>),
    /// The user who asks may not know, or the server is too old to say.
    Untold(&'static str),
}

/// Asks.
pub(super) async fn read(client: &Client) -> Result<Access> {
    if !client.is_from(20, 12) {
        return Ok(Access::Untold("versions before 20.12 keep users in their configuration files alone; copy those"));
    }
    // Only those that were made by SQL: the others are in files, and can't be made by it.
    let text = match client.ask("SHOW ACCESS FORMAT TabSeparatedRaw").await {
        Ok(text) => text,
        Err(failure) if failure.is_denied() => {
            return Ok(Access::Untold("this user may not know them; grant SHOW ACCESS ON *.*, or leave access out"));
        }
        Err(failure) => return Err(failure),
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    Ok(Access::Told(lines.map(|line| statement(line.trim())).collect()))
}

fn statement(line: &str) -> Statement {
    let lacks_password = line.starts_with("CREATE USER") && line.contains(" IDENTIFIED WITH ") && {
        let method = line.split(" IDENTIFIED WITH ").nth(1).unwrap_or("");
        let needs_none = ["no_password", "ldap", "kerberos", "ssl_certificate", "ssh_key", "http"];
        !needs_none.iter().any(|word| method.starts_with(word)) && !method.contains(" BY '")
    };
    Statement { create: line.to_owned(), lacks_password }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_a_shown_password_is_known_as_such() {
        let check = |line: &str, lacks: bool| assert_eq!(statement(line).lacks_password, lacks, "{line}");
        check("CREATE USER a IDENTIFIED WITH sha256_password", true);
        check("CREATE USER a IDENTIFIED WITH sha256_hash BY 'AB' SALT ''", false);
        check("CREATE USER a IDENTIFIED WITH no_password", false);
        check("CREATE ROLE b", false);
    }
}
