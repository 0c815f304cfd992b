//! Runs one command in a box of its own: `cargo run --example quickstart -- IMAGE COMMAND…`
#![allow(clippy::print_stdout)]

use boxlite::{AttachOptions, BoxOptions, Client, RemoveOptions};
use tokio::io::AsyncReadExt;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let image = arguments.next().unwrap_or_else(|| "alpine:3.20".to_owned());
    let mut command: Vec<String> = arguments.collect();
    if command.is_empty() {
        command = ["uname", "-a"].map(str::to_owned).into();
    }

    let client = Client::builder().build().await?;
    let sandbox = client.create(BoxOptions::new(image).command(command)).await?;
    let mut execution = sandbox.start_attached(AttachOptions::default()).await?;

    let mut output = String::new();
    if let Some(mut stdout) = execution.take_stdout() {
        stdout.read_to_string(&mut output).await?;
    }
    let status = execution.wait().await?;
    print!("{output}");
    println!("({status}, in the box {})", sandbox.name());

    sandbox.remove(RemoveOptions::force()).await?;
    client.close().await;
    Ok(())
}
