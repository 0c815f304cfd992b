//! The library on a home, without machines: everything up to the start of one.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Duration;

use boxlite::{
    BoxOptions, BoxState, CheckStatus, Client, CreateError, Diagnose, ErrorCode, ImageRemoveError, ListFilter,
    PruneOptions, PullOptions, PullPolicy, RegistryOptions, RemoveOptions, StartError, no_progress,
};

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/motd"), "hello\n").unwrap();
        Self { folder }
    }

    fn home(&self) -> std::path::PathBuf {
        self.folder.path().join("home")
    }

    async fn client(&self) -> Client {
        Client::builder().home(self.home()).build().await.unwrap()
    }

    fn options(&self) -> BoxOptions {
        BoxOptions::new(format!("dir:{}", self.folder.path().join("root").display())).disk_mib(32)
    }
}

fn entries(path: &Path) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

fn all(filter: impl FnOnce(&mut ListFilter)) -> ListFilter {
    let mut all = ListFilter::all();
    filter(&mut all);
    all
}

async fn names(client: &Client, filter: ListFilter) -> Vec<String> {
    let mut names: Vec<String> = client
        .list(filter)
        .await
        .unwrap()
        .into_iter()
        .map(|info| info.name)
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn boxes_are_created_found_listed_and_removed() {
    let scene = Scene::new();
    let client = scene.client().await;
    let first = client
        .create(
            scene
                .options()
                .name("first")
                .label("tier", "db")
                .command(["/bin/server"]),
        )
        .await
        .unwrap();
    let second = client.create(scene.options().label("tier", "web")).await.unwrap();
    assert!(second.name().contains('_'), "a made-up name: {}", second.name());

    let info = first.info().await.unwrap();
    assert_eq!((info.state, info.name.as_str()), (BoxState::Created, "first"));
    assert_eq!(info.command, ["/bin/server"]);
    assert_eq!(info.hostname, &first.id()[..12]);
    assert_eq!(info.disk_mib, 32);
    assert!(info.directory.join("disk").is_file());
    let json = serde_json::to_value(&info).unwrap();
    assert_eq!(json["state"], "created");
    assert_eq!(json["exit_status"], serde_json::Value::Null);

    let id = first.id().to_owned();
    for reference in ["first", &id, &id[..8]] {
        assert_eq!(client.get(reference).await.unwrap().id(), id, "{reference}");
    }
    assert_eq!(client.get("absent").await.unwrap_err().code(), ErrorCode::NotFound);

    assert!(names(&client, ListFilter::default()).await.is_empty(), "nothing runs");
    assert_eq!(names(&client, ListFilter::all()).await.len(), 2);
    for (filter, count) in [
        (all(|f| f.labels = vec!["tier=db".into()]), 1),
        (all(|f| f.labels = vec!["tier".into()]), 2),
        (all(|f| f.labels = vec!["tier".into(), "other".into()]), 0),
        (all(|f| f.names = vec!["irs".into()]), 1),
        (all(|f| f.ids = vec![id[..6].into()]), 1),
        (all(|f| f.states = vec![BoxState::Stopped]), 0),
        (all(|f| f.states = vec![BoxState::Stopped, BoxState::Created]), 2),
        (all(|f| f.ancestors = vec![info.image.clone()]), 2),
        (all(|f| f.ancestors = vec!["alpine".into()]), 0),
    ] {
        assert_eq!(names(&client, filter.clone()).await.len(), count, "{filter:?}");
    }

    let error = client.create(scene.options().name("first")).await.unwrap_err();
    assert!(matches!(error, CreateError::NameTaken { .. }), "{error:?}");
    assert_eq!(error.code(), ErrorCode::AlreadyExists);
    client.rename("first", "renamed").await.unwrap();
    assert_eq!(client.get("renamed").await.unwrap().id(), id);
    assert_eq!(
        client.rename("renamed", second.name()).await.unwrap_err().code(),
        ErrorCode::AlreadyExists
    );

    client.remove("renamed", RemoveOptions::default()).await.unwrap();
    second.remove(RemoveOptions::force()).await.unwrap();
    assert_eq!(entries(&scene.home().join("boxes")), 0);
    assert_eq!(second.info().await.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(second.wait().await.unwrap_err().code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn boxes_of_one_folder_share_one_image_that_they_keep() {
    let scene = Scene::new();
    let client = scene.client().await;
    let creations = (0..6).map(|_| client.create(scene.options()));
    let boxes = futures_util::future::try_join_all(creations).await.unwrap();
    let images = client.images().list().await.unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].boxes, 6);
    assert!(images[0].rootfs_bytes.unwrap() > 0);
    let digest = images[0].digest.clone();
    assert_eq!(entries(&scene.home().join("images/rootfs")), 1);

    let error = client.images().remove(&digest, false).await.unwrap_err();
    assert!(
        matches!(&error, ImageRemoveError::InUse { boxes, .. } if boxes.len() == 6),
        "{error:?}"
    );
    client.images().tag(&digest, "local/demo:1").await.unwrap();
    client.images().tag(&digest, "local/demo:2").await.unwrap();
    let tagged = client.images().get("local/demo:1").await.unwrap();
    assert_eq!(tagged.references, ["docker.io/local/demo:1", "docker.io/local/demo:2"]);
    let named = client
        .create(
            BoxOptions::new("local/demo:1")
                .disk_mib(32)
                .pull_policy(PullPolicy::Never),
        )
        .await
        .unwrap();
    assert_eq!(named.info().await.unwrap().image_digest, digest);

    let removal = client.images().remove("local/demo:2", false).await.unwrap();
    assert_eq!(removal.untagged, ["docker.io/local/demo:2"]);
    assert!(removal.deleted.is_empty());

    let usage = client.disk_usage().await.unwrap();
    assert_eq!((usage.boxes.count, usage.images.count, usage.images.active), (7, 1, 1));
    assert_eq!(usage.images.reclaimable_bytes, 0);
    assert!(usage.boxes.size_bytes > 0 && usage.boxes.size_bytes == usage.boxes.reclaimable_bytes);

    for handle in &boxes {
        handle.remove(RemoveOptions::default()).await.unwrap();
    }
    let report = client.prune(PruneOptions::default()).await.unwrap();
    assert_eq!(report.boxes, [named.name()]);
    assert!(report.images.is_empty(), "the image still has a name: {report:?}");
    let removal = client.images().remove("local/demo:1", false).await.unwrap();
    assert_eq!(removal.deleted, [digest]);
    assert!(removal.freed_bytes > 0);
    assert_eq!(entries(&scene.home().join("images/rootfs")), 0);
}

#[tokio::test]
async fn what_is_wrong_is_said_before_anything_is_made() {
    let scene = Scene::new();
    let client = scene.client().await;
    let cases = [
        (scene.options().cpus(0), ErrorCode::InvalidArgument),
        (
            scene.options().mount(boxlite::Mount::new("/no/such/source", "/x")),
            ErrorCode::InvalidArgument,
        ),
        (scene.options().run_image_command(true), ErrorCode::InvalidArgument),
        (BoxOptions::new("Not A Reference"), ErrorCode::InvalidArgument),
        (
            BoxOptions::new("never/seen").pull_policy(PullPolicy::Never),
            ErrorCode::NotFound,
        ),
        (BoxOptions::new("dir:/no/such/folder"), ErrorCode::NotFound),
        (BoxOptions::new("oci:/no/such/layout"), ErrorCode::NotFound),
        (
            scene.options().engine(boxlite::EngineKind::Krun),
            ErrorCode::Unsupported,
        ),
    ];
    for (options, code) in cases {
        let what = format!("{options:?}");
        let error = client.create(options).await.unwrap_err();
        assert_eq!(error.code(), code, "{what}: {error}");
    }
    assert!(names(&client, ListFilter::all()).await.is_empty());
    assert_eq!(entries(&scene.home().join("boxes")), 0);
    assert_eq!(entries(&scene.home().join("tmp")), 0);
}

#[tokio::test]
async fn a_creation_that_is_given_up_in_mid_pull_leaves_nothing() {
    let scene = Scene::new();
    // Takes connections and never answers.
    let registry = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = registry.local_addr().unwrap();
    let (asked, mut was_asked) = tokio::sync::mpsc::unbounded_channel();
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = registry.accept().await {
            held.push(stream);
            let _ = asked.send(());
        }
    });
    let mut registries = RegistryOptions::default();
    registries.plain_http.push(address.to_string());
    let client = Client::builder()
        .home(scene.home())
        .registries(registries)
        .build()
        .await
        .unwrap();
    {
        let creation = client.create(BoxOptions::new(format!("{address}/image:1")));
        tokio::select! {
            result = creation => panic!("{result:?}"),
            asked = was_asked.recv() => asked.unwrap(),
        }
    }
    let (images, name) = (client.images(), format!("{address}/image:1"));
    let pull = images.pull(&name, PullOptions::default(), no_progress());
    assert!(tokio::time::timeout(Duration::from_millis(200), pull).await.is_err());
    assert!(names(&client, ListFilter::all()).await.is_empty());
    assert!(client.images().list().await.unwrap().is_empty());
    for folder in ["boxes", "tmp", "images/rootfs"] {
        assert_eq!(entries(&scene.home().join(folder)), 0, "{folder}");
    }
    silent.abort();
}

