//! [`Memory`]: what VIPs are made of, in a file, for the time when a node starts and no master answers.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use dcos_proto::master::response::GetState;
use dcos_wire::MediaType;

/// A file: a line of JSON with the addresses that are nobody's VIP, then a `GetState` of the operator API in protobuf, of
/// what declares VIPs. It is this node's own: one that cannot be read is as good as none.
#[derive(Clone, Debug)]
pub(crate) struct Memory(PathBuf);

/// What is in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Remembered {
    /// Where masters are, and what else nodes depend on.
    pub(crate) reserved: BTreeSet<IpAddr>,
    /// What ran.
    pub(crate) state: GetState,
}

impl Memory {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// What was written last, if anything.
    pub(crate) fn read(&self) -> Option<Remembered> {
        let text = match std::fs::read(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = ?self.0, %error, "what was known of VIPs cannot be read");
                return None;
            }
        };
        let found = parse(&text);
        if found.is_none() {
            tracing::warn!(path = ?self.0, "what was known of VIPs is damaged: beginning without");
        }
        found
    }

    /// Replaces what is there. A failure is told in the log: VIPs work all the same.
    pub(crate) fn write(&self, remembered: &Remembered) {
        if let Err(error) = self.replace(remembered) {
            tracing::warn!(path = ?self.0, %error, "what is known of VIPs cannot be kept");
        }
    }

    fn replace(&self, remembered: &Remembered) -> io::Result<()> {
        if let Some(folder) = self.0.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let beside = self.0.with_extension("new");
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // What is known of tasks may hold what only root is to see.
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&beside)?;
        let mut text = serde_json::to_vec(&remembered.reserved)?;
        text.push(b'\n');
        text.extend(MediaType::Protobuf.encode(&remembered.state));
        file.write_all(&text)?;
        // A host that loses its power has the old file or the new one.
        file.sync_all()?;
        std::fs::rename(&beside, &self.0)
    }
}

fn parse(text: &[u8]) -> Option<Remembered> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    Some(Remembered {
        reserved: serde_json::from_slice(&text[..end]).ok()?,
        state: dcos_proto::decode(&text[end + 1..]).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vips/state");
        let memory = Memory::new(path.clone());
        assert_eq!(memory.read(), None);
        let remembered = Remembered {
            reserved: ["10.0.0.1", "fd00::2"].map(|ip| ip.parse().unwrap()).into(),
            state: GetState {
                get_tasks: Some(dcos_proto::master::response::GetTasks::default()),
                ..GetState::default()
            },
        };
        for _ in 0..2 {
            memory.write(&remembered);
            assert_eq!(memory.read(), Some(remembered.clone()));
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        for damaged in [&b""[..], b"{}\n", b"[]\n\xff\xff"] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(memory.read(), None);
        }
    }
}
