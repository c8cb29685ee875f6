//! The root of one container: a writable overlay of layers, or a copy of them.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount,
    unmount,
};

/// What an overlay's folder has: what was written, and where the kernel prepares that.
const UPPER: &str = "upper";
const WORK: &str = "work";

/// The folders that hold what is written to `root`, which [`overlay`] made with `folder`, or [`copy`].
pub fn written(folder: &Path, root: &Path) -> Vec<PathBuf> {
    let overlay = [UPPER, WORK].map(|name| folder.join(name));
    if overlay.iter().all(|part| part.is_dir()) && is_mount(root, folder) {
        overlay.to_vec()
    } else {
        vec![root.to_owned()]
    }
}

fn is_mount(root: &Path, folder: &Path) -> bool {
    let device = |path: &Path| path.metadata().map(|found| found.dev()).ok();
    device(root) != device(folder)
}

/// Whether this process is in a user namespace that is not the node's: `trusted.` attributes, and device nodes, take
/// root of the node.
pub(crate) fn is_mapped() -> bool {
    static MAPPED: LazyLock<bool> = LazyLock::new(|| {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        map.split_whitespace().ne(["0", "0", "4294967295"])
    });
    *MAPPED
}

/// Has overlayfs keep its books in attributes that it takes no root to write. Linux 5.11
const USER_ATTRIBUTES: &str = "userxattr";

/// The attribute by which a folder of a layer hides what is below it.
pub(crate) fn opaque() -> &'static str {
    if is_mapped() {
        "user.overlay.opaque"
    } else {
        "trusted.overlay.opaque"
    }
}

/// Mounts `layers`, lowest first, with a writable one on top. `folder` holds what is written, and
/// has to lie on a file system that can be an overlay's upper one. Takes root.
///
/// # Errors
/// What the kernel says; whether overlays work here is found out by trying.
pub fn overlay(layers: &[impl AsRef<Path>], folder: &Path, root: &Path) -> io::Result<()> {
    let (upper, work) = (folder.join(UPPER), folder.join(WORK));
    for made in [&upper, &work, &root.to_owned()] {
        std::fs::create_dir_all(made)?;
    }
    // The root itself is as the image's root is, and whose that is.
    if let Some(top) = layers.last() {
        let top = top.as_ref().metadata()?;
        chown(&upper, Some(top.uid()), Some(top.gid()))?;
        std::fs::set_permissions(&upper, top.permissions())?;
    }
    match overlay_by_parts(layers, &upper, &work, root) {
        // Before Linux 6.5 a layer cannot be named alone.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            overlay_by_line(layers, &upper, &work, root)
        }
        other => Ok(other?),
    }
}

