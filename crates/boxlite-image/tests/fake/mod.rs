//! A registry in this process that can be told to misbehave.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use boxlite_image::{
    AuthSource, ContentStore, Digest, ImageManifest, ProgressFn, PullError, PullOptions, Reference, RegistryError,
    RetryPolicy, Timeouts, pull,
};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With the query.
    pub(crate) target: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn is_blob(&self) -> bool {
        self.target.contains("/blobs/")
    }

    pub(crate) fn is_manifest(&self) -> bool {
        self.target.contains("/manifests/")
    }
}

/// What to do instead of answering properly.
#[derive(Debug, Clone)]
pub(crate) enum Misdeed {
    /// Answer this.
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// Answer properly, but with this body (and its length).
    Body(Vec<u8>),
    /// Answer properly, but with this header as well, or instead.
    Header(&'static str, String),
    /// Promise the whole body, but close the connection after so many bytes.
    Cut(usize),
    /// Promise the whole body, but send no more after so many bytes.
    HangAfter(usize),
    /// Send so many bytes of the body, in good order, and say that this was all.
    EndAfter(usize),
    /// Send this body instead, in chunks, without saying how long it is.
    Chunks(Vec<u8>),
    /// Pretend not to know about ranges.
    NoRanges,
    /// Don't answer.
    Hang,
    /// Close the connection without an answer.
    Close,
}

impl Misdeed {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer {
            status,
            headers: vec![],
            body: vec![],
        }
    }

    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let body = json!({"errors": [{"code": code, "message": message}]})
            .to_string()
            .into_bytes();
        Self::Answer {
            status,
            headers: vec![],
            body,
        }
    }

    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        match self {
            Self::Answer {
                status,
                mut headers,
                body,
            } => {
                headers.push((name.to_owned(), value.to_owned()));
                Self::Answer { status, headers, body }
            }
            other => other,
        }
    }

    pub(crate) fn redirect(location: &str) -> Self {
        Self::status(307).with("Location", location)
    }

    pub(crate) fn challenge(challenge: &str) -> Self {
        Self::error(401, "UNAUTHORIZED", "authentication required").with("WWW-Authenticate", challenge)
    }
}

type Rule = Box<dyn FnMut(&Asked) -> Option<Misdeed> + Send>;

#[derive(Default)]
struct Shelf {
    content: HashMap<String, (String, Vec<u8>)>,
    asked: Vec<Asked>,
    rule: Option<Rule>,
}

/// The registry. Stops when dropped.
pub(crate) struct FakeRegistry {
    pub(crate) address: SocketAddr,
    shelf: Arc<Mutex<Shelf>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeRegistry {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    pub(crate) async fn start_with(tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let task = tokio::spawn({
            let shelf = Arc::clone(&shelf);
            async move {
                let mut connections = tokio::task::JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (shelf, tls) = (Arc::clone(&shelf), tls.clone());
                    connections.spawn(async move {
                        match tls {
                            Some(tls) => {
                                if let Ok(stream) = tls.accept(stream).await {
                                    serve(stream, shelf).await;
                                }
                            }
                            None => serve(stream, shelf).await,
                        }
                    });
                }
            }
        });
        Self { address, shelf, task }
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn reference(&self, name: &str) -> Reference {
        Reference::parse(&format!("{}/{name}", self.address)).unwrap()
    }

    /// From now on this decides what is not answered properly.
    pub(crate) fn misbehave(&self, rule: impl FnMut(&Asked) -> Option<Misdeed> + Send + 'static) {
        self.shelf.lock().unwrap().rule = Some(Box::new(rule));
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shelf.lock().unwrap().asked.clone()
    }

    pub(crate) fn forget(&self) {
        self.shelf.lock().unwrap().asked.clear();
    }

    pub(crate) fn blobs_asked(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(Asked::is_blob).collect()
    }

    pub(crate) fn put_blob(&self, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        let key = format!("blobs/{digest}");
        let entry = ("application/octet-stream".to_owned(), content.to_vec());
        self.shelf.lock().unwrap().content.insert(key, entry);
        digest
    }

    pub(crate) fn put_manifest(&self, tag: &str, media_type: &str, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        let mut shelf = self.shelf.lock().unwrap();
        for name in [tag.to_owned(), digest.to_string()] {
            let entry = (media_type.to_owned(), content.to_vec());
            shelf.content.insert(format!("manifests/{name}"), entry);
        }
        digest
    }

    /// Puts an image there whose layers are these bytes (no tars; nobody unpacks them here).
    pub(crate) fn put_image(&self, tag: &str, platform: &str, layers: &[&[u8]]) -> Digest {
        let (json, blobs) = image(platform, layers);
        for blob in blobs {
            self.put_blob(&blob);
        }
        self.put_manifest(tag, MANIFEST, &json)
    }
}

/// A manifest, and the blobs that it names.
pub(crate) fn image(platform: &str, layers: &[&[u8]]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (os, architecture) = platform.split_once('/').unwrap();
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::sha256(layer)).collect();
    let config = json!({
        "os": os, "architecture": architecture, "config": {"Cmd": ["/bin/true"], "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, &config),
        "layers": layers.iter().map(|layer| descriptor(LAYER, layer)).collect::<Vec<_>>(),
    });
    let blobs = layers.iter().map(|layer| layer.to_vec()).chain([config]).collect();
    (manifest.to_string().into_bytes(), blobs)
}

pub(crate) fn descriptor(media_type: &str, content: &[u8]) -> serde_json::Value {
    json!({"mediaType": media_type, "digest": Digest::sha256(content), "size": content.len()})
}

/// Bytes that no compression and no accident makes alike.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

/// Options that don't make a test wait.
pub(crate) fn quick() -> PullOptions {
    PullOptions {
        platform: Some("linux/amd64".parse().unwrap()),
        auth: AuthSource::Anonymous,
        retry: RetryPolicy {
            attempts: 4,
            first_delay: Duration::from_millis(2),
            max_delay: Duration::from_millis(10),
            max_retry_after: Duration::from_secs(3),
        },
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(5),
            idle: Duration::from_secs(5),
        },
        ..PullOptions::default()
    }
}

