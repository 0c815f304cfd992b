use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::{CredentialError, Credentials, Found};

/// Long enough for a person to unlock a key ring.
const TIMEOUT: Duration = Duration::from_secs(60);
const MAX_ANSWER_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// Asks `docker-credential-NAME` for a server's credentials (the protocol of
/// docker-credential-helpers). Killed if it is cancelled or takes too long.
pub(super) async fn get(name: &str, server: &str) -> Result<Option<Found>, CredentialError> {
    let program = format!("docker-credential-{name}");
    match tokio::time::timeout(TIMEOUT, ask(&program, server)).await {
        Ok(answer) => answer,
        Err(_) => Err(CredentialError::HelperTimeout {
            program,
            seconds: TIMEOUT.as_secs(),
        }),
    }
}

async fn ask(program: &str, server: &str) -> Result<Option<Found>, CredentialError> {
    let unusable = |source| CredentialError::HelperStart {
        program: program.to_owned(),
        source,
    };
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(unusable)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input has its answer judged all the same.
        let _ = stdin.write_all(format!("{server}\n").as_bytes()).await;
    }
    let mut output = Vec::new();
    let mut complaint = Vec::new();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read_output = async {
        if let Some(stdout) = stdout {
            stdout.take(MAX_ANSWER_BYTES).read_to_end(&mut output).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let read_complaint = async {
        if let Some(stderr) = stderr {
            stderr.take(MAX_ANSWER_BYTES).read_to_end(&mut complaint).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    tokio::try_join!(read_output, read_complaint).map_err(unusable)?;
    let status = child.wait().await.map_err(unusable)?;
    if !status.success() {
        // Helpers say on stdout why they fail.
        let said = [&output[..], &complaint[..]].concat();
        let said = String::from_utf8_lossy(&said);
        if said.contains("credentials not found") || said.contains("no credentials") {
            return Ok(None);
        }
        return Err(CredentialError::HelperFailed {
            program: program.to_owned(),
            status: status.to_string(),
            message: crate::registry::presentable(&said),
        });
    }
    let answer: Answer = serde_json::from_slice(&output).map_err(|_| CredentialError::HelperAnswer {
        program: program.to_owned(),
    })?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    let credentials = if answer.username == "<token>" {
        Credentials::IdentityToken(answer.secret)
    } else {
        Credentials::Password {
            username: answer.username,
            password: answer.secret,
        }
    };
    Ok(Some(Found {
        credentials,
        origin: program.to_owned(),
    }))
}
