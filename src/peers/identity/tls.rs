//! Mutual TLS 1.3 with the certificates of one cluster, and no other.
//!
//! Certificates are checked at a moment that never changes: their dates bound nothing, so a host
//! whose clock is years off connects all the same.

use super::authority::{Authority, Certified, fingerprint};
use super::joiner::{JoinerKey, KeyRequest};
use super::{Keyring, Role, Subject};
use crate::error::Error;
use bincode::{Decode, Encode};
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, DistinguishedName,
    PeerIncompatible, ServerConfig, SignatureScheme, version,
};
use std::sync::Arc;
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// What one process shows, and whom it believes.
pub struct Credentials {
    keyring: Keyring,
    subject: Subject,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Credentials {
    /// A new certificate for this process, by the keyring's first secret.
    pub fn new(keyring: Keyring, subject: Subject) -> Result<Credentials, Error> {
        let signs = Authority::of(keyring.signs())?;
        let (own, authority) = (signs.certify(&subject)?, signs.certificate().clone());
        let trusted = keyring.trusted().iter().map(Authority::of).collect::<Result<Vec<_>, _>>()?;
        let verifier = Verifier::new(trusted.iter().map(Authority::certificate))?;
        let Certified { certificate, key } = own;
        let mut server = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(failed)?
            .with_client_cert_verifier(verifier.clone())
            // With the authority's, for one that has nothing but its fingerprint.
            .with_single_cert(vec![certificate.clone(), authority], key.clone_key())
            .map_err(failed)?;
        // A dialler that only writes must not be sent anything after the handshake.
        server.send_tls13_tickets = 0;
        let client =
            client(verifier)?.with_client_auth_cert(vec![certificate], key).map_err(failed)?;
        Ok(Credentials { keyring, subject, server: Arc::new(server), client: settled(client) })
    }

    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    pub fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    pub fn client(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }
}

/// What a mount is given that came by a token: who it is, and whom to believe.
#[derive(Clone, Debug, Encode, Decode)]
pub struct MountGrant {
    /// DER.
    certificate: Vec<u8>,
    /// Of the cluster; DER.
    authorities: Vec<Vec<u8>>,
}

impl Credentials {
    /// A certificate for the key of a mount that came by `token`.
    pub fn certify_mount(
        &self,
        token: u64,
        name: &str,
        key: &KeyRequest,
    ) -> Result<MountGrant, Error> {
        let (name, cluster) = (name.to_owned(), self.subject.cluster);
        let subject = Subject { role: Role::Mount, name, incarnation: token, cluster };
        let certificate = Authority::of(self.keyring.signs())?.sign(&subject, key)?.to_vec();
        let der = |secret| Ok(Authority::of(secret)?.certificate().to_vec());
        let authorities = self.keyring.trusted().iter().map(der).collect::<Result<_, Error>>()?;
        Ok(MountGrant { certificate, authorities })
    }
}

/// What a mount shows, and whom it believes.
pub struct MountCertificate {
    subject: Subject,
    client: Arc<ClientConfig>,
}

impl MountCertificate {
    /// # Errors
    /// If the grant is not for this key, or not for a mount.
    pub fn new(key: &JoinerKey, grant: MountGrant) -> Result<MountCertificate, Error> {
        let certificate = CertificateDer::from(grant.certificate);
        let subject = subject_of(Some(std::slice::from_ref(&certificate))).map_err(failed)?;
        if subject.role != Role::Mount {
            return Err(failed("the certificate is not for a mount"));
        }
        let authorities: Vec<_> = grant.authorities.into_iter().map(CertificateDer::from).collect();
        let client = client(Verifier::new(authorities.iter())?)?
            .with_client_auth_cert(vec![certificate], key.to_der())
            .map_err(failed)?;
        Ok(MountCertificate { subject, client: settled(client) })
    }

    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    pub fn client(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }
}

/// For one that has a token and no certificate: it believes the authority that the token names.
pub fn token_client(fingerprint: [u8; 32]) -> Result<Arc<ClientConfig>, Error> {
    let verifier = Verifier::of(Trust::Fingerprint(fingerprint));
    Ok(settled(client(verifier)?.with_no_client_auth()))
}

fn client(verifier: Arc<Verifier>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    Ok(ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(verifier))
}

/// Each connection begins anew, and names no host.
fn settled(mut client: ClientConfig) -> Arc<ClientConfig> {
    client.resumption = rustls::client::Resumption::disabled();
    client.enable_sni = false;
    Arc::new(client)
}

/// Whom a verified certificate is for.
///
/// # Errors
/// If it is for no process of a cluster.
pub fn subject_of(certificates: Option<&[CertificateDer<'_>]>) -> Result<Subject, String> {
    let certificate = certificates.and_then(<[_]>::first).ok_or("it shows no certificate")?;
    let certificate = EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
    let mut names = certificate.valid_uri_names();
    match (names.next(), names.next()) {
        (Some(name), None) => name.parse(),
        _ => Err("its certificate has not exactly one name".into()),
    }
}

/// The fastest suite first: every host that runs this has AES in hardware.
fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![
        ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    provider
}

/// Believes what the cluster's authorities signed.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Trust {
    Anchors(Vec<TrustAnchor<'static>>),
    /// An authority of this fingerprint, which the other side shows.
    Fingerprint([u8; 32]),
}

impl Verifier {
    fn new<'a>(
        authorities: impl Iterator<Item = &'a CertificateDer<'static>>,
    ) -> Result<Arc<Verifier>, Error> {
        let anchors = authorities.map(|certificate| {
            Ok(anchor_from_trusted_cert(certificate).map_err(failed)?.to_owned())
        });
        Ok(Verifier::of(Trust::Anchors(anchors.collect::<Result<_, Error>>()?)))
    }

    fn of(trust: Trust) -> Arc<Verifier> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Arc::new(Verifier { trust, algorithms })
    }

    /// A moment in every certificate's time.
    fn moment() -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(1 << 31))
    }

    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        usage: KeyUsage,
    ) -> Result<(), rustls::Error> {
        let shown;
        let anchors = match &self.trust {
            Trust::Anchors(anchors) => anchors.as_slice(),
            Trust::Fingerprint(known) => {
                let authority = between.iter().find(|shown| fingerprint(shown) == *known);
                let authority = authority.ok_or(CertificateError::UnknownIssuer)?;
                let anchor = anchor_from_trusted_cert(authority);
                shown = [anchor.map_err(|_| CertificateError::BadEncoding)?];
                shown.as_slice()
            }
        };
        let (all, now) = (self.algorithms.all, Verifier::moment());
        EndEntityCert::try_from(certificate)
            .and_then(|certificate| {
                certificate.verify_for_usage(all, anchors, &[], now, usage, None, None)?;
                Ok(())
            })
            .map_err(|error| match error {
                webpki::Error::BadDer => CertificateError::BadEncoding.into(),
                webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer.into(),
                _ => CertificateError::ApplicationVerificationFailure.into(),
            })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(certificate, between, KeyUsage::server_auth())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Verifier {
    /// Whoever comes by a token has none yet.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(certificate, between, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Other(format!("cannot set up TLS: {error}"))
}
