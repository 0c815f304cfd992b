//! The tar of a layer: read, decompressed and hashed by threads of its own, in pieces that
//! come round again, so that memory is bounded.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use flate2::bufread::MultiGzDecoder;
use tokio_util::sync::CancellationToken;

use crate::digest::{Algorithm, Digest, Hasher};
use crate::media_type::Compression;

/// Bytes of a piece, and how many may wait for whoever is slower.
const CHUNK_BYTES: usize = 256 << 10;
const CHUNKS_WAITING: usize = 8;

/// How much a Zstandard frame may look back: what `zstd` itself allows unless told otherwise.
const ZSTD_WINDOW_LOG: u32 = 27;

/// One layer of an image, as a blob in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInput {
    /// The file.
    pub path: PathBuf,
    /// How its tar is compressed; several gzip members or Zstandard frames are one tar.
    pub compression: Compression,
    /// What the tar's digest must be; `None` accepts any.
    pub diff_id: Option<Digest>,
}

/// Why a layer could not be read to its end.
#[derive(Debug)]
pub(crate) enum LayerFailure {
    Open(io::Error),
    Decompress(io::Error),
    TooLarge,
    Cancelled,
}

type Chunk = Arc<PooledChunk>;

/// A piece of the tar, whose memory is used again when nobody needs it any more.
struct PooledChunk {
    bytes: Vec<u8>,
    pool: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Drop for PooledChunk {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

/// A layer's tar, read as it is decompressed.
pub(crate) struct LayerStream {
    chunks: Option<Receiver<Result<Chunk, LayerFailure>>>,
    current: Option<Chunk>,
    /// How much of `current` was read.
    used: usize,
    bytes: u64,
    limit: u64,
    cancel: CancellationToken,
    failure: Option<LayerFailure>,
    threads: Option<(JoinHandle<()>, JoinHandle<Digest>)>,
}

impl LayerStream {
    /// Starts reading. More than `limit` bytes will be refused.
    pub(crate) fn open(input: &LayerInput, limit: u64, cancel: &CancellationToken) -> Result<Self, LayerFailure> {
        let file = File::open(&input.path).map_err(LayerFailure::Open)?;
        let (to_reader, chunks) = sync_channel(CHUNKS_WAITING);
        let (to_hasher, hashed) = sync_channel::<Chunk>(CHUNKS_WAITING);
        let algorithm = input.diff_id.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let compression = input.compression;
        let hasher = thread::Builder::new()
            .name("layer-hash".to_owned())
            .spawn(move || {
                let mut hasher = Hasher::new(algorithm);
                for chunk in hashed {
                    hasher.update(&chunk.bytes);
                }
                hasher.finish()
            })
            .map_err(LayerFailure::Open)?;
        let decompressor = thread::Builder::new()
            .name("layer-read".to_owned())
            .spawn(move || decompress(file, compression, &to_reader, &to_hasher))
            .map_err(LayerFailure::Open)?;
        Ok(Self {
            chunks: Some(chunks),
            current: None,
            used: 0,
            bytes: 0,
            limit,
            cancel: cancel.clone(),
            failure: None,
            threads: Some((decompressor, hasher)),
        })
    }

    /// Lowers the limit that was given at first.
    pub(crate) fn limit_to(&mut self, limit: u64) {
        self.limit = self.limit.min(limit);
    }

    /// Why reading failed, if it did.
    pub(crate) fn take_failure(&mut self) -> Option<LayerFailure> {
        self.failure.take()
    }

    /// Reads the rest; returns the digest of everything and how many bytes that was.
    pub(crate) fn finish(mut self) -> Result<(Digest, u64), LayerFailure> {
        while self.next_chunk()? {}
        self.chunks = None;
        let joined = self.threads.take().and_then(|(decompressor, hasher)| {
            let decompressed = decompressor.join().is_ok();
            hasher.join().ok().filter(|_| decompressed)
        });
        let digest = joined.ok_or_else(|| LayerFailure::Decompress(io::Error::other("a thread has panicked")))?;
        Ok((digest, self.bytes))
    }

    /// Makes the next piece the current one; `false` at the end.
    fn next_chunk(&mut self) -> Result<bool, LayerFailure> {
        if self.cancel.is_cancelled() {
            return Err(LayerFailure::Cancelled);
        }
        let Some(chunks) = &self.chunks else {
            return Ok(false);
        };
        match chunks.recv() {
            Ok(Ok(chunk)) => {
                self.bytes += chunk.bytes.len() as u64;
                if self.bytes > self.limit {
                    return Err(LayerFailure::TooLarge);
                }
                self.current = Some(chunk);
                self.used = 0;
                Ok(true)
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => Ok(false),
        }
    }
}

impl Read for LayerStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(chunk) = &self.current {
                let rest = &chunk.bytes[self.used..];
                if !rest.is_empty() {
                    let bytes = rest.len().min(buffer.len());
                    buffer[..bytes].copy_from_slice(&rest[..bytes]);
                    self.used += bytes;
                    return Ok(bytes);
                }
                self.current = None;
            }
            match self.next_chunk() {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                Err(failure) => {
                    self.failure = Some(failure);
                    return Err(io::Error::other("the layer can't be read"));
                }
            }
        }
    }
}

