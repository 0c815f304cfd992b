use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::credentials::CredentialError;
use crate::digest::Digest;
use crate::kind::ErrorKind;

/// Which request failed. Without the query: that may hold a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD` or `POST`.
    pub method: &'static str,
    /// `https` or `http`.
    pub scheme: String,
    /// The host, with its port if that is not the scheme's own.
    pub host: String,
    /// The path.
    pub path: String,
}

impl Request {
    pub(crate) fn new(method: &'static str, url: &Url) -> Box<Self> {
        Box::new(Self {
            method,
            scheme: url.scheme().to_owned(),
            host: super::endpoint::host_and_port(url),
            path: url.path().chars().take(300).collect(),
        })
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}://{}{}", self.method, self.scheme, self.host, self.path)
    }
}

/// Why a registry could not be talked to, or what it refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No connection to the host came about.
    #[error("{request}: {problem}: {detail}")]
    Unreachable {
        /// Which request.
        request: Box<Request>,
        /// In which way.
        problem: Unreachable,
        /// What the system says.
        detail: String,
    },
    /// The host was reached, but no trusted TLS connection came about.
    #[error("{request}: {problem}: {detail}")]
    Tls {
        /// Which request.
        request: Box<Request>,
        /// In which way.
        problem: TlsProblem,
        /// What the TLS library says.
        detail: String,
    },
    /// Nothing came for too long.
    #[error("{request}: timed out after {seconds:.1} s waiting for {waiting_for}", seconds = .after.as_secs_f64())]
    Timeout {
        /// Which request.
        request: Box<Request>,
        /// What was waited for.
        waiting_for: Waiting,
        /// For how long.
        after: Duration,
    },
    /// The connection broke, or what came was not HTTP.
    #[error("{request}: the connection broke after {received_bytes} bytes: {detail}")]
    Interrupted {
        /// Which request.
        request: Box<Request>,
        /// Bytes of the answer's body that had come.
        received_bytes: u64,
        /// What the system says.
        detail: String,
    },
    /// The answer ended in good order, but too early.
    #[error("{request}: the content is truncated: {received_bytes} of {expected_bytes} bytes came")]
    Truncated {
        /// Which request.
        request: Box<Request>,
        /// Bytes that came.
        received_bytes: u64,
        /// Bytes that there should be.
        expected_bytes: u64,
    },
    /// The registry answered with an error.
    #[error("{request}: HTTP status {status}{}", said(.code, .message))]
    Status {
        /// Which request.
        request: Box<Request>,
        /// The HTTP status.
        status: u16,
        /// The registry's code for the error, e.g. `MANIFEST_UNKNOWN`.
        code: Option<String>,
        /// The registry's words, shortened.
        message: Option<String>,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The registry, or the server that gives out its tokens, refuses who asks.
    #[error("{request}: access denied (HTTP status {status}), {tried}{}", said(.code, .message))]
    Unauthorized {
        /// Which request.
        request: Box<Request>,
        /// The HTTP status: 401 or 403.
        status: u16,
        /// The registry's code for the error, e.g. `DENIED`.
        code: Option<String>,
        /// The registry's words, shortened.
        message: Option<String>,
        /// As whom it was tried.
        tried: Tried,
        /// Why credentials could not be looked up, if that failed.
        credential_error: Option<Arc<CredentialError>>,
    },
    /// The registry demands authentication in a way that is not understood or not safe.
    #[error("{request}: {problem}")]
    Challenge {
        /// Which request.
        request: Box<Request>,
        /// In which way.
        problem: ChallengeProblem,
    },
    /// The registry sends elsewhere in a way that is not followed.
    #[error("{request}: {problem}")]
    Redirect {
        /// Which request.
        request: Box<Request>,
        /// In which way.
        problem: RedirectProblem,
    },
    /// The content is not what was asked for.
    #[error("{request}: the content is wrong: its digest should be {expected} but is {actual}")]
    Digest {
        /// Which request.
        request: Box<Request>,
        /// What it should be.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// The content has another size than the manifest says.
    #[error("{request}: the content should be {expected_bytes} bytes long, but the registry sends {actual_bytes}")]
    Size {
        /// Which request.
        request: Box<Request>,
        /// What the manifest says.
        expected_bytes: u64,
        /// What the registry announced, or how much had come.
        actual_bytes: u64,
    },
    /// A document is longer than allowed.
    #[error("{request}: the answer is longer than the {limit_bytes} bytes allowed")]
    TooLarge {
        /// Which request.
        request: Box<Request>,
        /// The limit.
        limit_bytes: u64,
    },
    /// An answer lacks what the protocol demands, or has nonsense there.
    #[error("{request}: the answer breaks the registry protocol: {problem}")]
    Protocol {
        /// Which request.
        request: Box<Request>,
        /// In which way.
        problem: &'static str,
    },
    /// The HTTP or TLS client could not be set up.
    #[error("cannot set up the HTTP client: {detail}")]
    Client {
        /// Why.
        detail: String,
    },
}

/// In which way no connection came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreachable {
    /// The host's name has no address.
    Resolve,
    /// The host refuses connections on this port.
    Refused,
    /// Anything else.
    Other,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "the host's name can't be resolved",
            Self::Refused => "the host refuses the connection",
            Self::Other => "the host can't be reached",
        })
    }
}

