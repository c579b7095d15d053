//! How much memory there is, and how much of it this process has held: from `/proc` and the control
//! group on Linux, from the system's functions on a Mac.

/// Memory that this process may use, in bytes: the machine's, or less where a control group (a
/// container, a systemd slice) has a limit. `None` where the system does not tell.
pub(crate) fn bytes() -> Option<f64> {
    system::bytes()
}

/// The most memory that this process has held, in MiB; `None` where the system does not tell.
pub(crate) fn peak_mib() -> Option<f64> {
    system::peak_mib()
}

/// The memory that this process holds now, in MiB; `None` where the system does not tell.
pub(crate) fn held_mib() -> Option<f64> {
    system::held_mib()
}

/// Seconds of CPU time that this process has taken; `None` where the system does not tell.
pub(crate) fn cpu_seconds() -> Option<f64> {
    #[cfg(unix)]
    return usage::cpu_seconds();
    #[cfg(not(unix))]
    None
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs::read_to_string;
    use std::path::Path;

    pub(super) fn bytes() -> Option<f64> {
        let total = 1024.0 * kib("/proc/meminfo", "MemTotal:")?;
        let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
        Some(limit(Path::new("/sys/fs/cgroup"), &groups).map_or(total, |limit| limit.min(total)))
    }

    pub(super) fn peak_mib() -> Option<f64> {
        Some(kib("/proc/self/status", "VmHWM:")? / 1024.0)
    }

    pub(super) fn held_mib() -> Option<f64> {
        Some(kib("/proc/self/status", "VmRSS:")? / 1024.0)
    }

    /// The number behind `label` in a table of the kernel's.
    fn kib(file: &str, label: &str) -> Option<f64> {
        let text = read_to_string(file).ok()?;
        let line = text.lines().find(|line| line.starts_with(label))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// The least limit of the control groups in `groups`, the text of `/proc/self/cgroup`, and of
    /// those above them, with all groups mounted at `root`. Version 2 writes `max` and version 1 a
    /// number larger than any memory where there is no limit.
    pub(super) fn limit(root: &Path, groups: &str) -> Option<f64> {
        let places = groups.lines().flat_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let (mount, file) = match controllers {
                "" => (root.to_owned(), "memory.max"),
                _ if controllers.split(',').any(|name| name == "memory") => {
                    (root.join("memory"), "memory.limit_in_bytes")
                }
                _ => return None,
            };
            let path = Path::new(path.trim_start_matches('/'));
            // Ends with the empty path, which is the mount itself.
            Some(path.ancestors().map(|group| mount.join(group).join(file)).collect::<Vec<_>>())
        });
        let read = |place| read_to_string(place).ok()?.trim().parse::<f64>().ok();
        places.flatten().filter_map(read).min_by(f64::total_cmp)
    }
}

#[cfg(target_vendor = "apple")]
mod system {
    #![allow(unsafe_code, reason = "sysctlbyname and proc_pidinfo are C functions")]

    use std::ptr::null_mut;

    pub(super) fn bytes() -> Option<f64> {
        let mut bytes = 0u64;
        let mut length = size_of::<u64>();
        // SAFETY: `bytes` has the `length` bytes that hw.memsize takes; nothing is set.
        let status = unsafe {
            libc::sysctlbyname(
                c"hw.memsize".as_ptr(),
                (&raw mut bytes).cast(),
                &mut length,
                null_mut(),
                0,
            )
        };
        (status == 0 && length == size_of::<u64>() && bytes > 0).then_some(bytes as f64)
    }

    pub(super) fn peak_mib() -> Option<f64> {
        super::usage::peak_mib()
    }

    pub(super) fn held_mib() -> Option<f64> {
        let mut task = std::mem::MaybeUninit::<libc::proc_taskinfo>::zeroed();
        let length = size_of::<libc::proc_taskinfo>() as libc::c_int;
        let id = libc::c_int::try_from(std::process::id()).ok()?;
        // SAFETY: `task` has the `length` bytes that are written at most.
        let written = unsafe {
            libc::proc_pidinfo(id, libc::PROC_PIDTASKINFO, 0, task.as_mut_ptr().cast(), length)
        };
        // SAFETY: all zeros are a valid value, and the call wrote another.
        let held = unsafe { task.assume_init() }.pti_resident_size as f64;
        (written == length).then_some(held / f64::from(1 << 20))
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
mod system {
    pub(super) fn bytes() -> Option<f64> {
        None
    }

    pub(super) fn peak_mib() -> Option<f64> {
        None
    }

    pub(super) fn held_mib() -> Option<f64> {
        None
    }
}

#[cfg(unix)]
mod usage {
    #![allow(unsafe_code, reason = "getrusage is a C function")]

    fn read() -> Option<libc::rusage> {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: `usage` has room for what is written.
        let status = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
        // SAFETY: all zeros are a valid value, and the call wrote another.
        (status == 0).then_some(unsafe { usage.assume_init() })
    }

    pub(super) fn cpu_seconds() -> Option<f64> {
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        read().map(|usage| seconds(usage.ru_utime) + seconds(usage.ru_stime))
    }

    #[cfg(any(target_vendor = "apple", test))]
    pub(super) fn peak_mib() -> Option<f64> {
        /// Bytes of a unit of `ru_maxrss`: one on a Mac, a KiB elsewhere.
        const UNIT: f64 = if cfg!(target_vendor = "apple") { 1.0 } else { 1024.0 };
        Some(read()?.ru_maxrss as f64 * UNIT / f64::from(1 << 20))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_block_that_was_held_counts() {
        let before = peak_mib().unwrap();
        // Written, so that the system has to give it; larger than what other tests hold meanwhile.
        let block = std::hint::black_box(vec![1u8; 300 << 20]);
        let after = peak_mib().unwrap();
        assert!(after >= 300.0 && after >= before);
        assert!((300.0..=after).contains(&held_mib().unwrap()));
        assert!(bytes().unwrap() >= f64::from(300 << 20));
        drop(block);
        // The other systems' way: what was held before the program started counts there too.
        assert!(usage::peak_mib().unwrap() >= 0.99 * after);
    }

    #[test]
    fn work_takes_cpu_time() {
        let (before, start) = (cpu_seconds().unwrap(), std::time::Instant::now());
        while cpu_seconds().unwrap() < before + 0.05 {
            assert!(start.elapsed().as_secs() < 60, "no CPU time in a minute of work");
        }
    }

    #[test]
    fn the_least_limit_of_a_group_and_those_above_it_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |place: &str, text: &str| {
            let path = root.path().join(place);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let limit = |groups: &str| system::limit(root.path(), groups);
        assert_eq!(limit("0::/jobs/one\n"), None);
        write("memory.max", "max\n");
        write("jobs/memory.max", "1000\n");
        write("jobs/one/memory.max", "max\n");
        write("jobs/two/memory.max", "300\n");
        assert_eq!(limit("0::/jobs/one\n"), Some(1000.0));
        assert_eq!(limit("0::/jobs/two\n"), Some(300.0));
        assert_eq!(limit("0::/\n"), None);
        assert_eq!(limit("4:cpu,cpuacct:/jobs/two\n"), None);
        write("memory/box/memory.limit_in_bytes", "500\n");
        assert_eq!(limit("5:memory:/box/inner\n4:cpu:/jobs/two\n"), Some(500.0));
        assert_eq!(system::limit(Path::new("/nowhere"), "0::/\n"), None);
    }
}
