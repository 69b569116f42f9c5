//! TLS: whom to trust, and what a failed handshake says.

use std::{
    collections::HashMap,
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{CertificateError, CipherSuite, ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::connection::TlsRoots;
use crate::{ErrorKind, Failure};

/// The TLS configurations of a process, one for each set of roots. Clones share them.
#[derive(Clone, Default)]
pub struct SharedTls(Arc<Mutex<HashMap<TlsRoots, Arc<ClientConfig>>>>);

impl SharedTls {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The configuration that trusts `roots`. It is built, and a file of roots is read, the first time only.
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate, or the system has none.
    pub(super) fn config(&self, roots: &TlsRoots) -> Result<Arc<ClientConfig>, Failure> {
        let mut configs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(roots) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(build(match roots {
            TlsRoots::System => system_roots()?,
            TlsRoots::File(file) => roots_of(file)?,
        })?);
        configs.insert(roots.clone(), Arc::clone(&config));
        Ok(config)
    }
}

impl fmt::Debug for SharedTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedTls")
    }
}

fn build(roots: RootCertStore) -> Result<ClientConfig, Failure> {
    // The provider is named, because none may be installed in the embedder's process.
    let mut provider = rustls::crypto::ring::default_provider();
    // As browsers have it for TLS 1.3: AES with 128 bits is as safe here as with 256, and goes with SHA-256, which processors
    // have instructions for.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let provider = Arc::new(provider);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::invalid(format!("TLS cannot be set up: {error}")))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    // Not h2: the event socket does not work over it.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn system_roots() -> Result<RootCertStore, Failure> {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        return Err(Failure::invalid(format!(
            "this system has no certificate authorities{why}; install ca-certificates, or name a PEM file as `ca_file` (--ca-file)"
        )));
    }
    Ok(store)
}

fn roots_of(file: &Path) -> Result<RootCertStore, Failure> {
    let invalid = |why: String| Failure::invalid(format!("ca_file {}: {why}", file.display()));
    let pem = std::fs::read(file).map_err(|error| invalid(error.to_string()))?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| invalid(format!("not a PEM file: {error}")))?;
        store.add(certificate).map_err(|error| invalid(format!("a certificate in it cannot be used: {error}")))?;
    }
    if store.is_empty() {
        return Err(invalid("it holds no certificate; it must be PEM with `-----BEGIN CERTIFICATE-----`".to_owned()));
    }
    Ok(store)
}

/// What a failed handshake means. Nothing of the request was sent.
pub(super) fn handshake_failure(error: &io::Error, host: &str) -> Failure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    Failure::not_sent(match inner {
        Some(inner) => ErrorKind::Tls { reason: reason(inner, host) },
        None => ErrorKind::Unreachable {
            reason: format!(
                "the connection broke during the TLS handshake: {error} (if the server does not speak TLS, write http:// \
                 before its host)"
            ),
        },
    })
}

fn reason(error: &rustls::Error, host: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(why) => certificate_reason(why, host),
        rustls::Error::InvalidMessage(_) => {
            format!("the server does not speak TLS ({error}); write http:// rather than https:// before its host")
        }
        _ => error.to_string(),
    }
}

fn certificate_reason(why: &CertificateError, host: &str) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!(
                "the certificate has expired ({why}): renew it on the server; if it is new, is this machine's clock right?"
            )
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate is not valid yet ({why}); is this machine's clock right?")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "the certificate is for another name than {host} ({why}): write the name that it is for in the address, or \
                 give the server one for {host}"
            )
        }
        // A bad signature is what an authority looks like that was made anew under its old name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "the certificate is from an unknown authority ({why}); if it is your own, name its PEM file as `ca_file` (--ca-file)"
        ),
        // What `openssl req -x509` makes. rustls has no name of its own for it.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "the server shows the certificate of an authority; give it one that the authority signed, or make it with \
             `-addext basicConstraints=critical,CA:FALSE`"
                .to_owned()
        }
        _ => format!("the certificate cannot be used: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(file: &Path) -> String {
        SharedTls::new().config(&TlsRoots::File(file.to_owned())).unwrap_err().to_string()
    }

    #[test]
    fn a_bad_ca_file_is_named_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.pem");
        assert!(refusal(&missing).contains("missing.pem"));
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "hello").unwrap();
        let message = refusal(&empty);
        assert!(message.contains("empty.pem") && message.contains("BEGIN CERTIFICATE"), "{message}");
    }

    #[test]
    fn the_suite_that_is_cheapest_comes_first() {
        let config = build(RootCertStore::empty()).unwrap();
        let suites: Vec<_> = config.crypto_provider().cipher_suites.iter().map(|suite| suite.suite()).collect();
        assert_eq!(suites[..2], [CipherSuite::TLS13_AES_128_GCM_SHA256, CipherSuite::TLS13_AES_256_GCM_SHA384]);
        assert_eq!(suites.len(), rustls::crypto::ring::default_provider().cipher_suites.len());
    }

    #[test]
    fn a_configuration_is_built_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let key = rcgen::generate_simple_self_signed(["h".to_owned()]).unwrap();
        std::fs::write(&file, key.cert.pem()).unwrap();
        let tls = SharedTls::new();
        let first = tls.config(&TlsRoots::File(file.clone())).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(Arc::ptr_eq(&first, &tls.clone().config(&TlsRoots::File(file)).unwrap()));
    }
}