/// In which way no TLS connection came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsProblem {
    /// The host's certificate is not trusted.
    Certificate,
    /// The host does not speak TLS on this port.
    NotTls,
    /// Anything else.
    Other,
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "the host's certificate is not trusted",
            Self::NotTls => "the host does not speak TLS",
            Self::Other => "no TLS connection came about",
        })
    }
}

/// What was waited for when a time ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Waiting {
    /// A connection.
    Connection,
    /// The beginning of the answer.
    Answer,
    /// More of the answer's body, at a usable speed.
    Body,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "a connection",
            Self::Answer => "an answer",
            Self::Body => "more data",
        })
    }
}

/// As whom something was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tried {
    /// No credentials were found.
    Anonymous,
    /// Credentials were found and refused.
    Credentials {
        /// Where they come from: a file or a helper.
        origin: String,
    },
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("asked without credentials"),
            Self::Credentials { origin } => write!(f, "asked with credentials from {origin}"),
        }
    }
}

/// In which way a demand for authentication is unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChallengeProblem {
    /// Status 401 without a usable `WWW-Authenticate`.
    #[error("the registry demands authentication but offers neither Bearer nor Basic")]
    NoKnownScheme,
    /// The token server's address is no URL.
    #[error("the registry names a token server with a malformed address")]
    RealmMalformed,
    /// The token server would be asked without TLS.
    #[error("the registry names the token server {host}, which would be asked without TLS; that is not safe")]
    RealmInsecure {
        /// Its host.
        host: String,
    },
    /// The token server's answer holds no usable token.
    #[error("the token server {host} gave no usable token")]
    NoToken {
        /// Its host.
        host: String,
    },
}

/// In which way a redirect is unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedirectProblem {
    /// There is no usable `Location`.
    #[error("the registry redirects to nowhere")]
    NoLocation,
    /// From https to something else.
    #[error("the registry redirects to {scheme}://{host}, away from https; that is not followed")]
    Downgrade {
        /// The scheme.
        scheme: String,
        /// The host.
        host: String,
    },
    /// More redirects than anyone needs.
    #[error("the registry redirects in circles ({redirects} times)")]
    TooMany {
        /// How many were followed.
        redirects: usize,
    },
}

fn said(code: &Option<String>, message: &Option<String>) -> String {
    match (code, message) {
        (Some(code), Some(message)) => format!(": {code}: {message}"),
        (Some(text), None) | (None, Some(text)) => format!(": {text}"),
        (None, None) => String::new(),
    }
}

