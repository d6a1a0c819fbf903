//! Names and numbers are read back.

use super::*;

#[test]
fn names_and_numbers_are_read_back() {
    for point in Point::ALL {
        let on_wire = (point != Point::LTxDue).then_some(point);
        assert_eq!(Point::from_wire(point as u16), on_wire);
        assert_eq!(Point::from_name(point.name()), Some(point));
    }
    for segment in Segment::ALL {
        assert_eq!(Segment::from_name(segment.name()), Some(segment));
    }
    for owner in Owner::ALL {
        assert_eq!(Owner::from_name(owner.name()), Some(owner));
    }
    for status in Status::ALL {
        assert_eq!(Status::from_name(status.name()), Some(status));
    }
    for host in [Host::Client, Host::Server, Host::Transit(7)] {
        assert_eq!(Host::from_name(&host.name()), Some(host));
    }
}

#[test]
fn unknown_names_and_numbers_are_refused() {
    assert_eq!(Point::from_wire(22), None);
    assert_eq!(Point::from_wire(23), None);
    assert_eq!(Point::from_name("l_tx_users"), None);
    assert_eq!(Host::from_name("transit"), None);
}
