//! Settings: the typed parts that everything that can be set comes to, checked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ez_contract::request_body::MAX_KEPT_BYTES;
use ez_contract::secret::SecretKey;
use ez_contract::snapshot::ClientGone;
use ez_control::log_cleaner::LogRetention;
use ez_control::scheduler::{Job, jobs};
use ez_gateway::config::{Affinity, GatewayConfig, HealthConfig, UpstreamConfig, UpstreamTls, UsageLogConfig};
use ez_telemetry::logging::{LogFormat, parse_filter};
use secrecy::SecretString;

use super::layers::{Resolved, ResolvedSettings, Source};
use super::table::Setting;
use super::value::{duration_within, http_url, listen_address, networks, number_within, url_of_scheme};

/// Which planes a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Both planes.
    All,
    /// The control plane.
    Control,
    /// The gateway.
    Gateway,
}

impl Role {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Control => "control",
            Self::Gateway => "gateway",
        }
    }

    pub(crate) const fn has_control(self) -> bool {
        matches!(self, Self::All | Self::Control)
    }

    pub(crate) const fn has_gateway(self) -> bool {
        matches!(self, Self::All | Self::Gateway)
    }
}

/// Everything that can be set, typed and checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) database_url: Option<SecretString>,
    pub(crate) redis_url: Option<SecretString>,
    pub(crate) redis_prefix: String,
    pub(crate) control_url: Option<String>,
    pub(crate) control_listen: SocketAddr,
    pub(crate) gateway_listen: SocketAddr,
    pub(crate) admin_token: Option<SecretString>,
    pub(crate) internal_token: Option<SecretString>,
    pub(crate) jwt_secret: Option<SecretString>,
    pub(crate) metrics_token: Option<SecretString>,
    pub(crate) secret_key: Option<SecretKey>,
    pub(crate) log_level: String,
    pub(crate) log_format: Option<LogFormat>,
    pub(crate) outbox_batch_size: u64,
    pub(crate) outbox_max_retries: u32,
    pub(crate) job_intervals: BTreeMap<&'static str, Duration>,
    pub(crate) log_retention: LogRetention,
    pub(crate) webhook_allow_private: bool,
    pub(crate) drain_timeout: Duration,
    pub(crate) snapshot_max_age: Option<Duration>,
    pub(crate) max_connections: usize,
    pub(crate) gateway: GatewayConfig,
}

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const MIN_TOKEN_CHARS: usize = 16;

impl Settings {
    /// Checks everything and tells every fault at once, each with the setting's name and what is allowed.
    pub(crate) fn from_resolved(resolved: ResolvedSettings, role: Role) -> Result<Self, Vec<String>> {
        let mut reader = Reader { faults: resolved.faults.clone(), resolved };
        let settings = reader.read(role);
        match settings {
            Some(settings) if reader.faults.is_empty() => Ok(settings),
            _ => Err(reader.faults),
        }
    }
}

struct Reader {
    resolved: ResolvedSettings,
    faults: Vec<String>,
}

