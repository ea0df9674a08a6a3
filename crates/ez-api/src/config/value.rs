//! Values: how texts become durations, addresses, URLs, and what is said when they do not.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

/// `500ms`, `30s`, `5m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const ALLOWED: &str = "write a whole number with its unit: 500ms, 30s, 5m, 1h";
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| ALLOWED.to_owned())?;
    let seconds =
        |per_unit: u64| number.checked_mul(per_unit).map(Duration::from_secs).ok_or_else(|| ALLOWED.to_owned());
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3_600),
        _ => Err(ALLOWED.to_owned()),
    }
}

/// A duration within bounds.
pub(super) fn duration_within(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let value = duration(text)?;
    if (least..=most).contains(&value) { Ok(value) } else { Err(format!("allowed is {least:?} to {most:?}")) }
}

/// A whole number within bounds.
pub(super) fn number_within(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let value = text.parse::<u64>().ok().filter(|value| (least..=most).contains(value));
    value.ok_or_else(|| format!("allowed is a whole number from {least} to {most}"))
}

/// `host:port` with an IP address as the host; port 0 takes a free one.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "allowed is an IP address with a port, such as 127.0.0.1:8080 or [::]:8080".to_owned())
}

/// Addresses and CIDR ranges, separated by commas.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| ez_contract::access::parse_ip_rule(part).map_err(|e| e.to_string())).collect()
}

/// An http(s) URL with a host.
pub(super) fn http_url(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.map(|_| text.to_owned()).ok_or_else(|| "allowed is a URL such as http://control:8081".to_owned())
}

/// A URL of one of these schemes. The text itself may hold a password and is never repeated.
pub(super) fn url_of_scheme(text: &str, schemes: &[&str]) -> Result<String, String> {
    let is_allowed = schemes.iter().any(|scheme| text.starts_with(&format!("{scheme}:")));
    let listed = schemes.iter().map(|scheme| format!("{scheme}://…")).collect::<Vec<_>>().join(" or ");
    if is_allowed { Ok(text.to_owned()) } else { Err(format!("allowed is {listed}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        let cases = [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000)];
        for (text, milliseconds) in cases {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "5", "s", "5 s", "-5s", "1.5s", "5d", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(bad).unwrap_err().contains("500ms, 30s, 5m, 1h"), "{bad}");
        }
    }

    #[test]
    fn refusals_say_what_is_allowed() {
        assert!(number_within("0", 1, 10).unwrap_err().contains("from 1 to 10"));
        assert!(listen_address("localhost").unwrap_err().contains("127.0.0.1:8080"));
        assert!(url_of_scheme("mysql://u:secret@h/d", &["postgres", "sqlite"]).unwrap_err().contains("postgres://"));
        assert!(!url_of_scheme("mysql://u:secret@h/d", &["postgres"]).unwrap_err().contains("secret"));
        assert!(networks("10.0.0.0/8, x").unwrap_err().contains("`x`"));
    }
}
