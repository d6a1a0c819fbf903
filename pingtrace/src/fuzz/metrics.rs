//! Who asks for metrics: requests of HTTP with their headers, and the file that says who may.

use crate::output::metrics::{http, web_config};
use std::path::Path;

/// As a request, and as such a file. The certificates that the file names are not opened.
pub fn check(data: &[u8]) {
    check_request(data);
    if let Ok(text) = str::from_utf8(data) {
        check_config(text);
        http::form(text);
        web_config::credentials(text);
    }
}

/// A request is the same whatever pieces it comes in, and has an answer if it is none.
fn check_request(data: &[u8]) {
    let whole = http::parse(data);
    let ends = data.len().saturating_sub(3)..data.len();
    for end in [data.len() / 2].into_iter().chain(ends) {
        // What is no request stays none; what was all of it is not changed by what comes behind.
        if let Some(begun) = http::parse(&data[..end]) {
            assert_eq!(Some(begun), whole);
        }
    }
    let read = http::read(&mut &*data);
    match whole {
        Some(Ok(request)) => {
            assert!(!request.method.is_empty() && !request.path.contains('?'));
            http::form(&request.accept);
            assert_eq!(read.ok(), Some(Ok(request)));
        }
        Some(Err(answer)) => {
            let mut written = Vec::new();
            answer.write(&mut written, true).expect("memory");
            assert!(written.ends_with(&answer.body));
        }
        None => assert!(!read.is_ok_and(|request| request.is_ok())),
    }
}

fn check_config(text: &str) {
    let directory = Path::new("/etc/pingtrace");
    let Ok(config) = web_config::parse(text, directory) else {
        return;
    };
    if let Some(tls) = &config.tls {
        assert!(tls.min_version <= tls.max_version);
        let ca = tls.client_ca_file.as_ref();
        for file in [&tls.cert_file, &tls.key_file].into_iter().chain(ca) {
            assert!(file.is_absolute(), "{}", file.display());
        }
        assert!(!tls.needs_client_cert || ca.is_some());
    }
    for hash in config.users.values() {
        assert!(hash.parse::<bcrypt::HashParts>().is_ok());
    }
}
