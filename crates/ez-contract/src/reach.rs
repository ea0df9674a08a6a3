//! Which addresses a request may go to: what an operator set reaches private networks, what others can choose does not.
//! Each plane checks what its names resolve to with the same tables.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use url::{Host, Url};

/// How far a URL may reach, by who can choose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Set by operators alone, such as base URLs: private addresses are fine, link-local ones and metadata services are
    /// not.
    Operator,
    /// Others may choose it, such as webhooks and catalogue URLs: public addresses only.
    Public,
}

/// Why a URL or an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// No URL, or of another scheme.
    #[error("must be an http or https URL such as https://llm.example.com/v1")]
    NotHttp,
    /// Credentials in the URL.
    #[error("must not hold a user name or password")]
    Credentials,
    /// Link-local, or a metadata service.
    #[error("must not point to a link-local or cloud metadata address")]
    Metadata,
    /// Not on the public internet.
    #[error("must not point to a loopback, private or otherwise not public address")]
    NotPublic,
}

/// Metadata services that answer under a name.
const METADATA_HOSTS: &[&str] = &["metadata.google.internal", "metadata", "metadata.goog", "instance-data"];

/// Link-local addresses, where most metadata services are, and those that are elsewhere: Alibaba Cloud, Azure, Oracle
/// Cloud, and over IPv6 AWS, Google Cloud and Scaleway. And addresses of a NAT64 of one's own (RFC 8215), which may lead to any
/// of these: where in them the IPv4 address stands is up to whoever runs it (RFC 6052).
const METADATA: &[&str] = &[
    "169.254.0.0/16",
    "fe80::/10",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "192.0.0.192/32",
    "fd00:ec2::/32",
    "fd20:ce::254/128",
    "fd00:42::42/128",
    "64:ff9b:1::/48",
];

/// Networks that are nobody's on the public internet (the registries of special-purpose addresses, RFC 6890). Of IPv6 only
/// `2000::/3` has been given out.
const NOT_PUBLIC: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
    "::/3",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    "4000::/2",
    "8000::/1",
];

impl Reach {
    /// Reads a URL, and refuses what its text alone tells. A name is checked again once it has been resolved.
    pub fn parse(self, text: &str) -> Result<Url, Forbidden> {
        let url = Url::parse(text.trim()).map_err(|_| Forbidden::NotHttp)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Forbidden::NotHttp);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Forbidden::Credentials);
        }
        self.check(&url)?;
        Ok(url)
    }

    /// Refuses what the text of a URL alone tells. The parser has made one address of every way to write it
    /// (hexadecimal, as one number, …).
    pub fn check(self, url: &Url) -> Result<(), Forbidden> {
        match url.host() {
            Some(Host::Domain(name)) => self.check_name(name),
            Some(Host::Ipv4(address)) => self.check_address(address.into()),
            Some(Host::Ipv6(address)) => self.check_address(address.into()),
            None => Err(Forbidden::NotHttp),
        }
    }

    /// Refuses an address that is out of reach.
    pub fn check_address(self, address: IpAddr) -> Result<(), Forbidden> {
        let address = embedded_v4(address).map_or(address, IpAddr::V4);
        if is_within(METADATA, address) {
            Err(Forbidden::Metadata)
        } else if self == Self::Public && is_within(NOT_PUBLIC, address) {
            Err(Forbidden::NotPublic)
        } else {
            Ok(())
        }
    }

    fn check_name(self, name: &str) -> Result<(), Forbidden> {
        let name = name.trim_end_matches('.');
        if METADATA_HOSTS.contains(&name) {
            return Err(Forbidden::Metadata);
        }
        let is_local = name == "localhost" || name.ends_with(".localhost");
        if self == Self::Public && is_local { Err(Forbidden::NotPublic) } else { Ok(()) }
    }
}

fn is_within(networks: &[&str], address: IpAddr) -> bool {
    networks.iter().filter_map(|network| network.parse::<IpNet>().ok()).any(|network| network.contains(&address))
}