#[tokio::test]
async fn two_clients_see_one_home_and_a_closed_one_sees_nothing() {
    let scene = Scene::new();
    let (one, other) = (scene.client().await, scene.client().await);
    let handle = one.create(scene.options().name("shared")).await.unwrap();
    assert_eq!(other.get("shared").await.unwrap().id(), handle.id());
    let images = one.images();
    one.close().await;
    assert_eq!(handle.info().await.unwrap_err().code(), ErrorCode::Closed);
    assert_eq!(handle.start().await.unwrap_err().code(), ErrorCode::Closed);
    assert_eq!(images.list().await.unwrap_err().code(), ErrorCode::Closed);
    other.remove("shared", RemoveOptions::default()).await.unwrap();
}

#[tokio::test]
async fn what_only_a_running_box_can_do_says_that_it_does_not_run() {
    let scene = Scene::new();
    let client = scene.client().await;
    let handle = client.create(scene.options()).await.unwrap();
    let codes = [
        handle
            .exec(boxlite::ExecOptions::new(["true"]))
            .await
            .unwrap_err()
            .code(),
        handle.metrics().await.unwrap_err().code(),
        handle.processes().await.unwrap_err().code(),
        handle.kill(boxlite::Signal::TERM).await.unwrap_err().code(),
        handle
            .attach(boxlite::AttachOptions::default())
            .await
            .unwrap_err()
            .code(),
        handle
            .copy_out("/etc", scene.folder.path(), boxlite::CopyOptions::default())
            .await
            .unwrap_err()
            .code(),
    ];
    assert_eq!(codes, [ErrorCode::InvalidState; 6]);
    handle.stop(boxlite::StopOptions::default()).await.unwrap();
    let mut log = handle.logs(boxlite::LogOptions::default()).await.unwrap();
    assert!(log.next().await.is_none());
}

