//! Root file systems from hostile and odd images. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use dcos_containerizer::provisioner::{
    Backend, ImageProvisioner, ImageProvisionerConfig, ProvisionError, Provisioned, Provisioner,
};
use dcos_containerizer::secret::ValuesOnly;
use dcos_proto::mesos::{ContainerId, Image, image};
use sha2::{Digest, Sha256};

struct Fixture {
    dir: tempfile::TempDir,
    backend: Backend,
}

impl Fixture {
    /// `None`, and why, if this host cannot run these tests.
    fn new(backend: Backend) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: images need root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("images")).unwrap();
        Some(Self { dir, backend })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn provisioner(&self, alive: &[ContainerId]) -> ImageProvisioner {
        let provisioner = ImageProvisioner::new(ImageProvisionerConfig {
            docker: Some(dcos_image::Source::Directory(self.path("images"))),
            appc: Some(self.path("images")),
            store: self.path("store"),
            roots: self.path("roots"),
            backend: self.backend,
            kept: Vec::new(),
            secrets: Arc::new(ValuesOnly),
            max_layer: 100 << 20,
        });
        provisioner.recover(alive).await.unwrap();
        provisioner
    }

    async fn provision(&self, name: &str) -> Result<Provisioned, ProvisionError> {
        let provisioner = self.provisioner(&[]).await;
        provisioner
            .provision(&ContainerId::root("c"), &docker(name), None)
            .await
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path("images").join(name), bytes).unwrap();
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let roots = std::fs::read_dir(self.path("roots"));
        for root in roots.into_iter().flatten().flatten() {
            let root = root.path().join("rootfs");
            let flags = rustix::mount::UnmountFlags::DETACH;
            rustix::mount::unmount(&root, flags).ok();
        }
    }
}

fn docker(name: &str) -> Image {
    Image {
        r#type: image::Type::Docker.into(),
        docker: Some(image::Docker {
            name: name.into(),
            ..image::Docker::default()
        }),
        ..Image::default()
    }
}

/// An entry of a tar file: kind, name, content or target.
type Entry<'a> = (tar::EntryType, &'a str, &'a str);

const FILE: tar::EntryType = tar::EntryType::Regular;
const FOLDER: tar::EntryType = tar::EntryType::Directory;
const LINK: tar::EntryType = tar::EntryType::Symlink;

fn tarball(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for &(kind, name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_uid(1234);
        header.set_gid(1235);
        header.set_mtime(1_000_000);
        // Written raw: the library would refuse the names that matter here.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        let data = if kind == FILE {
            content.as_bytes()
        } else {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            &[]
        };
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let digest = Sha256::digest(bytes);
    digest.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// An OCI layout in a folder, its layers compressed.
fn oci(folder: &Path, layers: &[Vec<u8>]) {
    let blob = |bytes: &[u8]| {
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(hex(bytes)), bytes).unwrap();
        serde_json::json!({"digest": format!("sha256:{}", hex(bytes)), "size": bytes.len()})
    };
    let diff_ids: Vec<_> = layers
        .iter()
        .map(|layer| format!("sha256:{}", hex(layer)))
        .collect();
    let descriptors: Vec<_> = layers
        .iter()
        .map(|layer| {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(layer).unwrap();
            blob(&packer.finish().unwrap())
        })
        .collect();
    let config = serde_json::json!({
        "config": {"Cmd": ["run"], "User": "1234"},
        "rootfs": {"diff_ids": diff_ids},
    });
    let config = blob(config.to_string().as_bytes());
    let manifest = serde_json::json!({"config": config, "layers": descriptors});
    let manifest = blob(manifest.to_string().as_bytes());
    let index = serde_json::json!({"manifests": [manifest]});
    std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
}