/// The IPv4 address that an IPv6 address stands for: compatible (`::/96`), mapped (`::ffff:0:0/96`), translated
/// (`::ffff:0:0:0/96`), behind the NAT64 that all know (`64:ff9b::/96`) or 6to4 (`2002::/16`).
fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_of_the_tables_parses() {
        assert!(METADATA.iter().chain(NOT_PUBLIC).all(|network| network.parse::<IpNet>().is_ok()));
    }

    #[test]
    fn what_others_choose_reaches_public_addresses_alone() {
        use Forbidden::{Credentials, Metadata, NotHttp, NotPublic};
        let cases = [
            ("https://example.com/catalogue.json", Ok(())),
            ("http://8.8.8.8/", Ok(())),
            ("http://[2606:4700::1111]/", Ok(())),
            ("ftp://example.com/", Err(NotHttp)),
            ("example.com", Err(NotHttp)),
            ("https://a:b@example.com/", Err(Credentials)),
            ("http://localhost/", Err(NotPublic)),
            ("http://api.localhost./", Err(NotPublic)),
            ("http://127.0.0.1/", Err(NotPublic)),
            ("http://0x7f000001/", Err(NotPublic)),
            ("http://2130706433/", Err(NotPublic)),
            ("http://127.1/", Err(NotPublic)),
            ("http://0/", Err(NotPublic)),
            ("http://10.0.0.1/", Err(NotPublic)),
            ("http://100.64.0.1/", Err(NotPublic)),
            ("http://172.31.255.255/", Err(NotPublic)),
            ("http://192.168.1.1/", Err(NotPublic)),
            ("http://255.255.255.255/", Err(NotPublic)),
            ("http://[::]/", Err(NotPublic)),
            ("http://[::1]/", Err(NotPublic)),
            ("http://[::ffff:127.0.0.1]/", Err(NotPublic)),
            ("http://[64:ff9b::7f00:1]/", Err(NotPublic)),
            ("http://[2002:7f00:1::]/", Err(NotPublic)),
            ("http://[2001:0:4136:e378::1]/", Err(NotPublic)),
            ("http://[fd12::1]/", Err(NotPublic)),
            ("http://[ff02::1]/", Err(NotPublic)),
            ("http://[::ffff:0:127.0.0.1]/", Err(NotPublic)),
            ("http://[::10.0.0.1]/", Err(NotPublic)),
            // 10.0.0.1, 8.8.8.8 and 169.254.169.254 in the ways of RFC 6052.
            ("http://[64:ff9b:1::10.0.0.1]/", Err(Metadata)),
            ("http://[64:ff9b:1:a00:0:100::]/", Err(Metadata)),
            ("http://[64:ff9b:1:808:8:800::]/", Err(Metadata)),
            ("http://[64:ff9b:1:a9fe:a9:fe00:808:808]/", Err(Metadata)),
            ("http://[100::1]/", Err(NotPublic)),
            ("http://[1234::1]/", Err(NotPublic)),
            ("http://[4000::1]/", Err(NotPublic)),
            ("http://[5f00::1]/", Err(NotPublic)),
            ("http://[fec0::1]/", Err(NotPublic)),
            ("http://[64:ff9b::808:808]/", Ok(())),
            ("http://169.254.169.254/latest", Err(Metadata)),
            ("http://[::ffff:169.254.169.254]/", Err(Metadata)),
            ("http://[fe80::1]/", Err(Metadata)),
            ("http://[fd00:ec2::254]/", Err(Metadata)),
            ("http://100.100.100.200/", Err(Metadata)),
            ("http://metadata.google.internal./v1", Err(Metadata)),
        ];
        for (text, expected) in cases {
            assert_eq!(Reach::Public.parse(text).map(|_| ()), expected, "{text}");
        }
    }

    #[test]
    fn what_operators_set_reaches_private_networks_and_no_metadata_service() {
        for text in ["http://127.0.0.1:8000", "http://10.1.2.3/v1", "http://localhost:11434", "http://[fd00::1]/"] {
            assert!(Reach::Operator.parse(text).is_ok(), "{text}");
        }
        let metadata = [
            "http://169.254.169.254/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[64:ff9b:1::a9fe:a9fe]/",
            "http://[64:ff9b:1:a9fe:a9:fe00::]/",
            "http://[64:ff9b:1:a9fe:a9:fe00:808:808]/",
            "http://[64:ff9b:1:808:8:800::]/",
            "http://[::169.254.169.254]/",
            "http://[::ffff:0:169.254.169.254]/",
            "http://[2002:a9fe:a9fe::1]/",
            "http://[fd00:ec2::23]/",
            "http://[fd20:ce::254]/",
            "http://[fd00:42::42]/",
            "http://168.63.129.16/metadata",
            "http://192.0.0.192/",
            "http://METADATA/",
        ];
        for text in metadata {
            assert_eq!(Reach::Operator.parse(text), Err(Forbidden::Metadata), "{text}");
        }
    }
}