impl Reader {
    fn read(&mut self, role: Role) -> Option<Settings> {
        let data_dir = self.required("EZ_DATA_DIR", |text| Ok(PathBuf::from(text)));
        let database_url =
            self.secret_checked("EZ_DATABASE_URL", |text| url_of_scheme(text, &["postgres", "postgresql", "sqlite"]));
        let redis_url = self.secret_checked("EZ_REDIS_URL", |text| url_of_scheme(text, &["redis", "rediss"]));
        let secret_key = self.optional("EZ_SECRET_KEY", |text| {
            SecretKey::parse(text).map_err(|_| {
                "allowed is 32 bytes in hex (64 digits) or base64: `openssl rand -hex 32` makes one".to_owned()
            })
        });
        let control_url = self.optional("EZ_CONTROL_URL", http_url);
        let internal_token = self.token("EZ_INTERNAL_TOKEN");
        let is_sqlite = self.text("EZ_DATABASE_URL").is_none_or(|url| url.value.starts_with("sqlite:"));
        let shares_records = redis_url.is_some() || !is_sqlite || role != Role::All;
        if shares_records && self.text("EZ_SECRET_KEY").is_none() {
            let reason = "only one process on an SQLite file makes a key of its own; others must share one";
            self.faults.push(format!("EZ_SECRET_KEY is missing: {reason}. `openssl rand -hex 32` makes one"));
        }
        self.check_role(role, redis_url.is_some(), control_url.is_some() && internal_token.is_some());
        let log_format = self.optional("EZ_LOG_FORMAT", |text| match text {
            "console" => Ok(LogFormat::Console),
            "json" => Ok(LogFormat::Json),
            _ => Err("allowed is console or json".to_owned()),
        });
        let log_level = self
            .required("EZ_LOG_LEVEL", |text| parse_filter(text).map(|_| text.to_owned()).map_err(|e| e.to_string()));
        let control_listen = self.required("EZ_CONTROL_LISTEN", listen_address);
        let gateway_listen = self.required("EZ_GATEWAY_LISTEN", listen_address);
        let admin_token = self.token("EZ_ADMIN_TOKEN");
        let jwt_secret = self.token("EZ_JWT_SECRET");
        let metrics_token = self.token("EZ_METRICS_TOKEN");
        let outbox_batch_size = self.number("EZ_SYNC_OUTBOX_BATCH_SIZE", 1, 5_000);
        let outbox_max_retries = self.number("EZ_SYNC_OUTBOX_MAX_RETRIES", 0, 1_000);
        let job_intervals = self.job_intervals();
        let log_retention = self.log_retention();
        let webhook_allow_private = self.required("EZ_WEBHOOK_ALLOW_PRIVATE", |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("allowed is true or false".to_owned()),
        });
        let drain_timeout = self.duration("EZ_DRAIN_TIMEOUT", Duration::ZERO, HOUR);
        let snapshot_max_age = self.optional("EZ_SNAPSHOT_MAX_AGE", |text| duration_within(text, MINUTE, 365 * DAY));
        let max_connections = self.number("EZ_MAX_CONNECTIONS", 1, 1_000_000);
        let redis_prefix = self.optional("EZ_REDIS_PREFIX", |text| Ok(text.to_owned())).unwrap_or_default();
        let gateway = self.gateway(data_dir.clone());
        Some(Settings {
            data_dir: data_dir?,
            database_url,
            redis_url,
            redis_prefix,
            control_url,
            control_listen: control_listen?,
            gateway_listen: gateway_listen?,
            admin_token,
            internal_token,
            jwt_secret,
            metrics_token,
            secret_key,
            log_level: log_level?,
            log_format,
            outbox_batch_size: outbox_batch_size?,
            outbox_max_retries: u32::try_from(outbox_max_retries?).ok()?,
            job_intervals: job_intervals?,
            log_retention: log_retention?,
            webhook_allow_private: webhook_allow_private?,
            drain_timeout: drain_timeout?,
            snapshot_max_age,
            max_connections: usize::try_from(max_connections?).ok()?,
            gateway: gateway?,
        })
    }

    /// How often each job runs, by its name.
    fn job_intervals(&mut self) -> Option<BTreeMap<&'static str, Duration>> {
        self.take_other_name("EZ_JOB_SYNC_OUTBOX_INTERVAL", "EZ_SYNC_OUTBOX_INTERVAL");
        let read = |job: Job| {
            // A test holds the table to having a row for each job.
            let setting = Setting::lookup(&job.setting())?;
            Some((job.name(), self.duration(setting.name, 10 * MS, DAY)?))
        };
        // Each is read, so that each fault is told.
        jobs().into_iter().map(read).collect::<Vec<_>>().into_iter().collect()
    }

    /// How long log records are kept; 0 is for ever.
    fn log_retention(&mut self) -> Option<LogRetention> {
        const MAX_DAYS: u64 = 36_500;
        let days = self.number("EZ_LOG_RETENTION_DAYS", 0, MAX_DAYS);
        let max_records = self.number("EZ_LOG_MAX_RECORDS", 0, 1_000_000_000_000);
        let rollup_days = self.number("EZ_ROLLUP_RETENTION_DAYS", 0, MAX_DAYS);
        let limit = |number: u64| (number > 0).then_some(number);
        Some(LogRetention { days: limit(days?), max_records: limit(max_records?), rollup_days: limit(rollup_days?) })
    }

    /// Lets an interval be given under its other name. Where both are given they must agree.
    fn take_other_name(&mut self, name: &'static str, other_name: &'static str) {
        let (Some(given), Some(other)) = (self.text(name).cloned(), self.text(other_name).cloned()) else { return };
        let Some(wanted) = self.optional(other_name, |text| duration_within(text, 10 * MS, DAY)) else { return };
        let differs = duration_within(&given.value, 10 * MS, DAY).is_ok_and(|given| given != wanted);
        if given.source == Source::Default {
            self.resolved.values.insert(name, other);
        } else if differs {
            self.faults.push(format!("{name} and {other_name} are the same setting and differ: keep one"));
        }
    }

    fn gateway(&mut self, data_dir: Option<PathBuf>) -> Option<GatewayConfig> {
        let node_id = self.optional("EZ_NODE_ID", node_id).unwrap_or_else(host_name);
        let max_body_bytes = self.number("EZ_MAX_BODY_BYTES", 1_024, 1 << 30);
        let max_attempts = self.number("EZ_MAX_ATTEMPTS", 1, 20);
        let connect_timeout = self.duration("EZ_CONNECT_TIMEOUT", 10 * MS, HOUR);
        let first_byte_timeout = self.duration("EZ_FIRST_BYTE_TIMEOUT", 10 * MS, HOUR);
        let idle_timeout = self.duration("EZ_IDLE_TIMEOUT", 10 * MS, HOUR);
        let call_timeout = self.duration("EZ_CALL_TIMEOUT", 10 * MS, DAY);
        let on_client_gone = self.required("EZ_ON_CLIENT_GONE", |text| {
            text.parse::<ClientGone>().map_err(|_| "allowed is `cancel` or `drain`".to_owned())
        });
        let passes_vendor_objects = self.required("EZ_VENDOR_OBJECTS", |text| match text {
            "pass" => Ok(true),
            "refuse" => Ok(false),
            _ => Err("allowed is refuse or pass".to_owned()),
        });
        let health = self.health();
        let upstream = self.upstream();
        let trusted_proxies = self.optional("EZ_TRUSTED_PROXIES", networks).unwrap_or_default();
        let access_log = self.required("EZ_ACCESS_LOG", on_or_off);
        let log_body_max_bytes = self.number("EZ_LOG_BODY_MAX_BYTES", 0, MAX_KEPT_BYTES as u64);
        let stats_flush_interval = self.duration("EZ_STATS_FLUSH_INTERVAL", 100 * MS, HOUR);
        let (otlp_traces, otlp_metrics) = self.otlp();
        let fsync_interval = self.duration("EZ_USAGE_LOG_FSYNC", MS, HOUR);
        let max_bytes = self.number("EZ_USAGE_LOG_MAX_BYTES", 1 << 20, 1 << 50);
        let queue_capacity = self.number("EZ_LOG_QUEUE_CAPACITY", 100, 10_000_000);
        let ship_batch = self.number("EZ_LOG_BATCH_SIZE", 1, 10_000);
        let ship_interval = self.duration("EZ_LOG_FLUSH_INTERVAL", MS, HOUR);
        let usage_log = UsageLogConfig {
            dir: data_dir?.join("usage"),
            fsync_interval: fsync_interval?,
            max_bytes: max_bytes?,
            // Shipped bytes of the segment being written still count, so segments must be small beside the whole.
            segment_bytes: (16 << 20).min(max_bytes? / 8),
            queue_capacity: usize::try_from(queue_capacity?).ok()?,
            ship_batch: usize::try_from(ship_batch?).ok()?,
            ship_interval: ship_interval?,
            // As long as most clients wait without a word; disks that hiccup answer sooner.
            write_timeout: Duration::from_secs(5),
        };
        Some(GatewayConfig {
            node_id,
            version: env!("EZ_BUILD_VERSION").to_owned(),
            max_body_bytes: usize::try_from(max_body_bytes?).ok()?,
            max_answer_bytes: 64 << 20,
            max_attempts: usize::try_from(max_attempts?).ok()?,
            connect_timeout: connect_timeout?,
            first_byte_timeout: first_byte_timeout?,
            idle_timeout: idle_timeout?,
            call_timeout: call_timeout?,
            on_client_gone: on_client_gone?,
            passes_vendor_objects: passes_vendor_objects?,
            trusted_proxies,
            access_log: access_log?,
            log_body_max_bytes: usize::try_from(log_body_max_bytes?).ok()?,
            stats_flush_interval: stats_flush_interval?,
            otlp_traces,
            otlp_metrics,
            health: health?,
            upstream: upstream?,
            usage_log,
        })
    }

    /// Where spans go, and metrics.
    fn otlp(&mut self) -> (Option<http::Uri>, Option<http::Uri>) {
        let sends_metrics = self.required("EZ_OTLP_METRICS", on_or_off) == Some(true);
        if sends_metrics && self.text("EZ_OTLP_ENDPOINT").is_none() {
            let remedy = "give the collector's URL, such as http://collector:4318, or switch EZ_OTLP_METRICS off";
            self.faults.push(format!("EZ_OTLP_ENDPOINT is missing: EZ_OTLP_METRICS=on sends metrics there; {remedy}"));
        }
        let Some(urls) = self.optional("EZ_OTLP_ENDPOINT", otlp_urls) else { return (None, None) };
        (Some(urls.traces), Some(urls.metrics).filter(|_| sends_metrics))
    }

    fn health(&mut self) -> Option<HealthConfig> {
        let breaker_failures = self.number("EZ_BREAKER_FAILURES", 1, 1_000);
        let breaker_open = self.duration("EZ_BREAKER_OPEN", 10 * MS, HOUR);
        let breaker_max = self.duration("EZ_BREAKER_MAX", 10 * MS, DAY);
        let queue = self.number("EZ_UPSTREAM_QUEUE", 0, 100_000);
        let queue_timeout = self.duration("EZ_UPSTREAM_QUEUE_TIMEOUT", MS, HOUR);
        let affinity = self.required("EZ_AFFINITY", |text| match text {
            "off" => Ok(Affinity::Off),
            "header" => Ok(Affinity::Header),
            "prefix" => Ok(Affinity::Prefix),
            _ => Err("allowed is off, header or prefix".to_owned()),
        });
        Some(HealthConfig {
            breaker_failures: u32::try_from(breaker_failures?).ok()?,
            breaker_open: breaker_open?,
            breaker_max: breaker_max?,
            queue: usize::try_from(queue?).ok()?,
            queue_timeout: queue_timeout?,
            affinity: affinity?,
        })
    }

    fn upstream(&mut self) -> Option<UpstreamConfig> {
        let http2 = self.required("EZ_UPSTREAM_HTTP2", |text| match text {
            "auto" => Ok(true),
            "off" => Ok(false),
            _ => Err("allowed is auto or off".to_owned()),
        });
        let with_extra = |path: &str| {
            let pem = std::fs::read(path).map_err(|e| format!("the file cannot be read: {e}"))?;
            UpstreamTls::new(Some(&pem)).map_err(|e| e.to_string())
        };
        let tls = match self.text("EZ_UPSTREAM_CA_FILE") {
            Some(_) => self.optional("EZ_UPSTREAM_CA_FILE", with_extra),
            None => UpstreamTls::new(None).map_err(|e| self.faults.push(e.to_string())).ok(),
        };
        Some(UpstreamConfig { tls: tls?, http2: http2? })
    }

    /// What a plane in a process of its own cannot do without.
    fn check_role(&mut self, role: Role, has_redis: bool, has_control_link: bool) {
        if role == Role::All {
            return;
        }
        let role = role.as_str();
        if !has_redis {
            self.faults.push(format!(
                "EZ_REDIS_URL is missing: `--role {role}` shares its state with other processes over Redis"
            ));
        }
        if role == Role::Gateway.as_str() && !has_control_link {
            self.faults.push(
                "EZ_CONTROL_URL and EZ_INTERNAL_TOKEN are needed: a gateway of its own sends usage records there"
                    .to_owned(),
            );
        }
    }

    fn text(&self, name: &str) -> Option<&Resolved> {
        self.resolved.values.get(name).filter(|resolved| !resolved.value.is_empty())
    }

    fn optional<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let Resolved { value, source } = self.text(name)?;
        match parse(value) {
            Ok(parsed) => Some(parsed),
            Err(allowed) => {
                let is_secret = Setting::lookup(name).is_some_and(|setting| setting.is_secret);
                let shown = if is_secret { String::new() } else { format!(" `{value}`") };
                self.faults.push(format!("{name} has a wrong value{shown} (from {source}): {allowed}"));
                None
            }
        }
    }

    fn required<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        if self.text(name).is_none() {
            self.faults.push(format!("{name} must not be empty"));
        }
        self.optional(name, parse)
    }

    fn secret_checked(
        &mut self,
        name: &'static str,
        check: impl Fn(&str) -> Result<String, String>,
    ) -> Option<SecretString> {
        self.optional(name, check).map(SecretString::from)
    }

    fn token(&mut self, name: &'static str) -> Option<SecretString> {
        self.secret_checked(name, |text| {
            let is_sound = text.len() >= MIN_TOKEN_CHARS && text.bytes().all(|byte| byte.is_ascii_graphic());
            if is_sound {
                Ok(text.to_owned())
            } else {
                Err(format!("allowed is {MIN_TOKEN_CHARS} or more visible ASCII characters"))
            }
        })
    }

    fn duration(&mut self, name: &'static str, least: Duration, most: Duration) -> Option<Duration> {
        self.required(name, |text| duration_within(text, least, most))
    }

    fn number(&mut self, name: &'static str, least: u64, most: u64) -> Option<u64> {
        self.required(name, |text| number_within(text, least, most))
    }
}

