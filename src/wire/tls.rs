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
        .map_err(|_| WireError::TlsSetup(format!("{expected:?} is not a name that a certificate can hold")))?;
    let connector = TlsConnector::from(Arc::new(client(settings)?));
    connector.connect(name, stream).await.map_err(|e| WireError::Tls(e.to_string()))
}

fn client(settings: &TlsSettings) -> Result<ClientConfig, WireError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = roots(settings)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| WireError::TlsSetup(e.to_string()))?;
    let builder = match settings.any_name {
        false => builder.with_root_certificates(roots),
        true => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName::new(roots, provider)?)),
    };
    match (&settings.cert, &settings.key) {
        (Some(cert), Some(key)) => {
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, &e))?;
            // rustls calls it a peer's, and takes no X.509 v1, which OpenSSL and so the servers do.
            let ours = |e: Error| WireError::TlsSetup(format!("the certificate to show, {}: {e}", cert.display()));
            builder.with_client_auth_cert(certificates(cert)?, key_der).map_err(ours)
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(_), None) => Err(WireError::TlsSetup("a client certificate is set without its key; set both".into())),
        (None, Some(_)) => Err(WireError::TlsSetup("a client key is set without its certificate; set both".into())),
    }
}

/// Whether TLS is spoken at the other end of a connected socket. Nothing is checked and nothing but a hello is sent, so
/// what we trust does not matter.
pub async fn is_spoken(stream: TcpStream, host: &str) -> bool {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let anybody = Arc::new(Anybody(provider.signature_verification_algorithms.supported_schemes()));
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let (Ok(builder), Ok(name)) = (builder, ServerName::try_from(host.to_owned())) else { return false };
    let config = builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth();
    match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Ok(_) => true,
        // Only who speaks TLS says why it does not go on, for want of a certificate of ours say.
        Err(error) => {
            let told = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
            matches!(told, Some(Error::AlertReceived(_)))
        }
    }
}

/// Takes any certificate. For [`is_spoken`] alone, which sends nothing that could be lost.
#[derive(Debug)]
struct Anybody(Vec<SignatureScheme>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

/// Checks everything but the name: who signed, and until when.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl AnyName {
    fn new(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<AnyName, WireError> {
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        built.map(AnyName).map_err(|e| WireError::TlsSetup(e.to_string()))
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

fn roots(settings: &TlsSettings) -> Result<RootCertStore, WireError> {
    let mut store = RootCertStore::empty();
    let mut found = Vec::new();
    if let Some(path) = &settings.ca {
        found.extend(certificates(path)?);
    }
    if let Some(dir) = &settings.ca_dir {
        found.extend(in_directory(dir)?);
    }
    let named = [&settings.ca, &settings.ca_dir].into_iter().flatten().next();
    if named.is_none() {
        found = rustls_native_certs::load_native_certs().certs;
    }
    // The system's store may hold a few that rustls does not read; one that was named has to count.
    let (added, _) = store.add_parsable_certificates(found);
    match (added, named) {
        (0, Some(path)) => Err(WireError::TlsSetup(format!("{} holds no usable certificate", path.display()))),
        (0, None) => Err(WireError::TlsSetup("the system has no root certificates; set `ca`".into())),
        _ => Ok(store),
    }
}

/// OpenSSL takes what it finds there under a hash of its subject; whatever is a certificate counts here.
fn in_directory(dir: &Path) -> Result<Vec<CertificateDer<'static>>, WireError> {
    let entries = std::fs::read_dir(dir)
        .map_err(|error| WireError::TlsSetup(format!("cannot read {}: {error}", dir.display())))?;
    let files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    Ok(files.filter_map(|path| certificates(&path).ok()).flatten().collect())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, WireError> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, error: &rustls::pki_types::pem::Error) -> WireError {
    WireError::TlsSetup(format!("cannot read {}: {error}", path.display()))
}
