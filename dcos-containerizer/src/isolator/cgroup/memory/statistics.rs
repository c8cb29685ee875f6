//! What a container's memory is made of.

use dcos_launcher::CgroupVersion;
use dcos_proto::mesos::ResourceStatistics;

use super::{Folder, number_in, read, read_number, used};
use crate::isolator::IsolatorError;

/// Adds what the kernel counts, under the names it has in messages.
///
/// Anonymous memory is told as resident, and the page cache as files, too: names that Mesos kept
/// for its oldest clients.
pub(super) fn add(
    folder: &Folder,
    statistics: &mut ResourceStatistics,
) -> Result<(), IsolatorError> {
    statistics.mem_total_bytes = Some(used(folder)?);
    let stat = read(&folder.path.join("memory.stat"))?;
    // Absent where the kernel was built or started without it.
    let file = |name: &str| read_number(&folder.path.join(name)).ok();
    let (anonymous, cache, mapped, unevictable) = match folder.version {
        CgroupVersion::V1 => (
            "total_rss",
            "total_cache",
            "total_mapped_file",
            "total_unevictable",
        ),
        CgroupVersion::V2 => ("anon", "file", "file_mapped", "unevictable"),
    };
    statistics.mem_rss_bytes = number_in(&stat, anonymous);
    statistics.mem_anon_bytes = statistics.mem_rss_bytes;
    statistics.mem_cache_bytes = number_in(&stat, cache);
    statistics.mem_file_bytes = statistics.mem_cache_bytes;
    statistics.mem_mapped_file_bytes = number_in(&stat, mapped);
    statistics.mem_unevictable_bytes = number_in(&stat, unevictable);
    match folder.version {
        CgroupVersion::V1 => {
            statistics.mem_swap_bytes = number_in(&stat, "total_swap");
            statistics.mem_total_memsw_bytes = file("memory.memsw.usage_in_bytes");
            statistics.mem_kmem_usage_bytes = file("memory.kmem.usage_in_bytes");
            statistics.mem_kmem_tcp_usage_bytes = file("memory.kmem.tcp.usage_in_bytes");
        }
        CgroupVersion::V2 => {
            statistics.mem_swap_bytes = file("memory.swap.current");
            let both = |swap| statistics.mem_total_bytes.map(|memory| memory + swap);
            statistics.mem_total_memsw_bytes = statistics.mem_swap_bytes.and_then(both);
            statistics.mem_kmem_usage_bytes = number_in(&stat, "kernel");
            statistics.mem_kmem_tcp_usage_bytes = number_in(&stat, "sock");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_tell_the_same_keys() {
        let files = |version, files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            for (name, text) in files {
                std::fs::write(folder.path().join(name), text).unwrap();
            }
            let mut statistics = ResourceStatistics::default();
            let path = folder.path().to_owned();
            add(&Folder { path, version }, &mut statistics).unwrap();
            statistics
        };
        let first = files(
            CgroupVersion::V1,
            &[
                ("memory.usage_in_bytes", "100\n"),
                ("memory.memsw.usage_in_bytes", "105\n"),
                ("memory.kmem.usage_in_bytes", "7\n"),
                ("memory.kmem.tcp.usage_in_bytes", "8\n"),
                (
                    "memory.stat",
                    "total_rss 1\ntotal_cache 2\ntotal_mapped_file 3\ntotal_unevictable 4\n\
                     total_swap 5\n",
                ),
            ],
        );
        let second = files(
            CgroupVersion::V2,
            &[
                ("memory.current", "100\n"),
                ("memory.swap.current", "5\n"),
                (
                    "memory.stat",
                    "anon 1\nfile 2\nkernel 7\nsock 8\nfile_mapped 3\nunevictable 4\n",
                ),
            ],
        );
        assert_eq!(first, second);
        assert_eq!(first.mem_total_memsw_bytes, Some(105));
        assert_eq!(first.mem_kmem_tcp_usage_bytes, Some(8));
    }
}