/// Where each signal is posted to.
#[derive(Debug)]
struct OtlpUrls {
    traces: http::Uri,
    metrics: http::Uri,
}

/// What is given is a collector's URL, or already names the signal of spans.
fn otlp_urls(text: &str) -> Result<OtlpUrls, String> {
    let base = http_url(text)?;
    let base = base.trim_end_matches('/');
    let base = base.strip_suffix("/v1/traces").unwrap_or(base);
    let url = |signal: &str| {
        let url = format!("{base}/v1/{signal}").parse::<http::Uri>();
        url.map_err(|_| "allowed is a URL such as http://collector:4318".to_owned())
    };
    Ok(OtlpUrls { traces: url("traces")?, metrics: url("metrics")? })
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("allowed is on or off".to_owned()),
    }
}

/// A name as heartbeats and alerts of this process carry it.
fn node_id(text: &str) -> Result<String, String> {
    const MAX_CHARS: usize = 100;
    let is_long = text.chars().count() > MAX_CHARS;
    if is_long || text.trim() != text || text.chars().any(char::is_control) {
        return Err(format!(
            "allowed are up to {MAX_CHARS} characters, none of them a control character, with no space around"
        ));
    }
    Ok(text.to_owned())
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "ez-api".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use ez_control::scheduler::SYNC_OUTBOX;

    use super::super::layers::{Layers, resolve};
    use super::*;

    fn settings(environment: &[(&str, &str)], role: Role) -> Result<Settings, Vec<String>> {
        let environment: BTreeMap<String, String> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::from_resolved(resolve(Layers { environment, ..Layers::default() }), role)
    }

    #[test]
    fn nothing_set_is_enough_for_one_process() {
        let settings = settings(&[], Role::All).unwrap();
        assert_eq!(settings.gateway_listen.port(), 8080);
        assert_eq!(settings.gateway.max_body_bytes, 32 << 20);
    }

    #[test]
    fn records_are_kept_for_a_while_and_for_ever_with_zero() {
        let kept = |environment: &[(&str, &str)]| settings(environment, Role::All).map(|all| all.log_retention);
        let (days, records, rollups) = ("EZ_LOG_RETENTION_DAYS", "EZ_LOG_MAX_RECORDS", "EZ_ROLLUP_RETENTION_DAYS");
        let expected = LogRetention { days: Some(30), max_records: Some(1_000_000), rollup_days: Some(400) };
        assert_eq!(kept(&[]), Ok(expected));
        let expected = LogRetention { days: None, max_records: Some(5), rollup_days: None };
        assert_eq!(kept(&[(days, "0"), (records, "5"), (rollups, "0")]), Ok(expected));
        for wrong in [(days, "36501"), (records, "-1"), (rollups, "a year")] {
            let text = kept(&[wrong]).unwrap_err().join("\n");
            assert!(text.contains(&format!("{} has a wrong value `{}`", wrong.0, wrong.1)), "{text}");
        }
    }

    #[test]
    fn spans_go_to_the_signals_path_of_a_collector() {
        for given in ["http://collector:4318", "http://collector:4318/", "http://collector:4318/v1/traces"] {
            let settings = settings(&[("EZ_OTLP_ENDPOINT", given)], Role::All).unwrap();
            let url = settings.gateway.otlp_traces.map(|url| url.to_string());
            assert_eq!(url.as_deref(), Some("http://collector:4318/v1/traces"), "{given}");
            assert_eq!(settings.gateway.otlp_metrics, None, "metrics are asked for by themselves");
        }
    }

    #[test]
    fn metrics_go_to_the_collector_where_they_are_switched_on() {
        for given in ["http://collector:4318", "http://collector:4318/v1/traces/"] {
            let on = settings(&[("EZ_OTLP_ENDPOINT", given), ("EZ_OTLP_METRICS", "on")], Role::All).unwrap();
            let url = on.gateway.otlp_metrics.map(|url| url.to_string());
            assert_eq!(url.as_deref(), Some("http://collector:4318/v1/metrics"), "{given}");
        }
        let faults = settings(&[("EZ_OTLP_METRICS", "on")], Role::All).unwrap_err();
        assert!(faults[0].starts_with("EZ_OTLP_ENDPOINT is missing: EZ_OTLP_METRICS=on"), "{faults:?}");
    }

    #[test]
    fn a_process_has_a_name_that_alerts_and_heartbeats_can_carry() {
        let named = |name: &str| settings(&[("EZ_NODE_ID", name)], Role::All).map(|all| all.gateway.node_id);
        let longest = "\u{e9}".repeat(100);
        for name in ["gateway-1", "a rack: 7", &longest] {
            assert_eq!(named(name).as_deref(), Ok(name));
        }
        for wrong in [format!("{longest}x"), " gateway".to_owned(), "gateway\t".to_owned(), "a\nb".to_owned()] {
            let text = named(&wrong).unwrap_err().join("\n");
            assert!(text.contains("EZ_NODE_ID") && text.contains("up to 100 characters"), "{text}");
        }
        assert!(!named("").unwrap().is_empty(), "the host's");
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_name_and_what_is_allowed() {
        let faults = settings(
            &[
                ("EZ_MAX_ATTEMPTS", "0"),
                ("EZ_IDLE_TIMEOUT", "soon"),
                ("EZ_SECRET_KEY", "canary"),
                ("EZ_LOG_LEVEL", "loud"),
                ("EZ_SNAPSHOT_MAX_AGE", "5s"),
                ("EZ_ACCESS_LOG", "yes"),
                ("EZ_OTLP_ENDPOINT", "collector:4318"),
                ("EZ_OTLP_METRICS", "true"),
                ("EZ_STATS_FLUSH_INTERVAL", "1ms"),
                ("EZ_LOG_BODY_MAX_BYTES", "1048577"),
                ("EZ_WEBHOOK_ALLOW_PRIVATE", "yes"),
            ],
            Role::All,
        )
        .unwrap_err();
        let text = faults.join("\n");
        for expected in [
            "EZ_MAX_ATTEMPTS",
            "from 1 to 20",
            "EZ_IDLE_TIMEOUT",
            "500ms, 30s, 5m, 1h",
            "EZ_SECRET_KEY",
            "EZ_LOG_LEVEL",
            "EZ_SNAPSHOT_MAX_AGE",
            "EZ_ACCESS_LOG",
            "EZ_OTLP_ENDPOINT",
            "EZ_OTLP_METRICS",
            "EZ_STATS_FLUSH_INTERVAL",
            "EZ_LOG_BODY_MAX_BYTES",
            "EZ_WEBHOOK_ALLOW_PRIVATE",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        assert!(!text.contains("canary"), "{text}");
    }

    #[test]
    fn every_job_has_a_setting_with_its_default() {
        let settings = settings(&[], Role::All).unwrap();
        for job in jobs() {
            assert!(Setting::lookup(&job.setting()).is_some(), "{} is missing in the table", job.setting());
            assert_eq!(settings.job_intervals.get(job.name()), Some(&job.default_interval()), "{}", job.setting());
        }
        assert_eq!(settings.job_intervals.len(), jobs().len());
    }

    #[test]
    fn a_setting_of_two_names_is_given_once() {
        let interval = |environment: &[(&str, &str)]| {
            settings(environment, Role::All).map(|settings| settings.job_intervals[SYNC_OUTBOX])
        };
        let (name, other_name) = ("EZ_JOB_SYNC_OUTBOX_INTERVAL", "EZ_SYNC_OUTBOX_INTERVAL");
        for given in [&[(name, "3s")][..], &[(other_name, "3s")], &[(name, "3s"), (other_name, "3s")]] {
            assert_eq!(interval(given), Ok(Duration::from_secs(3)), "{given:?}");
        }
        let text = interval(&[(name, "3s"), (other_name, "4s")]).unwrap_err().join("\n");
        assert!(text.contains(&format!("{name} and {other_name} are the same setting")), "{text}");
        let text = interval(&[(other_name, "soon")]).unwrap_err().join("\n");
        assert!(text.contains("EZ_SYNC_OUTBOX_INTERVAL has a wrong value `soon`"), "{text}");
    }

    #[test]
    fn planes_of_their_own_need_what_they_share() {
        let text = settings(&[], Role::Gateway).unwrap_err().join("\n");
        for expected in ["EZ_REDIS_URL", "EZ_SECRET_KEY", "EZ_CONTROL_URL"] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn a_shared_database_or_state_needs_a_shared_key() {
        for shared in [("EZ_REDIS_URL", "redis://h"), ("EZ_DATABASE_URL", "postgres://h/d")] {
            let text = settings(&[shared], Role::All).unwrap_err().join("\n");
            assert!(text.contains("EZ_SECRET_KEY is missing"), "{text}");
        }
        assert!(settings(&[("EZ_DATABASE_URL", "sqlite://x.db")], Role::All).is_ok());
    }

    #[test]
    fn unknown_names_are_warned_about_and_layers_override() {
        let resolved = resolve(Layers {
            config_file: Some("max_attempts = 5\nidle_timeout = \"1m\"\ntypo = 1".to_owned()),
            environment: [("EZ_MAX_ATTEMPTS".to_owned(), "6".to_owned()), ("EZ_TYPO".to_owned(), "1".to_owned())]
                .into(),
            flags: [("EZ_MAX_ATTEMPTS", "7".to_owned())].into(),
        });
        assert_eq!(resolved.values["EZ_MAX_ATTEMPTS"].value, "7");
        assert_eq!(resolved.values["EZ_IDLE_TIMEOUT"].value, "1m");
        assert_eq!(resolved.warnings.len(), 2, "{:?}", resolved.warnings);
    }
}
