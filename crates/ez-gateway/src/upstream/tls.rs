//! Whom upstream connections trust: the public certificate authorities, and those that the operator adds.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// TLS towards upstreams, made once at the start so that a wrong file keeps the process from starting.
#[derive(Clone)]
pub struct UpstreamTls(Arc<ClientConfig>);

/// Why certificate authorities cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamTlsError {
    /// There is no certificate in it, or a damaged one.
    #[error("it must hold one or more certificates in PEM form")]
    NoCertificate,
    /// A certificate cannot be an authority.
    #[error("one of its certificates cannot be used: {0}")]
    Certificate(rustls::Error),
    /// The library has no protocol version (never seen in practice).
    #[error(transparent)]
    Protocol(rustls::Error),
}

impl UpstreamTls {
    /// Trust in the public certificate authorities and in those of `extra`, certificates in PEM form.
    pub fn new(extra: Option<&[u8]>) -> Result<Self, UpstreamTlsError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
        if let Some(pem) = extra {
            let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
            let certificates = certificates.ok().filter(|certificates| !certificates.is_empty());
            for certificate in certificates.ok_or(UpstreamTlsError::NoCertificate)? {
                roots.add(certificate).map_err(UpstreamTlsError::Certificate)?;
            }
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .map_err(UpstreamTlsError::Protocol)?;
        Ok(Self(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
    }

    /// The configuration, without protocols of the application.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.0.clone()
    }
}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpstreamTls(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        assert!(UpstreamTls::new(None).is_ok());
        for bad in ["", "no PEM", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(UpstreamTls::new(Some(bad.as_bytes())), Err(UpstreamTlsError::NoCertificate)), "{bad}");
        }
        let no_authority = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(UpstreamTls::new(Some(no_authority.as_bytes())), Err(UpstreamTlsError::Certificate(_))));
    }
}
