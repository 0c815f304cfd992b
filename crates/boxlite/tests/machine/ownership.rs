use boxlite::{BoxState, Client, Diagnose, ErrorCode, ListFilter, RemoveOptions};

use crate::harness::{Scene, eventually, shell};

async fn state_of(client: &Client, name: &str) -> BoxState {
    client.get(name).await.unwrap().info().await.unwrap().state
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn boxes_end_with_their_client_unless_they_are_detached() {
    let scene = Scene::new();
    let client = scene.client().await;
    let tied = client.create(scene.options().name("tied")).await.unwrap();
    let free = client
        .create(scene.options().name("free").detached(true))
        .await
        .unwrap();
    tied.start().await.unwrap();
    free.start().await.unwrap();

    let other = scene.client().await;
    let names: Vec<String> = other
        .list(ListFilter::default())
        .await
        .unwrap()
        .into_iter()
        .map(|info| info.name)
        .collect();
    assert_eq!(names, ["free", "tied"]);
    let through_other = other.get("tied").await.unwrap();
    assert_eq!(shell(&through_other, "echo shared").await, "shared\n");

    client.close().await;
    assert_eq!(tied.info().await.unwrap_err().code(), ErrorCode::Closed);
    assert_eq!(state_of(&other, "tied").await, BoxState::Stopped);
    assert_eq!(state_of(&other, "free").await, BoxState::Running);
    assert_eq!(shell(&other.get("free").await.unwrap(), "echo alive").await, "alive\n");
    other.remove("free", RemoveOptions::force()).await.unwrap();
    other.remove("tied", RemoveOptions::default()).await.unwrap();
    assert_eq!(scene.box_folders(), 0);
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn dropping_the_last_clone_of_a_client_ends_its_boxes() {
    let scene = Scene::new();
    let client = scene.client().await;
    let clone = client.clone();
    let handle = client.create(scene.options().name("tied")).await.unwrap();
    handle.start().await.unwrap();
    drop(client);
    assert_eq!(handle.info().await.unwrap().state, BoxState::Running);
    drop(clone);
    let other = scene.client().await;
    eventually("the end of a box without a client", || async {
        state_of(&other, "tied").await == BoxState::Stopped
    })
    .await;
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn a_start_that_is_given_up_leaves_nothing_running() {
    let scene = Scene::new();
    let client = scene.client().await;
    let handle = client.create(scene.options().name("given-up")).await.unwrap();
    let start = tokio::time::timeout(std::time::Duration::from_millis(300), handle.start()).await;
    if start.is_ok() {
        // A host so fast that it is up by then has nothing to give up.
        return;
    }
    eventually("the end of a start that was given up", || async {
        !handle.info().await.unwrap().state.is_alive()
    })
    .await;
    handle.start().await.unwrap();
    assert_eq!(shell(&handle, "echo up").await, "up\n");
}
