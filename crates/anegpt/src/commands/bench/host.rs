//! The machine as its system describes it, and whether others use it.

use serde::Serialize;
use std::path::Path;

/// The system's description of the machine.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Host {
    pub(super) cpu: String,
    pub(super) os: &'static str,
    pub(super) arch: &'static str,
    pub(super) cores: usize,
    /// Instruction set that the emulator's loops use.
    pub(super) simd: String,
    /// Where the system tells.
    pub(super) memory_bytes: Option<f64>,
}

impl Host {
    pub(super) fn here() -> Self {
        Host {
            cpu: cpu_name().unwrap_or_else(|| "unknown CPU".to_owned()),
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            cores: cores(),
            simd: format!("{:?}", cpu::simd::Level::best()).to_lowercase(),
            memory_bytes: crate::memory::bytes(),
        }
    }
}

/// Threads that compute.
pub(super) fn cores() -> usize {
    rayon::current_num_threads()
}

fn cpu_name() -> Option<String> {
    if cfg!(target_os = "macos") {
        let sysctl = std::process::Command::new("/usr/sbin/sysctl")
            .args(["-n", "machdep.cpu.brand_string"])
            .output();
        let name = String::from_utf8(sysctl.ok()?.stdout).ok()?;
        return Some(name.trim().to_owned()).filter(|name| !name.is_empty());
    }
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Processor time since the system started, in its own ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ticks {
    /// Of all cores, idle or not.
    all: f64,
    /// Of all cores, at work for anyone.
    busy: f64,
    /// At work for this process.
    own: f64,
}

impl Ticks {
    /// `None` where the system has no /proc.
    fn now() -> Option<Self> {
        let system = std::fs::read_to_string("/proc/stat").ok()?;
        let own = std::fs::read_to_string("/proc/self/stat").ok()?;
        Self::parse(&system, &own)
    }

    /// From the texts of /proc/stat and /proc/self/stat (proc_stat(5), proc_pid_stat(5)).
    fn parse(system: &str, own: &str) -> Option<Self> {
        let line = system.lines().find(|line| line.starts_with("cpu "))?;
        // user nice system idle iowait irq softirq steal; guests are part of user.
        let fields: Vec<f64> =
            line.split_whitespace().skip(1).take(8).map_while(|f| f.parse().ok()).collect();
        let all: f64 = fields.iter().sum();
        let idle = fields.get(3)? + fields.get(4)?;
        // The name of the program is in parentheses and may hold anything. From the state on, which
        // is field 3, user time is field 14 and system time field 15.
        let rest: Vec<&str> = own.rsplit_once(')')?.1.split_whitespace().collect();
        let tick = |field: usize| rest.get(field - 3)?.parse::<f64>().ok();
        Some(Ticks { all, busy: all - idle, own: tick(14)? + tick(15)? })
    }

    /// Cores that others kept busy from `before` to `self`, on average.
    fn others(self, before: Ticks, cores: usize) -> Option<f64> {
        let all = self.all - before.all;
        let others = (self.busy - before.busy) - (self.own - before.own);
        // Without a tick between the two nothing can be told.
        (all > 0.0).then(|| (others.max(0.0) / all) * cores as f64)
    }
}

/// Lets the most memory held so far count no more; false where the system does not do that.
pub(super) fn forget_peak_memory() -> bool {
    // proc_pid_clear_refs(5): 5 resets VmHWM to what is held now.
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// A watch on other programs.
#[derive(Debug)]
pub(super) struct Load {
    before: Option<Ticks>,
}

impl Load {
    pub(super) fn begin() -> Self {
        Load { before: Ticks::now() }
    }

    /// Cores that other programs kept busy since [`Load::begin`], where the system tells.
    pub(super) fn end(self) -> Option<f64> {
        let online = std::thread::available_parallelism().map_or(1, usize::from);
        Ticks::now()?.others(self.before?, online)
    }
}

/// The file system that holds `path`, where the system tells.
pub(super) fn file_system(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    kind_of_mount(&mounts, &path)
}

/// From the text of /proc/self/mounts: the type of the last mount on the longest prefix.
fn kind_of_mount(mounts: &str, path: &Path) -> Option<String> {
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (place, kind) = (fields.nth(1)?, fields.next()?);
        let place = place.replace("\\040", " ");
        path.starts_with(&place).then(|| (place.len(), kind.to_owned()))
    });
    mounted.max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_all_but_this_process() {
        let stat = |user: u32, idle: u32, steal: u32| {
            format!("cpu  {user} 0 0 {idle} 0 0 0 {steal} 7 0\ncpu0 1 2 3\n")
        };
        let own = |user: u32, system: u32| {
            format!("42 (a) b (c) S 1 1 1 0 -1 4194304 1 0 0 0 {user} {system} 0 0 20 0 3 0")
        };
        let before = Ticks::parse(&stat(1000, 5000, 0), &own(300, 0)).unwrap();
        let after = Ticks::parse(&stat(1090, 5100, 10), &own(330, 20)).unwrap();
        assert_eq!(after, Ticks { all: 6200.0, busy: 1100.0, own: 350.0 });
        // 200 ticks of two cores: 100 at work, 50 of them for this process.
        assert_eq!(after.others(before, 2), Some(0.5));
        assert_eq!(before.others(before, 2), None);
        assert_eq!(Ticks::parse("intr 5", &own(1, 1)), None);
        assert_eq!(Ticks::parse(&stat(1, 1, 1), "no parenthesis"), None);
    }

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\nx /my\\040disk xfs rw 0 0\n";
        let kind = |path: &str| kind_of_mount(mounts, Path::new(path));
        assert_eq!(kind("/tmp/bench").as_deref(), Some("tmpfs"));
        assert_eq!(kind("/tmpfiles").as_deref(), Some("ext4"));
        assert_eq!(kind("/my disk/x").as_deref(), Some("xfs"));
        assert_eq!(kind_of_mount("", Path::new("/")), None);
    }
}
