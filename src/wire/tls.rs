//! TLS towards a server. The provider is handed over explicitly: nothing here depends on a process-wide default.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{TlsSettings, WireError};

/// Speaks TLS over a connected socket; `host` is what was dialled.
pub async fn wrap(stream: TcpStream, settings: &TlsSettings, host: &str) -> Result<TlsStream<TcpStream>, WireError> {
    let expected = settings.server_name.as_deref().unwrap_or(host).to_owned();
    let name = ServerName::try_from(expected.clone())
        .map_err(|_| WireError::Tls(format!("{expected:?} is not a name that a certificate can hold")))?;
    let connector = TlsConnector::from(Arc::new(client(settings)?));
    connector.connect(name, stream).await.map_err(|e| WireError::Tls(e.to_string()))
}

fn client(settings: &TlsSettings) -> Result<ClientConfig, WireError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = roots(settings.ca.as_deref())?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| WireError::Tls(e.to_string()))?;
    let builder = match settings.any_name {
        false => builder.with_root_certificates(roots),
        true => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName::new(roots, provider)?)),
    };
    match (&settings.cert, &settings.key) {
        (Some(cert), Some(key)) => {
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, &e))?;
            builder.with_client_auth_cert(certificates(cert)?, key_der).map_err(|e| WireError::Tls(e.to_string()))
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(_), None) => Err(WireError::Tls("a client certificate is set without its key; set both".into())),
        (None, Some(_)) => Err(WireError::Tls("a client key is set without its certificate; set both".into())),
    }
}

/// Checks everything but the name: who signed, and until when.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl AnyName {
    fn new(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<AnyName, WireError> {
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        built.map(AnyName).map_err(|e| WireError::Tls(e.to_string()))
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is compared last (rustls 0.23, WebPkiServerVerifier): the chain and the dates were fine.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, WireError> {
    let mut store = RootCertStore::empty();
    let found = match ca {
        Some(path) => certificates(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    // The system's store may hold a few that rustls does not read; one that was named has to count.
    let (added, _) = store.add_parsable_certificates(found);
    match (added, ca) {
        (0, Some(path)) => Err(WireError::Tls(format!("{} holds no usable certificate", path.display()))),
        (0, None) => Err(WireError::Tls("the system has no root certificates; set `ca`".into())),
        _ => Ok(store),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, WireError> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, error: &rustls::pki_types::pem::Error) -> WireError {
    WireError::Tls(format!("cannot read {}: {error}", path.display()))
}