#[tokio::test]
async fn a_tar_file_is_a_root_with_its_owners_and_modes() {
    let Some(fixture) = Fixture::new(Backend::Auto) else {
        return;
    };
    let rootfs = tarball(&[
        (FOLDER, "bin/", ""),
        (FILE, "bin/tool", "x"),
        (LINK, "sh", "bin/tool"),
    ]);
    fixture.write("plain.tar", &rootfs);
    let provisioned = fixture.provision("plain").await.unwrap();
    let tool = provisioned.rootfs.join("bin/tool").metadata().unwrap();
    assert_eq!(
        (tool.uid(), tool.gid(), tool.mtime()),
        (1234, 1235, 1_000_000)
    );
    assert_eq!(
        tool.permissions().mode() & 0o7777,
        0o4755,
        "set-id bits stay"
    );
    let link = std::fs::read_link(provisioned.rootfs.join("sh")).unwrap();
    assert_eq!(link, Path::new("bin/tool"));
}

#[tokio::test]
async fn layers_hide_what_is_below_them_whatever_the_backend() {
    for backend in [Backend::Overlay, Backend::Copy] {
        let Some(fixture) = Fixture::new(backend) else {
            return;
        };
        let low = tarball(&[
            (FOLDER, "opaque/", ""),
            (FILE, "opaque/low", "low"),
            (FILE, "gone", "low"),
            (FILE, "kept", "low"),
            (FILE, "changed", "low"),
            (FOLDER, "kind/", ""),
            (FILE, "kind/file", "low"),
        ]);
        let top = tarball(&[
            (FOLDER, "opaque/", ""),
            (FILE, "opaque/.wh..wh..opq", ""),
            (FILE, "opaque/top", "top"),
            (FILE, ".wh.gone", ""),
            (FILE, "changed", "top"),
            (FILE, "kind", "top"),
        ]);
        oci(&fixture.path("images/app"), &[low, top]);
        let provisioned = fixture.provision("app:9").await;
        let provisioned = match (provisioned, backend) {
            (Err(error), Backend::Overlay) => {
                eprintln!("skipped: no overlay here: {error}");
                continue;
            }
            (provisioned, _) => provisioned.unwrap(),
        };
        assert_eq!(provisioned.image.command, ["run"]);
        assert_eq!(provisioned.image.user.as_deref(), Some("1234"));
        let read = |name: &str| std::fs::read_to_string(provisioned.rootfs.join(name)).ok();
        let found = [
            "opaque/low",
            "opaque/top",
            "gone",
            "kept",
            "changed",
            "kind",
        ]
        .map(read);
        let expected = [
            None,
            Some("top"),
            None,
            Some("low"),
            Some("top"),
            Some("top"),
        ];
        assert_eq!(
            found,
            expected.map(|text| text.map(str::to_owned)),
            "{backend:?}"
        );
    }
}

#[tokio::test]
async fn no_layer_reaches_out() {
    let Some(fixture) = Fixture::new(Backend::Auto) else {
        return;
    };
    let outside = fixture.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("precious"), "precious").unwrap();
    let target = outside.to_str().unwrap();
    let precious = outside.join("precious");
    let precious_name = precious.to_str().unwrap();
    let cases: [&[Entry<'_>]; 5] = [
        &[(FILE, "../../../outside/evil", "x")],
        &[(LINK, "s", target), (FILE, "s/evil", "x")],
        &[(LINK, "s", "../../../../outside"), (FILE, "s/evil", "x")],
        &[(LINK, "f", precious_name), (FILE, "f", "overwritten")],
        &[
            (tar::EntryType::Link, "h", precious_name),
            (FILE, "h", "overwritten"),
        ],
    ];
    for (number, entries) in cases.into_iter().enumerate() {
        let name = format!("evil{number}");
        fixture.write(&format!("{name}.tar"), &tarball(entries));
        // Whether it is refused or confined does not matter.
        fixture.provision(&name).await.ok();
        let found: Vec<_> = std::fs::read_dir(&outside).unwrap().flatten().collect();
        assert_eq!(found.len(), 1, "{entries:?} wrote {found:?}");
        assert_eq!(
            std::fs::read_to_string(&precious).unwrap(),
            "precious",
            "{entries:?}"
        );
    }
}

