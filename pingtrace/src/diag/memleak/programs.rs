//! Which programs follow which allocator, and what is missing without one of them.
//!
//! A kernel may refuse any program: it is too old, or a security module or a container forbids it. Then
//! memleak goes on without that program and says what is missing. Without a program that an allocator
//! needs ([`is_blind`]), only the kernel's accounting of it is left.

use super::follow::Follow;
use crate::kernel::features::{self, Features};
use crate::kernel::object::Refusal;

/// The program that finds freed pages, whether their free was seen or not.
pub const PAGE_CHECK: &str = "ml_page_check";

/// Says what is missing without a program.
pub fn note(refusal: &Refusal, what: &[Follow]) -> String {
    let program = refusal.program.as_str();
    let mine = |follow: &&Follow| needed_by(follow).contains(&program);
    let lost = match what.iter().find(mine) {
        _ if program == PAGE_CHECK => "pages whose free no program saw stay counted".to_owned(),
        Some(Follow::Vmalloc) => "vmalloc has no stacks".to_owned(),
        Some(follow) => format!("{follow} not followed, only the kernel's accounting is read"),
        None => "done without".to_owned(),
    };
    format!("{refusal}: {lost}")
}

/// Whether this cannot be followed because a needed program was refused.
pub fn is_blind(follow: &Follow, refusals: &[Refusal]) -> bool {
    let needed = needed_by(follow);
    let is_needed = |r: &Refusal| r.program != PAGE_CHECK && needed.contains(&r.program.as_str());
    refusals.iter().any(is_needed)
}

/// The programs that all of these need on this kernel.
pub fn needed_by_all(what: &[Follow]) -> Vec<&'static str> {
    what.iter().flat_map(needed_by).collect()
}

/// The programs that this needs on this kernel.
pub fn needed_by(follow: &Follow) -> Vec<&'static str> {
    needed_on(features::known(), follow)
}

fn needed_on(kernel: &Features, follow: &Follow) -> Vec<&'static str> {
    match follow {
        Follow::Slab(caches) => slab_programs(kernel, caches),
        Follow::Page => vec!["ml_page_alloc", "ml_page_free", PAGE_CHECK],
        Follow::Vmalloc => vec!["ml_vmap_alloc", "ml_vmap_free"],
        Follow::Percpu => percpu_programs(kernel).to_vec(),
        Follow::Faults(_) => vec!["ml_fault"],
        Follow::Malloc(_) => vec![
            "ml_malloc",
            "ml_calloc",
            "ml_realloc",
            "ml_malloc_returns",
            "ml_free",
        ],
    }
}

/// kmalloc's own caches appear at the kmalloc tracepoint only, the others at `kmem_cache_alloc` only.
fn slab_programs(kernel: &Features, caches: &[String]) -> Vec<&'static str> {
    let of_kmalloc = |name: &String| name.contains("kmalloc-");
    let (kmalloc, cache) = match caches {
        [] => (true, true),
        _ => (
            caches.iter().any(of_kmalloc),
            !caches.iter().all(of_kmalloc),
        ),
    };
    let nodes = kernel.has_tracepoint("kmem_cache_alloc_node");
    let mut names = vec!["ml_kfree"];
    if kmalloc {
        let (any, node) = if has_cache_argument(kernel, "kmalloc") {
            ("ml_kmalloc_cache", "ml_kmalloc_node_cache")
        } else {
            ("ml_kmalloc", "ml_kmalloc_node")
        };
        names.push(any);
        names.extend(nodes.then_some(node));
    }
    if cache {
        let (any, node) = if has_cache_argument(kernel, "kmem_cache_alloc") {
            ("ml_cache_alloc", "ml_cache_alloc_node")
        } else {
            ("ml_cache_alloc_sized", "ml_cache_alloc_node_sized")
        };
        names.push(any);
        names.extend(nodes.then_some(node));
        names.push(if has_cache_argument(kernel, "kmem_cache_free") {
            "ml_cache_free_wanted"
        } else {
            "ml_cache_free"
        });
    }
    names
}

