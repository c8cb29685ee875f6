use std::os::unix::fs::symlink;

use axum::body::Body;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;

/// A folder with a sandbox, attached, and a secret beside it.
struct Fixture {
    dir: tempfile::TempDir,
    files: Files,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sandbox = dir.path().join("sandbox");
        std::fs::create_dir_all(sandbox.join("sub")).unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        std::fs::write(sandbox.join("stdout"), "0123456789").unwrap();
        std::fs::write(sandbox.join("sub/file"), "x").unwrap();
        let files = Files::default();
        files.attach("/frameworks/f/runs/latest", &sandbox);
        Self { dir, files }
    }

    fn sandbox(&self, name: &str) -> PathBuf {
        self.dir.path().join("sandbox").join(name)
    }

    fn read(&self, path: &str) -> Option<String> {
        let path = format!("/frameworks/f/runs/latest{path}");
        let piece = self.files.read(&path, 0, None).ok()?;
        String::from_utf8(piece.data).ok()
    }

    async fn get(&self, uri: &str) -> (u16, String) {
        let request = ::http::Request::get(uri).body(Body::empty()).unwrap();
        let response = router(self.files.clone()).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .unwrap();
        (status, String::from_utf8(body.into()).unwrap())
    }
}

#[test]
fn nothing_outside_can_be_seen() {
    let fixture = Fixture::new();
    assert_eq!(fixture.read("/stdout").as_deref(), Some("0123456789"));
    symlink(
        fixture.dir.path().join("secret"),
        fixture.sandbox("absolute"),
    )
    .unwrap();
    symlink("../secret", fixture.sandbox("relative")).unwrap();
    symlink("..", fixture.sandbox("up")).unwrap();
    symlink("/proc/self/root", fixture.sandbox("magic")).unwrap();
    for path in [
        "/../secret",
        "/sub/../../secret",
        "/absolute",
        "/relative",
        "/up/secret",
        "/magic/etc/passwd",
        "/./../secret",
    ] {
        assert_eq!(fixture.read(path), None, "{path}");
    }
    // Links inside lead where they lead inside.
    symlink("sub/file", fixture.sandbox("link")).unwrap();
    assert_eq!(fixture.read("/link").as_deref(), Some("x"));
    let outside = fixture.dir.path().join("secret");
    assert!(
        fixture
            .files
            .read(&outside.to_string_lossy(), 0, None)
            .is_err()
    );
}

#[test]
fn what_others_may_replace_is_looked_for_inside() {
    let fixture = Fixture::new();
    let (root, name) = (fixture.sandbox(""), "/frameworks/f/runs/latest/tasks/t");
    fixture.files.attach_below(name, &root, "containers/c");
    std::fs::create_dir_all(root.join("containers/c")).unwrap();
    std::fs::write(root.join("containers/c/stdout"), "its own").unwrap();
    assert_eq!(fixture.read("/tasks/t/stdout").as_deref(), Some("its own"));
    let listed = fixture.files.list(name).unwrap();
    assert_eq!(listed[0].path, format!("{name}/stdout"));
    assert_eq!(fixture.files.attachment(name).as_deref(), Some(name));
    assert_eq!(fixture.files.attached()[name], root.join("containers/c"));

    std::fs::remove_dir_all(root.join("containers")).unwrap();
    let outside = fixture.dir.path().join("outside/c");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("stdout"), "secret").unwrap();
    for target in [outside.parent().unwrap(), "../outside".as_ref()] {
        symlink(target, root.join("containers")).unwrap();
        assert_eq!(fixture.read("/tasks/t/stdout"), None);
        assert!(fixture.files.list(name).is_err());
        std::fs::remove_file(root.join("containers")).unwrap();
    }
}

#[test]
fn pipes_and_folders_are_not_read() {
    let fixture = Fixture::new();
    let pipe = fixture.sandbox("pipe");
    let made = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success());
    for path in ["/pipe", "/sub", ""] {
        let path = format!("/frameworks/f/runs/latest{path}");
        let error = fixture.files.read(&path, 0, None).unwrap_err();
        assert!(matches!(error, FilesError::NotAFile(_)), "{path}: {error}");
    }
}

#[test]
fn the_longest_attached_path_counts() {
    let fixture = Fixture::new();
    let volume = fixture.dir.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("data"), "v").unwrap();
    symlink(&volume, fixture.sandbox("volume")).unwrap();
    assert_eq!(fixture.read("/volume/data"), None);
    fixture
        .files
        .attach("/frameworks/f/runs/latest/volume/", &volume);
    assert_eq!(fixture.read("/volume/data").as_deref(), Some("v"));
    fixture.files.detach("/frameworks/f/runs/latest/volume");
    assert_eq!(fixture.read("/volume/data"), None);
    fixture.files.attach("/slave/log", volume.join("data"));
    assert_eq!(
        fixture.files.read("/slave/log", 0, None).unwrap().data,
        b"v"
    );
}

