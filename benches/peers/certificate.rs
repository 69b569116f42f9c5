//! A certificate authority of our own, for the scenarios over TLS.

use std::path::Path;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};

/// The certificate of a server at 127.0.0.1.
pub(crate) struct Certificate {
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Certificate {
    /// Makes one, and writes its authority into this file.
    pub(crate) fn make(authority: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
        std::fs::write(authority, issuer.pem())?;
        Ok(Self { chain: vec![certificate.der().clone()], key: key.serialize_der() })
    }

    /// How a server shows it.
    pub(crate) fn server(self) -> ServerConfig {
        let key = PrivateKeyDer::try_from(self.key).expect("a key that was just made");
        let builder = ServerConfig::builder().with_no_client_auth();
        let mut config = builder.with_single_cert(self.chain, key).expect("both belong together");
        // As OpenSSL's servers do: the client keeps the session, and the server none.
        config.ticketer = rustls::crypto::ring::Ticketer::new().expect("random numbers");
        config
    }
}
