use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use url::Url;

use crate::reference::{DEFAULT_REGISTRY, Reference, is_registry, split_port};

/// A registry's or mirror's address, as far as a repository is concerned.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// What credential files call it, e.g. `docker.io`.
    pub(super) name: String,
    /// The repository's path there.
    pub(super) repository: String,
    /// Whether this is the registry that the reference names, not a mirror of it.
    pub(super) is_origin: bool,
    host: String,
    schemes: Schemes,
    /// The scheme that worked.
    settled: OnceLock<&'static str>,
}

/// Which protocols may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Schemes {
    Https,
    Http,
    /// Both, as Docker does for loopback addresses.
    HttpsThenHttp,
}

/// Why a mirror's or a plain-http registry's address in the options is unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// A mirror's address is not `[http[s]://]HOST[:PORT][/PREFIX]`.
    #[error("mirror {address:?} of {registry} is malformed: expected https://HOST[:PORT][/PREFIX]")]
    Mirror {
        /// Of which registry.
        registry: String,
        /// What was given, without a password.
        address: String,
    },
    /// An entry of the plain-http hosts is not `HOST[:PORT]`.
    #[error("plain-http registry {address:?} is malformed: expected HOST[:PORT]")]
    PlainHttp {
        /// What was given.
        address: String,
    },
}

impl Endpoint {
    /// The registry that a reference names.
    pub(super) fn origin(reference: &Reference, plain_http: &[String]) -> Self {
        let registry = reference.registry();
        let host = match registry {
            DEFAULT_REGISTRY => "registry-1.docker.io",
            other => other,
        };
        Self {
            name: registry.to_owned(),
            repository: reference.repository().to_owned(),
            is_origin: true,
            host: host.to_owned(),
            schemes: Schemes::of(registry, plain_http),
            settled: OnceLock::new(),
        }
    }

    /// A mirror: `[http[s]://]HOST[:PORT][/PREFIX]`; the prefix goes before the repository.
    pub(super) fn mirror(reference: &Reference, address: &str, plain_http: &[String]) -> Result<Self, AddressError> {
        let (scheme, rest) = match address.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, address),
        };
        let rest = rest.trim_end_matches('/');
        let (host, prefix) = match rest.split_once('/') {
            Some((host, prefix)) => (host, Some(prefix)),
            None => (rest, None),
        };
        let host = host.to_ascii_lowercase();
        let schemes = match scheme {
            Some("https") => Some(Schemes::Https),
            // Whoever writes http:// has named a plain-http registry.
            Some("http") => Some(Schemes::Http),
            Some(_) => None,
            None => Some(Schemes::of(&host, plain_http)),
        };
        let repository = match prefix {
            Some(prefix) => format!("{prefix}/{}", reference.repository()),
            None => reference.repository().to_owned(),
        };
        // The grammar of references is what keeps queries, fragments and dots out.
        let well_formed = is_registry(&host) && Reference::parse(&format!("{host}/{repository}")).is_ok();
        match schemes {
            Some(schemes) if well_formed => Ok(Self {
                name: host.clone(),
                repository,
                is_origin: false,
                host,
                schemes,
                settled: OnceLock::new(),
            }),
            _ => Err(AddressError::Mirror {
                registry: reference.registry().to_owned(),
                address: match address.rsplit_once('@') {
                    Some((_, after)) => format!("…@{after}"),
                    None => address.to_owned(),
                },
            }),
        }
    }

    /// The addresses to try for a path below the repository, in order.
    pub(super) fn urls(&self, path: &str) -> Vec<Url> {
        let schemes: &[&str] = match (self.settled.get(), self.schemes) {
            (Some(scheme), _) => &[scheme],
            (None, Schemes::Https) => &["https"],
            (None, Schemes::Http) => &["http"],
            (None, Schemes::HttpsThenHttp) => &["https", "http"],
        };
        schemes
            .iter()
            .filter_map(|scheme| {
                let url = format!("{scheme}://{}/v2/{}/{path}", self.host, self.repository);
                Url::parse(&url).ok()
            })
            .collect()
    }

    /// Remembers the scheme that worked.
    pub(super) fn settle(&self, url: &Url) {
        let scheme = if url.scheme() == "http" { "http" } else { "https" };
        let _ = self.settled.set(scheme);
    }

    /// The host as URLs have it.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}