#[tokio::test]
async fn damaged_layers_are_refused_and_leave_nothing() {
    let Some(fixture) = Fixture::new(Backend::Auto) else {
        return;
    };
    let folder = fixture.path("images/app");
    let layer = tarball(&[(FILE, "file", "good")]);
    oci(&folder, std::slice::from_ref(&layer));
    let blobs = std::fs::read_dir(folder.join("blobs/sha256")).unwrap();
    for blob in blobs.flatten() {
        let bytes = std::fs::read(blob.path()).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            std::fs::write(blob.path(), tarball(&[(FILE, "file", "evil")])).unwrap();
        }
    }
    let error = fixture.provision("app").await.unwrap_err().to_string();
    assert!(error.contains("a layer of digest sha256:"), "{error}");
    for folder in ["store/layers", "store/unpacking", "roots"] {
        let left = std::fs::read_dir(fixture.path(folder)).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{folder}");
    }
}

#[tokio::test]
async fn writes_are_the_containers_own_and_go_with_it() {
    let Some(fixture) = Fixture::new(Backend::Auto) else {
        return;
    };
    let appc = fixture.path("images/appc");
    std::fs::create_dir_all(appc.join("rootfs")).unwrap();
    std::fs::write(appc.join("rootfs/file"), "image").unwrap();
    symlink("rootfs", appc.join("link")).unwrap();
    let manifest = r#"{"app": {"exec": ["/run", "x"], "environment":
        [{"name": "A", "value": "b"}], "workingDirectory": "/w"}}"#;
    std::fs::write(appc.join("manifest"), manifest).unwrap();
    let image = Image {
        r#type: image::Type::Appc.into(),
        appc: Some(image::Appc {
            name: "appc".into(),
            ..image::Appc::default()
        }),
        ..Image::default()
    };
    let (stays, goes) = (ContainerId::root("stays"), ContainerId::root("goes"));
    let provisioner = fixture.provisioner(&[]).await;
    let one = provisioner.provision(&stays, &image, None).await.unwrap();
    let two = provisioner.provision(&goes, &image, None).await.unwrap();
    assert_eq!(one.image.entrypoint, ["/run", "x"]);
    assert_eq!(one.image.environment, ["A=b"]);
    std::fs::write(one.rootfs.join("file"), "one").unwrap();
    let read = |path: &Path| std::fs::read_to_string(path.join("file")).ok();
    assert_eq!(read(&two.rootfs).as_deref(), Some("image"));
    assert_eq!(read(&appc.join("rootfs")).as_deref(), Some("image"));

    // A restart of the agent keeps what is alive.
    let provisioner = fixture.provisioner(std::slice::from_ref(&stays)).await;
    assert_eq!(read(&one.rootfs).as_deref(), Some("one"));
    assert!(!two.rootfs.exists());
    provisioner.destroy(&stays).await.unwrap();
    provisioner.destroy(&stays).await.unwrap();
    assert!(!one.rootfs.exists());
}

#[test]
fn who_is_destroyed_while_its_root_is_made_leaves_nothing() {
    let Some(fixture) = Fixture::new(Backend::Copy) else {
        return;
    };
    let image = fixture.path("images/large");
    std::fs::create_dir(&image).unwrap();
    for number in 0..5_000 {
        std::fs::write(image.join(number.to_string()), "").unwrap();
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (id, wanted) = (ContainerId::root("c"), docker("large"));
        let provisioner = fixture.provisioner(&[]).await;
        let begun = async {
            while !fixture.path("roots/c/rootfs/0").exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            made = provisioner.provision(&id, &wanted, None) => panic!("too early: {made:?}"),
            () = begun => {}
        }
        provisioner.destroy(&id).await.unwrap();
    });
    // It waits for whoever is still at work.
    drop(runtime);
    let left = std::fs::read_dir(fixture.path("roots")).unwrap().count();
    assert_eq!(left, 0);
}

