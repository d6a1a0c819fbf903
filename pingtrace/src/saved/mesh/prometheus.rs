//! What a Prometheus that scrapes many hosts knows of them.

use crate::exit::Usage;
use crate::units;
use anyhow::{Context, Result, anyhow};
use chrono::{DateTime, Utc};
use report::format::prometheus::{self, Answer, Error};
use rustls_native_certs::{load_certs_from_paths, load_native_certs};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::http::Uri;
use ureq::http::header::{AUTHORIZATION, HeaderValue};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// What is asked, and whom.
#[derive(Clone, Debug, clap::Args)]
pub struct Question {
    /// Ask a Prometheus that scrapes the hosts (--metrics) instead of reading files
    #[arg(long, value_name = "URL", conflicts_with = "files", value_parser = base)]
    pub prometheus: Option<Uri>,

    /// Of Prometheus: what was measured in this time until now, or until --end
    #[arg(long, value_name = "T", default_value = "1h", value_parser = units::run_time, conflicts_with = "files")]
    range: Duration,

    /// Of Prometheus: until this time (RFC 3339, e.g. 2026-11-29T23:00:00Z)
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "files")]
    end: Option<DateTime<Utc>>,

    /// Of Prometheus: the label that is the name of the host that probes; a port at its end does not count
    #[arg(
        long,
        value_name = "LABEL",
        default_value = "instance",
        conflicts_with = "files"
    )]
    host_label: String,

    /// Of Prometheus: only series with these labels, e.g. 'job="pingtrace",cluster="eu1"'
    #[arg(
        long,
        value_name = "MATCHERS",
        default_value = "",
        conflicts_with = "files"
    )]
    select: String,

    /// Of Prometheus: its certificate is checked with those of this file (PEM), not with the system's
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    ca_file: Option<PathBuf>,

    /// Of Prometheus: the file of the token that it wants (Authorization: Bearer)
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    bearer_token_file: Option<PathBuf>,
}

/// For all of an answer; Prometheus itself gives a query two minutes.
const TIMEOUT: Duration = Duration::from_secs(150);
/// For a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Upper bound on the length of an answer, bytes: 1000 hosts with all pairs take a fourth of it.
const MAX_BODY: u64 = 1 << 30;

/// The 99th percentiles in seconds.
const P99: [&str; 2] = [
    "histogram_quantile(0.99, sum by (HOST, target) (increase(pingtrace_rtt_seconds{SELECT}[RANGE])))",
    "histogram_quantile(0.99, sum by (HOST, target, le) (increase(pingtrace_rtt_seconds_bucket{SELECT}[RANGE])))",
];
const RESULTS: &str =
    "sum by (HOST, target, GROUP, result) (increase(pingtrace_probes_total{SELECT}[RANGE]))";
const SLOW: &str = "sum by (HOST, target, owner, segment, certainty) (increase(pingtrace_slow_probes_total{SELECT}[RANGE]))";
const LOST: &str =
    "sum by (HOST, target, place) (increase(pingtrace_lost_probes_total{SELECT}[RANGE]))";

/// What was received. Nothing of it is parsed yet.
pub struct Fetched {
    url: String,
    /// How long a time it is of, nanoseconds.
    pub range_ns: i64,
    /// The label that is a host's name.
    pub host_label: String,
    /// The label of what targets have in common.
    pub group: String,
    /// By native and by classic histograms.
    pub p99: [Body; 2],
    /// Probes by their results.
    pub results: Body,
    /// Slow ones.
    pub slow: Body,
    /// Lost ones.
    pub lost: Body,
}

/// The answer to a query.
pub struct Body {
    status: u16,
    bytes: Vec<u8>,
}

/// Asks.
pub fn fetch(args: &Question, url: &Uri, group: &str) -> Result<Fetched> {
    for (label, option) in [(&*args.host_label, "--host-label"), (group, "--group")] {
        if !is_label(label) {
            let why = format!("'{label}' is no name of a label in Prometheus ({option})");
            return Err(Usage(why).into());
        }
    }
    let url = url.to_string();
    let url = url.trim_end_matches('/');
    let asker = Asker {
        agent: agent(url, args.ca_file.as_deref())?,
        token: args.bearer_token_file.as_deref().map(token).transpose()?,
        end: args.end,
    };
    let ask = |query: &str| {
        let query = query
            .replace("HOST", &args.host_label)
            .replace("GROUP", group)
            .replace("SELECT", &args.select)
            .replace("RANGE", &format!("{}ms", args.range.as_millis()));
        asker.ask(url, &query).with_context(|| asking(url))
    };
    Ok(Fetched {
        range_ns: args.range.as_nanos() as i64,
        host_label: args.host_label.clone(),
        group: group.to_owned(),
        results: ask(RESULTS)?,
        p99: [ask(P99[0])?, ask(P99[1])?],
        slow: ask(SLOW)?,
        lost: ask(LOST)?,
        url: url.to_owned(),
    })
}

fn asking(url: &str) -> String {
    format!("ask {} (--prometheus)", without_password(url))
}

