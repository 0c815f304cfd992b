//! The JSON is as docs/json.md says, field by field, and nothing that is no such JSON gets in.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use boxlite_ffi::boxes::*;
use boxlite_ffi::client::*;
use boxlite_ffi::copy::*;
use boxlite_ffi::exec::*;
use boxlite_ffi::image::*;
use boxlite_ffi::json::*;
use boxlite_ffi::progress;
use boxlite_ffi::template::*;
use harness::{Client, Failed, c, op, still_life};
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

type Row = (String, String);

/// For each type of the page, its first two columns.
fn page() -> BTreeMap<String, Vec<Row>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json.md");
    let text = std::fs::read_to_string(path).unwrap();
    let sections = text.split("\n### ").skip(1);
    sections
        .map(|section| {
            let (name, body) = section.split_once('\n').unwrap();
            let rows = body
                .lines()
                .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
            let rows = rows.map(|(field, rest)| {
                let kind = rest.split(" | ").next().unwrap();
                (field.trim_matches('"').to_owned(), kind.to_owned())
            });
            (name.to_owned(), rows.collect())
        })
        .collect()
}

/// What serde says that it would have taken: "expected one of `a`, `b`".
fn expected(error: &serde_json::Error) -> BTreeSet<String> {
    let text = error.to_string();
    let list = text.split("expected").nth(1).unwrap_or_else(|| panic!("{text}"));
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A value of the kind that the page says.
fn sample(page: &BTreeMap<String, Vec<Row>>, kind: &str) -> Value {
    let kind = kind.trim_end_matches(", or null");
    if let Some(items) = kind.strip_prefix("array of ") {
        return json!([sample(page, items)]);
    }
    if let Some(values) = kind.strip_prefix("object of ") {
        return json!({ "key": sample(page, values) });
    }
    match kind {
        "string, an IP address" => json!("10.1.2.3"),
        text if text.starts_with("string") => json!("text"),
        number if number.starts_with("integer") => json!(7),
        "boolean" => json!(true),
        "[Signal](#signal)" => json!("SIGTERM"),
        link => {
            let name = link.strip_prefix('[').unwrap().split(']').next().unwrap();
            let rows = &page[name];
            if rows.iter().all(|(_, kind)| !is_kind(kind)) {
                return json!(rows[0].0);
            }
            sample_of(page, name)
        }
    }
}

fn is_kind(text: &str) -> bool {
    ["array", "object", "string", "integer", "boolean", "["]
        .iter()
        .any(|start| text.starts_with(start))
}

fn sample_of(page: &BTreeMap<String, Vec<Row>>, name: &str) -> Value {
    let fields = page[name]
        .iter()
        .map(|(field, kind)| (field.clone(), sample(page, kind)));
    Value::Object(fields.collect::<Map<_, _>>())
}

/// What every field of the page is when it crosses serde both ways. Takes its type off the list.
fn check_both_ways<T: Serialize + DeserializeOwned>(open: &mut BTreeMap<String, Vec<Row>>, name: &str) {
    let all = page();
    let given = sample_of(&all, name);
    let value: T = serde_json::from_value(given.clone()).unwrap_or_else(|error| panic!("{name}: {error}: {given}"));
    let back = serde_json::to_value(&value).unwrap();
    assert_eq!(given, back, "{name}");
    assert!(open.remove(name).is_some());
}

fn check_options<T: Serialize + DeserializeOwned>(open: &mut BTreeMap<String, Vec<Row>>, name: &str) {
    let error = serde_json::from_str::<T>(r#"{"no such field": 1}"#).err().unwrap();
    let fields: BTreeSet<String> = page()[name].iter().map(|(field, _)| field.clone()).collect();
    assert_eq!(fields, expected(&error), "{name}");
    check_both_ways::<T>(open, name);
}

fn check_words<T: Serialize + DeserializeOwned>(open: &mut BTreeMap<String, Vec<Row>>, name: &str) {
    let words: BTreeSet<String> = open.remove(name).unwrap().into_iter().map(|(word, _)| word).collect();
    let error = serde_json::from_str::<T>("\"no such word\"").err().unwrap();
    assert_eq!(words, expected(&error), "{name}");
    for word in words {
        let value: T = serde_json::from_value(json!(word)).unwrap();
        assert_eq!(serde_json::to_value(&value).unwrap(), json!(word));
    }
}

#[test]
fn the_page_has_every_field_and_no_other() {
    let mut open = page();
    macro_rules! check {
        ($how:ident: $($name:ident = $type:ty),* $(,)?) => {
            $($how::<$type>(&mut open, stringify!($name));)*
        };
        ($how:ident from $module:ident: $($name:ident),* $(,)?) => {
            $($how::<$module::$name>(&mut open, stringify!($name));)*
        };
    }
    check!(check_options: ClientOptions = ClientOptions, StopOptions = StopOptions, AttachOptions = AttachOptions,
        ExecOptions = ExecOptions, ImageRemoveOptions = ImageRemoveOptions);
    check!(check_options from boxlite: RegistryOptions, Credentials, BoxOptions, Mount, Port, ExtraHost, LogLimits,
        ListFilter, RemoveOptions, LogOptions, CopyOptions, PullOptions, LoadOptions, TemplateOptions, PruneOptions);
    check!(check_words: StdoutMode = StdoutMode, StderrMode = StderrMode);
    check!(check_words from boxlite: Accelerator, EngineKind, TemplateUse, Protocol, NetworkMode, PullPolicy, Security,
        StartPreference, BoxState, ErrorCode, BundleOrigin, CheckStatus);
    check!(check_both_ways from boxlite: BoxInfo, PublishedPort, RunInfo, StageTiming, JailInfo, MissingMeasure,
        Diagnosis, ExitStatus, Metrics, HostMetrics, ProcessInfo, CopyReport, SkippedEntry, ImageInfo, LayerInfo,
        ImageConfigInfo, ImageRemoval, TemplateInfo, SystemInfo, EngineInfo, AcceleratorInfo, BundleInfo, BoxCounts,
        DoctorReport, Check, DiskUsage, UsageClass, ImageUsage, BoxUsage, PruneReport);
    // Only ever written.
    let progress = progress::Progress {
        layers: vec![progress::LayerProgress {
            digest: String::new(),
            state: boxlite::LayerState::Waiting,
            current_bytes: 0,
            total_bytes: None,
        }],
        retry: Some(progress::RetryProgress {
            what: String::new(),
            reason: String::new(),
            attempt: 1,
        }),
        ..progress::Progress::default()
    };
    let progress = serde_json::to_value(progress).unwrap();
    for (name, value) in [
        ("LayerProgress", &progress["layers"][0]),
        ("RetryProgress", &progress["retry"]),
        ("Progress", &progress),
    ] {
        let fields: BTreeSet<String> = open.remove(name).unwrap().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, value.as_object().unwrap().keys().cloned().collect(), "{name}");
    }
    open.remove("Signal").unwrap();
    for words in ["ProgressPhase", "LayerState"] {
        open.remove(words).unwrap();
    }
    assert!(open.is_empty(), "no test knows {:?}", open.keys());
}

/// Everything that takes JSON, called with this text. The box can't be started.
fn every_entry(client: u64, target: u64, text: &str) -> Vec<(&'static str, Result<harness::Op, Failed>)> {
    let json = c(text);
    let json = json.as_ptr();
    let name = c("nothing-has-this-name");
    let name = name.as_ptr();
    vec![
        ("client_prune", op!(boxlite_client_prune(client, json))),
        ("box_create", op!(boxlite_box_create(client, json))),
        ("box_list", op!(boxlite_box_list(client, json))),
        ("box_remove", op!(boxlite_box_remove(client, name, json))),
        ("box_start_attached", op!(boxlite_box_start_attached(target, json))),
        ("box_attach", op!(boxlite_box_attach(target, json))),
        ("box_stop", op!(boxlite_box_stop(target, json))),
        ("box_logs", op!(boxlite_box_logs(target, json, -1, -1))),
        ("box_copy_in", op!(boxlite_box_copy_in(target, name, name, json))),
        ("box_copy_out", op!(boxlite_box_copy_out(target, name, name, json))),
        ("box_copy_in_tar", op!(boxlite_box_copy_in_tar(target, 0, name, json))),
        ("box_copy_out_tar", op!(boxlite_box_copy_out_tar(target, name, 0, json))),
        ("exec_start", op!(boxlite_exec_start(target, json))),
        ("image_load", op!(boxlite_image_load(client, name, json))),
        ("image_remove", op!(boxlite_image_remove(client, name, json))),
    ]
}

fn with_box(then: impl FnOnce(u64, u64)) {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(&folder.path().join("home"));
    let options = c(&still_life(folder.path()).to_string());
    let target = op!(boxlite_box_create(client.0, options.as_ptr()))
        .unwrap()
        .handle()
        .unwrap();
    then(client.0, target);
    client.close();
}

#[test]
fn what_is_no_object_or_has_an_unknown_field_is_refused_by_name() {
    with_box(|client, target| {
        for text in [
            "",
            " ",
            "[]",
            "null",
            "1",
            "\"\"",
            "{",
            "{}}",
            "{\"a\":}",
            "{\"nobody knows me\":1}",
        ] {
            for (name, result) in every_entry(client, target, text) {
                let failed = result.err().unwrap_or_else(|| panic!("{name} takes {text}"));
                assert_eq!(failed.code, 4, "{name}: {text}: {failed:?}");
                assert_eq!(failed.operation, name);
                if text.contains("nobody") {
                    assert!(failed.message.contains("nobody knows me"), "{failed:?}");
                }
            }
        }
    });
    for text in ["[]", "{\"nobody knows me\":1}"] {
        let failed = Client::new(&serde_json::from_str(text).unwrap()).err().unwrap();
        assert_eq!((failed.code, failed.operation.as_str()), (4, "client_new"));
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let fields = || {
        let known: Vec<String> = page().into_values().flatten().map(|(field, _)| field).collect();
        prop_oneof![4 => proptest::sample::select(known), 1 => ".{0,8}"]
    };
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((fields(), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

#[test]
fn no_json_does_harm() {
    let texts = prop_oneof![
        4 => any_json().prop_map(|value| value.to_string()),
        1 => "[^\0]{0,40}",
        1 => "[\\[{]{0,400}",
    ];
    with_box(|client, target| {
        proptest!(harness::cases(200), |(text in texts)| {
            let text = text.replace('\0', "");
            for (name, result) in every_entry(client, target, &text) {
                match result {
                    // Cancelled: what it would do is not asked here.
                    Ok(op) => op.cancel(),
                    Err(failed) => prop_assert_eq!(failed.code, 4, "{}: {:?}", name, failed),
                }
            }
        });
    });
}

#[test]
fn texts_that_are_missing_or_no_utf_8_are_refused() {
    with_box(|client, target| {
        let (null, latin) = (std::ptr::null(), c"caf\xe9".as_ptr());
        for text in [null, latin] {
            for result in [
                op!(boxlite_box_get(client, text)),
                op!(boxlite_box_rename(client, text, c"x".as_ptr())),
                op!(boxlite_box_rename(client, c"x".as_ptr(), text)),
                op!(boxlite_image_pull(client, text, null)),
                op!(boxlite_image_get(client, text)),
                op!(boxlite_image_tag(client, c"a".as_ptr(), text)),
                op!(boxlite_template_remove(client, text)),
                op!(boxlite_box_copy_in(target, c"/".as_ptr(), text, null)),
            ] {
                let failed = result.err().unwrap();
                assert_eq!(failed.code, 4, "{failed:?}");
                assert!(
                    failed.message.contains("NULL") || failed.message.contains("UTF-8"),
                    "{failed:?}"
                );
            }
        }
        // A path of the host is bytes.
        let op = op!(boxlite_box_copy_in(target, latin, c"/x".as_ptr(), null)).unwrap();
        assert_eq!(op.wait().unwrap_err().code, 3, "the box does not run");
    });
}
