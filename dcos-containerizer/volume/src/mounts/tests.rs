use super::*;
use crate::testkit::{self, Memory};

struct Fixture {
    dir: tempfile::TempDir,
    driver: Memory,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let driver = Memory::new(&dir.path().join("data"));
        Self { dir, driver }
    }

    /// As an agent would after a start.
    fn mounts(&self) -> Mounts {
        let folder = self.dir.path().join("state");
        Mounts::new(folder, Form::Docker, Arc::new(self.driver.clone()))
    }

    fn checkpoints(&self) -> usize {
        fs::read_dir(self.dir.path().join("state")).map_or(0, Iterator::count)
    }

    fn calls(&self) -> (usize, usize) {
        (self.driver.calls("mount"), self.driver.calls("unmount"))
    }
}

fn wanted(names: &[&str]) -> Vec<(String, VolumeRequest)> {
    let request = |name: &&str| VolumeRequest {
        name: (*name).to_owned(),
        ..VolumeRequest::default()
    };
    names
        .iter()
        .map(|name| ("memory".to_owned(), request(name)))
        .collect()
}

fn alive(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn the_double_keeps_the_promises() {
    let fixture = Fixture::new();
    testkit::all(
        &|| Arc::new(fixture.driver.clone()),
        &VolumeRequest::default(),
    )
    .await;
}

#[tokio::test]
async fn the_first_user_mounts_and_the_last_one_unmounts() {
    let fixture = Fixture::new();
    let mounts = fixture.mounts();
    let a = mounts.attach("a", wanted(&["x", "y"])).await.unwrap();
    let b = mounts.attach("b", wanted(&["x"])).await.unwrap();
    assert_eq!((a[0].clone(), fixture.calls()), (b[0].clone(), (2, 0)));
    assert_eq!(mounts.users("memory", "x"), 2);
    mounts.release("a").await.unwrap();
    assert_eq!(fixture.calls(), (2, 1));
    mounts.release("b").await.unwrap();
    mounts.release("b").await.unwrap();
    mounts.release("stranger").await.unwrap();
    assert_eq!((fixture.calls(), fixture.checkpoints()), ((2, 2), 0));
}

#[tokio::test]
async fn many_at_once_mount_once() {
    let fixture = Fixture::new();
    let mounts = fixture.mounts();
    let names: Vec<_> = (0..20).map(|number| format!("c{number}")).collect();
    let tasks: Vec<_> = names
        .iter()
        .cloned()
        .map(|name| {
            let mounts = mounts.clone();
            tokio::spawn(async move { mounts.attach(&name, wanted(&["x"])).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(fixture.calls(), (1, 0));
    for name in &names {
        mounts.release(name).await.unwrap();
    }
    assert_eq!(fixture.calls(), (1, 1));
}

#[tokio::test]
async fn after_a_restart_what_nobody_uses_goes() {
    let fixture = Fixture::new();
    let mounts = fixture.mounts();
    mounts.attach("alive", wanted(&["x"])).await.unwrap();
    mounts.attach("dead", wanted(&["x", "y"])).await.unwrap();
    // It died before it wrote down what it wants.
    fs::create_dir(fixture.dir.path().join("state/early")).unwrap();

    let mounts = fixture.mounts();
    mounts.recover(&alive(&["alive"])).await.unwrap();
    assert_eq!((fixture.calls(), fixture.checkpoints()), ((2, 1), 1));
    // Who comes now finds what the survivor has.
    mounts.attach("new", wanted(&["x"])).await.unwrap();
    assert_eq!(fixture.calls(), (2, 1));
    mounts.release("alive").await.unwrap();
    assert_eq!(fixture.calls(), (2, 1));
    mounts.release("new").await.unwrap();
    assert_eq!(fixture.calls(), (2, 2));
}

#[tokio::test]
async fn what_is_not_unmounted_is_tried_again() {
    let fixture = Fixture::new();
    let mounts = fixture.mounts();
    mounts.attach("a", wanted(&["x"])).await.unwrap();
    fixture.driver.fail(Some("busy"));
    assert!(mounts.release("a").await.is_err());
    let mounts = fixture.mounts();
    mounts.recover(&alive(&[])).await.unwrap();
    assert_eq!(fixture.checkpoints(), 1);
    fixture.driver.fail(None);
    fixture.mounts().recover(&alive(&[])).await.unwrap();
    assert_eq!(fixture.checkpoints(), 0);
}

#[tokio::test]
async fn what_makes_no_sense_leaves_nothing() {
    let fixture = Fixture::new();
    let mounts = fixture.mounts();
    let error = mounts.attach("a", wanted(&["x", "x"])).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "volume `x`: it is wanted twice of driver `memory`"
    );
    let mut other = wanted(&["x"]);
    other[0].0 = "other".to_owned();
    assert!(mounts.attach("a", other).await.is_err());
    assert_eq!((fixture.calls(), fixture.checkpoints()), ((0, 0), 0));
}

#[tokio::test]
async fn nobody_waits_and_nothing_is_left_half_way() {
    let fixture = Fixture::new();
    let mounts = fixture.mounts();
    {
        let attach = mounts.attach("a", wanted(&["x"]));
        let mut attach = std::pin::pin!(attach);
        let once =
            std::future::poll_fn(|context| std::task::Poll::Ready(attach.as_mut().poll(context)));
        assert!(once.await.is_pending());
    }
    mounts.release("a").await.unwrap();
    assert_eq!(fixture.calls(), (1, 1));
}

#[test]
fn the_originals_checkpoints_are_read() {
    let file = Path::new("volumes");
    let key = |driver: &str, name: &str| (driver.to_owned(), name.to_owned());
    let docker =
        br#"{"volumes":[{"driver":"rexray","name":"db"},{"driver":"rexray","name":"log"}]}"#;
    assert_eq!(
        parse(docker, file),
        [key("rexray", "db"), key("rexray", "log")].into()
    );
    let csi = br#"{"volumes":[{"plugin_name":"nfs.csi.k8s.io","id":"server#share"}]}"#;
    assert_eq!(
        parse(csi, file),
        [key("nfs.csi.k8s.io", "server#share")].into()
    );
    assert!(parse(b"", file).is_empty());
    assert!(parse(b"{\"volumes\":[{\"driver\"", file).is_empty());
}
