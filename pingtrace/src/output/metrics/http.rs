//! What of HTTP a scrape needs: a request without a body, and an answer.

use report::format::metrics::Form;
use std::io::{self, ErrorKind, Read, Write};

/// Upper bound on the bytes of a request; Prometheus sends some hundred.
const MAX_REQUEST: usize = 8192;
/// Upper bound on the headers of a request.
const MAX_HEADERS: usize = 64;

/// A request, as far as it counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// Without the part behind `?`.
    pub path: String,
    /// The formats that are liked; empty without the header.
    pub accept: String,
    /// The header, if there is one.
    pub authorization: Option<String>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Such as `404 Not Found`.
    pub status: &'static str,
    /// Of the body.
    pub content_type: &'static str,
    /// Further headers, each with its end of line.
    pub headers: &'static str,
    /// All of it.
    pub body: Vec<u8>,
}

impl Response {
    /// A line of text.
    pub fn line(status: &'static str, line: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            headers: "",
            body: format!("{line}\n").into_bytes(),
        }
    }

    /// Writes it; the connection ends with it.
    pub fn write(&self, to: &mut impl Write, with_body: bool) -> io::Result<()> {
        let Self {
            status,
            content_type,
            headers,
            body,
        } = self;
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{headers}Connection: close\r\n\r\n"
        );
        to.write_all(head.as_bytes())?;
        if with_body {
            to.write_all(body)?;
        }
        to.flush()
    }
}

/// Reads a request; `Err` of the inside is the answer to what is none.
pub fn read(from: &mut impl Read) -> io::Result<Result<Request, Response>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 1024];
    loop {
        match from.read(&mut piece)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            length => bytes.extend(&piece[..length]),
        }
        if let Some(request) = parse(&bytes) {
            return Ok(request);
        }
        if bytes.len() > MAX_REQUEST {
            let too_long = "431 Request Header Fields Too Large";
            return Ok(Err(Response::line(too_long, "the request is too long")));
        }
    }
}

/// `None`: not all of it is there.
pub fn parse(bytes: &[u8]) -> Option<Result<Request, Response>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(_) => return Some(Err(Response::line("400 Bad Request", "this is no request"))),
    }
    let header = |name: &str| {
        let mut headers = parsed.headers.iter();
        let header = headers.find(|header| header.name.eq_ignore_ascii_case(name))?;
        String::from_utf8(header.value.to_vec()).ok()
    };
    let path = parsed.path.unwrap_or_default();
    Some(Ok(Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: path.split('?').next().unwrap_or_default().to_owned(),
        accept: header("accept").unwrap_or_default(),
        authorization: header("authorization"),
    }))
}

/// The format that an `Accept` header likes best; of several the first one; text if it likes none.
pub fn form(accept: &str) -> Form {
    let mut best = (Form::Text, 0.0);
    for offer in accept.split(',') {
        let mut parts = offer.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
        let parameter = |name: &str| {
            let mut all = parameters.iter();
            let found = all.find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim().trim_matches('"'))
        };
        let quality = parameter("q").map_or(Some(1.0), |q| q.parse::<f64>().ok());
        let is_delimited = parameter("proto") == Some("io.prometheus.client.MetricFamily")
            && parameter("encoding") == Some("delimited");
        let form = match kind.as_str() {
            "application/vnd.google.protobuf" if is_delimited => Form::Protobuf,
            "application/openmetrics-text" => Form::OpenMetrics,
            "text/plain" | "text/*" | "*/*" => Form::Text,
            _ => continue,
        };
        if let Some(quality) = quality.filter(|quality| *quality > best.1) {
            best = (form, quality);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_is_liked_best() {
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        for (accept, wanted) in [
            ("", Form::Text),
            ("*/*", Form::Text),
            ("text/html, image/png", Form::Text),
            (
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                Form::OpenMetrics,
            ),
            // Prometheus 2.42, with native histograms and without.
            (
                &format!(
                    "{protobuf},application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
                ),
                Form::Protobuf,
            ),
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Form::OpenMetrics,
            ),
            // Prometheus 3.
            (
                &format!(
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,{protobuf};q=0.5,text/plain;version=0.0.4;q=0.2"
                ),
                Form::OpenMetrics,
            ),
            ("application/vnd.google.protobuf", Form::Text),
            ("application/openmetrics-text;q=x, text/plain", Form::Text),
            ("application/openmetrics-text;q=0", Form::Text),
        ] {
            assert_eq!(form(accept), wanted, "{accept}");
        }
    }

    #[test]
    fn a_request_comes_in_pieces() {
        let whole = b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nACCEPT: text/plain\r\nAuthorization: Basic eDp5\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), None, "{end}");
        }
        let request = parse(whole).unwrap().unwrap();
        assert_eq!(
            (request.method.as_str(), request.path.as_str()),
            ("GET", "/metrics")
        );
        assert_eq!(request.accept, "text/plain");
        assert_eq!(request.authorization.as_deref(), Some("Basic eDp5"));
    }

    #[test]
    fn what_is_no_request_has_an_answer() {
        let status = |mut bytes: &[u8]| read(&mut bytes).unwrap().unwrap_err().status;
        assert_eq!(
            status(b"\x16\x03\x01\x02\x00\x01 tls\r\n\r\n"),
            "400 Bad Request"
        );
        let long = [b"GET / HTTP/1.1\r\nA: ".as_slice(), &[b'x'; 10_000]].concat();
        assert!(status(&long).starts_with("431"));
        let mut short = b"GET / HT".as_slice();
        assert_eq!(
            read(&mut short).unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );
    }
}
