//! The table of everything that can be set.

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) default: Option<&'static str>,
    /// Masked wherever settings are shown; may come from a file named by `<NAME>_FILE`.
    pub(crate) is_secret: bool,
    /// One line for people.
    pub(crate) help: &'static str,
}

impl Setting {
    pub(crate) fn lookup(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }
}

const fn plain(name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { name, default: Some(default), is_secret: false, help }
}

const fn optional(name: &'static str, help: &'static str) -> Setting {
    Setting { name, default: None, is_secret: false, help }
}

const fn secret(name: &'static str, help: &'static str) -> Setting {
    Setting { name, default: None, is_secret: true, help }
}

/// Every setting; docs/configuration.md is written from this table.
pub(crate) const SETTINGS: &[Setting] = &[
    secret("EZ_DATABASE_URL", "`postgres://…` or `sqlite://…`; default: an SQLite file in EZ_DATA_DIR"),
    secret("EZ_REDIS_URL", "`redis://…` or `rediss://…`; default: state within the process, for one process only"),
    plain("EZ_REDIS_PREFIX", "", "put before every Redis key"),
    optional(
        "EZ_CONTROL_URL",
        "where a gateway in a process of its own sends usage records, such as `http://control:8081`",
    ),
    optional("EZ_NODE_ID", "name of this process among others; default: the host's name"),
    plain("EZ_DATA_DIR", "./data", "directory for the SQLite file, the generated secret key and the usage log"),
    plain("EZ_CONTROL_LISTEN", "127.0.0.1:8081", "address of the control plane's listener"),
    plain("EZ_GATEWAY_LISTEN", "0.0.0.0:8080", "address of the gateway's listener"),
    secret("EZ_ADMIN_TOKEN", "bearer token of administrators; default: made and printed once at the first start"),
    secret(
        "EZ_INTERNAL_TOKEN",
        "bearer token between gateways and control planes; without it `/internal/*` answers 401",
    ),
    secret("EZ_JWT_SECRET", "signs sign-in tokens; default: made and kept at the first start"),
    secret(
        "EZ_SECRET_KEY",
        "encrypts upstream credentials, 32 bytes in hex or base64; default: a file in EZ_DATA_DIR, for one process only",
    ),
    secret("EZ_METRICS_TOKEN", "bearer token for `/metrics` besides the admin token"),
    plain("EZ_LOG_LEVEL", "info", "error, warn, info, debug, trace, or target=level pairs"),
    plain("EZ_LOG_FORMAT", "", "console or json; default: console on a terminal, else json"),
    plain(
        "EZ_ACCESS_LOG",
        "off",
        "on or off: one log line for each call with a known key, under the target `ez_access`",
    ),
    optional(
        "EZ_OTLP_ENDPOINT",
        "where a span of each call goes, as OTLP over HTTP in JSON, such as `http://collector:4318`; default: no spans",
    ),
    plain(
        "EZ_OTLP_METRICS",
        "off",
        "on or off: whether OpenTelemetry's GenAI metrics go to EZ_OTLP_ENDPOINT, too, which on needs",
    ),
    plain(
        "EZ_LOG_BATCH_SIZE",
        "500",
        "usage records per batch from a gateway to the control plane, and from that to the database",
    ),
    plain("EZ_LOG_FLUSH_INTERVAL", "200ms", "how long a smaller batch of usage records gathers, at each of them"),
    plain(
        "EZ_LOG_BODY_MAX_BYTES",
        "65536",
        "how much of a call's request body is kept, while the flag `log_request_body_enabled` is on",
    ),
    plain("EZ_STATS_FLUSH_INTERVAL", "5s", "how often gateways hand in what came of attempts by API key"),
    plain(
        "EZ_LOG_QUEUE_CAPACITY",
        "10000",
        "usage records waiting: at a gateway for its disk, at the control plane for the database; beyond it gateways keep theirs",
    ),
    plain(
        "EZ_JOB_SYNC_OUTBOX_INTERVAL",
        "1s",
        "how often unpublished changes are looked for without being told of them",
    ),
    optional("EZ_SYNC_OUTBOX_INTERVAL", "another name of EZ_JOB_SYNC_OUTBOX_INTERVAL"),
    plain("EZ_SYNC_OUTBOX_BATCH_SIZE", "500", "changes per publication"),
    plain(
        "EZ_SYNC_OUTBOX_MAX_RETRIES",
        "8",
        "prompt retries after a publication that failed, before the interval decides again",
    ),
    plain("EZ_JOB_FULL_RECONCILE_INTERVAL", "5m", "how often the whole snapshot is compared and repaired"),
    plain("EZ_JOB_KEY_EXPIRY_INTERVAL", "30s", "how often child keys whose time has come are marked as expired"),
    plain("EZ_JOB_BAN_EXPIRY_INTERVAL", "5s", "how often API keys whose ban is over are used again"),
    plain("EZ_JOB_QUOTA_RESET_INTERVAL", "1m", "how often quotas that are due start anew"),
    plain("EZ_JOB_ALERT_DETECTOR_INTERVAL", "1m", "how often the rules of alerts look at the figures"),
    plain("EZ_JOB_USAGE_PUBLICATION_INTERVAL", "5s", "how often gateways learn what was counted of quotas and budgets"),
    plain(
        "EZ_JOB_ROLLUPS_INTERVAL",
        "10s",
        "how often new log records are added to the roll-ups that statistics are read from",
    ),
    plain("EZ_JOB_LOG_CLEANER_INTERVAL", "1h", "how often log records that are kept no longer are dropped"),
    plain("EZ_LOG_RETENTION_DAYS", "30", "days that log records are kept; 0 keeps them whatever their age"),
    plain(
        "EZ_LOG_MAX_RECORDS",
        "1000000",
        "log records that are kept, the newest; 0 keeps them however many there are",
    ),
    plain("EZ_ROLLUP_RETENTION_DAYS", "400", "days that the roll-ups of statistics are kept; 0 keeps them for ever"),
    plain("EZ_JOB_LOG_WEBHOOK_INTERVAL", "5s", "how often failed calls are counted for the log webhook"),
    plain("EZ_JOB_WEBHOOK_DELIVERY_INTERVAL", "2s", "how often events that are due are sent to the log webhook"),
    plain(
        "EZ_WEBHOOK_ALLOW_PRIVATE",
        "false",
        "true lets the log webhook be at a loopback or private address; link-local and metadata addresses never are",
    ),
    plain("EZ_MAX_CONNECTIONS", "10000", "connections of callers at once; further ones are refused with 503"),
    plain("EZ_MAX_BODY_BYTES", "33554432", "largest request body of a call"),
    plain("EZ_MAX_ATTEMPTS", "3", "upstream attempts per call"),
    plain("EZ_BREAKER_FAILURES", "5", "failures in a row after which a credential gets no calls"),
    plain("EZ_BREAKER_OPEN", "1s", "how long it gets none before one call tries it; doubles each time in a row"),
    plain("EZ_BREAKER_MAX", "60s", "the longest that it gets none"),
    plain("EZ_UPSTREAM_QUEUE", "100", "calls that may wait for a credential at its `max_concurrency`"),
    plain("EZ_UPSTREAM_QUEUE_TIMEOUT", "10s", "how long they wait"),
    plain(
        "EZ_AFFINITY",
        "off",
        "header, prefix or off: calls with one `x-ez-session` (prefix: else with one beginning) keep to one credential",
    ),
    plain("EZ_CONNECT_TIMEOUT", "5s", "bound on connecting to an upstream"),
    plain("EZ_UPSTREAM_HTTP2", "auto", "auto speaks HTTP/2 with upstreams that offer it over TLS, off never does"),
    optional(
        "EZ_UPSTREAM_CA_FILE",
        "file with certificates in PEM form that upstreams are trusted by besides the public authorities",
    ),
    plain("EZ_FIRST_BYTE_TIMEOUT", "120s", "bound on waiting for an upstream's answer"),
    plain("EZ_IDLE_TIMEOUT", "120s", "bound on silence within an upstream's answer"),
    plain("EZ_CALL_TIMEOUT", "20m", "bound on a whole call"),
    plain(
        "EZ_ON_CLIENT_GONE",
        "cancel",
        "`cancel` or `drain`: whether the upstream of a client that left is let go at once, or heard to its end for exact usage",
    ),
    plain(
        "EZ_VENDOR_OBJECTS",
        "refuse",
        "whether requests may name what a vendor keeps for its account (files, stores, conversations, caches): `pass` lets every key use what is kept for any",
    ),
    plain("EZ_DRAIN_TIMEOUT", "30s", "how long calls in flight may take to end at a stop"),
    plain("EZ_USAGE_LOG_FSYNC", "50ms", "how often usage records are forced to the disk"),
    plain(
        "EZ_USAGE_LOG_MAX_BYTES",
        "1073741824",
        "usage records kept while the control plane is away; beyond it calls are refused",
    ),
    optional(
        "EZ_SNAPSHOT_MAX_AGE",
        "how long a gateway serves from a snapshot that Redis does not confirm, also across restarts; default: for ever",
    ),
    plain(
        "EZ_TRUSTED_PROXIES",
        "",
        "addresses and ranges whose `x-forwarded-for` both listeners believe, separated by commas",
    ),
];
