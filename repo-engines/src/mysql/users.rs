//! Users, roles and what is granted to them, as SQL: a stream beside the databases.

use super::client::{Client, Flavour, parse_version};
use super::inventory::Server;
use super::text;
use dedump_core::{Error, Result};

/// Accounts that the server makes for itself.
const OWN: &str = "'mysql.sys','mysql.session','mysql.infoschema','mariadb.sys','PUBLIC'";

/// Returns the statements that make all users and roles what they are.
///
/// # Errors
/// [`Error::DumpFailed`]: the account may not see them.
pub(super) async fn dump(client: &Client, server: &Server) -> Result<String> {
    let is_role = match server.flavour {
        Flavour::MariaDb => "is_role = 'Y'",
        Flavour::MySql => "0",
    };
    let query = format!(
        "SELECT user, host, {is_role} FROM mysql.user WHERE user NOT IN ({OWN}) AND user <> '' ORDER BY 3 DESC, user, host"
    );
    let has_create_user = server.flavour == Flavour::MariaDb || parse_version(&server.version) >= Some((5, 7, 0));
    let mut accounts = Vec::new();
    for row in client.ask(&query).await? {
        let [Some(user), host, Some(is_role)] = &row[..] else { continue };
        let is_role = is_role == "1";
        let host = host.as_deref().unwrap_or_default();
        accounts.push((
            if is_role { text::name(user) } else { format!("{}@{}", text::name(user), text::name(host)) },
            is_role,
        ));
    }
    let mut statements = Vec::new();
    for (account, is_role) in &accounts {
        if *is_role {
            statements.push(format!("CREATE ROLE IF NOT EXISTS {account}"));
        } else if has_create_user {
            let [create] = client.ask_one(&format!("SHOW CREATE USER {account}")).await?;
            let rest = create.strip_prefix("CREATE USER ").ok_or_else(|| odd(account))?;
            statements.push(format!("CREATE USER IF NOT EXISTS {rest}"));
        }
    }
    for (account, _) in &accounts {
        let rows = client.ask(&format!("SHOW GRANTS FOR {account}")).await?;
        let mut grants: Vec<String> = rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
        // What the server has in a table of hashes comes in any order.
        grants.sort_by_key(|grant| (!grant.contains(" ON *.* "), grant.clone()));
        statements.extend(grants);
    }
    Ok(statements.iter().map(|statement| format!("{statement};\n")).collect())
}

fn odd(account: &str) -> Error {
    Error::DumpFailed(format!("the server does not say how {account} was created"))
}
