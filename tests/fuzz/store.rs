//! An image store of its own for each input, in memory.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use dcos_image::{ImageStore, Request, Source, StoreConfig, tree};
use tokio::runtime::Runtime;

pub struct Place {
    root: PathBuf,
    pub images: PathBuf,
}

impl Place {
    /// A folder that images have no business in.
    pub fn outside(&self) -> PathBuf {
        self.root.join("outside")
    }
}

/// Runs `body` with a place that goes afterwards.
pub fn with(body: impl FnOnce(&Place)) {
    let root = Path::new("/dev/shm").join(format!("dcos-fuzz-{}", std::process::id()));
    let place = Place {
        images: root.join("images"),
        root,
    };
    for folder in [&place.images, &place.outside()] {
        std::fs::create_dir_all(folder).unwrap();
    }
    body(&place);
    tree::remove(&place.root).unwrap();
}

/// Gets the image of that name, whatever comes of it.
pub fn get(place: &Place, name: &str) {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    });
    let mut config = StoreConfig::new(
        place.root.join("store"),
        Source::Directory(place.images.clone()),
    );
    config.max_layer = 1 << 20;
    let store = ImageStore::new(config);
    runtime.block_on(async {
        store.recover().await.unwrap();
        let got = store.get(&Request::new(name)).await;
        if let Ok(image) = got {
            assert!(image.layers.iter().all(|layer| layer.is_dir()));
        }
    });
}

/// The next piece of an input: its length in two bytes, and that many, or what is left.
pub fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, more) = rest.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_le_bytes(*length)).min(more.len());
    let (piece, more) = more.split_at(length);
    *rest = more;
    Some(piece)
}

#[allow(dead_code, reason = "one target needs it")]
pub fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
