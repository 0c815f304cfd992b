//! `--add-host NAME:IP`.

use std::net::IpAddr;

use thiserror::Error;

/// Why a text is no host entry.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum AddHostError {
    #[error("the form is NAME:IP or NAME=IP")]
    Form,
    #[error("{0:?} is no IP address")]
    NotAnAddress(String),
    #[error("{0:?} is no host name")]
    NotAName(String),
}

/// Parses `NAME:IP` or `NAME=IP`; an IPv6 address may be in brackets.
pub(crate) fn parse(text: &str) -> Result<(String, IpAddr), AddHostError> {
    let split = text.find(['=', ':']).ok_or(AddHostError::Form)?;
    let (name, address) = (&text[..split], &text[split + 1..]);
    if name.is_empty() || address.is_empty() {
        return Err(AddHostError::Form);
    }
    if name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(AddHostError::NotAName(name.to_owned()));
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    let address = bare
        .parse()
        .map_err(|_| AddHostError::NotAnAddress(address.to_owned()))?;
    Ok((name.to_owned(), address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let entry = |ip: &str| Ok(("db".to_owned(), ip.parse().unwrap()));
        assert_eq!(parse("db:10.0.0.1"), entry("10.0.0.1"));
        assert_eq!(parse("db=::1"), entry("::1"));
        assert_eq!(parse("db:[::1]"), entry("::1"));
        assert_eq!(parse("db:::1"), entry("::1"));
        assert_eq!(parse("db"), Err(AddHostError::Form));
        assert_eq!(parse(":1.2.3.4"), Err(AddHostError::Form));
        assert_eq!(parse("a b:1.2.3.4"), Err(AddHostError::NotAName("a b".into())));
        assert_eq!(
            parse("db:host-gateway"),
            Err(AddHostError::NotAnAddress("host-gateway".into()))
        );
    }
}
