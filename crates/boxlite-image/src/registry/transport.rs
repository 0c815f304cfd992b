use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HeaderMap, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::endpoint::is_loopback;
use super::error::{RedirectProblem, RegistryError, Request, TlsProblem, Unreachable, Waiting};

/// How long a registry may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// To a connection, TLS included. Default 10 s.
    pub connect: Duration,
    /// From the request to the beginning of the answer. Default 30 s.
    pub answer: Duration,
    /// Between two pieces of the answer; in that time at least 4 KiB must come. Default 30 s.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            idle: Duration::from_secs(30),
        }
    }
}

/// Where the addresses of proxies come from. Loopback addresses are never asked through one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxySource {
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in upper or lower case.
    #[default]
    Environment,
    /// Nowhere: every host is asked directly.
    None,
}

/// Slower than this in a whole idle period is as good as hanging.
const MIN_BYTES_PER_PERIOD: u64 = 4 << 10;
const MAX_REDIRECTS: usize = 8;
const MAX_ERROR_BYTES: u64 = 64 << 10;

/// Sends single requests.
#[derive(Debug)]
pub(crate) struct Transport {
    proxied: reqwest::Client,
    direct: reqwest::Client,
    timeouts: Timeouts,
}

/// The beginning of an answer; its body is still to come.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) request: Box<Request>,
    response: reqwest::Response,
    /// Whether the host that was asked answered, not one that it sent us to.
    is_from_origin: bool,
    idle: Duration,
    received_bytes: u64,
    period_began: Instant,
    period_bytes: u64,
}

