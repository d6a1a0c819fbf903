//! `pingtrace mesh --prometheus`: the answers of a Prometheus, made up and real.

use super::harness::{Client, Finished, at_device, finish, program, refused, start, until};
use super::kit::topology::Topology;
use super::metrics::openssl;
use super::prometheus::Prometheus;
use netns::Namespace;
use pingtrace::selftest::inject::forwarder::Plan;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use tempfile::TempDir;

fn mesh(ns: &Namespace, url: &str, args: &str) -> Finished {
    let mut command = program();
    command.args(["mesh", "--prometheus", url]);
    command.args(args.split_whitespace()).env("NO_PROXY", "*");
    finish(start(ns, &mut command))
}

/// Serves what `answer` says of each path, status and body; its URL.
fn serve(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let reply = move |stream| reply(stream, |request| answer(&request[0]));
    thread::spawn(move || listener.incoming().flatten().try_for_each(reply));
    url
}

/// Answers a request, given its lines, if there is one.
fn reply(
    mut stream: impl Read + Write,
    answer: impl Fn(&[String]) -> (u16, String),
) -> io::Result<()> {
    let lines = BufReader::new(&mut stream).lines().map_while(Result::ok);
    let request: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    if request.is_empty() {
        return Ok(());
    }
    let (status, body) = answer(&request);
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} .\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// The fleet by https, for who has the token.
fn serve_by_tls(directory: &TempDir, token: &str) -> String {
    openssl(directory);
    let file = |name| directory.path().join(name);
    let certificate = CertificateDer::from_pem_file(file("a.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(file("a.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let wanted = format!("authorization: bearer {token}");
    let answer = move |request: &[String]| {
        if request
            .iter()
            .any(|line| line.eq_ignore_ascii_case(&wanted))
        {
            fleet(&request[0])
        } else {
            (401, "Unauthorized".to_owned())
        }
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            // A client that does not trust the certificate leaves.
            let _ = reply(&mut stream, &answer);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    url
}

/// The answer of a query with a value for each set of labels.
fn vector(series: impl IntoIterator<Item = (Value, String)>) -> String {
    let series = series.into_iter();
    let series = series.map(|(metric, value)| json!({"metric": metric, "value": [1.7e9, value]}));
    let series: Vec<Value> = series.collect();
    let data = json!({"resultType": "vector", "result": series});
    json!({"status": "success", "data": data}).to_string()
}

/// Five hosts that probe each other; d is slow. The host a has classic histograms only.
fn fleet(request: &str) -> (u16, String) {
    let hosts = ["a", "b", "c", "d", "e"];
    let pairs = hosts
        .into_iter()
        .flat_map(|from| hosts.map(|to| (from, to)));
    let pairs = pairs.filter(|(from, to)| from != to);
    let pair = |(from, to): (&str, &str)| json!({"instance": format!("{from}:9500"), "target": format!("{to}.example")});
    let with = |pair: &Value, more: Value| {
        let mut labels = pair.as_object().unwrap().clone();
        labels.extend(more.as_object().unwrap().clone());
        Value::Object(labels)
    };
    let all: Vec<_> = pairs.map(|at| (at, pair(at))).collect();
    let p99 = |wanted: bool| {
        let of = all
            .iter()
            .filter(move |((from, _), _)| (*from == "a") == wanted);
        vector(of.map(|((from, to), labels)| {
            let bad = [from, to].contains(&&"d");
            (
                labels.clone(),
                if bad { "0.04" } else { "0.0005" }.to_owned(),
            )
        }))
    };
    let is = |words: &str| request.contains(words);
    let partial = |body: String| body.replacen('{', r#"{"warnings":["store b is away"],"#, 1);
    let body = match () {
        () if is("rtt_seconds_bucket") => p99(true),
        () if is("rtt_seconds") => p99(false),
        () if is("probes_total") && is("slow_") => {
            let slow = all.iter().filter(|((_, to), _)| *to == "d");
            let more = json!({"owner": "remote", "segment": "r_rx_softirq", "certainty": "sure"});
            vector(slow.map(|(_, labels)| (with(labels, more.clone()), "20.4".to_owned())))
        }
        () if is("probes_total") && is("lost_") => partial(vector([])),
        () => {
            let ok = all
                .iter()
                .map(|(_, labels)| with(labels, json!({"result": "ok", "rack": "r1"})));
            let other = json!({"instance": "a:9500", "target": "other", "result": "other"});
            vector(ok.chain([other]).map(|labels| (labels, "899.6".to_owned())))
        }
    };
    (200, body)
}

#[test]
fn the_answers_of_a_prometheus_are_a_matrix() {
    let ns = Namespace::current().unwrap();
    let run = mesh(&ns, &serve(fleet), "--range 2h");
    assert_eq!(run.status, 0, "{run:#?}");
    let title = "d is slow for all its peers, receiving: the host itself; ";
    assert!(run.stdout.starts_with(title), "{run:#?}");
    let facts = "\n5 hosts, 20 of 20 pairs, 18000 probes, 0 lost, ";
    assert!(run.stdout.contains(facts), "{run:#?}");
    for words in [
        "Prometheus: store b is away",
        "4 pairs have classic histograms only",
        "900 probes are left out",
    ] {
        assert!(run.stderr.contains(words), "no '{words}': {run:#?}");
    }
}

#[test]
fn a_prometheus_behind_tls_has_the_token_of_a_file() {
    let ns = Namespace::current().unwrap();
    let directory = TempDir::new().unwrap();
    let url = serve_by_tls(&directory, "s3cret");
    let file = |name, text| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let trust = format!("--ca-file {}/a.crt", directory.path().display());
    let token = format!("--bearer-token-file {}", file("token", "s3cret\n"));
    let run = mesh(&ns, &url, &format!("{trust} {token}"));
    assert_eq!(run.status, 0, "{run:#?}");
    assert!(
        run.stdout.starts_with("d is slow for all its peers"),
        "{run:#?}"
    );
    let wrong = format!("{trust} --bearer-token-file {}", file("wrong", "other"));
    let empty = format!("{trust} --bearer-token-file {}", file("empty", "\n"));
    let gone = format!("{trust} --bearer-token-file /nonexistent/token");
    let no_certificate = format!("{token} --ca-file {}", file("none.crt", "no certificate"));
    for (args, words) in [
        (&trust, "or another token (--bearer-token-file)"),
        (&wrong, "or another token (--bearer-token-file)"),
        (&empty, "(--bearer-token-file) has no token"),
        (&gone, "read /nonexistent/token (--bearer-token-file)"),
        (&no_certificate, "none.crt (--ca-file): there are none"),
        // That of the system does not know it.
        (&token, "certificate"),
    ] {
        let done = mesh(&ns, &url, args);
        refused(&done, 1, &[words]);
        assert!(!done.stderr.contains("s3cret"), "{done:#?}");
    }
}

/// A server that has these bodies for probes and for all else.
fn with(results: String, others: String) -> String {
    serve(move |request| {
        let is_results = request.contains("pingtrace_probes_total");
        (200, if is_results { &results } else { &others }.clone())
    })
}

#[test]
fn what_is_no_answer_is_said() {
    let ns = Namespace::current().unwrap();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let always = |status, body: &'static str| serve(move |_| (status, body.to_owned()));
    let silent = |body: Value| {
        let body = body.to_string();
        serve(move |_| (200, body.clone()))
    };
    let none = json!({"status": "success", "data": {"resultType": "vector", "result": []}});
    let pair = json!({"instance": "a:9500", "target": "b", "result": "ok"});
    let counters = vector([(pair, "90".to_owned())]);
    let nowhere = json!({"target": "b", "result": "ok"});
    let nowhere = vector([(nowhere, "90".to_owned())]);
    let refuses = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
    for (url, args, status, words) in [
        (format!("http://{free}"), "", 1, "Connection refused"),
        (
            always(404, "<html>not found"),
            "",
            1,
            "HTTP status 404, is not Prometheus' API",
        ),
        (always(200, "{\"status\":"), "", 1, "is not Prometheus' API"),
        (always(401, "no"), "", 1, "it wants a user and a password"),
        (always(400, refuses), "", 1, "bad_data: parse error"),
        (
            silent(none.clone()),
            "",
            1,
            "has no pingtrace_probes_total of that time",
        ),
        (
            with(nowhere, none.to_string()),
            "",
            1,
            "have no label 'instance' (--host-label)",
        ),
        (
            with(counters, none.to_string()),
            "",
            1,
            "no histogram pingtrace_rtt_seconds",
        ),
        (
            "prometheus:9090".to_owned(),
            "",
            2,
            "is no URL of a Prometheus",
        ),
        (
            format!("http://{free}"),
            "--group a-b",
            2,
            "'a-b' is no name of a label",
        ),
        (
            format!("http://{free}"),
            "--end yesterday",
            2,
            "'yesterday' is no time",
        ),
        (format!("http://{free}"), "--range 0", 2, "0 would"),
    ] {
        refused(&mesh(&ns, &url, args), status, &[words]);
    }
    let both = mesh(&ns, &format!("http://{free}"), "a.stat");
    assert_eq!(both.status, 2, "{both:#?}");
}

/// Probes go by eth0, scrapes by eth1. Host k has the address 10.66.0.k.
const FLEET: Topology = Topology {
    name: "hosts at a bridge, with a Prometheus",
    cables: "bridge:p1 h1:eth0
             bridge:p2 h2:eth0
             bridge:p3 h3:eth0
             bridge:p4 h4:eth0
             bridge:m1 h1:eth1
             bridge:m2 h2:eth1
             bridge:m3 h3:eth1
             bridge:m4 h4:eth1",
    setup: "bridge: ip link add br0 type bridge && ip link set br0 up && for k in 1 2 3 4; do ip link set p$k master br0; ip address add 10.67.$k.1/24 dev m$k; done
            h1: ip address add 10.66.0.1/24 dev eth0; ip address add 10.67.1.2/24 dev eth1
            h2: ip address add 10.66.0.2/24 dev eth0; ip address add 10.67.2.2/24 dev eth1
            h3: ip address add 10.66.0.3/24 dev eth0; ip address add 10.67.3.2/24 dev eth1
            h4: ip address add 10.66.0.4/24 dev eth0; ip address add 10.67.4.2/24 dev eth1",
};

/// A token bucket takes 110 kB of the 177 that probes and replies are in a second, and drops the rest.
#[test]
fn a_real_prometheus_knows_the_bad_host() {
    let hosts = FLEET.build(Plan::default());
    at_device(hosts.get("h4"), "eth0", |netlink, eth0| {
        netlink.tbf(eth0, 110_000, 3_000, 20_000)
    });
    let agents = (1..=4).map(|k| {
        let peers = (1..=4).filter(|peer| *peer != k);
        let target = |peer| format!(" -c 10.66.0.{peer}");
        let targets: String = peers.map(target).collect();
        let args = format!(
            "agent --open --nslocal{targets} -i 20ms -m 10ms -W 1 -o text --metrics 10.67.{k}.2:9500"
        );
        Client::start(hosts.get(&format!("h{k}")), &args)
    });
    let agents: Vec<Client> = agents.collect();
    let monitor = hosts.get("bridge");
    let groups = json!((1..=4).map(scrape).collect::<Vec<_>>());
    let prometheus = Prometheus::start(monitor, "native-histograms", &groups);
    let args = "--range 1m --host-label host --select job=\"pingtrace\"";
    let ask = || mesh(monitor, "http://127.0.0.1:9090/", args);
    let title = "10.66.0.4 is slow for all its peers, sending: the host itself; ";
    until(title, || {
        let said = ask().stdout;
        said.contains(title) && said.contains("\n4 hosts, 12 of 12 pairs, ")
    });
    drop(prometheus);
    for agent in agents {
        let run = agent.stop();
        assert_eq!(run.status, 0, "{run:#?}");
    }
}

fn scrape(k: i32) -> Value {
    json!({"targets": [format!("10.67.{k}.2:9500")], "labels": {"host": format!("10.66.0.{k}")}})
}