impl Schemes {
    fn of(registry: &str, plain_http: &[String]) -> Self {
        let (host, _) = split_port(registry);
        let named = |entry: &String| entry.eq_ignore_ascii_case(registry) || entry.eq_ignore_ascii_case(host);
        if plain_http.iter().any(named) {
            Self::Http
        } else if is_loopback(host) {
            Self::HttpsThenHttp
        } else {
            Self::Https
        }
    }
}

/// Checks the hosts that may be talked to without TLS.
pub(super) fn check_plain_http(plain_http: &[String]) -> Result<(), AddressError> {
    match plain_http.iter().find(|entry| !is_registry(entry)) {
        Some(entry) => Err(AddressError::PlainHttp { address: entry.clone() }),
        None => Ok(()),
    }
}

/// Whether a host is this machine, by its name.
pub(super) fn is_loopback(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback());
    }
    host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// The host of a URL, with its port where that is not the scheme's own.
pub(super) fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn urls(endpoint: &Endpoint) -> Vec<String> {
        endpoint.urls("manifests/1").iter().map(Url::to_string).collect()
    }

    fn origin(reference: &str, plain_http: &[&str]) -> Vec<String> {
        let plain_http: Vec<String> = plain_http.iter().map(|host| (*host).to_owned()).collect();
        urls(&Endpoint::origin(&Reference::parse(reference).unwrap(), &plain_http))
    }

    #[test]
    fn plain_http_only_where_named_or_loopback() {
        assert_eq!(
            origin("alpine", &[]),
            ["https://registry-1.docker.io/v2/library/alpine/manifests/1"]
        );
        assert_eq!(
            origin("r.example:5000/a", &[]),
            ["https://r.example:5000/v2/a/manifests/1"]
        );
        for named in ["r.example:5000", "r.example", "R.example"] {
            assert_eq!(
                origin("r.example:5000/a", &[named]),
                ["http://r.example:5000/v2/a/manifests/1"]
            );
        }
        assert_eq!(origin("r.example:5000/a", &["r.example:5001", "example"]).len(), 1);
        assert!(origin("r.example:5000/a", &["r.example:5001"])[0].starts_with("https:"));
        for loopback in ["localhost:5000/a", "127.0.0.1:5000/a", "127.9.9.9/a", "[::1]:5000/a"] {
            let urls = origin(loopback, &[]);
            assert!(
                urls[0].starts_with("https:") && urls[1].starts_with("http:"),
                "{urls:?}"
            );
        }
        assert_eq!(origin("localhost.example/a", &[]).len(), 1);
        let endpoint = Endpoint::origin(&Reference::parse("localhost:1/a").unwrap(), &[]);
        endpoint.settle(&Url::parse("http://localhost:1/").unwrap());
        assert_eq!(urls(&endpoint), ["http://localhost:1/v2/a/manifests/1"]);
    }

    #[test]
    fn mirrors_have_schemes_and_prefixes() {
        let reference = Reference::parse("alpine").unwrap();
        let mirror =
            |address: &str| Endpoint::mirror(&reference, address, &["plain.example".to_owned()]).map(|m| urls(&m));
        assert_eq!(
            mirror("https://m.example/").unwrap(),
            ["https://m.example/v2/library/alpine/manifests/1"]
        );
        assert_eq!(
            mirror("m.example:5000/hub/x").unwrap(),
            ["https://m.example:5000/v2/hub/x/library/alpine/manifests/1"]
        );
        assert_eq!(
            mirror("http://m.example").unwrap(),
            ["http://m.example/v2/library/alpine/manifests/1"]
        );
        assert!(mirror("plain.example").unwrap()[0].starts_with("http:"));
        for address in [
            "",
            "ftp://m",
            "https://",
            "https://u:secret@m.example",
            "https://m/../x",
            "https://m/a?b=c",
            "https://m/#x",
            "m example",
            "https://m//x",
        ] {
            let error = mirror(address).expect_err(address);
            assert!(!error.to_string().contains("secret"));
        }
        assert!(check_plain_http(&["a:5000".into(), "[::1]:1".into()]).is_ok());
        assert!(check_plain_http(&["http://a".into()]).is_err());
    }

    proptest! {
        #[test]
        fn no_mirror_leads_elsewhere(address in "[a-z0-9.:/@?#%\\[\\]-]{0,30}") {
            let reference = Reference::parse("alpine").unwrap();
            if let Ok(endpoint) = Endpoint::mirror(&reference, &address, &[]) {
                for url in endpoint.urls("manifests/1") {
                    prop_assert!(url.path().ends_with("/library/alpine/manifests/1"));
                    prop_assert!(url.username().is_empty() && url.query().is_none());
                }
            }
        }
    }
}