impl RegistryError {
    /// The request that failed; `None` if it did not come to one.
    pub fn request(&self) -> Option<&Request> {
        match self {
            Self::Unreachable { request, .. }
            | Self::Tls { request, .. }
            | Self::Timeout { request, .. }
            | Self::Interrupted { request, .. }
            | Self::Truncated { request, .. }
            | Self::Status { request, .. }
            | Self::Unauthorized { request, .. }
            | Self::Challenge { request, .. }
            | Self::Redirect { request, .. }
            | Self::Digest { request, .. }
            | Self::Size { request, .. }
            | Self::TooLarge { request, .. }
            | Self::Protocol { request, .. } => Some(request),
            Self::Client { .. } => None,
        }
    }

    /// The coarse class of this failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unreachable { .. } | Self::Tls { .. } | Self::Interrupted { .. } => ErrorKind::Network,
            Self::Challenge {
                problem: ChallengeProblem::NoKnownScheme,
                ..
            } => ErrorKind::Unauthorized,
            Self::Challenge { .. } | Self::Redirect { .. } | Self::Protocol { .. } => ErrorKind::Network,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Status { status: 404, .. } => ErrorKind::NotFound,
            Self::Status { status: 408 | 504, .. } => ErrorKind::Timeout,
            Self::Status { .. } => ErrorKind::Network,
            Self::Unauthorized { .. } => ErrorKind::Unauthorized,
            Self::Truncated { .. } | Self::Digest { .. } | Self::Size { .. } => ErrorKind::Corrupt,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Client { .. } => ErrorKind::Io,
        }
    }

    /// The likely cause and what to try next. `registry` is what the user calls it.
    pub fn hint(&self, registry: &str) -> String {
        match self {
            Self::Unreachable { problem: Unreachable::Resolve, .. } => format!(
                "check the spelling of {registry:?}, the network, and the proxy settings (HTTPS_PROXY, NO_PROXY)"
            ),
            Self::Unreachable { problem: Unreachable::Refused, .. } => {
                format!("check that a registry runs at {registry} and that the port is right")
            }
            Self::Unreachable { .. } | Self::Interrupted { .. } => {
                "check the network and the proxy settings (HTTPS_PROXY, NO_PROXY), then try again; what has come is kept".to_owned()
            }
            Self::Tls { problem: TlsProblem::NotTls, .. } => format!(
                "if {registry} is a plain-http registry that you trust, say so with `--plain-http {registry}`"
            ),
            Self::Tls { problem: TlsProblem::Certificate, .. } => {
                "install the registry's CA certificate on this machine (Debian: /usr/local/share/ca-certificates, then `update-ca-certificates`), or the package ca-certificates if it is missing".to_owned()
            }
            Self::Tls { .. } => "check what listens there, and the proxy settings".to_owned(),
            Self::Timeout { .. } => format!(
                "{registry} hangs or the network does; try again later, what has come is kept"
            ),
            Self::Unauthorized { credential_error: Some(error), .. } => error.hint(),
            Self::Unauthorized { tried: Tried::Anonymous, .. } => format!(
                "check the spelling (registries hide what does not exist), or log in: `docker login {registry}` or `podman login {registry}` writes the file that boxlite reads"
            ),
            Self::Unauthorized { tried: Tried::Credentials { .. }, .. } => format!(
                "check the spelling and that the account may read this repository; `docker login {registry}` renews the credentials"
            ),
            Self::Status { status: 404, .. } => {
                format!("check the spelling of the name and tag; it is not in {registry}")
            }
            Self::Status { status: 429, .. } => format!(
                "{registry} limits how often one may ask: wait, log in with `docker login {registry}`, or use a mirror"
            ),
            Self::Status { status: 500.., .. } => {
                format!("{registry} is in trouble; try again later")
            }
            Self::Truncated { .. } | Self::Digest { .. } | Self::Size { .. } => format!(
                "{registry}, a mirror or a proxy on the way sends damaged content; try again, or push the image anew"
            ),
            Self::TooLarge { .. } => "raise the limit if you trust where the image comes from".to_owned(),
            Self::Challenge { .. } | Self::Redirect { .. } | Self::Protocol { .. } | Self::Status { .. } => {
                format!("check that {registry} is a registry and what stands between (a proxy, a login page)")
            }
            Self::Client { .. } => "check the TLS certificates given and the proxy settings".to_owned(),
        }
    }
}
