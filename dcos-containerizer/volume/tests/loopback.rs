//! Volumes on loop devices. Needs root, and loop devices.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use dcos_volume::loopback::LoopVolumes;
use dcos_volume::{VolumeDriver, VolumeRequest, testkit};

/// Whether this host can run these tests; says why not.
fn able() -> bool {
    let why = if !rustix::process::geteuid().is_root() {
        "mounts need root"
    } else if !Path::new("/dev/loop-control").exists() {
        "this host has no loop devices"
    } else {
        return true;
    };
    eprintln!("skipped: {why}");
    false
}

fn volume(name: &str, options: &[(&str, &str)]) -> VolumeRequest {
    let text = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    VolumeRequest {
        name: name.to_owned(),
        options: options.iter().map(text).collect(),
        ..VolumeRequest::default()
    }
}

#[tokio::test]
async fn loop_volumes_keep_the_promises() {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("volumes");
    let make = || Arc::new(LoopVolumes::new(folder.clone())) as Arc<dyn VolumeDriver>;
    testkit::all(&make, &volume("v", &[("size", "8MB")])).await;
    let mut left = std::fs::read_dir(folder.join("images")).unwrap();
    assert!(left.next().is_none(), "files are left");
}

#[tokio::test]
async fn a_volume_is_as_large_as_it_was_made() {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let driver = LoopVolumes::new(dir.path().join("volumes"));
    let wanted = volume("small", &[("size", "8MB"), ("fs", "ext2")]);
    let path = driver.mount(&wanted).await.unwrap();
    let disk = rustix::fs::statvfs(&path).unwrap();
    let size = disk.f_blocks * disk.f_frsize;
    assert!(((6 << 20)..=(8 << 20)).contains(&size), "{size}");
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table
        .lines()
        .find(|line| line.contains(path.to_str().unwrap()))
        .unwrap();
    assert!(
        line.contains("nosuid,nodev") && line.contains("ext2 /dev/loop"),
        "{line}"
    );

    let mut file = std::fs::File::create(path.join("fat")).unwrap();
    let bytes = vec![1; 10 << 20];
    let full = file.write_all(&bytes);
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    drop(file);
    driver.unmount("small").await.unwrap();
    let image = dir.path().join("volumes/images/small");
    assert_eq!(std::fs::metadata(&image).unwrap().size(), 8 << 20);
    // The device goes with the mount.
    let used = Command::new("losetup")
        .arg("-j")
        .arg(&image)
        .output()
        .unwrap();
    assert!(used.stdout.is_empty(), "{used:?}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_leaves_nothing() {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let driver = LoopVolumes::new(dir.path().join("volumes"));
    for (name, options, expected) in [
        ("../x", &[("size", "8MB")][..], "a name has letters"),
        ("x", &[], "needs the option `size`"),
        ("x", &[("size", "much")], "its size `much` is none"),
        ("x", &[("size", "1KB")], "between 1 MB and 64 TB"),
        (
            "x",
            &[("size", "8MB"), ("fs", "ext4 -d /etc")],
            "there is no file system",
        ),
        (
            "x",
            &[("size", "8MB"), ("color", "red")],
            "it has no option `color`",
        ),
    ] {
        let error = driver.mount(&volume(name, options)).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        driver.unmount(name).await.ok();
    }
    let mut left = std::fs::read_dir(dir.path().join("volumes/images")).unwrap();
    assert!(left.next().is_none());
}
