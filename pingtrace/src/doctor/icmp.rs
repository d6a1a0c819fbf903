//! Whether this namespace answers echo requests, how many, and who may send them.

use super::reading::{Setting, Unread, number, sysctl, unread};
use super::roles::Role;
use report::model::{Check, Finding};

/// `ICMP_ECHOREPLY`, `ICMPV6_ECHO_REPLY`: the types of echo replies.
const REPLY_V4: u32 = 0;
const REPLY_V6: u32 = 129;

/// Settings of one family.
pub struct Family {
    /// `IPv4`
    pub name: &'static str,
    /// The sysctl before whose last part is in `names`.
    prefix: &'static str,
    echo_ignore_all: Setting,
    /// The name of the first: `icmp_echo_ignore_all`
    names: [&'static str; 3],
    /// ms between two of the limited messages to one peer.
    ratelimit: Setting,
    /// The types that are limited.
    ratemask: Setting,
    reply: u32,
}

/// What was read.
pub struct Icmp {
    /// IPv4, IPv6.
    pub families: [Family; 2],
    /// Limited messages of IPv4 a second, of the whole namespace.
    pub msgs_per_sec: Setting,
    /// Groups whose users may have a ping socket: from, to.
    pub ping_group_range: Setting,
}

impl Icmp {
    /// Reads those of this namespace.
    pub fn read() -> Self {
        Self {
            families: [
                Family::read(
                    "IPv4",
                    "net.ipv4.",
                    ["icmp_echo_ignore_all", "icmp_ratelimit", "icmp_ratemask"],
                    REPLY_V4,
                ),
                Family::read(
                    "IPv6",
                    "net.ipv6.icmp.",
                    ["echo_ignore_all", "ratelimit", "ratemask"],
                    REPLY_V6,
                ),
            ],
            msgs_per_sec: sysctl("net.ipv4.icmp_msgs_per_sec"),
            ping_group_range: sysctl("net.ipv4.ping_group_range"),
        }
    }

    /// What it says to who is to run here.
    pub fn findings(&self, role: Role) -> Vec<Finding> {
        let mut findings = Vec::new();
        if role.is_server() {
            for family in &self.families {
                findings.extend([family.echo(), family.rate()]);
            }
        }
        findings.push(self.errors());
        if role.is_client() {
            findings.push(self.ping_group());
        }
        findings
    }

    /// Errors say where and why a probe was lost.
    fn errors(&self) -> Finding {
        let check = Check::ErrorRate;
        let per_second = number(&self.msgs_per_sec);
        let [v4, _] = &self.families;
        match (number(&v4.ratelimit), per_second) {
            (Some(0), _) => Finding::note(
                check,
                "ICMP errors of this host are not limited (icmp_ratelimit is 0)",
            )
            .remedy("sysctl -w net.ipv4.icmp_ratelimit=1000"),
            (Some(ms), Some(n)) => Finding::ok(
                check,
                format!("an ICMP error in {ms} ms to one peer, {n} a second in all"),
            ),
            (Some(ms), None) => Finding::ok(check, format!("an ICMP error in {ms} ms to one peer")),
            (None, _) => unread(check, &v4.ratelimit),
        }
    }

