//! Users, roles and what is granted to them, as SQL: a stream beside the databases.

use super::client::{Client, Flavour, parse_version};
use super::inventory::Server;
use super::text;
use dedump_core::{Error, Result};

/// Accounts that the server makes for itself.
const OWN: &str = "'mysql.sys','mysql.session','mysql.infoschema','mariadb.sys','PUBLIC'";

/// Returns the statements that make all users and roles what they are, and those users that are not among them, each with why.
///
/// # Errors
/// [`Error::DumpFailed`]: the account may not see them.
pub(super) async fn dump(client: &Client, server: &Server) -> Result<(String, Vec<String>)> {
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
    let (mut creates, mut grants, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for (account, is_role) in &accounts {
        match describe(client, account, *is_role, has_create_user).await {
            Ok((create, granted)) => {
                creates.extend(create);
                grants.extend(granted);
            }
            // Such as one that the server itself ignores, since it does not look up names.
            Err(Error::DumpFailed(why)) => left_out.push(format!("{account} ({why})")),
            Err(error) => return Err(error),
        }
    }
    let statements = creates.iter().chain(&grants).map(|statement| format!("{statement};\n")).collect();
    Ok((statements, left_out))
}

/// Returns what makes an account, and what is granted to it.
async fn describe(
    client: &Client,
    account: &str,
    is_role: bool,
    has_create_user: bool,
) -> Result<(Option<String>, Vec<String>)> {
    let mut create = is_role.then(|| format!("CREATE ROLE IF NOT EXISTS {account}"));
    if !is_role && has_create_user {
        let [text] = client.ask_one(&format!("SHOW CREATE USER {account}")).await?;
        let odd = || Error::DumpFailed("the server does not say how it was created".to_owned());
        create = Some(format!("CREATE USER IF NOT EXISTS {}", text.strip_prefix("CREATE USER ").ok_or_else(odd)?));
    }
    let rows = client.ask(&format!("SHOW GRANTS FOR {account}")).await?;
    let mut grants: Vec<String> = rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
    // What the server has in a table of hashes comes in any order.
    grants.sort_by_key(|grant| (!grant.contains(" ON *.* "), grant.clone()));
    Ok((create, grants))
}