impl Drop for LayerStream {
    fn drop(&mut self) {
        // Without a receiver the threads end with the next piece.
        self.chunks = None;
        if let Some((decompressor, hasher)) = self.threads.take() {
            let _ = decompressor.join();
            let _ = hasher.join();
        }
    }
}

fn decompress(
    file: File,
    compression: Compression,
    to_reader: &SyncSender<Result<Chunk, LayerFailure>>,
    to_hasher: &SyncSender<Chunk>,
) {
    let sent = |failure| {
        // Nobody listening means that nobody wants to know.
        let _ = to_reader.send(Err(LayerFailure::Decompress(failure)));
    };
    let mut tar: Box<dyn Read> = match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(CHUNK_BYTES, file))),
        Compression::Zstd => match zstd_decoder(file) {
            Ok(decoder) => decoder,
            Err(error) => return sent(error),
        },
    };
    let pool = Arc::new(Mutex::new(Vec::new()));
    loop {
        let spare = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut bytes: Vec<u8> = spare.unwrap_or_default();
        bytes.resize(CHUNK_BYTES, 0);
        let filled = match fill(&mut tar, &mut bytes) {
            Ok(filled) => filled,
            Err(error) => return sent(error),
        };
        bytes.truncate(filled);
        if filled == 0 {
            return;
        }
        let chunk = Arc::new(PooledChunk {
            bytes,
            pool: Arc::clone(&pool),
        });
        if to_hasher.send(Arc::clone(&chunk)).is_err() || to_reader.send(Ok(chunk)).is_err() {
            return;
        }
    }
}

fn zstd_decoder(file: File) -> io::Result<Box<dyn Read>> {
    let mut decoder = zstd::stream::read::Decoder::new(file)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(Box::new(decoder))
}

/// Reads until the buffer is full or the source ends.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn input(content: &[u8], compression: Compression) -> (tempfile::NamedTempFile, LayerInput) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let input = LayerInput {
            path: file.path().to_owned(),
            compression,
            diff_id: None,
        };
        (file, input)
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn read(input: &LayerInput, limit: u64) -> Result<(Vec<u8>, Digest), LayerFailure> {
        let mut stream = LayerStream::open(input, limit, &CancellationToken::new())?;
        let mut content = Vec::new();
        match stream.read_to_end(&mut content) {
            Ok(_) => {
                let (digest, bytes) = stream.finish()?;
                assert_eq!(bytes, content.len() as u64);
                Ok((content, digest))
            }
            Err(_) => Err(stream.take_failure().unwrap()),
        }
    }

    fn sample() -> Vec<u8> {
        (0..1_500_000_u32)
            .map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect()
    }

    #[test]
    fn every_compression_in_several_parts() {
        let sample = sample();
        let (first, second) = sample.split_at(700_000);
        let zstd = |content| zstd::stream::encode_all(content, 1).unwrap();
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        for (compression, content) in [
            (Compression::None, sample.clone()),
            (Compression::Gzip, [gzip(first), gzip(b""), gzip(second)].concat()),
            (
                Compression::Zstd,
                [&zstd(first)[..], &skippable, &zstd(second)].concat(),
            ),
        ] {
            let (_file, input) = input(&content, compression);
            let (read, digest) = read(&input, u64::MAX).unwrap();
            assert!(read == sample, "{compression}");
            assert_eq!(digest, Digest::sha256(&sample), "{compression}");
        }
    }

    #[test]
    fn damage_is_noticed() {
        let sample = sample();
        let zstd = zstd::stream::encode_all(&sample[..], 1).unwrap();
        let gzip = gzip(&sample);
        for (compression, whole) in [(Compression::Gzip, gzip), (Compression::Zstd, zstd)] {
            let mut flipped = whole.clone();
            let middle = flipped.len() / 2;
            flipped[middle] ^= 0x55;
            for content in [
                &whole[..whole.len() - 1],
                &whole[..whole.len() / 2],
                &whole[..3],
                &flipped,
            ] {
                let (_file, input) = input(content, compression);
                match read(&input, u64::MAX) {
                    Err(LayerFailure::Decompress(_)) => {}
                    // A flip that zstd, which needs no checksum, can't see changes the digest.
                    Ok((_, digest)) => assert_ne!(digest, Digest::sha256(&sample)),
                    other => panic!("{compression}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn bombs_end_at_the_limit() {
        let bomb = gzip(&vec![0; 64 << 20]);
        let (_file, input) = input(&bomb, Compression::Gzip);
        assert!(matches!(read(&input, 1 << 20), Err(LayerFailure::TooLarge)));
    }

    #[test]
    fn a_stream_that_is_dropped_or_cancelled_ends_its_threads() {
        let (_file, input) = input(&gzip(&vec![0; 32 << 20]), Compression::Gzip);
        drop(LayerStream::open(&input, u64::MAX, &CancellationToken::new()));
        let cancel = CancellationToken::new();
        let mut stream = LayerStream::open(&input, u64::MAX, &cancel).unwrap();
        cancel.cancel();
        stream.read(&mut [0; 10]).unwrap_err();
        assert!(matches!(stream.take_failure(), Some(LayerFailure::Cancelled)));
    }

    #[test]
    fn a_missing_blob() {
        let missing = LayerInput {
            path: "/does/not/exist".into(),
            compression: Compression::None,
            diff_id: None,
        };
        assert!(matches!(read(&missing, 1), Err(LayerFailure::Open(_))));
    }
}
