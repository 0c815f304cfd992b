//! Talks with a process in a box while it runs, line by line:
//! `cargo run --example streams -- IMAGE`
#![allow(clippy::print_stdout)]

use anyhow::Context;
use boxlite::{BoxOptions, Client, ExecOptions, RemoveOptions};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let image = std::env::args().nth(1).unwrap_or_else(|| "alpine:3.20".to_owned());
    let client = Client::builder().build().await?;
    let sandbox = client.create(BoxOptions::new(image)).await?;
    sandbox.start().await?;

    let script = r#"while read -r line; do echo "you said: $line"; done; echo "bye" >&2; exit 3"#;
    let mut execution = sandbox.exec(ExecOptions::new(["sh", "-c", script]).stdin(true)).await?;
    let mut stdin = execution.take_stdin().context("asked for above")?;
    let mut stdout = BufReader::new(execution.take_stdout().context("taken once")?).lines();
    let mut stderr = BufReader::new(execution.take_stderr().context("taken once")?).lines();

    for word in ["one", "two", "three"] {
        stdin.write_all(format!("{word}\n").as_bytes()).await?;
        if let Some(answer) = stdout.next_line().await? {
            println!("{answer}");
        }
    }
    stdin.shutdown().await?;
    // Both outputs are read at the same time: a process waits for whoever does not read.
    let (rest, last_words) = tokio::join!(stdout.next_line(), stderr.next_line());
    println!("then {:?} and {:?}", rest?, last_words?);
    println!("{}", execution.wait().await?);

    sandbox.remove(RemoveOptions::force()).await?;
    client.close().await;
    Ok(())
}