fn overlay_by_parts(
    layers: &[impl AsRef<Path>],
    upper: &Path,
    work: &Path,
    root: &Path,
) -> Result<(), Errno> {
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in layers.iter().rev() {
        fsconfig_set_string(&overlay, "lowerdir+", layer.as_ref())?;
    }
    fsconfig_set_string(&overlay, "upperdir", upper)?;
    fsconfig_set_string(&overlay, "workdir", work)?;
    if is_mapped() {
        fsconfig_set_flag(&overlay, USER_ATTRIBUTES)?;
    }
    fsconfig_create(&overlay)?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let made = fsmount(&overlay, flags, MountAttrFlags::empty())?;
    move_mount(
        &made,
        "",
        CWD,
        root,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
}

fn overlay_by_line(
    layers: &[impl AsRef<Path>],
    upper: &Path,
    work: &Path,
    root: &Path,
) -> io::Result<()> {
    let open = |path: &Path| open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let lower = layers.iter().rev().map(|layer| open(layer.as_ref()));
    let lower = lower.collect::<Result<Vec<_>, _>>()?;
    let (upper, work) = (open(upper)?, open(work)?);
    let options = line(&lower, &upper, &work);
    if options.len() >= PAGE {
        let layers = layers.len();
        let why = format!("an overlay of {layers} layers takes Linux 6.5");
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    let options = CString::new(options)?;
    let flags = MountFlags::empty();
    Ok(mount("overlay", root, "overlay", flags, &*options)?)
}

/// What the options of a mount have to fit into, on most machines.
const PAGE: usize = 4096;

/// All options, short as they have to be: folders are named by descriptors, whose names are short and have no commas.
fn line(lower: &[OwnedFd], upper: &OwnedFd, work: &OwnedFd) -> String {
    let name = |folder: &OwnedFd| format!("/proc/self/fd/{}", folder.as_raw_fd());
    let (lower, upper, work) = (lower.iter().map(name), name(upper), name(work));
    let lower: Vec<_> = lower.collect();
    let mut options = format!(
        "lowerdir={},upperdir={upper},workdir={work}",
        lower.join(":")
    );
    if is_mapped() {
        options.push(',');
        options.push_str(USER_ATTRIBUTES);
    }
    options
}

/// Copies `layers`, lowest first, over each other. Takes root.
///
/// # Errors
/// The disk's, or what `cp` says.
pub fn copy(layers: &[impl AsRef<Path>], root: &Path) -> io::Result<()> {
    std::fs::create_dir_all(root)?;
    for layer in layers {
        let layer = layer.as_ref();
        hide(layer, layer, root)?;
        let copied = Command::new("cp")
            .args(["-a", "--reflink=auto", "-T"])
            .arg(layer)
            .arg(root)
            .output()?;
        if !copied.status.success() {
            let said = String::from_utf8_lossy(&copied.stderr);
            return Err(io::Error::other(format!("cp: {}", said.trim())));
        }
        reveal(layer, layer, root)?;
    }
    Ok(())
}

/// Removes from `root` what the layer deletes or replaces by something of another kind.
fn hide(folder: &Path, layer: &Path, root: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let target = below(&path, layer, root);
        let Ok(there) = target.symlink_metadata() else {
            continue;
        };
        let here = path.symlink_metadata()?;
        if here.is_dir() && there.is_dir() {
            if is_opaque(&path) {
                std::fs::remove_dir_all(&target)?;
            } else {
                hide(&path, layer, root)?;
            }
        } else if there.is_dir() {
            std::fs::remove_dir_all(&target)?;
        } else {
            std::fs::remove_file(&target)?;
        }
    }
    Ok(())
}

/// Removes the marks of what is deleted, which were copied too.
fn reveal(folder: &Path, layer: &Path, root: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let here = path.symlink_metadata()?;
        if here.is_dir() {
            reveal(&path, layer, root)?;
        } else if is_whiteout(&here) {
            std::fs::remove_file(below(&path, layer, root))?;
        }
    }
    Ok(())
}

fn below(path: &Path, layer: &Path, root: &Path) -> PathBuf {
    path.strip_prefix(layer)
        .map_or_else(|_| root.to_owned(), |rest| root.join(rest))
}

fn is_whiteout(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 1];
    let read = rustix::fs::lgetxattr(path, opaque(), &mut value);
    read == Ok(1) && value == *b"y"
}

/// Undoes [`overlay`]; of what is not mounted, nothing.
///
/// # Errors
/// What the kernel says of the mount.
pub fn undo(root: &Path) -> io::Result<()> {
    loop {
        match unmount(root, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // There may be one on top of another.
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT | Errno::PERM) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYERS: usize = 130;

    /// An image of many layers, in folders whose names are as long as a store's; both ways of mounting it show all of them.
    #[test]
    fn many_layers_are_mounted_on_old_kernels_and_new() {
        let dir = tempfile::tempdir().unwrap();
        let layer = |number: usize| {
            let layer = dir.path().join(format!("a, store:{number:0>64}/layer"));
            std::fs::create_dir_all(&layer).unwrap();
            std::fs::write(layer.join(format!("file-{number}")), "x").unwrap();
            std::fs::write(layer.join("top"), number.to_string()).unwrap();
            layer
        };
        let layers: Vec<_> = (0..LAYERS).map(layer).collect();
        let (folder, root) = (dir.path().join("container"), dir.path().join("root"));
        if let Err(error) = overlay(&layers, &folder, &root) {
            eprintln!("skipped: no overlays here: {error}");
            return;
        }
        let check = || {
            let files = std::fs::read_dir(&root).unwrap().count();
            let top = std::fs::read_to_string(root.join("top")).unwrap();
            std::fs::write(root.join("top"), "mine").unwrap();
            let written = std::fs::read_to_string(folder.join("upper/top")).unwrap();
            std::fs::remove_file(folder.join("upper/top")).ok();
            undo(&root).unwrap();
            (files, top, written)
        };
        let expected = (LAYERS + 1, (LAYERS - 1).to_string(), "mine".to_owned());
        assert_eq!(check(), expected);
        let (upper, work) = (folder.join(UPPER), folder.join(WORK));
        overlay_by_line(&layers, &upper, &work, &root).unwrap();
        assert_eq!(check(), expected);
        let many: Vec<_> = layers.iter().cycle().take(400).collect();
        let error = overlay_by_line(&many, &upper, &work, &root).unwrap_err();
        assert!(error.to_string().contains("400 layers"), "{error}");
    }
}