#[tokio::test]
async fn a_start_without_a_bundle_says_what_is_missing() {
    let scene = Scene::new();
    let empty = scene.folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let client = Client::builder()
        .home(scene.home())
        .bundle_dir(&empty)
        .build()
        .await
        .unwrap();
    let handle = client.create(scene.options()).await.unwrap();
    let error = handle.start().await.unwrap_err();
    assert!(matches!(error, StartError::Bundle(_)), "{error:?}");
    assert!(error.hint().unwrap().contains("BOXLITE_BUNDLE_DIR"));
    assert_eq!(handle.info().await.unwrap().state, BoxState::Created);

    let info = client.info().await.unwrap();
    assert_eq!((info.boxes.total, info.boxes.stopped, info.images), (1, 1, 1));
    assert!(info.bundle.is_none() && info.bundle_error.is_some());
    let report = client.doctor().await;
    let bundle = report.checks.iter().find(|check| check.name == "bundle").unwrap();
    assert_eq!(bundle.status, CheckStatus::Failure);
    assert!(!report.can_start());
}

#[test]
fn any_kind_of_runtime_will_do() {
    for runtime in [
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap(),
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap(),
    ] {
        let scene = Scene::new();
        runtime.block_on(async {
            let client = scene.client().await;
            let handle = client.create(scene.options()).await.unwrap();
            handle.remove(RemoveOptions::default()).await.unwrap();
            client.close().await;
        });
    }
}