/// What all queries have.
struct Asker {
    agent: ureq::Agent,
    /// The header `Authorization`.
    token: Option<HeaderValue>,
    end: Option<DateTime<Utc>>,
}

impl Asker {
    fn ask(&self, url: &str, query: &str) -> Result<Body> {
        let mut request = self.agent.get(format!("{url}/api/v1/query"));
        request = request.query("query", query);
        if let Some(end) = self.end {
            request = request.query("time", end.to_rfc3339());
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        let mut answer = request.call()?;
        let body = answer.body_mut().with_config().limit(MAX_BODY);
        Ok(Body {
            bytes: body.read_to_vec()?,
            status: answer.status().as_u16(),
        })
    }
}

/// The header with the token of a file.
fn token(path: &Path) -> Result<HeaderValue> {
    let reading = || format!("read {} (--bearer-token-file)", path.display());
    let text = fs::read_to_string(path).with_context(reading)?;
    let token = text.trim();
    let header = HeaderValue::from_str(&format!("Bearer {token}"));
    let header = header.ok().filter(|_| !token.is_empty());
    let mut header = header.with_context(|| {
        let path = path.display();
        format!("{path} (--bearer-token-file) has no token: wanted is one line of ASCII")
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// Certificates are checked with those of the file, else with those that the system trusts, or with those in
/// `SSL_CERT_FILE`.
fn agent(url: &str, authorities: Option<&Path>) -> Result<ureq::Agent> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(TIMEOUT))
        .user_agent(concat!("pingtrace/", env!("CARGO_PKG_VERSION")));
    if !url.starts_with("https") {
        return Ok(config.build().new_agent());
    }
    let trusted = match authorities {
        Some(file) => load_certs_from_paths(Some(file), None),
        None => load_native_certs(),
    };
    if trusted.certs.is_empty() {
        let why = trusted.errors.into_iter().next();
        let why = why.map_or(anyhow!("there are none"), |why| anyhow!(why));
        return Err(why.context(match authorities {
            Some(file) => format!("read the certificates of {} (--ca-file)", file.display()),
            None => "read the certificates that the system trusts (SSL_CERT_FILE)".to_owned(),
        }));
    }
    let certs = trusted.certs.iter();
    let certs = certs.map(|cert| Certificate::from_der(cert).to_owned());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::from(certs))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
    Ok(config.tls_config(tls.build()).build().new_agent())
}

impl Fetched {
    /// Where it is from.
    pub fn url(&self) -> String {
        without_password(&self.url)
    }

    /// What the answer to a query says.
    pub fn answer(&self, body: &Body) -> Result<Answer> {
        let answer = prometheus::answer(&body.bytes).map_err(|why| match why {
            _ if body.status == 401 => {
                anyhow!(
                    "it wants a user and a password, http://USER:PASSWORD@HOST, or another token (--bearer-token-file)"
                )
            }
            Error::Foreign(why) => anyhow!(
                "what answers, with HTTP status {}, is not Prometheus' API at /api/v1/query: wanted is the URL below \
                 which that is ({why})",
                body.status
            ),
            refused @ Error::Refused { .. } => refused.into(),
        });
        let answer = answer.with_context(|| asking(&self.url))?;
        for warning in &answer.warnings {
            log::warn!("Prometheus: {warning}");
        }
        Ok(answer)
    }
}

/// The URL of a Prometheus, as clap wants it.
fn base(text: &str) -> Result<Uri, String> {
    let wanted = "is no URL of a Prometheus, e.g. http://prometheus:9090";
    let uri: Uri = text.parse().map_err(|_| format!("'{text}' {wanted}"))?;
    let is_http = uri
        .scheme_str()
        .is_some_and(|s| s == "http" || s == "https");
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    if is_http && has_host && uri.query().is_none() {
        Ok(uri)
    } else {
        Err(format!("'{}' {wanted}", without_password(text)))
    }
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let time = DateTime::parse_from_rfc3339(text);
    let time = time.map_err(|_| format!("'{text}' is no time, e.g. 2026-11-29T23:00:00Z"))?;
    Ok(time.to_utc())
}

/// For messages.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://...@{host}"),
        _ => url.to_owned(),
    }
}

fn is_label(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(allowed) && name.starts_with(|c: char| !c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_one_of_http() {
        for good in [
            "http://p",
            "https://u:x@p:9090/prometheus/",
            "http://[::1]:9090",
        ] {
            assert!(base(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "p",
            "p:9090",
            "ftp://p",
            "http://",
            "http://p/?query=up",
            "/p",
            "http://p p",
        ] {
            assert!(base(bad).is_err(), "{bad}");
        }
        assert_eq!(without_password("http://u:x@p:1/a"), "http://...@p:1/a");
        assert_eq!(without_password("http://p:1/a"), "http://p:1/a");
    }

    #[test]
    fn a_label_can_be_in_a_query() {
        assert!(
            ["rack", "_r1", "topology_kubernetes_io_zone"]
                .iter()
                .all(|l| is_label(l))
        );
        assert!(!["", "1r", "a-b", "a) or (b"].iter().any(|l| is_label(l)));
    }
}
