//! A volume driver of your own: volumes that are copies of a template folder.
//!
//! ```text
//! cargo run -p examples --example custom_volume_driver
//! ```
//!
//! No cluster is needed: two containers, of which only the names matter here, use a volume of the
//! driver; it is mounted for the first and unmounted after the last. The program prints
//!
//! ```text
//! it keeps the promises
//! first finds: welcome
//! second finds: welcome, and what first wrote
//! nobody uses it: not mounted
//! ```
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use dcos_volume::docker::PluginFolders;
use dcos_volume::{Form, Mounts, VolumeDriver, VolumeError, VolumeRequest, testkit};

/// Volumes begin as copies of `template`. One that is in use has a link in `used`.
#[derive(Debug)]
struct Copies {
    template: PathBuf,
    volumes: PathBuf,
    used: PathBuf,
}

impl Copies {
    fn new(folder: &Path) -> io::Result<Self> {
        let [template, volumes, used] =
            ["template", "volumes", "used"].map(|name| folder.join(name));
        for made in [&template, &volumes, &used] {
            fs::create_dir_all(made)?;
        }
        fs::write(template.join("welcome"), "")?;
        Ok(Self {
            template,
            volumes,
            used,
        })
    }

    fn copy(&self, volume: &Path) -> io::Result<()> {
        fs::create_dir(volume)?;
        for entry in fs::read_dir(&self.template)? {
            let entry = entry?;
            fs::copy(entry.path(), volume.join(entry.file_name()))?;
        }
        Ok(())
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> VolumeError + use<> {
    let path = path.to_owned();
    move |source| VolumeError::File {
        doing: "handling",
        path,
        source,
    }
}

/// What is not there is gone already.
fn gone(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

#[async_trait]
impl VolumeDriver for Copies {
    fn name(&self) -> &'static str {
        "template"
    }

    async fn mount(&self, volume: &VolumeRequest) -> Result<PathBuf, VolumeError> {
        let (data, link) = (
            self.volumes.join(&volume.name),
            self.used.join(&volume.name),
        );
        if !data.exists() {
            self.copy(&data).map_err(failed(&data))?;
        }
        if !link.exists() {
            std::os::unix::fs::symlink(&data, &link).map_err(failed(&link))?;
        }
        Ok(link)
    }

    async fn mounted(&self, name: &str) -> Result<Option<PathBuf>, VolumeError> {
        Ok(Some(self.used.join(name)).filter(|link| link.exists()))
    }

    async fn unmount(&self, name: &str) -> Result<(), VolumeError> {
        let link = self.used.join(name);
        gone(fs::remove_file(&link)).map_err(failed(&link))
    }

    async fn remove(&self, name: &str) -> Result<(), VolumeError> {
        let data = self.volumes.join(name);
        gone(fs::remove_dir_all(&data)).map_err(failed(&data))
    }
}

fn list(folder: &Path) -> io::Result<String> {
    let names =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort_by_key(|name| name != "welcome");
    Ok(names.join(", and "))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("custom-volume-driver-{}", std::process::id()));
    let driver: Arc<dyn VolumeDriver> = Arc::new(Copies::new(&folder)?);
    testkit::all(&|| Arc::clone(&driver), &VolumeRequest::default()).await;
    println!("it keeps the promises");

    let drivers = PluginFolders::new(Vec::new()).with(Arc::clone(&driver));
    let mounts = Mounts::new(folder.join("state"), Form::Docker, Arc::new(drivers));
    for container in ["first", "second"] {
        let request = VolumeRequest {
            name: "data".to_owned(),
            ..VolumeRequest::default()
        };
        let wanted = vec![("template".to_owned(), request)];
        let places = mounts.attach(container, wanted).await?;
        println!("{container} finds: {}", list(&places[0])?);
        fs::write(places[0].join("what first wrote"), "")?;
    }
    for container in ["first", "second"] {
        mounts.release(container).await?;
    }
    let there = driver.mounted("data").await?;
    println!(
        "nobody uses it: {}",
        there.map_or("not mounted", |_| "still mounted")
    );
    fs::remove_dir_all(&folder)?;
    Ok(())
}
