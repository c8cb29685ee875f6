//! What every [`VolumeDriver`] must pass: one function a promise of its contract.
//!
//! Each panics with what was expected if the promise is broken. Volumes are made and removed: give
//! the driver a place of its own. [`Memory`] is a driver for tests of what uses drivers.

mod memory;

use std::sync::Arc;

pub use memory::Memory;

use crate::{VolumeDriver, VolumeRequest};

/// Makes a driver to be tested; all it makes see the same volumes, as one after another would
/// over restarts of an agent.
pub type Make<'a> = &'a dyn Fn() -> Arc<dyn VolumeDriver>;

/// Runs everything below, with volumes such as `sample`, which has a name to begin with.
pub async fn all(make: Make<'_>, sample: &VolumeRequest) {
    mounting_twice_is_mounting_once(make, &named(sample, "twice")).await;
    what_is_mounted_is_told(make, &named(sample, "told")).await;
    data_stays(make, &named(sample, "data")).await;
    strangers_are_no_reason_to_complain(make, &named(sample, "stranger")).await;
    another_instance_goes_on(make, &named(sample, "other")).await;
}

fn named(sample: &VolumeRequest, name: &str) -> VolumeRequest {
    VolumeRequest {
        name: format!("{}{name}", sample.name),
        ..sample.clone()
    }
}

async fn end(driver: &dyn VolumeDriver, name: &str) {
    driver.unmount(name).await.expect("unmount");
    driver.remove(name).await.expect("remove");
}

/// Contract 2: mounted twice, a volume is where it was; one unmount ends it.
pub async fn mounting_twice_is_mounting_once(make: Make<'_>, volume: &VolumeRequest) {
    let driver = make();
    let first = driver.mount(volume).await.expect("mount");
    let second = driver.mount(volume).await.expect("mount again");
    assert_eq!(first, second, "it is at two places");
    driver.unmount(&volume.name).await.expect("unmount");
    let left = driver.mounted(&volume.name).await.expect("look");
    assert_eq!(left, None, "one unmount did not end it");
    end(&*driver, &volume.name).await;
}

/// Contracts 1 and 3: it is an absolute path, and told while there is one.
pub async fn what_is_mounted_is_told(make: Make<'_>, volume: &VolumeRequest) {
    let driver = make();
    let before = driver.mounted(&volume.name).await.expect("look before");
    assert_eq!(before, None, "it is mounted before it was");
    let path = driver.mount(volume).await.expect("mount");
    assert!(path.is_absolute(), "{} is not absolute", path.display());
    assert!(
        volume.access.block || path.is_dir(),
        "{} is no folder",
        path.display()
    );
    let told = driver.mounted(&volume.name).await.expect("look");
    assert_eq!(told, Some(path), "it is told to be elsewhere");
    end(&*driver, &volume.name).await;
    let after = driver.mounted(&volume.name).await.expect("look after");
    assert_eq!(after, None, "it is mounted still");
}

/// Contract 4: what is in a volume is there at the next mount, and goes with the volume.
pub async fn data_stays(make: Make<'_>, volume: &VolumeRequest) {
    let driver = make();
    if volume.access.block || volume.access.mode.is_read_only() {
        return;
    }
    let path = driver.mount(volume).await.expect("mount");
    std::fs::write(path.join("kept"), "data").expect("write into the volume");
    driver.unmount(&volume.name).await.expect("unmount");
    let path = driver.mount(volume).await.expect("mount again");
    let kept = std::fs::read_to_string(path.join("kept"));
    assert_eq!(kept.ok().as_deref(), Some("data"), "its data is gone");
    std::fs::remove_file(path.join("kept")).expect("remove from the volume");
    end(&*driver, &volume.name).await;
}

/// Contract 5: ending what is not there succeeds.
pub async fn strangers_are_no_reason_to_complain(make: Make<'_>, volume: &VolumeRequest) {
    let driver = make();
    for _ in 0..2 {
        end(&*driver, &volume.name).await;
    }
}

/// Contract 2: what one instance mounted another one finds and unmounts.
pub async fn another_instance_goes_on(make: Make<'_>, volume: &VolumeRequest) {
    let path = make().mount(volume).await.expect("mount");
    let driver = make();
    let found = driver.mounted(&volume.name).await.expect("look");
    assert_eq!(
        found.as_ref(),
        Some(&path),
        "another instance does not find it"
    );
    driver
        .unmount(&volume.name)
        .await
        .expect("unmount by another");
    let left = make().mounted(&volume.name).await.expect("look again");
    assert_eq!(left, None, "another instance did not unmount it");
    end(&*driver, &volume.name).await;
}