fn percpu_programs(kernel: &Features) -> [&'static str; 2] {
    // The call site came first in 5.18.
    let alloc = match kernel.parameters("percpu_alloc_percpu").len() {
        1..=7 => "ml_percpu_alloc_old",
        _ => "ml_percpu_alloc",
    };
    [alloc, "ml_percpu_free"]
}

/// Whether this tracepoint reports the `struct kmem_cache` of an object.
pub fn has_cache_argument(kernel: &Features, tracepoint: &str) -> bool {
    kernel.points_to(tracepoint, 2, "kmem_cache")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(program: &str) -> Vec<Refusal> {
        let error = std::io::Error::from_raw_os_error(1);
        vec![Refusal::new(program, "load", &error)]
    }

    #[test]
    fn any_program_but_the_check_of_pages_is_needed_for_what_it_follows() {
        let follows = [
            Follow::Slab(Vec::new()),
            Follow::Page,
            Follow::Vmalloc,
            Follow::Percpu,
            Follow::Faults(1),
            Follow::Malloc(1),
        ];
        for follow in &follows {
            for program in needed_by(follow) {
                let refused = refused(program);
                let needed = program != PAGE_CHECK;
                assert_eq!(is_blind(follow, &refused), needed, "{program}");
                let others = follows.iter().filter(|other| *other != follow);
                for other in others {
                    assert!(!is_blind(other, &refused), "{program} for {other}");
                }
            }
        }
    }

    #[test]
    fn the_programs_follow_the_kernel() {
        let all = Follow::Slab(Vec::new());
        let cache = Follow::Slab(vec!["filp".to_owned()]);
        let call = ["", "*", "", "", ""];
        let with_cache = ["", "*", "*kmem_cache", "", "", ""];
        let v5_10 = Features::made_up(
            (5, 10),
            &[
                ("kmalloc", &call),
                ("kmem_cache_alloc", &call),
                ("kmem_cache_alloc_node", &["", "*", "", "", "", ""]),
                ("kmem_cache_free", &["", "*"]),
                ("percpu_alloc_percpu", &["", "", "", "", "*", "", "*"]),
            ],
        );
        assert_eq!(
            needed_on(&v5_10, &all),
            [
                "ml_kfree",
                "ml_kmalloc",
                "ml_kmalloc_node",
                "ml_cache_alloc_sized",
                "ml_cache_alloc_node_sized",
                "ml_cache_free"
            ]
        );
        assert_eq!(needed_on(&v5_10, &Follow::Percpu)[0], "ml_percpu_alloc_old");
        let v6_18 = Features::made_up(
            (6, 18),
            &[
                ("kmalloc", &call),
                ("kmem_cache_alloc", &["", "*", "*kmem_cache", "", ""]),
                ("kmem_cache_free", &["", "*", "*kmem_cache"]),
                (
                    "percpu_alloc_percpu",
                    &["", "", "", "", "", "*", "", "*", "", ""],
                ),
            ],
        );
        let expected = ["ml_kfree", "ml_cache_alloc", "ml_cache_free_wanted"];
        assert_eq!(needed_on(&v6_18, &cache), expected);
        assert_eq!(needed_on(&v6_18, &Follow::Percpu)[0], "ml_percpu_alloc");
        let v6_0 = Features::made_up(
            (6, 0),
            &[
                ("kmalloc", &with_cache),
                ("kmem_cache_alloc_node", &with_cache),
            ],
        );
        let kmalloc = Follow::Slab(vec!["kmalloc-64".to_owned()]);
        let expected = ["ml_kfree", "ml_kmalloc_cache", "ml_kmalloc_node_cache"];
        assert_eq!(needed_on(&v6_0, &kmalloc), expected);
    }

    #[test]
    fn a_refusal_says_the_program_the_reason_and_what_is_missing() {
        let what = [Follow::Slab(vec!["filp".to_owned()]), Follow::Page];
        let note = |program| note(&refused(program)[0], &what);
        assert_eq!(
            note("ml_page_alloc"),
            "the kernel refuses the program ml_page_alloc (load: Operation not permitted): pages \
             not followed, only the kernel's accounting is read"
        );
        assert!(note(PAGE_CHECK).ends_with("stay counted"));
        assert!(note("ml_kfree").contains("slab: filp not followed"));
    }
}
