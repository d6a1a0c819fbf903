//! Who may connect, and how: the file that exporters of Prometheus have for it (exporter-toolkit,
//! docs/web-configuration.md). What pingtrace does not do of it is refused, not passed over.

use super::tls::{self, Tls};
use crate::kernel::confine;
use crate::kernel::host;
use crate::output::files::directory;
use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use saphyr::{LoadableYamlNode as _, Yaml};
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

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Config {
    tls: Option<Tls>,
    /// Hashes of bcrypt by user.
    users: BTreeMap<String, String>,
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
fn credentials(authorization: &str) -> Option<(String, String)> {
    let (scheme, encoded) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Parses the file; names of files are relative to its directory.
fn parse(text: &str, directory: &Path) -> Result<Config> {
    let documents = Yaml::load_from_str(text).context("this is no YAML")?;
    let mut config = Config::default();
    let Some(document) = documents.first().filter(|document| !document.is_null()) else {
        return Ok(config);
    };
    for (key, value) in entries("the file", document)? {
        match key {
            "tls_server_config" => config.tls = parse_tls(value, directory)?,
            "basic_auth_users" => config.users = users(value)?,
            "http_server_config" => bail!(
                "http_server_config is not supported: HTTP/1.1 is served, without further headers; remove it"
            ),
            _ => bail!("'{key}' is unknown: there are tls_server_config and basic_auth_users"),
        }
    }
    Ok(config)
}

fn users(value: &Yaml<'_>) -> Result<BTreeMap<String, String>> {
    let mut users = BTreeMap::new();
    for (user, hash) in entries("basic_auth_users", value)? {
        let hash = string(user, hash)?;
        let is_hash = hash.parse::<bcrypt::HashParts>().is_ok();
        ensure!(
            is_hash,
            "basic_auth_users: that of '{user}' is no bcrypt hash; make one with `htpasswd -nBC 10 ''`"
        );
        users.insert(user.to_owned(), hash.to_owned());
    }
    Ok(users)
}

fn parse_tls(value: &Yaml<'_>, directory: &Path) -> Result<Option<Tls>> {
    let (mut cert_file, mut key_file, mut client_ca_file) = (None, None, None);
    let (mut client_auth, mut versions) = ("", [0, 1]);
    for (key, value) in entries("tls_server_config", value)? {
        let text = string(key, value);
        let file = || text.as_ref().map(|name| Some(directory.join(name)));
        match key {
            "cert_file" => cert_file = file().map_err(copy)?,
            "key_file" => key_file = file().map_err(copy)?,
            "client_ca_file" => client_ca_file = file().map_err(copy)?,
            "client_auth_type" => client_auth = text?,
            "min_version" => versions[0] = version(text?)?,
            "max_version" => versions[1] = version(text?)?,
            _ => bail!(
                "tls_server_config: '{key}' is unknown or not supported: there are cert_file, key_file, \
                 client_ca_file, client_auth_type, min_version and max_version"
            ),
        }
    }
    let (Some(cert_file), Some(key_file)) = (cert_file, key_file) else {
        bail!("tls_server_config: cert_file and key_file are needed");
    };
    let needs_client_cert = match client_auth {
        "RequireAndVerifyClientCert" => true,
        "" | "NoClientCert" | "VerifyClientCertIfGiven" => false,
        other => bail!(
            "tls_server_config: client_auth_type {other} is not supported: NoClientCert, \
             VerifyClientCertIfGiven and RequireAndVerifyClientCert are"
        ),
    };
    let verifies = needs_client_cert || client_auth == "VerifyClientCertIfGiven";
    ensure!(
        verifies == client_ca_file.is_some(),
        "tls_server_config: client_ca_file and a client_auth_type that verifies belong together"
    );
    let [min_version, max_version] = versions;
    ensure!(
        min_version <= max_version,
        "tls_server_config: min_version is above max_version"
    );
    Ok(Some(Tls {
        cert_file,
        key_file,
        client_ca_file,
        needs_client_cert,
        min_version,
        max_version,
    }))
}

fn copy(e: &anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!("{e:#}")
}

fn version(name: &str) -> Result<u8> {
    match name {
        "TLS12" => Ok(0),
        "TLS13" => Ok(1),
        _ => bail!("tls_server_config: version {name} is not supported: TLS12 and TLS13 are"),
    }
}

/// The entries of a mapping.
fn entries<'y>(what: &str, value: &'y Yaml<'_>) -> Result<Vec<(&'y str, &'y Yaml<'y>)>> {
    let mapping = value.as_mapping();
    let mapping = mapping.with_context(|| format!("{what} is no mapping of names to values"))?;
    let entries = mapping.iter().map(|(key, value)| {
        let key = key.as_str();
        Ok((
            key.with_context(|| format!("{what}: a name is no text"))?,
            value,
        ))
    });
    entries.collect()
}

fn string<'y>(key: &str, value: &'y Yaml<'_>) -> Result<&'y str> {
    value
        .as_str()
        .with_context(|| format!("the value of {key} is no text"))
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
        assert_eq!((tls.min_version, tls.max_version), (1, 1));
        assert!(tls.needs_client_cert);
        assert_eq!(config.users["alice"], HASH);
        assert_eq!(parsed("").unwrap(), Config::default());
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        let tls = "tls_server_config:\n  cert_file: a\n  key_file: b\n";
        for (text, words) in [
            ("a: [".to_owned(), "no YAML"),
            ("[]".to_owned(), "no mapping"),
            ("tls_config: {}".to_owned(), "'tls_config' is unknown"),
            (
                "http_server_config:\n  http2: true".to_owned(),
                "http_server_config",
            ),
            (
                format!("{tls}  cipher_suites: []"),
                "'cipher_suites' is unknown",
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
                "key_file are needed",
            ),
            (
                "basic_auth_users:\n  bob: secret".to_owned(),
                "'bob' is no bcrypt hash",
            ),
            ("basic_auth_users:\n  bob: [1]".to_owned(), "bob is no text"),
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
