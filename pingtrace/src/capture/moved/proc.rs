//! Counters in files of /proc/net.

/// Values that rise and fall, or are none of counting.
const NO_COUNTERS: [&str; 7] = [
    "IpForwarding",
    "IpDefaultTTL",
    "TcpRtoAlgorithm",
    "TcpRtoMin",
    "TcpRtoMax",
    "TcpMaxConn",
    "TcpCurrEstab",
];
/// What `softnet_stat` has in these columns of each CPU's line, hexadecimal, 32 bits.
const SOFTNET: [(usize, &str); 5] = [
    (0, "processed"),
    (1, "dropped"),
    (2, "time_squeeze"),
    (9, "received_rps"),
    (10, "flow_limit_count"),
];

/// Passes the counters in a text on, by name.
pub(super) type Parse = fn(&str, &mut dyn FnMut(&str, u64));

/// Of `snmp` and `netstat`: two lines for each protocol, with names and with values. Passed on with the names of
/// nstat(8), such as `UdpInErrors`.
pub(super) fn pairs(text: &str, mut take: impl FnMut(&str, u64)) {
    let mut lines = text.lines();
    let mut name = String::new();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let Some((protocol, names)) = names.split_once(':') else {
            return;
        };
        let values = values.split_whitespace().skip(1);
        for (of, value) in names.split_whitespace().zip(values) {
            name.clear();
            name.push_str(protocol);
            name.push_str(of);
            if let Ok(value) = value.parse()
                && !NO_COUNTERS.contains(&name.as_str())
            {
                take(&name, value);
            }
        }
    }
}

/// Of `snmp6`: a name and a value in each line.
pub(super) fn list(text: &str, mut take: impl FnMut(&str, u64)) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) {
            take(name, value);
        }
    }
}

/// Of `softnet_stat`: all CPUs together.
pub(super) fn softnet(text: &str, mut take: impl FnMut(&str, u64)) {
    let mut sums = [0; SOFTNET.len()];
    for line in text.lines() {
        for (sum, (column, _)) in sums.iter_mut().zip(SOFTNET) {
            let word = line.split_whitespace().nth(column);
            *sum += word
                .and_then(|word| u64::from_str_radix(word, 16).ok())
                .unwrap_or(0);
        }
    }
    for (sum, (_, name)) in sums.into_iter().zip(SOFTNET) {
        take(name, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = Vec<(String, u64)>;

    fn found(parse: Parse, text: &str) -> Found {
        let mut found = Vec::new();
        parse(text, &mut |name, value| {
            found.push((name.to_owned(), value));
        });
        found
    }

    #[test]
    fn two_lines_of_a_protocol() {
        let text = "Tcp: RtoMin MaxConn CurrEstab RetransSegs\nTcp: 200 -1 3 17\n\
                    UdpLite: InDatagrams NoPorts\nUdpLite: 5 6\nbroken";
        let expected = [
            ("TcpRetransSegs", 17),
            ("UdpLiteInDatagrams", 5),
            ("UdpLiteNoPorts", 6),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(found(|text, take| pairs(text, take), text), expected);
    }

    #[test]
    fn a_line_of_a_counter() {
        let text = "Ip6InReceives                   \t4\nIp6InDiscards\t2\nodd\n";
        let expected = [
            ("Ip6InReceives".to_owned(), 4),
            ("Ip6InDiscards".to_owned(), 2),
        ];
        assert_eq!(found(|text, take| list(text, take), text), expected);
    }

    #[test]
    fn all_cpus_together() {
        let text = "000000ff 00000001 00000028 0 0 0 0 0 0 00000002 00000003 0 0\n\
                    00000001 00000000 0000002a 0 0 0 0 0 0 00000000\n";
        let found = found(|text, take| softnet(text, take), text);
        let expected = [
            ("processed", 0x100),
            ("dropped", 1),
            ("time_squeeze", 0x52),
            ("received_rps", 2),
            ("flow_limit_count", 3),
        ];
        assert_eq!(
            found,
            expected.map(|(name, value)| (name.to_owned(), value))
        );
    }

    #[test]
    fn this_kernel_has_them() {
        let read = |name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap();
        let names: Vec<String> = ["snmp", "netstat"]
            .into_iter()
            .flat_map(|file| found(|text, take| pairs(text, take), &read(file)))
            .map(|(name, _)| name)
            .collect();
        for name in [
            "UdpInErrors",
            "TcpRetransSegs",
            "TcpExtListenDrops",
            "IcmpInErrors",
        ] {
            assert!(names.iter().any(|of| of == name), "{name}: {names:?}");
        }
        let softnet = found(|text, take| softnet(text, take), &read("softnet_stat"));
        assert!(softnet[0].1 > 0, "{softnet:?}");
    }
}
