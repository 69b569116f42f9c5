use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use secrecy::{ExposeSecret as _, SecretString};

use super::{StateDirectory, StoreError, directory::rename};

const KEY_LEN: usize = 32;

/// Encrypts what must not be in the store in clear text. The key is in a file beside it, so that a copy of the records alone
/// tells no secret.
pub(crate) struct Sealer {
    key: LessSafeKey,
    /// Another one that follows from it, for fingerprints.
    fingerprints: hmac::Key,
    random: SystemRandom,
}

impl Sealer {
    /// Reads the key of a store, or makes one for a store that is new.
    pub(crate) fn open(directory: &StateDirectory) -> Result<Self, StoreError> {
        Self::read(&directory.key(), !directory.records().exists())
    }

    fn read(path: &Path, is_new: bool) -> Result<Self, StoreError> {
        let failed = |source| StoreError::File { path: path.to_owned(), source };
        let random = SystemRandom::new();
        let mut bytes = [0; KEY_LEN];
        match fs::File::open(path) {
            Ok(mut file) => file.read_exact(&mut bytes).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !is_new {
                    return Err(StoreError::NoKey(path.to_owned()));
                }
                random.fill(&mut bytes).map_err(|_| failed(io::Error::other("the system gives no random bytes")))?;
                // It appears when it is whole: half a key would open no store any more.
                let new = path.with_extension("new");
                let mut options = OpenOptions::new();
                let mut file =
                    options.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
                file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
                rename(&new, path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| failed(io::Error::other("it is no key")))?;
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), b"wsfleet fingerprints");
        let fingerprints = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
        Ok(Self { key: LessSafeKey::new(key), fingerprints, random })
    }

    /// What tells a text from others and nothing of it to those who do not have the key: who guesses it cannot check the guess.
    pub(crate) fn fingerprint(&self, text: &str) -> String {
        STANDARD.encode(hmac::sign(&self.fingerprints, text.as_bytes()))
    }

    /// Encrypts a text for this place; it is read again only from there.
    pub(crate) fn seal(&self, place: &str, text: &SecretString) -> Result<String, StoreError> {
        let failed = || StoreError::Database("a secret cannot be encrypted".to_owned());
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| failed())?;
        let mut sealed = text.expose_secret().as_bytes().to_vec();
        let (aad, unique) = (Aad::from(place.as_bytes()), Nonce::assume_unique_for_key(nonce));
        self.key.seal_in_place_append_tag(unique, aad, &mut sealed).map_err(|_| failed())?;
        Ok(STANDARD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// Decrypts what was encrypted for this place.
    pub(crate) fn open_text(&self, place: &str, sealed: &str) -> Result<SecretString, StoreError> {
        let failed = || {
            StoreError::Database(format!(
                "the secret of {place} cannot be decrypted: is the key file that of this store?"
            ))
        };
        let bytes = STANDARD.decode(sealed).map_err(|_| failed())?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(failed)?;
        let mut rest = rest.to_vec();
        let (aad, unique) = (Aad::from(place.as_bytes()), Nonce::assume_unique_for_key(*nonce));
        let plain = self.key.open_in_place(unique, aad, &mut rest).map_err(|_| failed())?;
        std::str::from_utf8(plain).map(SecretString::from).map_err(|_| failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_again_from_its_own_place_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let sealed = Sealer::read(&path, true).unwrap().seal("w1", &SecretString::from("hunter2")).unwrap();
        assert!(!sealed.contains("hunter2"));
        let again = Sealer::read(&path, false).unwrap();
        assert_eq!(again.open_text("w1", &sealed).unwrap().expose_secret(), "hunter2");
        assert!(again.open_text("w2", &sealed).is_err());
        let other = Sealer::read(&directory.path().join("other"), true).unwrap();
        assert!(other.open_text("w1", &sealed).is_err());
        assert_eq!(again.fingerprint("text"), Sealer::read(&path, false).unwrap().fingerprint("text"));
        assert_ne!(again.fingerprint("text"), again.fingerprint("other"));
        assert_ne!(again.fingerprint("text"), other.fingerprint("text"));
    }
}
