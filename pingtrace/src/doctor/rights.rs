//! Capabilities: what each is for, and whether it is held.

use crate::kernel::privileges::Use;
use report::model::{Check, Finding};

/// One finding each.
pub fn findings(uses: &[Use]) -> Vec<Finding> {
    uses.iter().map(finding).collect()
}

fn finding(each: &Use) -> Finding {
    let found = if each.is_held {
        Finding::ok(Check::Capability, "held")
    } else {
        let of = |what: &str, by: &[&str]| {
            let by = by.join(", ");
            (!by.is_empty()).then(|| format!("{what} {by}"))
        };
        let parts = [
            of("needed by", &each.needed_by),
            of("of use to", &each.useful_to),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        Finding::note(Check::Capability, format!("missing: {}", parts.join("; ")))
    };
    found.of(each.capability.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use report::model::Level;

    #[test]
    fn a_missing_capability_says_what_it_is_for() {
        let held = Use {
            capability: "CAP_BPF".into(),
            is_held: true,
            needed_by: vec!["a server"],
            useful_to: vec!["a client"],
        };
        let missing = Use {
            is_held: false,
            ..held.clone()
        };
        let found = findings(&[held, missing]);
        assert_eq!(found[0].level, Level::Ok);
        assert_eq!(found[1].level, Level::Note);
        assert_eq!(found[1].subject.as_deref(), Some("CAP_BPF"));
        assert_eq!(
            found[1].found,
            "missing: needed by a server; of use to a client"
        );
    }
}
