use std::sync::Arc;

use base64::Engine as _;
use http::header::{HeaderMap, WWW_AUTHENTICATE};
use http::{HeaderValue, Method};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::challenge::Challenge;
use super::endpoint::{Endpoint, host_and_port};
use super::error::{ChallengeProblem, RegistryError, Request, TlsProblem, Tried, Unreachable};
use super::transport::{Answer, Transport};
use crate::credentials::{self, AuthSource, CredentialError, Credentials, Found};

/// A conversation with one endpoint about one repository: knows who we are there.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) endpoint: Endpoint,
    transport: Arc<Transport>,
    auth: AuthSource,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What convinced the endpoint last.
    authorization: Option<HeaderValue>,
    /// Counts the values that `authorization` had.
    generation: u64,
    credentials: Option<Lookup>,
}

/// The outcome of the search for credentials, which is done once.
#[derive(Debug, Clone)]
struct Lookup {
    found: Option<Found>,
    error: Option<Arc<CredentialError>>,
}

const MAX_TOKEN_BYTES: u64 = 1 << 20;
const CLIENT_ID: &str = "boxlite";

impl Session {
    pub(super) fn new(endpoint: Endpoint, transport: Arc<Transport>, auth: AuthSource) -> Self {
        Self {
            endpoint,
            transport,
            auth,
            state: Mutex::default(),
        }
    }

