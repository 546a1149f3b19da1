//! A cluster's certificate authority. It follows from the secret alone, to the bit, so that every
//! host that has the secret has the same one, and dates say nothing: what ends a right is the log.

use super::Subject;
use super::secret::{Secret, hex};
use crate::error::Error;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
    SigningKey,
};
use ring::digest::{SHA256, digest};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// First and last year of every certificate: all of time, as X.509 can say it.
const YEARS: (i32, i32) = (1970, 9999);

/// The authority of one secret.
pub struct Authority {
    key: AuthorityKey,
    certificate: CertificateDer<'static>,
}

/// A certificate and what proves that it is one's own.
pub struct Certified {
    pub certificate: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
}

struct AuthorityKey(Ed25519KeyPair);

impl PublicKeyData for &AuthorityKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl SigningKey for &AuthorityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

impl Authority {
    pub fn of(secret: &Secret) -> Result<Authority, Error> {
        let seed = secret.derive(b"certificate authority 1");
        let key = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(failed)?;
        let key = AuthorityKey(key);
        let certificate = own_parameters(&key).self_signed(&&key).map_err(failed)?;
        Ok(Authority { certificate: certificate.der().clone(), key })
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A new key, and a certificate that says whose it is.
    pub fn certify(&self, subject: &Subject) -> Result<Certified, Error> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(failed)?;
        let certificate = self.sign(subject, &key)?;
        Ok(Certified { certificate, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() })
    }

    /// A certificate for somebody else's key.
    pub fn sign(
        &self,
        subject: &Subject,
        key: &impl PublicKeyData,
    ) -> Result<CertificateDer<'static>, Error> {
        let mut parameters = parameters("keepfs process");
        let uri = subject.to_string().try_into().map_err(failed)?;
        parameters.subject_alt_names = vec![SanType::URI(uri)];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let own = own_parameters(&self.key);
        let issuer = Issuer::from_params(&own, &self.key);
        Ok(parameters.signed_by(key, &issuer).map_err(failed)?.der().clone())
    }
}

/// What names a certificate in a token: SHA-256.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
    bytes
}

/// The name tells authorities apart, for a verifier looks its issuer up by that.
fn own_parameters(key: &AuthorityKey) -> CertificateParams {
    let public = digest(&SHA256, key.0.public_key().as_ref());
    let name = format!("keepfs cluster {}", hex(&public.as_ref()[..8]));
    let mut parameters = parameters(&name);
    parameters.serial_number = Some(SerialNumber::from_slice(&[1]));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    parameters
}

fn parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.not_before = rcgen::date_time_ymd(YEARS.0, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(YEARS.1, 12, 31);
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Other(format!("cannot make a certificate: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_secret_makes_one_authority_to_the_bit() {
        let secret = Secret::generate().unwrap();
        let [one, two] = [Authority::of(&secret).unwrap(), Authority::of(&secret).unwrap()];
        assert_eq!(one.certificate(), two.certificate());
        assert_eq!(fingerprint(one.certificate()), fingerprint(two.certificate()));
        let other = Authority::of(&Secret::generate().unwrap()).unwrap();
        assert_ne!(one.certificate(), other.certificate());
    }
}