/// What is read or written of files below some folders from now on.
struct Watch(std::os::fd::OwnedFd);

impl Watch {
    fn below(folders: &[PathBuf]) -> Self {
        use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
        let notify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        let mut folders = folders.to_vec();
        while let Some(folder) = folders.pop() {
            let flags = WatchFlags::OPEN | WatchFlags::ACCESS | WatchFlags::MODIFY;
            add_watch(&notify, &folder, flags).unwrap();
            let below = std::fs::read_dir(folder).unwrap().flatten();
            let below = below.filter(|entry| entry.file_type().unwrap().is_dir());
            folders.extend(below.map(|entry| entry.path()));
        }
        Self(notify)
    }

    /// The names of files that were touched since the last question.
    fn touched(&self) -> std::collections::BTreeSet<String> {
        use rustix::fs::inotify::{ReadFlags, Reader};
        let mut buffer = vec![std::mem::MaybeUninit::uninit(); 1 << 16];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut names = std::collections::BTreeSet::new();
        while let Ok(event) = reader.next() {
            if !event.events().contains(ReadFlags::ISDIR) {
                let name = event.file_name().map(|name| name.to_string_lossy());
                names.extend(name.map(std::borrow::Cow::into_owned));
            }
        }
        names
    }
}

#[tokio::test]
async fn a_warm_start_touches_no_byte_of_a_layer() {
    let Some(fixture) = Fixture::new(Backend::Overlay) else {
        return;
    };
    let text = "x".repeat(100_000);
    let low = tarball(&[(FOLDER, "bin/", ""), (FILE, "bin/tool", &text)]);
    let top = tarball(&[(FILE, "data", &text)]);
    oci(&fixture.path("images/app"), &[low, top]);
    let mut provisioner = fixture.provisioner(&[]).await;
    let cold = ContainerId::root("cold");
    if let Err(error) = provisioner.provision(&cold, &docker("app"), None).await {
        eprintln!("skipped: no overlay here: {error}");
        return;
    }
    let layers = ["data", "tool"].map(str::to_owned);
    let blobs: Vec<_> = std::fs::read_dir(fixture.path("images/app/blobs/sha256"))
        .unwrap()
        .map(|blob| blob.unwrap().file_name().into_string().unwrap())
        .filter(|blob| {
            std::fs::read(fixture.path("images/app/blobs/sha256").join(blob)).unwrap()[0] == 0x1f
        })
        .collect();
    assert_eq!(blobs.len(), 2);
    let watch = Watch::below(&[fixture.path("store"), fixture.path("images")]);
    // By the same agent, and by one that was started again.
    for name in ["warm", "again"] {
        let warm = ContainerId::root(name);
        let provisioned = provisioner
            .provision(&warm, &docker("app"), None)
            .await
            .unwrap();
        let touched = watch.touched();
        let is_layer = |name: &&String| layers.contains(name) || blobs.contains(name);
        let bytes: Vec<_> = touched.iter().filter(is_layer).collect();
        assert!(bytes.is_empty(), "{name}: {bytes:?} of {touched:?}");
        // The watch does see who reads.
        std::fs::read(provisioned.rootfs.join("data")).unwrap();
        std::fs::read(fixture.path("images/app/blobs/sha256").join(&blobs[0])).unwrap();
        assert!(watch.touched().contains(&blobs[0]));
        provisioner = fixture.provisioner(&[cold.clone(), warm]).await;
        watch.touched();
    }
}

#[tokio::test]
async fn names_that_lead_out_are_refused() {
    let Some(fixture) = Fixture::new(Backend::Auto) else {
        return;
    };
    for name in ["../images/plain", "/etc", "a/../../b", "", "a//b"] {
        let error = fixture.provision(name).await.unwrap_err().to_string();
        assert!(error.contains("no name of an image"), "{name}: {error}");
    }
}

