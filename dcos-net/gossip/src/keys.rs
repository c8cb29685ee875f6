//! [`Keyring`]: seals packets, and opens those of whoever has one of our keys.

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// How many keys there may be: each packet of a stranger is tried with all.
pub const KEYS: usize = 4;
/// Bytes of a key.
const KEY: usize = 32;
/// A key file is small: four lines, and words about them.
const LARGEST: u64 = 64 * 1024;

/// The one form of packets there is.
const VERSION: u8 = 1;
const NONCE: usize = 12;
const TAG: usize = 16;
/// What sealing adds.
pub(crate) const SEAL: usize = 1 + NONCE + TAG;

/// The keys of a cluster: seals with the first, opens with any.
///
/// What is in packets is sealed by AES-256-GCM-SIV (RFC 8452), with a key made of the cluster's by
/// HKDF-SHA256 so that the same secret may serve elsewhere. A nonce is 96 random bits; that mode
/// keeps its promises even if two are the same.
pub struct Keyring {
    keys: Vec<LessSafeKey>,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The file cannot be read.
    #[error("reading the gossip keys in {path:?}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others than its owner can read or write the file.
    #[error("{path:?} has mode {mode:o}: only its owner may read gossip keys (chmod 600)")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A line is no key; it is not repeated here.
    #[error("line {line} of the gossip keys is not 32 bytes in base64")]
    Line {
        /// Which line, from 1.
        line: usize,
    },
    /// There are none, or too many.
    #[error("{count} gossip keys: there must be 1 to {KEYS}")]
    Count {
        /// How many there are.
        count: usize,
    },
}

impl Keyring {
    /// A ring of these keys, 32 bytes each.
    ///
    /// # Errors
    /// [`KeysError::Count`], or [`KeysError::Line`] with the place of the key that has another length.
    pub fn new<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Result<Self, KeysError> {
        let keys = keys.into_iter().enumerate();
        let keys = keys
            .map(|(place, key)| derived(key.as_ref()).ok_or(KeysError::Line { line: place + 1 }));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() || keys.len() > KEYS {
            return Err(KeysError::Count { count: keys.len() });
        }
        Ok(Self { keys })
    }

    /// Reads keys: a line each, 32 bytes in base64; empty lines and those with `#` in front say
    /// nothing. The first seals.
    ///
    /// # Errors
    /// As above.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let mut keys = Vec::new();
        for (line, text) in text.lines().enumerate() {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let key = STANDARD.decode(text).map(Zeroizing::new);
            match key {
                Ok(key) if key.len() == KEY => keys.push(key),
                _ => return Err(KeysError::Line { line: line + 1 }),
            }
        }
        Self::new(keys.iter().map(|key| key.as_slice()))
    }

    /// Reads a file that nobody but its owner can read.
    ///
    /// # Errors
    /// What keeps it from being one.
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let failed = |source| KeysError::Read {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::File::open(path).map_err(failed)?;
        // Asked of what was opened: the name may mean something else by now.
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            let path = path.to_owned();
            return Err(KeysError::Open { path, mode });
        }
        let mut text = Zeroizing::new(String::new());
        let read = file.take(LARGEST).read_to_string(&mut text);
        read.map_err(failed)?;
        Self::parse(&text)
    }

    /// A packet with `plain` in it. No two with the same plain bytes should have the same nonce:
    /// whoever listens would know them for the same.
    pub fn seal(&self, nonce: [u8; NONCE], plain: &[u8]) -> Vec<u8> {
        let mut packet = Vec::with_capacity(plain.len() + SEAL);
        packet.push(VERSION);
        packet.extend(nonce);
        let mut sealed = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.keys[0]
            .seal_in_place_append_tag(nonce, Aad::from([VERSION]), &mut sealed)
            .expect("a packet is far below the limits of the mode");
        packet.extend(sealed);
        packet
    }

    /// What is in a packet, if somebody with one of our keys made it.
    pub(crate) fn open(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let (&version, rest) = packet.split_first()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
        if version != VERSION || sealed.len() < TAG {
            return None;
        }
        self.keys.iter().find_map(|key| {
            let mut plain = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let opened = key.open_in_place(nonce, Aad::from([version]), &mut plain);
            let length = opened.ok()?.len();
            plain.truncate(length);
            Some(plain)
        })
    }
}

/// A file with keys, and what of it was read.
#[derive(Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
    read: Option<Stamp>,
}

/// Which file it is, and when it changed last: seconds and nanoseconds. Its mode and owner count.
type Stamp = (u64, i64, i64);

