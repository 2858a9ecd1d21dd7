//! The token of `\restrict` in plain dumps: random in every run, so it is taken out before the dump is stored; a new one is put
//! in when it is restored.
//!
//! With the token, psql takes no command of its own from the dump until `\unrestrict` gives it back (CVE-2025-8714). It must not
//! be known to the server before the dump is made; that it is another one when the dump is loaded is as good.

/// Under this name it is among a stream's facts that it has a token.
pub(super) const FACT: &str = "restrict_token";
/// Stands for the token in what is stored. As long as a real one, letters only.
pub(super) const PLACEHOLDER: &str = "dedumpPutsARandomTokenHereWhenItRestoresThisDumpAAAAAAAAAAAAAAA";

/// Returns a plain dump with another token. Only lines that are nothing but the command count, the first `\restrict` and what
/// has its token.
pub(super) fn exchange(dump: &str, token: &str) -> String {
    let Some(old) = dump.lines().find_map(|line| line.strip_prefix("\\restrict ")) else { return dump.to_owned() };
    let exchange = |line: &str| {
        let end = line.len() - line.trim_end_matches(['\n', '\r']).len();
        let (text, end) = line.split_at(line.len() - end);
        match text.strip_suffix(old) {
            Some(command @ ("\\restrict " | "\\unrestrict ")) => format!("{command}{token}{end}"),
            _ => line.to_owned(),
        }
    };
    dump.split_inclusive('\n').map(exchange).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_commands_change() {
        let dump = "--\n-- PostgreSQL\n--\n\n\\restrict aB3\n\nSELECT 'x\n\\restrict aB3x\n\\unrestrict other';\n-- aB3\n\n\\unrestrict aB3\n\n";
        let stored = exchange(dump, PLACEHOLDER);
        assert_eq!(stored.matches(PLACEHOLDER).count(), 2);
        assert!(stored.contains("\\restrict aB3x\n") && stored.contains("-- aB3\n"));
        assert_eq!(exchange(&stored, "aB3"), dump);
        assert_eq!(exchange("SELECT 1;\n", "x"), "SELECT 1;\n");
    }
}
