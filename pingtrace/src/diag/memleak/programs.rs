//! Which programs follow which allocator, and what is missing without one of them.
//!
//! A kernel may refuse any program: it is too old, or a security module or a container forbids it. Then
//! memleak goes on without that program and says what is missing. Without a program that an allocator
//! needs ([`is_blind`]), only the kernel's accounting of it is left.

use super::follow::Follow;
use crate::kernel::object::Refusal;
use libbpf_rs::btf::types::{FuncProto, Ptr, Struct, Typedef};
use libbpf_rs::btf::{Btf, BtfType};

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
    match follow {
        Follow::Slab(caches) => slab_programs(caches),
        Follow::Page => vec!["ml_page_alloc", "ml_page_free", PAGE_CHECK],
        Follow::Vmalloc => vec!["ml_vmap_alloc", "ml_vmap_free"],
        Follow::Percpu => percpu_programs().to_vec(),
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
fn slab_programs(caches: &[String]) -> Vec<&'static str> {
    let of_kmalloc = |name: &String| name.contains("kmalloc-");
    let (kmalloc, cache) = match caches {
        [] => (true, true),
        _ => (
            caches.iter().any(of_kmalloc),
            !caches.iter().all(of_kmalloc),
        ),
    };
    let nodes = has_tracepoint("kmem_cache_alloc_node");
    let mut names = vec!["ml_kfree"];
    if kmalloc {
        let (any, node) = if has_cache_argument("kmalloc") {
            ("ml_kmalloc_cache", "ml_kmalloc_node_cache")
        } else {
            ("ml_kmalloc", "ml_kmalloc_node")
        };
        names.push(any);
        names.extend(nodes.then_some(node));
    }
    if cache {
        let (any, node) = if has_cache_argument("kmem_cache_alloc") {
            ("ml_cache_alloc", "ml_cache_alloc_node")
        } else {
            ("ml_cache_alloc_sized", "ml_cache_alloc_node_sized")
        };
        names.push(any);
        names.extend(nodes.then_some(node));
        names.push(if has_cache_argument("kmem_cache_free") {
            "ml_cache_free_wanted"
        } else {
            "ml_cache_free"
        });
    }
    names
}

fn percpu_programs() -> [&'static str; 2] {
    // The call site came first in 5.18; void * counts too.
    let arguments = tracepoint("percpu_alloc_percpu", |_, proto| proto.len());
    let alloc = match arguments {
        Some(..=8) => "ml_percpu_alloc_old",
        _ => "ml_percpu_alloc",
    };
    [alloc, "ml_percpu_free"]
}

/// Reads the type of a tracepoint from BTF; `None` if the kernel does not have it.
fn tracepoint<T>(name: &str, look: impl FnOnce(&Btf<'_>, FuncProto<'_>) -> T) -> Option<T> {
    let btf = Btf::from_vmlinux().ok()?;
    let named = btf.type_by_name::<Typedef<'_>>(&format!("btf_trace_{name}"))?;
    let pointer = Ptr::try_from(named.next_type()?).ok()?;
    let proto = FuncProto::try_from(pointer.next_type()?).ok()?;
    Some(look(&btf, proto))
}

/// Whether the kernel has this tracepoint.
pub fn has_tracepoint(name: &str) -> bool {
    tracepoint(name, |_, _| ()).is_some()
}

/// Whether its third argument is a `struct kmem_cache *`.
pub fn has_cache_argument(name: &str) -> bool {
    let is_cache = |btf: &Btf<'_>, proto: FuncProto<'_>| {
        // Before the arguments there is the program's own context.
        let third = proto.iter().nth(3)?;
        let pointer: BtfType<'_> = btf.type_by_id(third.ty)?;
        let target = Ptr::try_from(pointer).ok()?.next_type()?;
        let cache = Struct::try_from(target.skip_mods_and_typedefs()).ok()?;
        Some(cache.name()? == "kmem_cache")
    };
    tracepoint(name, is_cache).flatten().unwrap_or(false)
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
