//! How host and agent find each other on a byte stream whose history neither knows.
//!
//! A virtio-serial port may still hold bytes of an earlier connection, and a
//! machine that was restored from a template has never spoken to this host. So
//! the host writes [`HOST_MAGIC`] and a nonce; the agent discards bytes until it
//! sees that, and answers [`AGENT_MAGIC`] and the same nonce; the host discards
//! bytes until it sees that answer. HTTP/2 begins with the next byte both ways.
//!
//! Neither end reads a byte past the preamble. Both magics begin with a byte that
//! is in no other place of them and in no UTF-8 text, which makes the scan exact.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// What the host writes before its nonce.
pub const HOST_MAGIC: [u8; 8] = *b"\xffBOXLITE";
/// What the agent writes before the host's nonce.
pub const AGENT_MAGIC: [u8; 8] = *b"\xffboxlite";
/// How many bytes an end discards before it gives up.
pub const GARBAGE_LIMIT_BYTES: u64 = 16 * 1024 * 1024;

const NONCE_BYTES: usize = 8;

/// The ends did not find each other.
#[derive(Debug, thiserror::Error)]
pub enum PreambleError {
    /// The stream broke or ended.
    #[error("the stream broke before the preamble was exchanged")]
    Stream(#[from] std::io::Error),
    /// The peer sends, but nothing that makes sense.
    #[error("{discarded_bytes} bytes came and no preamble among them")]
    Garbage {
        /// How many bytes were discarded.
        discarded_bytes: u64,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes for the preamble")]
    Random(#[source] std::io::Error),
}

/// The host's part, on a stream to an agent that may not have started yet.
///
/// Waits without limit for an answer: the caller watches the machine and the clock.
/// Dropping the future leaves the stream unusable for anything but another preamble.
///
/// # Errors
/// [`PreambleError`].
pub async fn host<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<(), PreambleError> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|error| PreambleError::Random(std::io::Error::other(error.to_string())))?;
    write(stream, HOST_MAGIC, nonce).await?;
    let mut discarded_bytes = 0;
    loop {
        // An answer with another nonce was meant for an earlier connection.
        if scan(stream, AGENT_MAGIC, &mut discarded_bytes).await? == nonce {
            return Ok(());
        }
    }
}

/// The agent's part: waits without limit for a host.
///
/// # Errors
/// [`PreambleError`].
pub async fn agent<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<(), PreambleError> {
    let nonce = scan(stream, HOST_MAGIC, &mut 0).await?;
    write(stream, AGENT_MAGIC, nonce).await
}

async fn write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    magic: [u8; 8],
    nonce: [u8; NONCE_BYTES],
) -> Result<(), PreambleError> {
    let mut bytes = [0; 8 + NONCE_BYTES];
    bytes[..8].copy_from_slice(&magic);
    bytes[8..].copy_from_slice(&nonce);
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(())
}

/// Discards bytes up to and with `magic`, and returns the nonce after it.
async fn scan<S: AsyncRead + Unpin>(
    stream: &mut S,
    magic: [u8; 8],
    discarded_bytes: &mut u64,
) -> Result<[u8; NONCE_BYTES], PreambleError> {
    let mut matched = 0;
    let mut buffer = [0; 8];
    while matched < magic.len() {
        // No more than what is missing can be read without reading past the magic.
        let count = stream.read(&mut buffer[..magic.len() - matched]).await?;
        if count == 0 {
            return Err(PreambleError::Stream(std::io::ErrorKind::UnexpectedEof.into()));
        }
        for &byte in &buffer[..count] {
            if byte == magic[matched] {
                matched += 1;
            } else {
                *discarded_bytes += matched as u64 + 1;
                matched = 0;
                if byte == magic[0] {
                    *discarded_bytes -= 1;
                    matched = 1;
                }
            }
        }
        if *discarded_bytes > GARBAGE_LIMIT_BYTES {
            return Err(PreambleError::Garbage {
                discarded_bytes: *discarded_bytes,
            });
        }
    }
    let mut nonce = [0; NONCE_BYTES];
    stream.read_exact(&mut nonce).await?;
    Ok(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn contains(haystack: &[u8], needle: &[u8]) -> bool {
        haystack.windows(needle.len()).any(|window| window == needle)
    }

    /// Bytes that are often parts of the magic.
    fn near_magic() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            prop_oneof![
                any::<u8>().prop_map(|byte| vec![byte]),
                (0..8_usize).prop_map(|end| HOST_MAGIC[..end].to_vec()),
                (1..8_usize).prop_map(|start| HOST_MAGIC[start..].to_vec()),
            ],
            0..40,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn garbage_is_discarded_and_nothing_after_is_read(
            garbage in near_magic(), nonce: [u8; 8], rest: Vec<u8>
        ) {
            // With the magic behind it, garbage must not make an earlier one.
            let mut bytes = garbage.clone();
            bytes.extend(&HOST_MAGIC[..7]);
            prop_assume!(!contains(&bytes, &HOST_MAGIC));
            bytes.push(HOST_MAGIC[7]);
            bytes.extend(nonce);
            bytes.extend(&rest);
            let mut cursor = Cursor::new(bytes);
            let mut discarded = 0;
            let found = run(scan(&mut cursor, HOST_MAGIC, &mut discarded)).unwrap();
            prop_assert_eq!(found, nonce);
            prop_assert_eq!(discarded, garbage.len() as u64);
            prop_assert_eq!(cursor.position(), (garbage.len() + 16) as u64);
        }

        #[test]
        fn bytes_without_a_preamble_end_in_an_error(garbage in near_magic()) {
            prop_assume!(!contains(&garbage, &HOST_MAGIC));
            let result = run(scan(&mut Cursor::new(garbage), HOST_MAGIC, &mut 0));
            prop_assert!(matches!(result, Err(PreambleError::Stream(_))));
        }
    }

    #[test]
    fn endless_garbage_is_given_up() {
        let mut zeros = tokio::io::repeat(0);
        let result = run(scan(&mut zeros, HOST_MAGIC, &mut 0));
        assert!(matches!(result, Err(PreambleError::Garbage { .. })));
    }

    #[test]
    fn answers_to_another_host_are_passed_over() {
        run(async {
            let (mut host_end, mut agent_end) = tokio::io::duplex(64);
            let agent_side = async {
                let nonce = scan(&mut agent_end, HOST_MAGIC, &mut 0).await.unwrap();
                write(&mut agent_end, AGENT_MAGIC, nonce.map(|byte| !byte))
                    .await
                    .unwrap();
                agent_end.write_all(b"noise").await.unwrap();
                write(&mut agent_end, AGENT_MAGIC, nonce).await.unwrap();
                agent_end.write_all(b"!").await.unwrap();
            };
            let (result, ()) = tokio::join!(host(&mut host_end), agent_side);
            result.unwrap();
            assert_eq!(host_end.read_u8().await.unwrap(), b'!');
        });
    }
}
