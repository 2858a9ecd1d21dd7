//! Triggers, routines, events and views as text: what the dump tool writes of them, and what a restore changes in it.

use super::text;
use std::collections::BTreeSet;

/// How a line begins with which something is created that is run as somebody.
const CREATES: [&[u8]; 6] = [
    b"CREATE DEFINER=",
    b"/*!50003 CREATE*/ ",
    b"/*!50106 CREATE*/ ",
    b"/*!50013 DEFINER=",
    b"/*!50020 CREATE*/ ",
    b"/*!50001 CREATE ",
];

/// Takes the output of the tool that is about one thing, without rows, and leaves out what differs from run to run: its head,
/// which names the host and the server's version.
///
/// # Errors
/// It is not whole.
pub(super) fn without_head(output: &[u8]) -> Result<Vec<u8>, String> {
    let is_noise = |line: &[u8]| line.starts_with(b"--") || is_sandbox(line) || line.trim_ascii().is_empty();
    let mut rest = output;
    while let Some(line) = rest.split_inclusive(|&byte| byte == b'\n').next().filter(|line| is_noise(line)) {
        rest = &rest[line.len()..];
    }
    let last = output.rsplit(|&byte| byte == b'\n').find(|line| !line.is_empty()).unwrap_or_default();
    if last != b"-- Dump completed" && !last.starts_with(b"-- Dump completed on ") {
        return Err("the dump does not end with \"-- Dump completed\", so it is not whole".to_owned());
    }
    Ok(rest.to_vec())
}

/// Returns whether a line is the one that puts MariaDB's client into sandbox mode. MySQL's client, and old ones, fail at it.
pub(super) fn is_sandbox(line: &[u8]) -> bool {
    line.starts_with(b"/*M!999999") || line.starts_with(b"/*!999999")
}

/// Counts what is created in a text.
pub(super) fn created_n(script: &[u8]) -> u64 {
    const EACH_BEGINS: [&[u8]; 4] =
        [b"CREATE ", b"/*!50003 CREATE*/", b"/*!50106 CREATE*/", b"/*!50001 CREATE ALGORITHM="];
    let creates = |line: &&[u8]| EACH_BEGINS.iter().any(|begin| line.starts_with(begin));
    lines(script).filter(creates).count() as u64
}

/// Returns who things are run as, as SQL has it.
pub(super) fn definers(script: &[u8]) -> BTreeSet<String> {
    let of_line = |line: &[u8]| definer(line).map(|(_, _, account)| account);
    lines(script).filter_map(of_line).collect()
}

/// Leaves out who things are run as, and has database `from` be called `to` where the text changes its character set. The
/// tool does that for what was created under another one, and writes the name out.
pub(super) fn adapted(script: &[u8], no_definers: bool, (from, to): (&str, &str)) -> Vec<u8> {
    let alter = format!("ALTER DATABASE {} CHARACTER SET ", text::name(from)).into_bytes();
    let mut adapted = Vec::with_capacity(script.len());
    for line in lines(script) {
        if let Some(rest) = line.strip_prefix(&alter[..]) {
            adapted.extend_from_slice(format!("ALTER DATABASE {} CHARACTER SET ", text::name(to)).as_bytes());
            adapted.extend_from_slice(rest);
            continue;
        }
        match definer(line).filter(|_| no_definers) {
            Some((at, end, _)) => {
                adapted.extend_from_slice(&line[..at]);
                // With the space behind it.
                adapted.extend_from_slice(line[end..].strip_prefix(b" ").unwrap_or(&line[end..]));
            }
            None => adapted.extend_from_slice(line),
        }
    }
    adapted
}

/// Returns where the definer of what a line creates stands, and who it is, as SQL has it.
fn definer(line: &[u8]) -> Option<(usize, usize, String)> {
    let begin = CREATES.iter().find(|begin| line.starts_with(begin))?;
    // Only in front, or a body that has the word would lose it.
    let room = &line[..line.len().min(begin.len() + 64)];
    let at = memchr::memmem::find(room, b"DEFINER=")?;
    let (user, rest) = text::quoted_anyhow(&line[at + b"DEFINER=".len()..])?;
    let (account, rest) = match rest.strip_prefix(b"@") {
        Some(host) => {
            let (host, rest) = text::quoted_anyhow(host)?;
            (format!("{}@{}", text::name(&user), text::name(&host)), rest)
        }
        // A role has no host.
        None => (text::name(&user), rest),
    };
    Some((at, line.len() - rest.len(), account))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&byte| byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`a``b`@`%` SQL SECURITY DEFINER */\n\
        ALTER DATABASE `app` CHARACTER SET latin1 COLLATE latin1_swedish_ci ;\n\
        DELIMITER ;;\nCREATE DEFINER=`root`@`localhost` PROCEDURE `p`()\nselect 'CREATE DEFINER=`x`@`y`' ;;\nDELIMITER ;\n\
        CREATE DEFINER=\"an\"\"si\"@\"h\" PROCEDURE \"q\"()\n;;\n\
        /*!50003 CREATE*/ /*!50017 DEFINER=`role`*/ /*!50003 trigger t before insert on x for each row set @a = 1 */;;\n";

    #[test]
    fn definers_are_found_and_left_out() {
        let found: Vec<String> = definers(SCRIPT.as_bytes()).into_iter().collect();
        assert_eq!(found, ["`a``b`@`%`", "`an\"si`@`h`", "`role`", "`root`@`localhost`"]);
        let without = String::from_utf8(adapted(SCRIPT.as_bytes(), true, ("app", "app"))).expect("text");
        assert!(without.contains("/*!50013 SQL SECURITY DEFINER */\n"), "{without}");
        assert!(without.contains("\nCREATE PROCEDURE `p`()\n"), "{without}");
        assert!(without.contains("/*!50003 CREATE*/ /*!50017 */ /*!50003 trigger"), "{without}");
        assert!(without.contains("select 'CREATE DEFINER=`x`@`y`' ;;"), "{without}");
        assert!(without.contains("\nCREATE PROCEDURE \"q\"()\n"), "{without}");
        assert_eq!(created_n(SCRIPT.as_bytes()), 4);
    }

    #[test]
    fn another_name_gets_the_character_set() {
        let renamed = String::from_utf8(adapted(SCRIPT.as_bytes(), false, ("app", "c`py"))).expect("text");
        assert!(
            renamed.contains("\nALTER DATABASE `c``py` CHARACTER SET latin1 COLLATE latin1_swedish_ci ;\n"),
            "{renamed}"
        );
        assert_eq!(adapted(SCRIPT.as_bytes(), false, ("other", "new")), SCRIPT.as_bytes());
    }

    #[test]
    fn the_head_goes_and_the_end_must_be_there() {
        let output = "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump\n--\n-- Server version\t10\n\n/*!40101 SET x */;\n--\n-- y\n\n-- Dump completed\n";
        let without = without_head(output.as_bytes()).expect("whole");
        assert_eq!(without, b"/*!40101 SET x */;\n--\n-- y\n\n-- Dump completed\n");
        assert!(without_head(b"-- MariaDB dump\n/*!40101 SET x */;\n").is_err());
        assert!(without_head(b"").is_err());
    }
}