    /// Asks for something below the repository, authenticating if that is demanded. Any
    /// status but success is an error.
    pub(crate) async fn request(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Answer, RegistryError> {
        let mut result = None;
        for url in self.endpoint.urls(path) {
            match self.request_at(method, &url, headers).await {
                Ok(answer) => {
                    self.endpoint.settle(&url);
                    return Ok(answer);
                }
                Err(error) => {
                    let speaks_something_else = matches!(
                        error,
                        RegistryError::Tls {
                            problem: TlsProblem::NotTls | TlsProblem::Other,
                            ..
                        } | RegistryError::Unreachable {
                            problem: Unreachable::Refused | Unreachable::Other,
                            ..
                        }
                    );
                    if !speaks_something_else {
                        // It answered, be it with an error: this is how to talk to it.
                        if matches!(error, RegistryError::Status { .. } | RegistryError::Unauthorized { .. }) {
                            self.endpoint.settle(&url);
                        }
                        return Err(error);
                    }
                    result = Some(error);
                }
            }
        }
        Err(result.unwrap_or_else(|| RegistryError::Client {
            detail: format!("{} makes no address", self.endpoint.host()),
        }))
    }

    /// How an error names a request for something below the repository.
    pub(crate) fn describe(&self, path: &str) -> Box<Request> {
        match self.endpoint.urls(path).first() {
            Some(url) => Request::new("GET", url),
            None => Box::new(Request {
                method: "GET",
                scheme: "https".to_owned(),
                host: self.endpoint.host().to_owned(),
                path: path.to_owned(),
            }),
        }
    }

    async fn request_at(&self, method: &Method, url: &Url, headers: &HeaderMap) -> Result<Answer, RegistryError> {
        for is_last in [false, true] {
            let (authorization, generation) = {
                let state = self.state.lock().await;
                (state.authorization.clone(), state.generation)
            };
            let mut answer = self
                .transport
                .send(method, url, headers, authorization.as_ref(), None)
                .await?;
            let status = answer.status();
            if status.is_success() {
                return Ok(answer);
            }
            if !answer.is_from_origin() || !matches!(status.as_u16(), 401 | 403) {
                return Err(answer.into_error().await);
            }
            if status.as_u16() == 401 && !is_last {
                let challenges = challenges(answer.headers());
                if self.authenticate(url, &challenges, generation, &answer.request).await? {
                    continue;
                }
            }
            let (code, message) = answer.complaint().await;
            let state = self.state.lock().await;
            let request = answer.request;
            return Err(denied(
                state.credentials.as_ref(),
                request,
                status.as_u16(),
                code,
                message,
            ));
        }
        unreachable!("the second round returns")
    }

    /// Meets a challenge; `false` if nothing is left to be tried. `generation` is that of the
    /// authorization that was not good enough.
    async fn authenticate(
        &self,
        url: &Url,
        challenges: &[Challenge],
        generation: u64,
        request: &Request,
    ) -> Result<bool, RegistryError> {
        // Held while asking, so that parallel layers ask for one token, not for one each.
        let mut state = self.state.lock().await;
        if state.generation != generation {
            return Ok(true);
        }
        let lookup = match &state.credentials {
            Some(lookup) => lookup.clone(),
            None => {
                let lookup = self.look_up().await;
                state.credentials = Some(lookup.clone());
                lookup
            }
        };
        let by_scheme = |scheme: &str| challenges.iter().find(|c| c.scheme == scheme);
        let header = if let Some(bearer) = by_scheme("bearer") {
            let token = match lookup.found.as_ref().map(|found| &found.credentials) {
                Some(Credentials::RegistryToken(token)) => token.clone(),
                _ => self.token(url, bearer, &lookup, request).await?,
            };
            format!("Bearer {token}")
        } else if by_scheme("basic").is_some() {
            match lookup.found.as_ref().map(|found| &found.credentials) {
                Some(Credentials::Password { username, password }) => basic(username, password),
                _ => return Ok(false),
            }
        } else {
            return Err(RegistryError::Challenge {
                request: Box::new(request.clone()),
                problem: ChallengeProblem::NoKnownScheme,
            });
        };
        let Ok(mut header) = HeaderValue::from_str(&header) else {
            let host = self.endpoint.host().to_owned();
            return Err(RegistryError::Challenge {
                request: Box::new(request.clone()),
                problem: ChallengeProblem::NoToken { host },
            });
        };
        header.set_sensitive(true);
        state.authorization = Some(header);
        state.generation += 1;
        Ok(true)
    }

    async fn look_up(&self) -> Lookup {
        let Endpoint {
            name,
            repository,
            is_origin,
            ..
        } = &self.endpoint;
        match credentials::look_up(&self.auth, name, repository, *is_origin).await {
            Ok(found) => Lookup { found, error: None },
            Err(error) => {
                // Many images are public, so this only matters if access is denied.
                tracing::warn!(%error, registry = %name, "cannot look up credentials");
                Lookup {
                    found: None,
                    error: Some(Arc::new(error)),
                }
            }
        }
    }

    /// Gets a bearer token: the distribution project's token authentication, with the OAuth 2
    /// form of it for identity tokens.
    async fn token(
        &self,
        url: &Url,
        challenge: &Challenge,
        lookup: &Lookup,
        request: &Request,
    ) -> Result<String, RegistryError> {
        let problem = |problem| RegistryError::Challenge {
            request: Box::new(request.clone()),
            problem,
        };
        let realm = challenge.parameter("realm").and_then(|realm| Url::parse(realm).ok());
        let Some(mut realm) = realm.filter(|realm| realm.username().is_empty() && realm.password().is_none()) else {
            return Err(problem(ChallengeProblem::RealmMalformed));
        };
        let host = host_and_port(&realm);
        // Credentials go there: with TLS, or to the very host that already gets them without.
        let same_plain_host = realm.scheme() == "http" && url.scheme() == "http" && realm.host_str() == url.host_str();
        if realm.scheme() != "https" && !same_plain_host {
            return Err(problem(ChallengeProblem::RealmInsecure { host }));
        }
        realm.set_fragment(None);
        let service = challenge.parameter("service");
        // Not what the challenge asks for: nothing but reading this repository is needed.
        let scope = format!("repository:{}:pull", self.endpoint.repository);
        let credentials = lookup.found.as_ref().map(|found| &found.credentials);
        let mut answer = if let Some(Credentials::IdentityToken(token)) = credentials {
            let form = refresh_form(token, &scope, service);
            self.transport
                .send(&Method::POST, &realm, &HeaderMap::new(), None, Some(&form))
                .await?
        } else {
            let mut authorization = None;
            {
                let mut query = realm.query_pairs_mut();
                if let Some(service) = service {
                    query.append_pair("service", service);
                }
                query.append_pair("scope", &scope);
                if let Some(Credentials::Password { username, password }) = credentials {
                    query.append_pair("account", username);
                    authorization = HeaderValue::from_str(&basic(username, password)).ok();
                }
            }
            if let Some(authorization) = &mut authorization {
                authorization.set_sensitive(true);
            }
            self.transport
                .send(&Method::GET, &realm, &HeaderMap::new(), authorization.as_ref(), None)
                .await?
        };
        let status = answer.status();
        if matches!(status.as_u16(), 401 | 403) || (status.as_u16() == 400 && credentials.is_some()) {
            let (code, message) = answer.complaint().await;
            return Err(denied(Some(lookup), answer.request, status.as_u16(), code, message));
        }
        if !status.is_success() {
            return Err(answer.into_error().await);
        }
        let body = answer.collect(MAX_TOKEN_BYTES).await?;
        serde_json::from_slice::<TokenAnswer>(&body)
            .ok()
            .and_then(|answer| answer.token.or(answer.access_token))
            .filter(|token| !token.is_empty())
            .ok_or_else(|| problem(ChallengeProblem::NoToken { host }))
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// An OAuth 2 token request (RFC 6749, section 6).
fn refresh_form(token: &str, scope: &str, service: Option<&str>) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token")
        .append_pair("refresh_token", token)
        .append_pair("client_id", CLIENT_ID)
        .append_pair("scope", scope);
    if let Some(service) = service {
        form.append_pair("service", service);
    }
    form.finish()
}

fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(Challenge::parse_all)
        .collect()
}

fn denied(
    lookup: Option<&Lookup>,
    request: Box<Request>,
    status: u16,
    code: Option<String>,
    message: Option<String>,
) -> RegistryError {
    let tried = match lookup.and_then(|lookup| lookup.found.as_ref()) {
        Some(found) => Tried::Credentials {
            origin: found.origin.clone(),
        },
        None => Tried::Anonymous,
    };
    let credential_error = lookup.and_then(|lookup| lookup.error.clone());
    RegistryError::Unauthorized {
        request,
        status,
        code,
        message,
        tried,
        credential_error,
    }
}

fn basic(username: &str, password: &str) -> String {
    let pair = format!("{username}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}
