//! Whether a client and a server can run here, with which points, and what each hook takes.

use super::trial::{Seen, Trial};
use clap::ValueEnum;
use report::model::{Check, Finding, Hook, HookUser, Measured, Point};

/// Who is to run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Probes others
    Client,
    /// Is probed
    Server,
    /// Both
    Both,
}

/// Of whatever needs a capability.
pub const ROOT: &str = "run as root, or give the capabilities that are missing";

impl Role {
    /// Whether it includes a client.
    pub fn is_client(self) -> bool {
        self != Self::Server
    }

    /// Whether it includes a server.
    pub fn is_server(self) -> bool {
        self != Self::Client
    }
}

/// What a trial says of these roles.
pub fn findings(trial: &Trial, role: Role) -> Vec<Finding> {
    let mut findings = Vec::new();
    if role.is_client() {
        findings.push(client(trial));
        findings.extend(missing(&trial.client));
    }
    if role.is_server() {
        findings.push(server(trial));
        findings.extend(missing(&trial.server));
        if trial.server.is_ok() {
            findings.push(inband(trial));
        }
    }
    findings.push(cost(trial));
    findings
}

/// The hooks of these roles; `clock`: what a reading of the clock takes, which stamps the points in user space.
pub fn hooks(trial: &Trial, role: Role, clock: Measured) -> Vec<Hook> {
    let of = |wanted: bool, seen: &Result<Seen, String>| match seen {
        Ok(seen) if wanted => seen.hooks.clone(),
        _ => Vec::new(),
    };
    let in_process = [Point::LTxUser, Point::LRxUser].map(|point| Hook {
        user: HookUser::Client,
        point: Some(point),
        hook: "clock_gettime".into(),
        program: None,
        cost: Some(clock),
    });
    let mut hooks = of(role.is_client(), &trial.client);
    if role.is_client() {
        hooks.extend(in_process);
    }
    let order = |hook: &Hook| match hook.point {
        Some(point) => Point::PATH.iter().position(|p| *p == point),
        None => Some(usize::MAX),
    };
    hooks.sort_by_key(order);
    hooks.extend(of(role.is_server(), &trial.server));
    hooks
}

fn client(trial: &Trial) -> Finding {
    let check = Check::Client;
    match (&trial.raw, &trial.client, &trial.ping) {
        (Ok(()), Ok(seen), _) => {
            Finding::ok(check, format!("can run, with {} points in the kernel", seen.points))
        }
        (Ok(()), Err(why), _) => Finding::warning(
            check,
            format!("can run with the stamps of SO_TIMESTAMPING only (l_tx_devqueue, l_tx_devout, l_rx_iprcv): {why}"),
        )
        .remedy(ROOT),
        (Err(why), _, Ok(())) => Finding::warning(
            check,
            format!("can run with a ping socket only (l_tx_devqueue, l_tx_devout, l_rx_iprcv): {why}"),
        )
        .remedy(ROOT),
        (Err(raw), _, Err(ping)) => Finding::fault(check, format!("cannot probe: {raw}; {ping}")).remedy(
            format!("{ROOT}, or let this user ping: sysctl -w net.ipv4.ping_group_range='0 2147483647'"),
        ),
    }
}

fn server(trial: &Trial) -> Finding {
    let check = Check::Server;
    match (&trial.server, &trial.inband, &trial.raw) {
        (Err(why), ..) => Finding::fault(check, format!("cannot stamp: {why}")).remedy(ROOT),
        (Ok(seen), Ok(how), _) => Finding::ok(
            check,
            format!(
                "can run, with {} points; they return in the replies themselves ({how})",
                seen.points
            ),
        ),
        (Ok(seen), Err(_), Ok(())) => {
            Finding::ok(check, format!("can run, with {} points", seen.points))
        }
        (Ok(_), Err(_), Err(raw)) => Finding::fault(
            check,
            format!(
                "cannot return its stamps, neither in replies nor in packets of their own: {raw}"
            ),
        )
        .remedy(ROOT),
    }
}

fn missing(seen: &Result<Seen, String>) -> Vec<Finding> {
    let missing = seen.iter().flat_map(|seen| &seen.missing);
    let one = |(point, why): &(Point, String)| {
        Finding::warning(Check::Point, format!("cannot be stamped: {why}"))
            .of(point.name())
            .remedy("its time is in the segment after it; another kernel may have the hook")
    };
    missing.map(one).collect()
}

fn inband(trial: &Trial) -> Finding {
    let check = Check::Inband;
    match &trial.inband {
        Ok(how @ "tcx") => Finding::ok(check, format!("{how}, which vanishes with the process")),
        Ok(how) => Finding::note(
            check,
            format!(
                "{how}: a filter that stays if the server is killed, until the next one starts"
            ),
        )
        .remedy("Linux 6.6 has TCX"),
        Err(why) if why.starts_with("not tried") => Finding::unknown(check, why).remedy(ROOT),
        Err(why) => Finding::warning(
            check,
            format!("stamps return in packets of their own: {why}"),
        )
        .remedy("CAP_NET_ADMIN"),
    }
}

