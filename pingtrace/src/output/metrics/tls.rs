//! Certificates and versions of TLS.

use anyhow::{Context, Result, bail};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The `tls_server_config` of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The server's certificates, PEM.
    pub cert_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
    /// Certificates of clients are checked with these.
    pub client_ca_file: Option<PathBuf>,
    /// A client without one is refused.
    pub needs_client_cert: bool,
    /// The oldest version that is spoken.
    pub min_version: Version,
    /// The newest one.
    pub max_version: Version,
}

/// In order of age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Version {
    /// RFC 5246.
    TLS12,
    /// RFC 8446.
    TLS13,
}

/// What that asks for.
pub fn server_config(tls: &Tls) -> Result<Arc<ServerConfig>> {
    let versions = [&TLS12, &TLS13];
    let versions = &versions[tls.min_version as usize..=tls.max_version as usize];
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(versions)?;
    let builder = match client_verifier(tls)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let certificates = certificates(&tls.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key_file);
    let key = key.with_context(|| format!("read the key {}", tls.key_file.display()))?;
    let config = builder.with_single_cert(certificates, key);
    let config = config.with_context(|| {
        let (cert, key) = (tls.cert_file.display(), tls.key_file.display());
        format!("use the certificate {cert} with the key {key}")
    })?;
    Ok(Arc::new(config))
}

fn client_verifier(tls: &Tls) -> Result<Option<Arc<dyn ClientCertVerifier>>> {
    let Some(path) = &tls.client_ca_file else {
        return Ok(None);
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate)?;
    }
    let provider = Arc::new(default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if tls.needs_client_cert {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    Ok(Some(builder.build().context("use client_ca_file")?))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = || format!("read the certificates {}", path.display());
    let all = CertificateDer::pem_file_iter(path).with_context(read)?;
    let all: Vec<_> = all.collect::<Result<_, _>>().with_context(read)?;
    if all.is_empty() {
        bail!("{} has no certificate", path.display());
    }
    Ok(all)
}
