//! The columns of places: host, namespace and device; numbers where no name is known.

use crate::model::{Host, Ifindex, Names, Netns};
use crate::printable::printable;
use std::borrow::Cow;

/// Places in rows below each other.
pub struct Places<'a> {
    names: &'a Names,
    namespace_width: usize,
    device_width: usize,
}

/// Least width of the columns of namespaces and devices.
const NAME_WIDTH: usize = 15;

impl<'a> Places<'a> {
    /// Wide enough for these.
    pub fn new(places: impl Iterator<Item = (Host, Netns, Ifindex)>, names: &'a Names) -> Self {
        let mut this = Self {
            names,
            namespace_width: NAME_WIDTH,
            device_width: NAME_WIDTH,
        };
        for (host, netns, ifindex) in places {
            let width = |name: &str| name.chars().count();
            this.namespace_width = this
                .namespace_width
                .max(width(&this.namespace(host, netns)));
            let device = this.device(host, netns, ifindex);
            this.device_width = this.device_width.max(width(&device));
        }
        this
    }

    fn namespace(&self, host: Host, netns: Netns) -> Cow<'a, str> {
        or_number(self.names.netns_of(host, netns), netns.0)
    }

    fn device(&self, host: Host, netns: Netns, ifindex: Ifindex) -> Cow<'a, str> {
        or_number(self.names.device_of(host, netns, ifindex), ifindex.0)
    }

    /// A place.
    pub fn row(&self, host: Host, netns: Netns, ifindex: Ifindex) -> String {
        let namespace = self.namespace(host, netns);
        self.line(&host.name(), &namespace, &self.device(host, netns, ifindex))
    }

    /// The header, with a word for the column of hosts.
    pub fn header(&self, host: &str) -> String {
        self.line(host, "namespace", "device")
    }

    fn line(&self, host: &str, namespace: &str, device: &str) -> String {
        let (wide, device_wide) = (self.namespace_width, self.device_width);
        format!("{host:<8} {namespace:<wide$} {device:<device_wide$}")
    }

    /// What the names take beyond the least width.
    pub fn excess(&self) -> usize {
        self.namespace_width + self.device_width - 2 * NAME_WIDTH
    }
}

fn or_number(name: Option<&str>, number: u32) -> Cow<'_, str> {
    match (name, number) {
        (Some(name), _) => printable(name),
        (None, 0) => "-".into(),
        (None, number) => number.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_the_names() {
        let (pod, eth0) = ((Host::Server, Netns(7)), Ifindex(2));
        let mut names = Names::default();
        names
            .netns
            .insert(pod, "pod shop/frontend-6d4f8d5b9c-x2x7k".into());
        names.device.insert((pod.0, pod.1, eth0), "eth0".into());
        let all = [(pod.0, pod.1, eth0), (Host::Client, Netns(0), Ifindex(3))];
        let places = Places::new(all.into_iter(), &names);
        let rows = all.map(|(host, netns, ifindex)| places.row(host, netns, ifindex));
        let header = places.header("host");
        assert_eq!(rows[0].find("eth0"), header.find("device"), "{rows:#?}");
        assert_eq!(rows[1].find('3'), header.find("device"), "{rows:#?}");
        assert_eq!(rows[0].len(), rows[1].len());
        assert_eq!(places.excess(), rows[0].len() - (8 + 2 * (1 + NAME_WIDTH)));
        let narrow = Places::new([].into_iter(), &names);
        assert_eq!((narrow.header("host").len(), narrow.excess()), (40, 0));
    }
}
