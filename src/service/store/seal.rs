use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};
use secrecy::{ExposeSecret as _, SecretString};

use super::StoreError;

const KEY_LEN: usize = 32;

/// Encrypts what must not be in the store in clear text. The key is in a file beside it, so that a copy of the records alone
/// tells no secret.
pub(crate) struct Sealer {
    key: LessSafeKey,
    random: SystemRandom,
}

impl Sealer {
    /// Reads the key from this file, or makes one where there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::File { path: path.to_owned(), source };
        let random = SystemRandom::new();
        let mut bytes = [0; KEY_LEN];
        match fs::File::open(path) {
            Ok(mut file) => file.read_exact(&mut bytes).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                random.fill(&mut bytes).map_err(|_| failed(io::Error::other("the system gives no random bytes")))?;
                // It appears when it is whole: half a key would open no store any more.
                let new = path.with_extension("new");
                let mut options = OpenOptions::new();
                let mut file =
                    options.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
                file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
                fs::rename(&new, path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| failed(io::Error::other("it is no key")))?;
        Ok(Self { key: LessSafeKey::new(key), random })
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
        let sealed = Sealer::open(&path).unwrap().seal("w1", &SecretString::from("hunter2")).unwrap();
        assert!(!sealed.contains("hunter2"));
        let again = Sealer::open(&path).unwrap();
        assert_eq!(again.open_text("w1", &sealed).unwrap().expose_secret(), "hunter2");
        assert!(again.open_text("w2", &sealed).is_err());
        assert!(Sealer::open(&directory.path().join("other")).unwrap().open_text("w1", &sealed).is_err());
    }
}
