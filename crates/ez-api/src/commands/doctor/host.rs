//! This host: the data directory, the listeners, the clock.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::super::health::reachable;
use super::report::Report;
use crate::config::{Role, Settings};
use crate::secret_key;

const DATA_DIR: &str = "data directory";
const DISK: &str = "disk";
const LISTENER: &str = "listener";
const CLOCK: &str = "clock";

/// Below this much free space nothing can be kept for long.
const LEAST_FREE_BYTES: u64 = 100 << 20;

/// Clocks that are further apart are told of.
const NOTED_SKEW: TimeDelta = TimeDelta::seconds(1);

/// Clocks that are further apart spoil limits, expiry and sign-in.
const BAD_SKEW: TimeDelta = TimeDelta::seconds(30);

/// For an answer of what holds a port.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of an answer that are looked at.
const MAX_ANSWER_BYTES: u64 = 4096;

/// Rights and free space of the data directory.
pub(super) fn examine_data_dir(settings: &Settings, report: &mut Report) {
    let dir = &settings.data_dir;
    let shown = dir.display();
    let mode = match fs::metadata(dir) {
        Ok(found) => found.permissions().mode() & 0o777,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return report.warn(
                DATA_DIR,
                format!("{shown} is not there yet"),
                "`ez-api serve` makes it at its first start",
            );
        }
        Err(error) => {
            return report.fail(
                DATA_DIR,
                format!("{shown} cannot be read: {error}"),
                "check EZ_DATA_DIR and its rights",
            );
        }
    };
    match mode & 0o007 {
        0 => report.ok(DATA_DIR, format!("{shown} is closed to others")),
        _ => report.warn(
            DATA_DIR,
            format!("{shown} has mode {mode:o}: others can read it"),
            format!("chmod 700 {shown}"),
        ),
    }
    let key_file = dir.join(secret_key::FILE);
    if let Ok(found) = fs::metadata(&key_file)
        && found.permissions().mode() & 0o077 != 0
    {
        let key_file = key_file.display();
        report.fail(DATA_DIR, format!("{key_file} can be read by others"), format!("chmod 600 {key_file}"));
    }
    if let Err(error) = probe_file(dir) {
        let advice = "give the user that runs ez-api the right to write there";
        report.fail(DATA_DIR, format!("{shown} cannot be written: {error}"), advice);
    }
    examine_space(dir, settings.gateway.usage_log.max_bytes, report);
}

fn probe_file(dir: &Path) -> std::io::Result<()> {
    let probe = dir.join(format!(".doctor-{}", std::process::id()));
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&probe)?.write_all(b"probe")?;
    fs::remove_file(probe)
}

fn examine_space(dir: &Path, usage_log_bytes: u64, report: &mut Report) {
    let space = match rustix::fs::statvfs(dir) {
        Ok(space) => space,
        Err(error) => {
            return report.warn(DISK, format!("its space cannot be asked for: {error}"), "look at it by hand");
        }
    };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let told = format!("{} MiB are free for {}", free >> 20, dir.display());
    if free < LEAST_FREE_BYTES {
        report.fail(DISK, told, "make room: usage records cannot be kept, and calls will be refused");
    } else if free < usage_log_bytes {
        let advice = "make room, or lower EZ_USAGE_LOG_MAX_BYTES, which is more than that";
        report.warn(DISK, told, advice);
    } else {
        report.ok(DISK, told);
    }
}

/// Whether each listener's port is free, or held by ez-api itself.
pub(super) fn examine_listeners(settings: &Settings, role: Role, report: &mut Report) {
    examine_listener("EZ_CONTROL_LISTEN", settings.control_listen, "/healthz", report);
    if role.has_gateway() {
        examine_listener("EZ_GATEWAY_LISTEN", settings.gateway_listen, "/v1/models", report);
    }
}

fn examine_listener(setting: &str, address: SocketAddr, path: &str, report: &mut Report) {
    match TcpListener::bind(address) {
        Ok(_) => report.ok(LISTENER, format!("{setting}: {address} is free; nothing serves there now")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => match is_ez_api(address, path) {
            true => report.ok(LISTENER, format!("{setting}: ez-api serves at {address}")),
            false => {
                let advice = "stop what uses it, or choose another address";
                report.fail(LISTENER, format!("{setting}: another program holds {address}"), advice);
            }
        },
        Err(error) => {
            let advice = "choose an address of this host, and a port that its user may open";
            report.fail(LISTENER, format!("{setting}: {address} cannot be bound: {error}"), advice);
        }
    }
}

/// Whether what listens there answers as ez-api does: every answer of it has a request id, also a refusal.
fn is_ez_api(address: SocketAddr, path: &str) -> bool {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&reachable(address), ANSWER_TIMEOUT)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().unwrap_or_default();
    String::from_utf8_lossy(&answer).to_ascii_lowercase().contains("\r\nx-request-id: ")
}

/// Compares another's clock with this host's, which read `asked_at` before and `answered_at` after the answer.
pub(super) fn report_skew(
    whose: &str,
    asked_at: DateTime<Utc>,
    theirs: DateTime<Utc>,
    answered_at: DateTime<Utc>,
    report: &mut Report,
) {
    // Anywhere within the exchange is no difference at all.
    let skew = if theirs < asked_at { asked_at - theirs } else { (theirs - answered_at).max(TimeDelta::zero()) };
    let told =
        format!("{whose} and this host are {}.{:03} s apart", skew.num_seconds(), skew.subsec_nanos() / 1_000_000);
    let advice = "let both hosts follow a time server (NTP)";
    if skew > BAD_SKEW {
        report.fail(CLOCK, told, advice);
    } else if skew > NOTED_SKEW {
        report.warn(CLOCK, told, advice);
    } else {
        report.ok(CLOCK, told);
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Health;
    use super::*;

    fn skewed(seconds: i64) -> (Health, String) {
        let mut report = Report::default();
        let now = DateTime::UNIX_EPOCH;
        let answered_at = now + TimeDelta::milliseconds(20);
        report_skew("Redis", now, now + TimeDelta::seconds(seconds), answered_at, &mut report);
        (report.health(), report.text())
    }

    #[test]
    fn clocks_apart_are_told_of_and_far_apart_a_failure() {
        assert!(skewed(0).1.starts_with("ok "), "{:?}", skewed(0));
        for seconds in [2, -2, 29] {
            assert!(skewed(seconds).1.starts_with("warn "), "{:?}", skewed(seconds));
        }
        assert!(skewed(-2).1.contains("2.000 s apart"), "{:?}", skewed(-2));
        assert_eq!(skewed(31).0, Health::Ill);
        assert_eq!(skewed(-3600).0, Health::Ill);
    }

    #[test]
    fn a_port_of_another_program_is_told_from_a_free_one() {
        let mut report = Report::default();
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let other = std::thread::Builder::new().spawn(move || {
            let (mut stream, _) = held.accept().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").unwrap();
        });
        examine_listener("EZ_CONTROL_LISTEN", address, "/healthz", &mut report);
        assert!(report.text().contains(&format!("another program holds {address}")), "{}", report.text());
        other.unwrap().join().unwrap();
        let mut report = Report::default();
        examine_listener("EZ_CONTROL_LISTEN", "127.0.0.1:0".parse().unwrap(), "/healthz", &mut report);
        assert_eq!(report.health(), Health::Well);
    }
}
