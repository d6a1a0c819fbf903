//! Network namespaces: enter, list, name, links; and laboratories of veth pairs.
