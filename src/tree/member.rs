//! What may stand in the address book: names and addresses are written into certificates, files and
//! lines of text, and read by people.

/// Whether this can name a replica; if not, a sentence that says what can.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match name.len() <= 64 && name.chars().all(plain) && !name.trim_matches('.').is_empty() {
        true => Ok(()),
        false => Err(format!(
            "{name:?} cannot name a replica: use 1 to 64 letters, digits, dots, dashes, underscores"
        )),
    }
}

fn is_host(host: &str) -> bool {
    !host.is_empty() && host.chars().all(|c| !c.is_whitespace() && !c.is_control())
}

/// Whether others may dial this; if not, a sentence.
pub fn check_address(address: &str) -> Result<(), String> {
    let port = address.rsplit_once(':').filter(|(host, _)| is_host(host));
    match port.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port != 0) {
        Some(_) => Ok(()),
        None => Err(format!("{address:?} is not HOST:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_shown_and_dialled_stands_in_the_address_book() {
        for name in ["n1", "web-1.example_a", &"a".repeat(64)] {
            assert_eq!(check_name(name), Ok(()));
        }
        for name in ["", "..", "bad name", "bad/x", "two\nlines", "\u{1b}[2J", &"a".repeat(65)] {
            let said = check_name(name).unwrap_err();
            assert!(!said.contains(char::is_control), "{said:?}");
        }
        for address in ["h:1", "127.0.0.1:65535", "[::1]:7411"] {
            assert_eq!(check_address(address), Ok(()));
        }
        for address in
            ["", "nonsense", "h:0", "localhost:99999", ":1", "a b:1", "h\n:1", "h\u{1b}:1"]
        {
            let said = check_address(address).unwrap_err();
            assert!(!said.contains(char::is_control), "{said:?}");
        }
    }
}