impl Transport {
    /// Sets up TLS with the system's certificates and those of some PEM files. Blocking.
    pub(crate) fn new(
        timeouts: &Timeouts,
        proxy: ProxySource,
        ca_certificates: &[PathBuf],
    ) -> Result<Self, RegistryError> {
        let tls = tls_config(ca_certificates)?;
        let client = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .http1_only()
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .retry(reqwest::retry::never())
                .connect_timeout(timeouts.connect)
                .user_agent(concat!("boxlite/", env!("CARGO_PKG_VERSION")))
        };
        let failed = |error: reqwest::Error| RegistryError::Client {
            detail: chain(&error.without_url()),
        };
        let direct = client().no_proxy().build().map_err(failed)?;
        let proxied = match proxy {
            ProxySource::Environment => client().build().map_err(failed)?,
            ProxySource::None => direct.clone(),
        };
        Ok(Self {
            proxied,
            direct,
            timeouts: timeouts.clone(),
        })
    }

    /// Sends a request and follows redirects. `authorization` goes to the URL's own host
    /// (and port, and scheme) and nowhere else.
    pub(super) async fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
        form: Option<&str>,
    ) -> Result<Answer, RegistryError> {
        let mut target = url.clone();
        for redirects in 0.. {
            let is_origin = target.origin() == url.origin();
            let authorization = authorization.filter(|_| is_origin);
            let answer = self
                .exchange(method, &target, headers, authorization, form, is_origin)
                .await?;
            let is_redirect = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            // A form holds secrets, so it goes no further.
            if !is_redirect || form.is_some() {
                return Ok(answer);
            }
            let problem = if redirects >= MAX_REDIRECTS {
                RedirectProblem::TooMany { redirects }
            } else {
                match redirect_target(&target, answer.headers()) {
                    Ok(next) => {
                        target = next;
                        continue;
                    }
                    Err(problem) => problem,
                }
            };
            return Err(RegistryError::Redirect {
                request: answer.request,
                problem,
            });
        }
        unreachable!("the loop only ends by returning")
    }

    async fn exchange(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
        form: Option<&str>,
        is_from_origin: bool,
    ) -> Result<Answer, RegistryError> {
        let name = match *method {
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            _ => "GET",
        };
        let request = Request::new(name, url);
        let loopback = url.host_str().is_some_and(is_loopback);
        let client = if loopback { &self.direct } else { &self.proxied };
        let mut builder = client.request(method.clone(), url.clone()).headers(headers.clone());
        if let Some(authorization) = authorization {
            builder = builder.header(http::header::AUTHORIZATION, authorization);
        }
        if let Some(form) = form {
            builder = builder
                .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.to_owned());
        }
        tracing::debug!(%request, "asking");
        let after = self.timeouts.answer;
        match tokio::time::timeout(after, builder.send()).await {
            Ok(Ok(response)) => Ok(Answer {
                request,
                response,
                is_from_origin,
                idle: self.timeouts.idle,
                received_bytes: 0,
                period_began: Instant::now(),
                period_bytes: 0,
            }),
            Ok(Err(error)) => Err(self.classify(request, error)),
            Err(_) => Err(RegistryError::Timeout {
                request,
                waiting_for: Waiting::Answer,
                after,
            }),
        }
    }

    fn classify(&self, request: Box<Request>, error: reqwest::Error) -> RegistryError {
        let error = error.without_url();
        let detail = chain(&error);
        if error.is_timeout() {
            let after = self.timeouts.connect;
            return RegistryError::Timeout {
                request,
                waiting_for: Waiting::Connection,
                after,
            };
        }
        if let Some(tls) = find::<rustls::Error>(&error) {
            let problem = match tls {
                rustls::Error::InvalidCertificate(_) => TlsProblem::Certificate,
                rustls::Error::InvalidMessage(_) => TlsProblem::NotTls,
                _ => TlsProblem::Other,
            };
            return RegistryError::Tls {
                request,
                problem,
                detail,
            };
        }
        if error.is_connect() {
            let refused =
                find::<io::Error>(&error).is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            let problem = if refused {
                Unreachable::Refused
            } else if detail.contains("dns error") {
                Unreachable::Resolve
            } else {
                Unreachable::Other
            };
            return RegistryError::Unreachable {
                request,
                problem,
                detail,
            };
        }
        RegistryError::Interrupted {
            request,
            received_bytes: 0,
            detail,
        }
    }
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The value of a header, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    pub(super) fn is_from_origin(&self) -> bool {
        self.is_from_origin
    }

    /// The next piece of the body.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let hangs = |request: &Request, idle| RegistryError::Timeout {
            request: Box::new(request.clone()),
            waiting_for: Waiting::Body,
            after: idle,
        };
        let chunk = match tokio::time::timeout(self.idle, self.response.chunk()).await {
            Err(_) => return Err(hangs(&self.request, self.idle)),
            Ok(Ok(chunk)) => chunk,
            Ok(Err(error)) => {
                return Err(RegistryError::Interrupted {
                    request: self.request.clone(),
                    received_bytes: self.received_bytes,
                    detail: chain(&error.without_url()),
                });
            }
        };
        if let Some(chunk) = &chunk {
            self.received_bytes += chunk.len() as u64;
            self.period_bytes += chunk.len() as u64;
            if self.period_began.elapsed() > self.idle {
                if self.period_bytes < MIN_BYTES_PER_PERIOD {
                    return Err(hangs(&self.request, self.idle));
                }
                self.period_began = Instant::now();
                self.period_bytes = 0;
            }
        }
        Ok(chunk)
    }

    /// The whole body, if it is no longer than `limit_bytes`.
    pub(crate) async fn collect(&mut self, limit_bytes: u64) -> Result<Vec<u8>, RegistryError> {
        let too_large = |request: &Request| RegistryError::TooLarge {
            request: Box::new(request.clone()),
            limit_bytes,
        };
        if self.content_length().is_some_and(|length| length > limit_bytes) {
            return Err(too_large(&self.request));
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() as u64 + chunk.len() as u64 > limit_bytes {
                return Err(too_large(&self.request));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// What an answer with an error's status says: a code and a message, as far as there are.
    pub(super) async fn complaint(&mut self) -> (Option<String>, Option<String>) {
        // Whatever is wrong with the error's text must not hide the error.
        let body = self.collect(MAX_ERROR_BYTES).await.unwrap_or_default();
        match serde_json::from_slice::<Complaints>(&body) {
            Ok(Complaints {
                errors: Some(errors), ..
            }) if !errors.is_empty() => {
                let first = &errors[0];
                let text = |field: &Option<String>| field.as_deref().map(presentable).filter(|text| !text.is_empty());
                (text(&first.code), text(&first.message))
            }
            Ok(Complaints {
                error,
                error_description,
                details,
                message,
                ..
            }) => {
                let said = error_description.or(details).or(message);
                (error.as_deref().map(presentable), said.as_deref().map(presentable))
            }
            Err(_) => {
                let is_text = self.header("content-type").is_some_and(|t| t.starts_with("text/plain"));
                let text = String::from_utf8_lossy(&body);
                (
                    None,
                    Some(presentable(&text)).filter(|text| is_text && !text.is_empty()),
                )
            }
        }
    }

    /// Turns an answer with an error's status into that error.
    pub(super) async fn into_error(mut self) -> RegistryError {
        let retry_after = self.header(RETRY_AFTER.as_str()).and_then(parse_retry_after);
        let (code, message) = self.complaint().await;
        let status = self.status().as_u16();
        RegistryError::Status {
            request: self.request,
            status,
            code,
            message,
            retry_after,
        }
    }
}

/// The body of an error: a registry's (`errors`), or a token server's.
#[derive(Deserialize)]
struct Complaints {
    errors: Option<Vec<Complaint>>,
    error: Option<String>,
    error_description: Option<String>,
    details: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Complaint {
    code: Option<String>,
    message: Option<String>,
}

fn redirect_target(from: &Url, headers: &HeaderMap) -> Result<Url, RedirectProblem> {
    let mut target = headers
        .get(LOCATION)
        .and_then(|location| location.to_str().ok())
        .and_then(|location| from.join(location).ok())
        .filter(|target| target.host_str().is_some_and(|host| !host.is_empty()))
        .ok_or(RedirectProblem::NoLocation)?;
    let allowed = match from.scheme() {
        "https" => target.scheme() == "https",
        _ => matches!(target.scheme(), "http" | "https"),
    };
    if !allowed {
        return Err(RedirectProblem::Downgrade {
            scheme: target.scheme().to_owned(),
            host: super::endpoint::host_and_port(&target),
        });
    }
    // They would be sent as credentials.
    let _ = target.set_username("");
    let _ = target.set_password(None);
    target.set_fragment(None);
    Ok(target)
}

/// Seconds, or a date.
fn parse_retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// One line of somebody else's text, fit for an error message.
pub(crate) fn presentable(text: &str) -> String {
    const MAX_CHARS: usize = 300;
    let mut line = String::new();
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
    {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > MAX_CHARS * 4 {
            break;
        }
    }
    if line.chars().count() > MAX_CHARS {
        line = line.chars().take(MAX_CHARS).chain(['…']).collect();
    }
    line
}

fn tls_config(ca_certificates: &[PathBuf]) -> Result<ClientConfig, RegistryError> {
    let unusable = |detail: String| RegistryError::Client { detail };
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "a system certificate is unusable");
    }
    roots.add_parsable_certificates(system.certs);
    for path in ca_certificates {
        let named = rustls_native_certs::load_certs_from_paths(Some(path), None);
        if let Some(error) = named.errors.first() {
            return Err(unusable(format!("CA certificates {}: {error}", path.display())));
        }
        let (usable, _) = roots.add_parsable_certificates(named.certs);
        if usable == 0 {
            return Err(unusable(format!("no CA certificate in {}", path.display())));
        }
    }
    // The provider is passed, not installed: that would be the whole process's.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// An error with what caused it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    presentable(&text)
}

/// The first error of a type among an error and its causes.
fn find<'error, E: Error + 'static>(error: &'error (dyn Error + 'static)) -> Option<&'error E> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // An io::Error's source is that of the error that it wraps, which is skipped over.
        if let Some(wrapped) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
            && let Some(found) = find::<E>(wrapped)
        {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redirected(from: &str, to: &str) -> Result<String, RedirectProblem> {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_str(to).unwrap())]);
        redirect_target(&Url::parse(from).unwrap(), &headers).map(|url| url.to_string())
    }

    #[test]
    fn redirects_never_leave_https() {
        let from = "https://r.example/v2/a";
        assert_eq!(
            redirected(from, "https://s.example/b?sig=1").unwrap(),
            "https://s.example/b?sig=1"
        );
        assert_eq!(redirected(from, "/b").unwrap(), "https://r.example/b");
        assert_eq!(
            redirected(from, "https://u:p@s.example/").unwrap(),
            "https://s.example/"
        );
        for to in ["http://r.example/b", "file:///etc/passwd", "ftp://r.example/"] {
            assert!(redirected(from, to).is_err(), "{to}");
        }
        assert_eq!(
            redirected("http://r.example/", "http://s.example/").unwrap(),
            "http://s.example/"
        );
        assert!(redirected("http://r.example/", "file:///etc/passwd").is_err());
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(parse_retry_after(" 7 "), Some(Duration::from_secs(7)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let wait = parse_retry_after(&date).unwrap();
        assert!(wait > Duration::from_secs(90) && wait <= Duration::from_secs(100));
        assert_eq!(parse_retry_after("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon"), None);
        assert_eq!(parse_retry_after("-1"), None);
    }

    proptest! {
        #[test]
        fn foreign_text_becomes_one_short_line(text in "(?s).{0,2000}") {
            let line = presentable(&text);
            prop_assert!(line.chars().count() <= 301);
            prop_assert!(!line.chars().any(char::is_control));
        }
    }
}
