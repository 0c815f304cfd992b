//! What the boundary costs: `cargo run --release -p boxlite-ffi --example overhead`.
//!
//! The same work through the C functions and through the library, on a box that does not run.

use std::ffi::CString;
use std::hint::black_box;
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

use boxlite_ffi::boxes::{boxlite_box_create, boxlite_box_info, boxlite_box_list, boxlite_box_name};
use boxlite_ffi::client::{boxlite_client_free, boxlite_client_new, boxlite_client_open};
use boxlite_ffi::op::{boxlite_op_free, boxlite_op_result_handle, boxlite_op_result_json, boxlite_op_wait};
use boxlite_ffi::text::boxlite_string_free;
use boxlite_ffi::version::boxlite_abi_version;

const ROUNDS: u32 = 3_000;

fn mean(rounds: u32, mut work: impl FnMut()) -> Duration {
    for _ in 0..rounds / 10 {
        work();
    }
    let begun = Instant::now();
    for _ in 0..rounds {
        work();
    }
    begun.elapsed() / rounds
}

/// Starts, waits, takes the result and frees the operation.
fn finish(start: impl FnOnce(*mut u64) -> i32) {
    let (mut op, mut json) = (0, null_mut());
    // SAFETY: places that are valid for writing; the text is freed once.
    unsafe {
        assert_eq!(start(&raw mut op), 0);
        assert_eq!(boxlite_op_wait(op, -1, null_mut()), 0);
        assert_eq!(boxlite_op_result_json(op, &raw mut json, null_mut()), 0);
        boxlite_string_free(json);
    }
    boxlite_op_free(op);
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("boxlite-overhead-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("root"))?;
    std::fs::write(folder.join("root/file"), "x")?;
    let home = folder.join("home");
    let options = CString::new(format!("{{\"home\":{:?}}}", home.display().to_string()))?;
    let image = CString::new(format!(
        "{{\"image\":\"dir:{}/root\",\"disk_mib\":16}}",
        folder.display()
    ))?;
    let (mut client, mut op, mut target) = (0, 0, 0);
    // SAFETY: C strings, and places that are valid for writing.
    unsafe {
        assert_eq!(boxlite_client_new(options.as_ptr(), &raw mut client, null_mut()), 0);
        assert_eq!(boxlite_client_open(client, &raw mut op, null_mut()), 0);
        assert_eq!(boxlite_op_wait(op, -1, null_mut()), 0);
        assert_eq!(boxlite_box_create(client, image.as_ptr(), &raw mut op, null_mut()), 0);
        assert_eq!(boxlite_op_wait(op, -1, null_mut()), 0);
        assert_eq!(boxlite_op_result_handle(op, &raw mut target, null_mut()), 0);
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let library = runtime.block_on(boxlite::Client::builder().home(&home).build())?;
    let found = runtime.block_on(library.list(boxlite::ListFilter::all()))?;
    let same = runtime.block_on(library.get(&found[0].id))?;

    let trivial = mean(1_000_000, || {
        black_box(boxlite_abi_version());
    });
    let name = mean(1_000_000, || {
        let mut text = null_mut();
        // SAFETY: a place that is valid for writing; the text is freed once.
        unsafe {
            boxlite_box_name(target, &raw mut text, null_mut());
            boxlite_string_free(text);
        }
    });
    let list = mean(ROUNDS, || {
        finish(|op| {
            // SAFETY: NULL options, a place that is valid for writing.
            unsafe { boxlite_box_list(client, null(), op, null_mut()) }
        });
    });
    let info = mean(ROUNDS, || {
        finish(|op| {
            // SAFETY: a place that is valid for writing.
            unsafe { boxlite_box_info(target, op, null_mut()) }
        });
    });
    let list_of_library = mean(ROUNDS, || {
        let listed = runtime.block_on(library.list(boxlite::ListFilter::default()));
        black_box(listed.is_ok());
    });
    let info_of_library = mean(ROUNDS, || {
        let info = runtime.block_on(same.info());
        black_box(info.is_ok());
    });
    let line = |what: &str, value: Duration| {
        let text = format!("{what:<44}{value:>12.2?}\n");
        std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())
    };
    line("boxlite_abi_version", trivial)?;
    line("boxlite_box_name and free", name)?;
    line("box_list: start, wait, result, free", list)?;
    line("  the same in the library", list_of_library)?;
    line("box_info: start, wait, result, free", info)?;
    line("  the same in the library", info_of_library)?;
    boxlite_client_free(client);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