pub(crate) struct Home {
    _dir: tempfile::TempDir,
    pub(crate) store: ContentStore,
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path()).unwrap();
        Self { _dir: dir, store }
    }

    pub(crate) async fn pull(&self, reference: &Reference, options: &PullOptions) -> Result<ImageManifest, PullError> {
        pull(&self.store, reference, options, silent(), CancellationToken::new()).await
    }

    pub(crate) fn unfinished(&self) -> usize {
        ["partial", "tmp"]
            .iter()
            .map(|dir| std::fs::read_dir(self.store.root().join(dir)).unwrap().count())
            .sum()
    }
}

pub(crate) fn registry_error(error: &PullError) -> &RegistryError {
    match error {
        PullError::Registry { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn silent() -> ProgressFn {
    Arc::new(|_| {})
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, shelf: Arc<Mutex<Shelf>>) {
    while let Some(asked) = read_request(&mut stream).await {
        let misdeed = {
            let mut shelf = shelf.lock().unwrap();
            shelf.asked.push(asked.clone());
            shelf.rule.as_mut().and_then(|rule| rule(&asked))
        };
        if !answer(&mut stream, &asked, misdeed, &shelf).await {
            return;
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
        // A TLS client's first bytes: answered as servers without TLS do.
        if head == [0x16, 0x03] {
            let _ = stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                .await;
            return None;
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Asked {
        method,
        target,
        headers,
        body: String::from_utf8(body).unwrap(),
    })
}

/// Returns whether the connection can be used further.
async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    asked: &Asked,
    misdeed: Option<Misdeed>,
    shelf: &Mutex<Shelf>,
) -> bool {
    let path = asked.target.split('?').next().unwrap();
    let key = ["manifests/", "blobs/"]
        .iter()
        .find_map(|kind| path.rfind(kind).map(|position| path[position..].to_owned()))
        .unwrap_or_default();
    let found = shelf.lock().unwrap().content.get(&key).cloned();
    let (mut status, mut headers, mut body) = match found {
        Some((media_type, body)) => {
            let mut headers = vec![("Content-Type".to_owned(), media_type)];
            if asked.is_manifest() {
                headers.push(("Docker-Content-Digest".to_owned(), Digest::sha256(&body).to_string()));
            }
            (200, headers, body)
        }
        None => {
            let error = json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]});
            (
                404,
                vec![("Content-Type".to_owned(), "application/json".to_owned())],
                error.to_string().into_bytes(),
            )
        }
    };
    let ranges = !matches!(
        misdeed,
        Some(Misdeed::NoRanges | Misdeed::Answer { .. } | Misdeed::Body(_) | Misdeed::Chunks(_))
    );
    if let Some(range) = asked.header("range").filter(|_| ranges && status == 200) {
        let begin: usize = range
            .strip_prefix("bytes=")
            .unwrap()
            .trim_end_matches('-')
            .parse()
            .unwrap();
        let total = body.len();
        if begin >= total {
            (status, body) = (416, Vec::new());
        } else {
            headers.push((
                "Content-Range".to_owned(),
                format!("bytes {begin}-{}/{total}", total - 1),
            ));
            (status, body) = (206, body.split_off(begin));
        }
    }
    let mut sent = usize::MAX;
    let mut hang = false;
    let mut chunked = false;
    match misdeed {
        None | Some(Misdeed::NoRanges) => {}
        Some(Misdeed::Answer {
            status: s,
            headers: h,
            body: b,
        }) => {
            headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
            headers.extend(h);
            (status, body) = (s, b);
        }
        Some(Misdeed::Body(b)) => body = b,
        Some(Misdeed::Chunks(b)) => (body, chunked) = (b, true),
        Some(Misdeed::Header(name, value)) => {
            headers.retain(|(there, _)| !there.eq_ignore_ascii_case(name));
            headers.push((name.to_owned(), value));
        }
        Some(Misdeed::Cut(bytes)) => sent = bytes,
        Some(Misdeed::HangAfter(bytes)) => (sent, hang) = (bytes, true),
        Some(Misdeed::EndAfter(bytes)) => {
            body.truncate(bytes);
            chunked = true;
        }
        Some(Misdeed::Hang) => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            return false;
        }
        Some(Misdeed::Close) => return false,
    }
    let mut head = format!("HTTP/1.1 {status} Whatever\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if chunked {
        head.push_str("Transfer-Encoding: chunked\r\n\r\n");
    } else {
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    }
    if stream.write_all(head.as_bytes()).await.is_err() {
        return false;
    }
    if asked.method == "HEAD" {
        return true;
    }
    if chunked {
        let _ = stream.write_all(format!("{:x}\r\n", body.len()).as_bytes()).await;
        let _ = stream.write_all(&body).await;
        return stream.write_all(b"\r\n0\r\n\r\n").await.is_ok();
    }
    let whole = sent >= body.len();
    if stream.write_all(&body[..sent.min(body.len())]).await.is_err() || stream.flush().await.is_err() {
        return false;
    }
    if hang {
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    whole
}
