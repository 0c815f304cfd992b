//! A home of its own for each test, with boxes of the busybox image.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use boxlite_ffi::boxes::*;
use boxlite_ffi::client::boxlite_client_close;
use serde_json::{Value, json};

use crate::harness::op;
use crate::harness::{Client, Failed, c, image};

pub(crate) struct Scene {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) client: Client,
}

impl Drop for Scene {
    fn drop(&mut self) {
        // No machine outlives its test, however that ended.
        if let Ok(closing) = op!(boxlite_client_close(self.client.0)) {
            let _ = closing.wait();
        }
    }
}

impl Scene {
    pub(crate) fn new() -> Self {
        assert!(
            std::env::var_os("BOXLITE_BUNDLE_DIR").is_some(),
            "BOXLITE_BUNDLE_DIR is not set: `make bundle` makes target/bundle"
        );
        let folder = tempfile::tempdir().unwrap();
        let client = Client::open(&folder.path().join("home"));
        Self { folder, client }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Makes a box with these options over a small one's.
    pub(crate) fn create(&self, options: Value) -> Result<u64, Failed> {
        let mut all = json!({ "image": image(), "memory_mib": 128, "disk_mib": 64 });
        let fields = all.as_object_mut().unwrap();
        fields.extend(options.as_object().unwrap().clone());
        let text = c(&all.to_string());
        op!(boxlite_box_create(self.client.0, text.as_ptr()))?.handle()
    }

    /// Makes and starts one.
    pub(crate) fn start(&self, options: Value) -> u64 {
        let made = self.create(options).unwrap();
        start(made).unwrap();
        made
    }
}

pub(crate) fn start(target: u64) -> Result<(), Failed> {
    op!(boxlite_box_start(target)).unwrap().wait()
}

pub(crate) fn stop(target: u64, options: Value) {
    let text = c(&options.to_string());
    op!(boxlite_box_stop(target, text.as_ptr())).unwrap().wait().unwrap();
}

pub(crate) fn info(target: u64) -> Value {
    op!(boxlite_box_info(target)).unwrap().json().unwrap()
}

pub(crate) fn wait(target: u64) -> Value {
    op!(boxlite_box_wait(target)).unwrap().json().unwrap()
}

/// What the main process wrote: standard output, standard error.
pub(crate) fn logs(target: u64, options: Value) -> (String, String) {
    let mut files = [(); 2].map(|()| tempfile::tempfile().unwrap());
    let text = c(&options.to_string());
    let [out, err] = files.each_ref().map(AsRawFd::as_raw_fd);
    op!(boxlite_box_logs(target, text.as_ptr(), out, err))
        .unwrap()
        .wait()
        .unwrap();
    let read = |file: &mut File| {
        use std::io::Seek;
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    };
    let [out, err] = &mut files;
    (read(out), read(err))
}
