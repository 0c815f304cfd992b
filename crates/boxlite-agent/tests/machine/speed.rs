//! Figures, printed; the limits are far from what is expected, so that a busy machine
//! does not fail them.

use std::time::{Duration, Instant};

use boxlite_protocol::guest::{exec_input::Input, exec_output::Output};
use bytes::Bytes;

use crate::harness::{Execution, Machine, Options, exec, shell, spec};

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

#[tokio::test]
#[ignore = "starts a machine"]
async fn figures() {
    let mut machine = Machine::start(&Options::default());
    let (mut client, hello) = machine.connect().await;
    let connected = machine.started.elapsed();
    let configured = client
        .configure(crate::harness::configure_request(&Options::default()))
        .await
        .unwrap()
        .into_inner();
    let began = Instant::now();
    exec(&mut client, spec(&["true"])).await;
    let first = began.elapsed();
    eprintln!(
        "start to hello {connected:?} (kernel {} us, agent {} us), configure {} us (mounts {} us), first exec {first:?}, total {:?}",
        hello.kernel_us,
        hello.agent_us,
        configured.total_us,
        configured.mounts_us,
        machine.started.elapsed()
    );
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        assert!(exec(&mut client, spec(&["/bin/true"])).await.status.success());
        times.push(began.elapsed());
    }
    let (median, slowest) = (percentile(&mut times, 50), percentile(&mut times, 99));
    eprintln!("exec of true: p50 {median:?}, p99 {slowest:?}");
    assert!(median < Duration::from_millis(100));

    let began = Instant::now();
    let finished = exec(
        &mut client,
        shell("exec busybox dd if=/dev/zero bs=64k count=2048 2>/dev/null"),
    )
    .await;
    eprintln!(
        "output: {:.0} MB/s",
        finished.stdout.len() as f64 / 1e6 / began.elapsed().as_secs_f64()
    );
    assert_eq!(finished.stdout.len(), 128 << 20);

    let mut process = shell("cat > /dev/null; echo done");
    process.stdin = true;
    let count = Execution::start(&mut client, process, false).await.unwrap();
    let chunk = Bytes::from(vec![0; 65536]);
    let began = Instant::now();
    for _ in 0..2048 {
        count.send(Input::Stdin(chunk.clone())).await;
    }
    count.close_stdin().await;
    let finished = count.finish().await;
    eprintln!(
        "input: {:.0} MB/s",
        (128 << 20) as f64 / 1e6 / began.elapsed().as_secs_f64()
    );
    assert_eq!(finished.text(), "done\n");

    // A key press and its echo.
    let mut process = spec(&["cat"]);
    (process.tty, process.stdin) = (true, true);
    let mut cat = Execution::start(&mut client, process, false).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        cat.send(Input::Stdin(Bytes::from_static(b"x"))).await;
        assert!(matches!(cat.next().await, Output::Stdout(_)));
        times.push(began.elapsed());
    }
    eprintln!("key press to echo: p50 {:?}", percentile(&mut times, 50));
    drop(cat);
    eprintln!("engine with an idle box: {} MiB PSS", machine.pss_mib());
    let began = Instant::now();
    machine.shut_down(&mut client, 15, 1000).await;
    eprintln!("shutdown to engine's end: {:?}", began.elapsed());
}