/// A layer written by GNU tar from a folder that `script` fills.
fn written_by_tar(fixture: &Fixture, script: &str, options: &[&str]) -> Vec<u8> {
    let folder = fixture.path("made");
    std::fs::create_dir_all(&folder).unwrap();
    let mut shell = std::process::Command::new("sh");
    let made = shell.args(["-ec", script]).current_dir(&folder).status();
    assert!(made.unwrap().success(), "{script}");
    let mut tar = std::process::Command::new("tar");
    let tar = tar
        .args(options)
        .args(["--xattrs", "--xattrs-include=*", "-cf", "-", "."]);
    let output = tar.current_dir(&folder).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[tokio::test]
async fn files_keep_what_makes_them_special_whatever_the_backend() {
    for backend in [Backend::Overlay, Backend::Copy] {
        let Some(fixture) = Fixture::new(backend) else {
            return;
        };
        let script = "
            mkdir -p folder && echo data > folder/one && ln folder/one two && ln -s one folder/link
            truncate -s 64M holes && echo end >> holes && mkfifo pipe && chmod 1777 folder
            cp /bin/true tool && chown 7:8 tool
            touch -h -d @1000 folder/one folder/link && touch -d @2000 folder";
        let folder = fixture.path("made");
        std::fs::create_dir_all(&folder).unwrap();
        let bytes = {
            written_by_tar(&fixture, script, &[]);
            // `cap_net_raw+ep`, as `setcap` writes it (version 2).
            let capability = [
                1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ];
            let none = rustix::fs::XattrFlags::empty();
            for (file, name, value) in [
                ("tool", "security.capability", &capability[..]),
                ("tool", "user.note", b"kept"),
                ("folder", "user.note", b"kept"),
                ("tool", "trusted.overlay.redirect", b"/etc"),
            ] {
                rustix::fs::setxattr(folder.join(file), name, value, none).unwrap();
            }
            written_by_tar(
                &fixture,
                "true",
                &["--format=pax", "--sparse", "--sparse-version=1.0"],
            )
        };
        fixture.write("special.tar", &bytes);
        let provisioned = match (fixture.provision("special").await, backend) {
            (Err(error), Backend::Overlay) => {
                eprintln!("skipped: no overlay here: {error}");
                continue;
            }
            (provisioned, _) => provisioned.unwrap(),
        };
        let at = |name: &str| provisioned.rootfs.join(name);
        let status = |name: &str| at(name).symlink_metadata().unwrap();
        assert_eq!(
            status("folder/one").ino(),
            status("two").ino(),
            "hard links"
        );
        assert_eq!(status("folder/one").nlink(), 2);
        assert_eq!((status("tool").uid(), status("tool").gid()), (7, 8));
        let capability = attribute(&at("tool"), "security.capability");
        assert_eq!(
            capability.map(|it| it[5]),
            Some(0x20),
            "{backend:?}: file capabilities"
        );
        assert_eq!(
            attribute(&at("tool"), "user.note").as_deref(),
            Some(&b"kept"[..])
        );
        assert_eq!(
            attribute(&at("folder"), "user.note").as_deref(),
            Some(&b"kept"[..])
        );
        assert_eq!(attribute(&at("tool"), "trusted.overlay.redirect"), None);
        assert_eq!(status("holes").len(), (64 << 20) + 4);
        assert!(
            status("holes").blocks() * 512 < 1 << 20,
            "the holes are filled"
        );
        assert!(std::fs::read(at("holes")).unwrap().ends_with(b"\0end\n"));
        assert_eq!(status("folder").permissions().mode() & 0o7777, 0o1777);
        let times = ["folder", "folder/one", "folder/link"].map(|name| status(name).mtime());
        assert_eq!(times, [2000, 1000, 1000], "{backend:?}");
    }
}

#[tokio::test]
async fn sparse_files_of_the_old_format_stay_sparse() {
    let Some(fixture) = Fixture::new(Backend::Auto) else {
        return;
    };
    let script = "truncate -s 64M holes && echo end >> holes";
    let bytes = written_by_tar(&fixture, script, &["--format=gnu", "--sparse"]);
    assert!(bytes.len() < 1 << 20);
    fixture.write("old.tar", &bytes);
    let holes = fixture.provision("old").await.unwrap().rootfs.join("holes");
    let status = holes.metadata().unwrap();
    assert_eq!(status.len(), (64 << 20) + 4);
    assert!(status.blocks() * 512 < 1 << 20);
}

#[tokio::test]
async fn layers_that_explode_are_refused_and_leave_nothing() {
    let Some(fixture) = Fixture::new(Backend::Auto) else {
        return;
    };
    // Each is small as it comes, and 200 MiB, twice what may be, when it is unpacked.
    let zeros = std::io::repeat(0).take(200 << 20);
    let packed = |before: &[u8], mut zeros: std::io::Take<std::io::Repeat>| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(before).unwrap();
        std::io::copy(&mut zeros, &mut packer).unwrap();
        packer.finish().unwrap()
    };
    let mut header = tar::Header::new_gnu();
    header.set_path("bomb").unwrap();
    header.set_mode(0o644);
    header.set_size(200 << 20);
    header.set_cksum();
    let bomb = packed(header.as_bytes(), zeros);
    assert!(bomb.len() < 4 << 20);
    fixture.write("bomb.tar.gz", &bomb);
    let error = fixture.provision("bomb").await.unwrap_err().to_string();
    assert!(error.contains("larger than a layer may be"), "{error}");
    // A name, or an attribute, would be held in memory.
    for kind in [
        tar::EntryType::GNULongName,
        tar::EntryType::GNULongLink,
        tar::EntryType::XHeader,
    ] {
        header.set_entry_type(kind);
        header.set_size(2 << 20);
        header.set_cksum();
        let bomb = packed(header.as_bytes(), std::io::repeat(0).take(2 << 20));
        fixture.write("bomb.tar.gz", &bomb);
        let error = fixture.provision("bomb").await.unwrap_err().to_string();
        assert!(error.contains("headers are larger"), "{kind:?}: {error}");
    }
    for folder in ["store/layers", "store/unpacking", "roots"] {
        let left = std::fs::read_dir(fixture.path(folder)).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{folder}");
    }
}

