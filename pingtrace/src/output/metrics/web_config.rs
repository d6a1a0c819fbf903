//! Who may connect, and how: the file that exporters of Prometheus have for it (exporter-toolkit,
//! docs/web-configuration.md). What pingtrace does not do of it is refused, not passed over.

use super::tls::{self, Tls, Version};
use crate::kernel::confine;
use crate::kernel::host;
use crate::output::files::directory;
use crate::yaml;
use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use serde::{Deserialize, Deserializer};
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::Hasher as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Users that have shown their password are known again, so that a scrape costs no 50 ms of bcrypt; beyond so
/// many, all have to show it anew.
const MAX_KNOWN: usize = 100;

/// The file, and what it says.
pub(super) struct WebConfig {
    path: PathBuf,
    config: Config,
    tls: Option<Arc<ServerConfig>>,
    /// The files that were read, as they were then.
    read: Vec<(PathBuf, Option<Stamp>)>,
    /// Keyed hashes of names and passwords that were right.
    known: BTreeSet<u128>,
    key: [u64; 2],
}

/// What changes when a file does: device, inode, size, time of change (s, ns).
type Stamp = (u64, u64, u64, i64, i64);

/// What the file asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Absent: nothing is encrypted.
    pub tls: Option<Tls>,
    /// Hashes of bcrypt by user.
    pub users: BTreeMap<String, String>,
}

/// What the file says.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default, deserialize_with = "some")]
    tls_server_config: Option<SaidOfTls>,
    #[serde(default)]
    basic_auth_users: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SaidOfTls {
    cert_file: PathBuf,
    key_file: PathBuf,
    #[serde(default, deserialize_with = "some")]
    client_ca_file: Option<PathBuf>,
    #[serde(default)]
    client_auth_type: ClientAuth,
    #[serde(default = "oldest")]
    min_version: Version,
    #[serde(default = "newest")]
    max_version: Version,
}

/// The toolkit's other two ask for certificates that nobody checks.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
enum ClientAuth {
    #[default]
    NoClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
}

const fn oldest() -> Version {
    Version::TLS12
}

const fn newest() -> Version {
    Version::TLS13
}

/// A key that is there has a value: one without is a mistake, not the same as no key.
fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl SaidOfTls {
    fn checked(self, directory: &Path) -> Result<Tls> {
        let client_auth = self.client_auth_type;
        ensure!(
            (client_auth != ClientAuth::NoClientCert) == self.client_ca_file.is_some(),
            "tls_server_config: client_ca_file and a client_auth_type that verifies belong together"
        );
        ensure!(
            self.min_version <= self.max_version,
            "tls_server_config: min_version is above max_version"
        );
        Ok(Tls {
            cert_file: directory.join(self.cert_file),
            key_file: directory.join(self.key_file),
            client_ca_file: self.client_ca_file.map(|name| directory.join(name)),
            needs_client_cert: client_auth == ClientAuth::RequireAndVerifyClientCert,
            min_version: self.min_version,
            max_version: self.max_version,
        })
    }
}

impl WebConfig {
    /// Reads the file, and what it names. Their directories stay readable.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut web = Self {
            path: path.to_owned(),
            config: Config::default(),
            tls: None,
            read: Vec::new(),
            known: BTreeSet::new(),
            key: host::secret()?,
        };
        web.load()?;
        for (path, _) in &web.read {
            confine::allow_reading(directory(path));
        }
        Ok(web)
    }

    /// Whether not everybody may connect.
    pub(super) fn asks_who(&self) -> bool {
        let tls = self.config.tls.as_ref();
        !self.config.users.is_empty() || tls.is_some_and(|tls| tls.needs_client_cert)
    }

    /// `http` or `https`.
    pub(super) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// How a new connection is encrypted, if it is.
    pub(super) fn tls(&mut self) -> Option<Arc<ServerConfig>> {
        self.follow();
        self.tls.clone()
    }

    /// Whether a request may be answered that has this header.
    pub(super) fn allows(&mut self, authorization: Option<&str>) -> bool {
        let Some((_, any_hash)) = self.config.users.first_key_value() else {
            return true;
        };
        let Some((user, password)) = authorization.and_then(credentials) else {
            return false;
        };
        let hash = self.config.users.get(&user);
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        for part in [&user, &password, hash.unwrap_or(any_hash)] {
            hasher.write(part.as_bytes());
            hasher.write_u8(0xff);
        }
        let known = hasher.finish128().as_u128();
        if self.known.contains(&known) {
            return true;
        }
        // A user that there is not takes as long as one that there is.
        let is_right = bcrypt::verify(&password, hash.unwrap_or(any_hash)).unwrap_or(false);
        let allowed = is_right && hash.is_some();
        if allowed {
            if self.known.len() >= MAX_KNOWN {
                self.known.clear();
            }
            self.known.insert(known);
        }
        allowed
    }

    /// Reads the files again if one has changed. What cannot be read changes nothing.
    fn follow(&mut self) {
        if self
            .read
            .iter()
            .all(|(path, before)| stamp(path) == *before)
        {
            return;
        }
        match self.load() {
            Ok(()) => log::info!("metrics: read {} again", self.path.display()),
            Err(e) => log::error!("metrics: {e:#}; what was read before stays in force"),
        }
    }

    fn load(&mut self) -> Result<()> {
        let path = self.path.clone();
        let mut read = vec![(path.clone(), stamp(&path))];
        let loaded = load(&path, &mut read);
        // Also if it failed: it is tried again when something changes, not at each connection.
        self.read = read;
        let (config, tls) = loaded.with_context(|| format!("{} (--web-config)", path.display()))?;
        (self.config, self.tls) = (config, tls);
        self.known.clear();
        Ok(())
    }
}