#[tokio::test]
async fn browsing_lists_as_the_original_does() {
    let fixture = Fixture::new();
    let (status, body) = fixture
        .get("/files/browse?path=/frameworks/f/runs/latest/")
        .await;
    assert_eq!(status, 200);
    let listed: Vec<Value> = serde_json::from_str(&body).unwrap();
    let keys: Vec<_> = listed[0].as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        keys,
        ["gid", "mode", "mtime", "nlink", "path", "size", "uid"]
    );
    let paths: Vec<_> = listed.iter().map(|entry| &entry["path"]).collect();
    let expected = ["stdout", "sub"].map(|name| format!("/frameworks/f/runs/latest/{name}"));
    assert_eq!(json!(paths), json!(expected));
    assert_eq!(listed[0]["size"], 10);
    assert!(listed[1]["mode"].as_str().unwrap().starts_with("drwx"));
}

#[tokio::test]
async fn reading_answers_as_the_original_does() {
    let fixture = Fixture::new();
    let path = "path=/frameworks/f/runs/latest/stdout";
    let read = async |rest: &str| fixture.get(&format!("/files/read?{rest}")).await;
    let text = |data: &str, offset: u64| (200, json!({"data": data, "offset": offset}).to_string());
    assert_eq!(read(&format!("{path}&offset=-1")).await, text("", 10));
    assert_eq!(read(path).await, text("", 10));
    assert_eq!(
        read(&format!("{path}&offset=2&length=3")).await,
        text("234", 2)
    );
    assert_eq!(
        read(&format!("{path}&offset=8&length=-1")).await,
        text("89", 8)
    );
    assert_eq!(read(&format!("{path}&offset=99")).await, text("", 99));
    let refused = |why: &str| (400, format!("{why}.\n"));
    assert_eq!(read("").await, refused("Expecting 'path=value' in query"));
    let nonsense = "Failed to parse offset: Failed to convert 'x' to number";
    assert_eq!(read("path=/a&offset=x").await, refused(nonsense));
    let negative = "Negative offset provided: -2";
    assert_eq!(read("path=/a&offset=-2").await, refused(negative));
    assert_eq!(read("path=/nope").await, (404, String::new()));
    let folder = read("path=/frameworks/f/runs/latest/sub").await;
    assert_eq!(folder, refused("Cannot read a directory"));
}

#[tokio::test]
async fn reads_are_capped() {
    let fixture = Fixture::new();
    std::fs::write(fixture.sandbox("big"), vec![b'x'; 100_000]).unwrap();
    let path = "/frameworks/f/runs/latest/big";
    let piece = fixture.files.read(path, 0, Some(90_000)).unwrap();
    assert_eq!((piece.size, piece.data.len()), (100_000, 65_536));
    let (status, body) = fixture.get(&format!("/files/download?path={path}")).await;
    assert_eq!((status, body.len()), (200, 100_000));
    let missing = fixture.get("/files/download?path=/nope").await;
    assert_eq!(missing, (404, "404 Not Found.".to_owned()));
}

#[test]
fn what_is_kept_behind_a_gap_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, begins| {
        let file = std::fs::File::create(dir.path().join(name)).unwrap();
        rotated::note(&file, rotated::Start::At(begins)).unwrap();
    };
    let files = Files::default();
    files.attach("/box", dir.path());
    let next = |offset| files.next_kept("/box/stdout", offset);
    put("stdout", 40);
    assert_eq!(next(5), None);
    // One has no name of its own while they are moved on.
    for (name, begins) in [("stdout.1", 30), ("stdout.3.gz", 20), ("stdout.4", 10)] {
        put(name, begins);
    }
    assert_eq!(
        [next(5), next(10), next(25), next(30)],
        [Some(10), Some(20), Some(30), None]
    );
}

/// In a user namespace, whose root is not the node's.
#[test]
fn root_of_a_user_namespace_keeps_notes() {
    const INSIDE: &str = "DCOS_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout");
        std::fs::write(&path, "rest").unwrap();
        let log = std::fs::File::open(path).unwrap();
        rotated::note(&log, rotated::Start::At(5)).unwrap();
        assert_eq!(rotated::start(&log), Some(rotated::Start::At(5)));
        let files = Files::default();
        files.attach("/box", dir.path());
        let piece = files.read("/box/stdout", 5, None).unwrap();
        assert_eq!((piece.size, &*piece.data), (9, &b"rest"[..]));
        return;
    }
    let enter = || {
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["--user", "--map-root-user"]);
        unshare
    };
    if !enter()
        .arg("true")
        .status()
        .is_ok_and(|status| status.success())
    {
        eprintln!("skipped: no user namespaces here");
        return;
    }
    let name = "files::tests::root_of_a_user_namespace_keeps_notes";
    let inside = enter()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inside.stdout);
    assert!(said.contains("1 passed"), "{said}");
}