#[tokio::test]
async fn only_root_reaches_layers_and_roots() {
    let Some(fixture) = Fixture::new(Backend::Auto) else {
        return;
    };
    fixture.write("app.tar", &tarball(&[(FILE, "sudo", "")]));
    // Those that an earlier version made are closed, too; the one the operator named may hold other things.
    std::fs::create_dir_all(fixture.path("store/layers")).unwrap();
    let open = || std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(fixture.path("store"), open()).unwrap();
    std::fs::create_dir_all(fixture.path("roots")).unwrap();
    let provisioned = fixture.provision("app").await.unwrap();
    let file = provisioned.rootfs.join("sudo");
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o4755);
    let mode = |folder| std::fs::metadata(fixture.path(folder)).unwrap().mode() & 0o777;
    assert_eq!(mode("store"), 0o755);
    for folder in [
        "store/layers",
        "store/unpacking",
        "store/downloads",
        "roots",
    ] {
        assert_eq!(mode(folder), 0o700, "{folder}");
    }
    // The whole way to them is open to others but for that.
    std::fs::set_permissions(fixture.path(""), open()).unwrap();
    let layer = std::fs::read_dir(fixture.path("store/layers"))
        .unwrap()
        .next();
    let layer = layer.unwrap().unwrap().path().join("sudo");
    assert!(layer.exists());
    for file in [file, layer] {
        let tries = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "cat"])
            .arg(file)
            .output();
        assert!(!tries.unwrap().status.success());
    }
}