fn load(
    path: &Path,
    read: &mut Vec<(PathBuf, Option<Stamp>)>,
) -> Result<(Config, Option<Arc<ServerConfig>>)> {
    let text = fs::read_to_string(path).context("read it")?;
    let config = parse(&text, directory(path))?;
    if let Some(tls) = &config.tls {
        let ca = tls.client_ca_file.as_ref();
        let files = [&tls.cert_file, &tls.key_file].into_iter().chain(ca);
        read.extend(files.map(|file| (file.clone(), stamp(file))));
    }
    let tls = config.tls.as_ref().map(tls::server_config).transpose()?;
    Ok((config, tls))
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some((
        meta.dev(),
        meta.ino(),
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec(),
    ))
}

/// User and password of a header.
pub fn credentials(authorization: &str) -> Option<(String, String)> {
    let (scheme, encoded) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Parses the file; names of files are relative to its directory.
pub fn parse(text: &str, directory: &Path) -> Result<Config> {
    // An empty file has no document, of which a mapping could be made.
    let said: Option<Said> = yaml::parse(text)?;
    let said = said.unwrap_or_default();
    for (user, hash) in &said.basic_auth_users {
        let is_hash = hash.parse::<bcrypt::HashParts>().is_ok();
        ensure!(
            is_hash,
            "basic_auth_users: that of '{user}' is no bcrypt hash; make one with `htpasswd -nBC 10 ''`"
        );
    }
    let tls = said.tls_server_config;
    Ok(Config {
        tls: tls.map(|tls| tls.checked(directory)).transpose()?,
        users: said.basic_auth_users,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the password `secret`, at the lowest cost.
    const HASH: &str = "$2b$04$dNSVW2ElwMQZHp1i/dlYLe6TMgo2R3sVlzTn3vbKNX3ANXJtDzZdC";

    fn parsed(text: &str) -> Result<Config> {
        parse(text, Path::new("/etc/pingtrace"))
    }

    #[test]
    fn what_the_toolkit_documents_is_read() {
        let text = format!(
            "tls_server_config:\n  cert_file: a.crt\n  key_file: /keys/a.key\n  min_version: TLS13\n\
             \x20 client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n\
             basic_auth_users:\n  alice: {HASH}\n"
        );
        let config = parsed(&text).unwrap();
        let tls = config.tls.unwrap();
        assert_eq!(tls.cert_file, Path::new("/etc/pingtrace/a.crt"));
        assert_eq!(tls.key_file, Path::new("/keys/a.key"));
        assert_eq!(tls.min_version, Version::TLS13);
        assert_eq!(tls.max_version, Version::TLS13);
        assert!(tls.needs_client_cert);
        assert_eq!(config.users["alice"], HASH);
        assert_eq!(parsed("").unwrap(), Config::default());
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        let tls = "tls_server_config:\n  cert_file: a\n  key_file: b\n";
        for (text, words) in [
            ("a: [".to_owned(), "line 1: "),
            ("[]".to_owned(), "line 1: expected mapping"),
            (
                "tls_config: {}".to_owned(),
                "line 1: unknown field `tls_config`",
            ),
            (
                "http_server_config:\n  http2: true".to_owned(),
                "http_server_config",
            ),
            (
                format!("{tls}  cipher_suites: []"),
                "line 4: unknown field `cipher_suites`",
            ),
            (
                format!("{tls}  client_auth_type: RequestClientCert"),
                "RequestClientCert",
            ),
            (format!("{tls}  client_ca_file: c"), "belong together"),
            (format!("{tls}  min_version: TLS11"), "TLS11"),
            (
                format!("{tls}  min_version: TLS13\n  max_version: TLS12"),
                "above max_version",
            ),
            (
                "tls_server_config:\n  cert_file: a".to_owned(),
                "line 2: missing field `key_file`",
            ),
            (
                "basic_auth_users:\n  bob: secret".to_owned(),
                "'bob' is no bcrypt hash",
            ),
            (
                "basic_auth_users:\n  bob: [1]".to_owned(),
                "line 2: expected string",
            ),
        ] {
            let refused = format!("{:#}", parsed(&text).unwrap_err());
            assert!(refused.contains(words), "{text}: {refused}");
        }
    }

    #[test]
    fn only_the_right_password_of_a_user_is_let_in() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.yml");
        let hash = bcrypt::hash("secret", 4).unwrap();
        fs::write(&path, format!("basic_auth_users:\n  alice: {hash}\n")).unwrap();
        let mut web = WebConfig::open(&path).unwrap();
        assert!(web.asks_who());
        let mut allows = |credentials: &str| {
            let header = format!("Basic {}", STANDARD.encode(credentials));
            web.allows(Some(&header))
        };
        for _ in 0..2 {
            assert!(allows("alice:secret"));
            for wrong in ["alice:secreT", "alice:", "bob:secret", "alice", ":secret"] {
                assert!(!allows(wrong), "{wrong}");
            }
        }
        assert!(!web.allows(None) && !web.allows(Some("Bearer x")));
        // A file that is broken changes nothing; one that is not, does.
        fs::write(&path, "basic_auth_users: 7").unwrap();
        web.tls();
        assert!(!web.allows(None));
        fs::write(&path, "").unwrap();
        web.tls();
        assert!(web.allows(None));
    }
}