impl KeyFile {
    /// Reads it for the first time.
    pub(crate) fn open(path: PathBuf) -> Result<(Keyring, Self), KeysError> {
        // What changes after this look is read again.
        let read = stamp(&path);
        let keyring = Keyring::read(&path)?;
        Ok((keyring, Self { path, read }))
    }

    /// Reads it again if it is another than the one whose keys were read.
    ///
    /// # Errors
    /// What keeps it from being read; the next look tries again.
    pub(crate) fn look(&mut self) -> Result<Option<Keyring>, KeysError> {
        let now = stamp(&self.path);
        if now.is_some() && now == self.read {
            return Ok(None);
        }
        let keyring = Keyring::read(&self.path)?;
        self.read = now;
        Ok(Some(keyring))
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.ino(), file.ctime(), file.ctime_nsec()))
}

fn derived(key: &[u8]) -> Option<LessSafeKey> {
    if key.len() != KEY {
        return None;
    }
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"dcos-gossip");
    let extracted = salt.extract(key);
    let words: [&[u8]; 1] = [b"packets 1"];
    let expanded = extracted.expand(&words, Length).ok()?;
    let mut bytes = Zeroizing::new([0; KEY]);
    expanded.fill(bytes.as_mut_slice()).ok()?;
    let unbound = UnboundKey::new(&AES_256_GCM_SIV, bytes.as_slice()).ok()?;
    Some(LessSafeKey::new(unbound))
}

/// How much HKDF is to make.
struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        KEY
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.len();
        f.debug_struct("Keyring")
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_a_key_opens_what_was_sealed() {
        let (old, new, other) = ([1; KEY], [2; KEY], [3; KEY]);
        let before = Keyring::new([old]).unwrap();
        let between = Keyring::new([old, new]).unwrap();
        let after = Keyring::new([new, old]).unwrap();
        let stranger = Keyring::new([other]).unwrap();
        let packet = before.seal([7; NONCE], b"hello");
        assert_eq!(packet.len(), 5 + SEAL);
        for ring in [&before, &between, &after] {
            assert_eq!(ring.open(&packet).as_deref(), Some(&b"hello"[..]));
        }
        assert_eq!(stranger.open(&packet), None);
        // The first seals: one that has not heard of the new key yet does not open that.
        assert_eq!(before.open(&after.seal([7; NONCE], b"hello")), None);
        for place in 0..packet.len() {
            let mut touched = packet.clone();
            touched[place] ^= 1;
            assert_eq!(before.open(&touched), None, "byte {place}");
            assert_eq!(before.open(&packet[..place]), None);
        }
        assert_eq!(format!("{before:?}"), "Keyring { keys: 1, .. }");
    }

    #[test]
    fn a_file_that_is_mended_is_read_though_its_words_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let write = |key: u8, mode| {
            // As `mv` does it.
            let beside = folder.path().join(format!("{key}"));
            std::fs::write(&beside, STANDARD.encode([key; KEY])).unwrap();
            std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode)).unwrap();
            std::fs::rename(&beside, &path).unwrap();
        };
        let opens = |ring: &Keyring, key: u8| {
            let packet = Keyring::new([[key; KEY]]).unwrap().seal([7; NONCE], b"");
            ring.open(&packet).is_some()
        };
        write(1, 0o600);
        let (first, mut file) = KeyFile::open(path.clone()).unwrap();
        assert!(opens(&first, 1));
        assert!(file.look().unwrap().is_none());
        write(2, 0o644);
        for _ in 0..2 {
            assert!(matches!(file.look(), Err(KeysError::Open { .. })));
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(opens(&file.look().unwrap().unwrap(), 2));
        assert!(file.look().unwrap().is_none());
        // Away, and back.
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(file.look(), Err(KeysError::Read { .. })));
        write(3, 0o600);
        assert!(opens(&file.look().unwrap().unwrap(), 3));
    }

    #[test]
    fn a_file_is_read_if_it_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let line = STANDARD.encode([9; KEY]);
        std::fs::write(&path, format!("# of the cluster\n\n{line}\n")).unwrap();
        let allow = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            allow(mode).unwrap();
            assert_eq!(Keyring::read(&path).is_ok(), good, "{mode:o}");
        }
        for (text, wanted) in [
            ("", "0 gossip keys: there must be 1 to 4".to_owned()),
            (
                "# a\nc2hvcnQ=\n",
                "line 2 of the gossip keys is not 32 bytes in base64".to_owned(),
            ),
            (
                &format!("{line}\n").repeat(5),
                "5 gossip keys: there must be 1 to 4".to_owned(),
            ),
        ] {
            assert_eq!(Keyring::parse(text).unwrap_err().to_string(), wanted);
        }
    }
}