    fn ping_group(&self) -> Finding {
        let check = Check::PingGroup;
        let Ok(range) = &self.ping_group_range else {
            return unread(check, &self.ping_group_range);
        };
        let mut numbers = range
            .split_whitespace()
            .filter_map(|n| n.parse::<u32>().ok());
        match (numbers.next(), numbers.next()) {
            (Some(from), Some(to)) if from <= to => Finding::ok(
                check,
                format!("users of groups {from} to {to} may have a ping socket"),
            ),
            _ => Finding::ok(check, "no ordinary user may have a ping socket"),
        }
    }
}

impl Family {
    fn read(
        name: &'static str,
        prefix: &'static str,
        names: [&'static str; 3],
        reply: u32,
    ) -> Self {
        let [ignore, limit, mask] = names.map(|name| sysctl(&format!("{prefix}{name}")));
        Self {
            name,
            prefix,
            echo_ignore_all: ignore,
            names,
            ratelimit: limit,
            ratemask: mask,
            reply,
        }
    }

    fn echo(&self) -> Finding {
        let (check, setting) = (Check::Echo, format!("{}{}", self.prefix, self.names[0]));
        let found = match (number(&self.echo_ignore_all), &self.echo_ignore_all) {
            (Some(0), _) => Finding::ok(check, "requests are answered"),
            (Some(_), _) => Finding::fault(
                check,
                format!(
                    "all echo requests are ignored ({setting}): no probe of this host is answered"
                ),
            )
            .remedy(format!("sysctl -w {setting}=0")),
            (None, Err(Unread::Absent(_))) if self.reply == REPLY_V6 => {
                Finding::ok(check, "not in this kernel, or before Linux 4.17")
            }
            (None, _) => unread(check, &self.echo_ignore_all),
        };
        found.of(self.name)
    }

    fn rate(&self) -> Finding {
        let check = Check::EchoRate;
        let (Some(limit), Some(is_limited)) = (number(&self.ratelimit), self.limits_replies())
        else {
            let unread_one = if self.ratelimit.is_err() {
                &self.ratelimit
            } else {
                &self.ratemask
            };
            return unread(check, unread_one).of(self.name);
        };
        let found = if is_limited && limit > 0 {
            let mask = format!("{}{}", self.prefix, self.names[2]);
            let default = if self.reply == REPLY_V4 {
                "6168"
            } else {
                "0-1,3-127"
            };
            Finding::warning(
                check,
                format!(
                    "one echo reply in {limit} ms to a peer ({mask} includes them): the other probes are lost"
                ),
            )
            .remedy(format!("sysctl -w {mask}={default}, or probe no faster (-i {limit}ms)"))
        } else {
            Finding::ok(check, "replies are not limited")
        };
        found.of(self.name)
    }

    /// IPv4 has a number with a bit for each type, IPv6 a list of ranges of types.
    fn limits_replies(&self) -> Option<bool> {
        let mask = self.ratemask.as_ref().ok()?;
        if self.reply == REPLY_V4 {
            return Some(mask.parse::<u32>().ok()? >> self.reply & 1 != 0);
        }
        let includes = |range: &str| -> Option<bool> {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            Some((from.parse().ok()?..=to.parse().ok()?).contains(&self.reply))
        };
        let ranges = mask.split(',').filter(|range| !range.is_empty());
        ranges
            .map(includes)
            .try_fold(false, |any, one| Some(any | one?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use report::model::Level;

    #[expect(clippy::unnecessary_wraps, reason = "it stands where a setting stands")]
    fn set(value: &str) -> Setting {
        Ok(value.to_owned())
    }

    fn fine() -> Icmp {
        let mut icmp = Icmp::read();
        let [v4, v6] = &mut icmp.families;
        (v4.echo_ignore_all, v6.echo_ignore_all) = (set("0"), set("0"));
        (v4.ratelimit, v6.ratelimit) = (set("1000"), set("1000"));
        (v4.ratemask, v6.ratemask) = (set("6168"), set("0-1,3-127"));
        icmp.msgs_per_sec = set("1000");
        icmp.ping_group_range = set("1\t0");
        icmp
    }

    fn found(icmp: &Icmp, role: Role) -> Vec<(Check, Level, String)> {
        let found = icmp.findings(role).into_iter();
        let found = found.filter(|f| f.level != Level::Ok);
        let remedy = |f: Finding| (f.check, f.level, f.remedy.unwrap_or_default());
        found.map(remedy).collect()
    }

    #[test]
    fn the_defaults_have_nothing_to_say() {
        assert_eq!(found(&fine(), Role::Both), []);
    }

    #[test]
    fn ignored_requests_are_a_fault_of_a_server() {
        for (family, remedy) in [
            (0, "sysctl -w net.ipv4.icmp_echo_ignore_all=0"),
            (1, "sysctl -w net.ipv6.icmp.echo_ignore_all=0"),
        ] {
            let mut icmp = fine();
            icmp.families[family].echo_ignore_all = set("1");
            let expected = (Check::Echo, Level::Fault, remedy.to_owned());
            assert_eq!(found(&icmp, Role::Server), [expected]);
            assert_eq!(found(&icmp, Role::Client), []);
        }
    }

    #[test]
    fn a_limit_on_replies_is_a_warning_and_one_on_errors_is_not() {
        for (family, mask, is_limited) in [
            (0, "6169", true),
            (0, "6168", false),
            (0, "0", false),
            (1, "0-1,3-129", true),
            (1, "129", true),
            (1, "1,3-128,130-255", false),
            (1, "", false),
        ] {
            let mut icmp = fine();
            icmp.families[family].ratemask = set(mask);
            let found = found(&icmp, Role::Server);
            assert_eq!(found.len(), usize::from(is_limited), "{mask}: {found:?}");
            assert!(
                found
                    .iter()
                    .all(|f| f.0 == Check::EchoRate && f.1 == Level::Warning)
            );
            icmp.families[family].ratelimit = set("0");
            let left = icmp.findings(Role::Server).into_iter();
            let left: Vec<_> = left
                .filter(|f| f.check == Check::EchoRate && f.level != Level::Ok)
                .collect();
            assert_eq!(left, [], "{mask}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let mut icmp = fine();
        icmp.families[0].ratemask = set("x");
        icmp.ping_group_range = Err(Unread::Refused("read x: permission denied".into()));
        let found = icmp.findings(Role::Both).into_iter();
        let unknown: Vec<_> = found
            .filter(|f| f.found.starts_with("unknown"))
            .map(|f| f.check)
            .collect();
        assert_eq!(unknown, [Check::EchoRate, Check::PingGroup]);
    }

    #[test]
    fn ping_groups_are_said() {
        let mut icmp = fine();
        icmp.ping_group_range = set("0\t2147483647");
        let said = icmp.ping_group().found;
        assert_eq!(
            said,
            "users of groups 0 to 2147483647 may have a ping socket"
        );
        icmp.ping_group_range = set("1\t0");
        assert!(icmp.ping_group().found.starts_with("no ordinary user"));
    }
}