fn cost(trial: &Trial) -> Finding {
    let check = Check::Cost;
    match (&trial.counted, trial.probes) {
        (Err(why), _) => Finding::unknown(
            check,
            format!("what the hooks take was not measured: {why}"),
        )
        .remedy(ROOT),
        (Ok(()), Some((sent, answered))) if answered < sent => Finding::warning(
            check,
            format!("{answered} of {sent} own probes over the loopback were answered"),
        )
        .remedy("look for a firewall, and at the findings on echo"),
        (Ok(()), Some(_)) => Finding::ok(check, "measured"),
        (Ok(()), None) => Finding::unknown(
            check,
            "no probes could be sent: the points were measured with whatever packets there were",
        )
        .remedy(ROOT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use report::model::Level;

    fn fine() -> Trial {
        let seen = || {
            Ok(Seen {
                points: 6,
                ..Seen::default()
            })
        };
        Trial {
            raw: Ok(()),
            ping: Err("permission denied".into()),
            client: seen(),
            server: seen(),
            inband: Ok("tcx"),
            counted: Ok(()),
            probes: Some((200, 200)),
        }
    }

    fn levels(trial: &Trial, role: Role) -> Vec<(Check, Level)> {
        let found = findings(trial, role).into_iter();
        let found = found.filter(|finding| finding.level != Level::Ok);
        found
            .map(|finding| (finding.check, finding.level))
            .collect()
    }

    fn no() -> Result<Seen, String> {
        Err("refused".into())
    }

    #[test]
    fn a_host_that_can_do_all_has_nothing_to_say() {
        assert_eq!(levels(&fine(), Role::Both), []);
    }

    #[test]
    fn a_role_that_cannot_run_is_a_fault_where_it_was_asked_for() {
        use Level::{Fault, Warning};
        let no_server = Trial {
            server: no(),
            ..fine()
        };
        assert_eq!(levels(&no_server, Role::Both), [(Check::Server, Fault)]);
        assert_eq!(levels(&no_server, Role::Client), []);
        let no_socket = Trial {
            raw: Err("x".into()),
            ..fine()
        };
        assert_eq!(levels(&no_socket, Role::Client), [(Check::Client, Fault)]);
        let ping = Trial {
            raw: Err("x".into()),
            ping: Ok(()),
            ..fine()
        };
        assert_eq!(levels(&ping, Role::Client), [(Check::Client, Warning)]);
        let no_programs = Trial {
            client: no(),
            ..fine()
        };
        assert_eq!(
            levels(&no_programs, Role::Client),
            [(Check::Client, Warning)]
        );
        let nothing_returns = Trial {
            raw: Err("x".into()),
            inband: Err("x".into()),
            ..fine()
        };
        let found = levels(&nothing_returns, Role::Server);
        assert_eq!(found, [(Check::Server, Fault), (Check::Inband, Warning)]);
    }

    #[test]
    fn how_replies_are_stamped_is_said() {
        let with = |inband| levels(&Trial { inband, ..fine() }, Role::Server);
        assert_eq!(with(Ok("clsact")), [(Check::Inband, Level::Note)]);
        assert_eq!(
            with(Err("refused".into())),
            [(Check::Inband, Level::Warning)]
        );
        assert_eq!(
            with(Err("not tried: x".into())),
            [(Check::Inband, Level::Note)]
        );
    }

    #[test]
    fn a_point_that_is_missing_is_named() {
        let mut trial = fine();
        let seen = trial.client.as_mut().unwrap();
        seen.missing
            .push((Point::LRxWakeup, "no sched_wakeup tracepoint".into()));
        let found = findings(&trial, Role::Client);
        let point = found.iter().find(|f| f.check == Check::Point).unwrap();
        assert_eq!(point.subject.as_deref(), Some("l_rx_wakeup"));
        assert!(point.found.contains("sched_wakeup"), "{point:?}");
    }

    #[test]
    fn probes_that_are_not_answered_are_counted() {
        let trial = Trial {
            probes: Some((200, 0)),
            ..fine()
        };
        assert_eq!(levels(&trial, Role::Both), [(Check::Cost, Level::Warning)]);
        let trial = Trial {
            probes: None,
            ..fine()
        };
        assert_eq!(levels(&trial, Role::Both), [(Check::Cost, Level::Note)]);
        let trial = Trial {
            counted: Err("x".into()),
            ..fine()
        };
        assert_eq!(levels(&trial, Role::Both), [(Check::Cost, Level::Note)]);
    }

    #[test]
    fn points_in_user_space_are_among_those_of_the_kernel_in_path_order() {
        let mut trial = fine();
        let hook = |point| Hook {
            user: HookUser::Client,
            point,
            hook: "x".into(),
            program: None,
            cost: None,
        };
        trial.client.as_mut().unwrap().hooks = vec![hook(Some(Point::LTxDevout)), hook(None)];
        let clock = Measured {
            runs: 1,
            mean_ns: 20,
        };
        let points: Vec<_> = hooks(&trial, Role::Client, clock)
            .iter()
            .map(|h| h.point)
            .collect();
        assert_eq!(
            points,
            [
                Some(Point::LTxUser),
                Some(Point::LTxDevout),
                Some(Point::LRxUser),
                None
            ]
        );
    }
}
