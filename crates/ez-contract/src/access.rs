//! Rules on what a child key may reach: addresses.

use std::net::IpAddr;

use ipnet::IpNet;

/// Why an address rule cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an IP address nor a CIDR range such as 10.0.0.0/8")]
pub struct InvalidIpRule(pub String);

/// Parses an address or a CIDR range.
pub fn parse_ip_rule(text: &str) -> Result<IpNet, InvalidIpRule> {
    let range = text.parse::<IpNet>().ok();
    range.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)).ok_or_else(|| InvalidIpRule(text.to_owned()))
}

/// Whether a key with these rules may be used from `address`: not denied, and allowed where an allow list is set.
/// A rule that does not parse closes the key, so that a damaged rule never opens it.
pub fn ip_allowed(address: IpAddr, allow: &[String], deny: &[String]) -> bool {
    let address = address.to_canonical();
    let hits = |rules: &[String]| rules.iter().any(|rule| parse_ip_rule(rule).is_ok_and(|net| net.contains(&address)));
    let deny_is_damaged = deny.iter().any(|rule| parse_ip_rule(rule).is_err());
    !deny_is_damaged && !hits(deny) && (allow.is_empty() || hits(allow))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deny_wins_and_an_allow_list_closes_the_rest() {
        let rules = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let cases: &[(&str, &[&str], &[&str], bool)] = &[
            ("10.1.2.3", &[], &[], true),
            ("10.1.2.3", &["10.0.0.0/8"], &[], true),
            ("11.1.2.3", &["10.0.0.0/8"], &[], false),
            ("10.1.2.3", &["10.0.0.0/8"], &["10.1.2.3"], false),
            ("::ffff:10.1.2.3", &["10.0.0.0/8"], &[], true),
            ("2001:db8::1", &["2001:db8::/32"], &[], true),
            ("10.1.2.3", &["nonsense"], &[], false),
            ("10.1.2.3", &[], &["nonsense"], false),
        ];
        for (address, allow, deny, expected) in cases {
            let allowed = ip_allowed(address.parse().unwrap(), &rules(allow), &rules(deny));
            assert_eq!(allowed, *expected, "{address} allow {allow:?} deny {deny:?}");
        }
    }
}
