//! Who talks to whom: a throw-away certificate authority for the coordinator, its identity, and the
//! authority that an edge trusts. TLS 1.3 only, early data off, no client certificates.

use std::{
    fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};
use thiserror::Error;

/// A certificate or key that could not be made, read or written.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The certificate could not be generated.
    #[error("cannot generate a certificate for [{names}]: {source}")]
    Generate {
        /// The host names and addresses, or what the certificate is for.
        names: String,
        /// What the generator says.
        source: rcgen::Error,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The text holds no usable certificate or key.
    #[error("{origin} holds no usable {what}: {reason}; expected PEM text as the coordinator writes it")]
    Content {
        /// The file, or what else the text came from.
        origin: String,
        /// `certificate` or `private key`.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// A certificate authority that lives as long as this value: its key is never written, so whoever holds
/// `ca.pem` trusts exactly the identities issued here.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority with a key of its own.
    ///
    /// Certificates never expire: edge devices often have no clock, and the authority is throw-away.
    pub fn generate() -> Result<Self, TlsError> {
        let failed = |source| TlsError::Generate { names: "the authority".to_owned(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // The key's own id in the name tells two authorities apart: "unknown issuer", not "bad signature".
        let key_id = params.key_identifier(&key);
        let id = key_id.iter().take(8).fold(0, |id: u64, byte| (id << 8) | u64::from(*byte));
        params.distinguished_name = common_name(&format!("Partway authority {id:016x}"));
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(failed)?;
        Ok(Self { issuer })
    }

    /// An identity for a server that is reached under `names`: host names and IP addresses.
    pub fn issue(&self, names: &[String]) -> Result<ServerIdentity, TlsError> {
        let failed = |source| TlsError::Generate { names: names.join(", "), source };
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name = common_name("Partway coordinator");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        ServerIdentity::from_pem(certificate.pem(), key.serialize_pem(), "the issued identity")
    }

    /// The authority's certificate as PEM text.
    pub fn to_pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes the authority's certificate as PEM: the file to hand to every edge.
    pub fn save(&self, path: &Path) -> Result<(), TlsError> {
        write(path, &self.to_pem(), 0o644)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A server's certificate chain and private key.
#[derive(Clone)]
pub struct ServerIdentity {
    chain_pem: String,
    key_pem: String,
    config: Arc<ServerConfig>,
}

impl ServerIdentity {
    /// The identity in two PEM texts; `origin` names them in errors.
    pub fn from_pem(chain_pem: String, key_pem: String, origin: &str) -> Result<Self, TlsError> {
        let content = |what, reason| TlsError::Content { origin: origin.to_owned(), what, reason };
        let chain = certificates(&chain_pem, origin)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| content("private key", error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| content("pair of certificate and private key", error.to_string()))?;
        // Edges connect once and stay: tickets to resume with are bytes for nothing.
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Self { chain_pem, key_pem, config: Arc::new(config) })
    }

    /// Writes the chain and the key as PEM; the key's file can be read by its owner only.
    pub fn save(&self, chain: &Path, key: &Path) -> Result<(), TlsError> {
        write(key, &self.key_pem, 0o600)?;
        write(chain, &self.chain_pem, 0o644)
    }

    /// Reads what [`save`](Self::save) wrote, so that a restarted server keeps its identity.
    pub fn load(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let origin = format!("{} with {}", chain.display(), key.display());
        Self::from_pem(read(chain)?, read(key)?, &origin)
    }

    pub(crate) fn server_config(&self, protocol: &str) -> ServerConfig {
        let mut config = (*self.config).clone();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        config
    }
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdentity").field("chain", &self.chain_pem).finish_non_exhaustive()
    }
}

/// The authority whose servers a client believes.
#[derive(Clone, Debug)]
pub struct TrustedAuthority {
    roots: Arc<RootCertStore>,
    origin: String,
}

impl TrustedAuthority {
    /// The authority in a PEM file, usually the `ca.pem` that the coordinator wrote.
    pub fn from_pem_file(path: impl AsRef<Path>) -> Result<Self, TlsError> {
        let path = path.as_ref();
        Self::from_pem(&read(path)?, &path.display().to_string())
    }

    /// The authority in PEM text; `origin` names it in errors.
    pub fn from_pem(pem: &str, origin: &str) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(pem, origin)? {
            roots.add(certificate).map_err(|error| TlsError::Content {
                origin: origin.to_owned(),
                what: "certificate",
                reason: error.to_string(),
            })?;
        }
        Ok(Self { roots: Arc::new(roots), origin: origin.to_owned() })
    }

    /// Where the authority was read from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn client_config(&self, protocol: &str) -> Result<ClientConfig, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(config)
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn certificates(pem: &str, origin: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content =
        |reason: String| TlsError::Content { origin: origin.to_owned(), what: "certificate", reason };
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| content(error.to_string()))?;
    if found.is_empty() {
        return Err(content("there is no BEGIN CERTIFICATE section".to_owned()));
    }
    Ok(found)
}

/// The client's order decides the cipher. AES-128 is the fastest where the processor has AES
/// instructions, `ChaCha20` where it has none (a Raspberry Pi 4).
fn provider() -> Arc<CryptoProvider> {
    let first = if has_aes_instructions() { "AES_128" } else { "CHACHA20" };
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| !format!("{:?}", suite.suite()).contains(first));
    Arc::new(provider)
}

#[cfg(target_arch = "x86_64")]
fn has_aes_instructions() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn has_aes_instructions() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes_instructions() -> bool {
    false
}

fn read(path: &Path) -> Result<String, TlsError> {
    fs::read_to_string(path).map_err(|source| TlsError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

/// Writes a new file and moves it into place: the mode is set before the content is there, and a reader
/// never sees half of it.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let written = match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => create(&unfinished, mode)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&unfinished, path)),
    };
    written.map_err(|source| TlsError::File { action: "write", path: path.to_owned(), source })
}

fn create(path: &Path, mode: u32) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_back_and_the_key_is_private() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = |name| folder.path().join(name);
        let authority = Authority::generate().expect("an authority");
        authority.save(&file("ca.pem")).expect("written");
        let identity = authority.issue(&["localhost".into(), "127.0.0.1".into()]).expect("an identity");
        for _overwrites in 0..2 {
            identity.save(&file("cert.pem"), &file("key.pem")).expect("written");
        }
        TrustedAuthority::from_pem_file(file("ca.pem")).expect("a certificate");
        ServerIdentity::load(&file("cert.pem"), &file("key.pem")).expect("a pair");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(file("key.pem")).expect("it exists").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(!format!("{identity:?}").contains("PRIVATE"), "the key is never printed");
    }

    #[test]
    fn a_foreign_key_or_an_empty_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = |name| folder.path().join(name);
        let authority = Authority::generate().expect("an authority");
        let names = ["localhost".to_owned()];
        let (one, two) = (authority.issue(&names).expect("one"), authority.issue(&names).expect("two"));
        one.save(&file("one.pem"), &file("one.key")).expect("written");
        two.save(&file("two.pem"), &file("two.key")).expect("written");
        let error = ServerIdentity::load(&file("one.pem"), &file("two.key")).expect_err("not a pair");
        assert!(error.to_string().contains("two.key"), "{error}");
        fs::write(file("empty.pem"), "").expect("written");
        let error = TrustedAuthority::from_pem_file(file("empty.pem")).expect_err("nothing in it");
        assert!(error.to_string().contains("empty.pem"), "{error}");
        let error = TrustedAuthority::from_pem_file(file("absent.pem")).expect_err("no such file");
        assert!(error.to_string().contains("absent.pem"), "{error}");
    }

    #[test]
    fn the_fastest_cipher_is_offered_first() {
        let offered = provider().cipher_suites.first().map(|suite| format!("{:?}", suite.suite()));
        let fastest = if has_aes_instructions() {
            "TLS13_AES_128_GCM_SHA256"
        } else {
            "TLS13_CHACHA20_POLY1305_SHA256"
        };
        assert_eq!(offered.as_deref(), Some(fastest));
    }

    #[test]
    fn a_name_that_no_certificate_can_carry_is_refused() {
        let authority = Authority::generate().expect("an authority");
        let error = authority.issue(&["kamera-\u{e9}".to_owned()]).expect_err("not ASCII");
        assert!(error.to_string().contains("kamera"), "{error}");
    }
}
