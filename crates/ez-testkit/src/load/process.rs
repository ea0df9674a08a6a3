//! What a process and its descendants have used, from `/proc` (Linux).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::Duration;

/// The kernel reports CPU time in these steps on every architecture (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);
/// Written to `clear_refs`, makes the peak of resident memory start anew (proc(5)).
const FORGET_PEAK: &str = "5";

/// What a process and its descendants have used since their start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessUsage {
    /// CPU time in user and kernel mode, of descendants living or waited for.
    pub cpu_time: Duration,
    /// Resident memory now, the sum over the processes, in KiB; what they share counts for each.
    pub rss_kib: u64,
    /// The most that each has had at any time, or since [`forget_peak`], the sum over the processes, in KiB.
    pub peak_rss_kib: u64,
}

/// The fields of `/proc/PID/stat` that are used.
struct Stat {
    parent: u32,
    ticks: u64,
}

/// Reads what a process and its descendants have used so far.
///
/// # Errors
/// There is no such process, or its files in `/proc` can't be read.
pub fn process_usage(pid: u32) -> io::Result<ProcessUsage> {
    let mut ticks = read_stat(&pid.to_string())?.ticks;
    let (mut rss_kib, mut peak_rss_kib) = memory_of(pid)?;
    for (descendant, its_ticks) in descendants(pid)? {
        ticks += its_ticks;
        // It may have ended since.
        let (rss, peak) = memory_of(descendant).unwrap_or_default();
        rss_kib += rss;
        peak_rss_kib += peak;
    }
    Ok(ProcessUsage { cpu_time: TICK * u32::try_from(ticks).unwrap_or(u32::MAX), rss_kib, peak_rss_kib })
}

/// Lets the peaks of resident memory start anew.
///
/// # Errors
/// There is no such process, or the kernel doesn't let this one do it.
pub fn forget_peak(pid: u32) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), FORGET_PEAK)?;
    for (descendant, _) in descendants(pid)? {
        // It may have ended since.
        let _ = fs::write(format!("/proc/{descendant}/clear_refs"), FORGET_PEAK);
    }
    Ok(())
}

/// The processes below one, with the ticks that each has used.
pub(crate) fn descendants(pid: u32) -> io::Result<Vec<(u32, u64)>> {
    let mut children: HashMap<u32, Vec<(u32, u64)>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end between the listing and the reading.
        let Ok(stat) = read_stat(&child.to_string()) else { continue };
        children.entry(stat.parent).or_default().push((child, stat.ticks));
    }
    let mut found = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for (child, ticks) in children.remove(&parent).unwrap_or_default() {
            found.push((child, ticks));
            parents.push(child);
        }
    }
    Ok(found)
}

fn read_stat(pid: &str) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat: {text}")))
}

/// The second field is the command in parentheses and may hold anything, so fields are counted after the last parenthesis.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, after_command) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after_command.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    // utime, stime and the same of children waited for: fields 14 to 17, the state after the command being field 3.
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some(Stat { parent: u32::try_from(number(1)?).ok()?, ticks })
}

/// Resident memory of one process now and at its most, in KiB.
fn memory_of(pid: u32) -> io::Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok((kib(&status, "VmRSS:"), kib(&status, "VmHWM:")))
}

/// A kernel thread or a process that has ended has no such line, and no memory.
fn kib(status: &str, field: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_and_spaces_is_skipped() {
        let text = "42 (a) b (c)) S 7 42 42 0 -1 4194560 100 0 0 0 12 3 4 5 20 0 8 0 100 1000 200";
        let stat = parse_stat(text).expect("the line is whole");
        assert_eq!((stat.parent, stat.ticks), (7, 24));
    }

    #[test]
    fn this_process_has_used_memory_and_time_only_grows() {
        let before = process_usage(std::process::id()).expect("this process exists");
        let started = std::time::Instant::now();
        let mut after = before;
        // By CPU time rather than the clock: on a busy host a tick of the one takes long on the other.
        while after.cpu_time == before.cpu_time && started.elapsed() < Duration::from_secs(20) {
            after = process_usage(std::process::id()).expect("this process exists");
        }
        assert!(before.rss_kib > 0 && before.peak_rss_kib >= before.rss_kib, "{before:?}");
        assert!(after.cpu_time > before.cpu_time, "{before:?} {after:?}");
    }

    #[test]
    fn a_child_is_a_descendant() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep can be started");
        let found = descendants(std::process::id()).expect("/proc can be read");
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        assert!(found.iter().any(|(pid, _)| *pid == child.id()), "{found:?}");
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(process_usage(u32::MAX).is_err());
        assert!(forget_peak(u32::MAX).is_err());
    }
}
