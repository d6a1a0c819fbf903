//! What may be cache: memory that the kernel frees when memory is short, or when the files that it
//! belongs to are deleted.
//!
//! The kernel marks the caches of dentries and inodes as reclaimable, but not the objects that live and
//! die with them: the security modules' part of an inode, and the vector in which a slab keeps the owners
//! of its objects. Two witnesses tell these from a leak: the stack that allocated an object shows
//! whether it belongs to a dentry, an inode or a cached page, and the kernel's accounting shows how many
//! more of these can be reclaimed. Both are needed: a socket has an inode too, which cannot be reclaimed
//! while the socket is open.

use super::snapshot::Snapshot;
use std::collections::BTreeSet;

/// The purpose of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// For itself.
    #[default]
    Own,
    /// For a dentry, an inode, or a page of a file; or its stack has no names.
    Cache,
    /// For a file that exists only in memory: it stays until the file is deleted.
    Files,
}

/// Kernel functions that make files in memory (tmpfs, ramfs).
const FILES: [&str; 2] = ["shmem_", "ramfs_"];
/// Kernel functions that make dentries and inodes that cannot be looked up: they are freed with their
/// last user.
const PSEUDO: [&str; 5] = [
    "d_alloc_pseudo",
    "alloc_file_pseudo",
    "new_inode_pseudo",
    "alloc_anon_inode",
    "sock_alloc",
];
/// Kernel functions that make a dentry, an inode, a page of a file, or its buffers (Linux 5.10 to 7.2).
const CACHE: [&str; 16] = [
    "__d_alloc",
    "d_alloc",
    "alloc_inode",
    "new_inode",
    "inode_init_always",
    "iget_locked",
    "iget5_locked",
    "alloc_buffer_head",
    "folio_alloc_buffers",
    "filemap_",
    "__filemap_",
    "page_cache_ra",
    "pagecache_get_page",
    "add_to_page_cache",
    "__add_to_page_cache",
    "grow_dev_",
];

/// The purpose by a stack: the names of its functions without offsets; `None` for one without a name.
pub fn origin<'a>(stack: impl IntoIterator<Item = Option<&'a str>>) -> Origin {
    let names: Vec<&str> = stack.into_iter().flatten().collect();
    // Of each file system: ext4_iget, xfs_iget.
    let is_iget = || names.iter().any(|name| name.contains("_iget"));
    let passes = |functions: &[&str]| {
        let is_one = |name: &&str| functions.iter().any(|f| name.starts_with(f));
        names.iter().any(is_one)
    };
    if passes(&PSEUDO) {
        Origin::Own
    } else if passes(&FILES) {
        Origin::Files
    } else if names.is_empty() || passes(&CACHE) || is_iget() {
        Origin::Cache
    } else {
        Origin::Own
    }
}

/// By how many objects the kernel's reclaimable caches grew between two snapshots:
/// unused dentries and inodes, and the slabs of reclaimable caches, each of which may have a
/// vector. `None` where the kernel does not say it.
pub fn host_growth(
    first: &Snapshot,
    last: &Snapshot,
    reclaimable: &BTreeSet<String>,
) -> Option<u64> {
    let unused = last.unused?.saturating_sub(first.unused?);
    let slabs = |name: &String| {
        let of = |snapshot: &Snapshot| snapshot.caches.get(name).map_or(0, |c| c.slabs);
        of(last).saturating_sub(of(first))
    };
    Some(unused + reclaimable.iter().map(slabs).sum::<u64>())
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::Cache;
    use super::*;

    fn origin_of(stack: &[&str]) -> Origin {
        origin(stack.iter().map(|name| Some(*name)))
    }

    #[test]
    fn what_is_made_for_an_inode_or_a_dentry_may_be_cache() {
        let blob = [
            "security_inode_alloc",
            "inode_init_always_gfp",
            "alloc_inode",
            "ext4_lookup",
        ];
        assert_eq!(origin_of(&blob), Origin::Cache);
        let vector = [
            "alloc_slab_obj_exts",
            "kmem_cache_alloc_lru_noprof",
            "__d_alloc",
        ];
        assert_eq!(origin_of(&vector), Origin::Cache);
        let page = [
            "__filemap_get_folio",
            "__getblk_slow",
            "ext4_sb_breadahead_unmovable",
        ];
        assert_eq!(origin_of(&page), Origin::Cache);
        assert_eq!(
            origin([None, None]),
            Origin::Cache,
            "hidden names exclude nothing"
        );
    }

    #[test]
    fn what_an_open_socket_or_an_eventfd_holds_is_no_cache() {
        let blob = [
            "security_inode_alloc",
            "alloc_inode",
            "sock_alloc",
            "__sys_socket",
        ];
        assert_eq!(origin_of(&blob), Origin::Own);
        let vector = [
            "alloc_slab_obj_exts",
            "__d_alloc",
            "d_alloc_pseudo",
            "do_eventfd",
        ];
        assert_eq!(origin_of(&vector), Origin::Own);
        assert_eq!(origin_of(&["do_eventfd", "do_syscall_64"]), Origin::Own);
    }

    #[test]
    fn a_file_in_memory_is_told_apart() {
        let inode = [
            "shmem_alloc_inode",
            "alloc_inode",
            "shmem_get_inode",
            "shmem_mknod",
        ];
        assert_eq!(origin_of(&inode), Origin::Files);
    }

    #[test]
    fn hosts_are_unused_objects_and_slabs_of_reclaimable_caches() {
        let snapshot = |unused, slabs| Snapshot {
            unused,
            caches: ["dentry", "filp"]
                .map(|name| {
                    let cache = Cache {
                        slabs,
                        ..Cache::default()
                    };
                    (name.to_owned(), cache)
                })
                .into(),
            ..Snapshot::default()
        };
        let reclaimable = BTreeSet::from(["dentry".to_owned()]);
        let growth = |a: &Snapshot, b: &Snapshot| host_growth(a, b, &reclaimable);
        let (less, more) = (snapshot(Some(100), 5), snapshot(Some(1100), 25));
        assert_eq!(growth(&less, &more), Some(1020));
        assert_eq!(growth(&more, &less), Some(0));
        assert_eq!(growth(&snapshot(None, 5), &more), None);
    }
}
