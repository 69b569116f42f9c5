use std::{net::IpAddr, str::FromStr};

use url::Url;

/// Hosts that a service may talk to, as `HOST` or `HOST:PORT`; `*` in a host stands for any text.
///
/// ```
/// use workspace_fleet::service::HostPattern;
///
/// let pattern: HostPattern = "*.sandbox.example:8000".parse()?;
/// # Ok::<(), workspace_fleet::service::InvalidHostPattern>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    host: String,
    port: Option<u16>,
}

/// A text that is no [`HostPattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no host: write HOST or HOST:PORT, such as 10.0.0.* or *.sandbox.example:8000")]
pub struct InvalidHostPattern(String);

impl FromStr for HostPattern {
    type Err = InvalidHostPattern;

    fn from_str(text: &str) -> Result<Self, InvalidHostPattern> {
        let wrong = || InvalidHostPattern(text.to_owned());
        let (host, port) = match text.rsplit_once(':') {
            // An IPv6 address without a port.
            Some(_) if text.starts_with('[') && text.ends_with(']') => (text, None),
            Some((host, port)) => (host, Some(port.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let is_host = |char: char| char.is_ascii_alphanumeric() || "-._*:[]".contains(char);
        if host.is_empty() || !host.chars().all(is_host) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl HostPattern {
    fn allows(&self, host: &str, port: Option<u16>) -> bool {
        (self.port.is_none() || self.port == port) && is_like(&self.host, host)
    }
}

/// Whether a workspace may be at this address. Without patterns it may be anywhere but at link-local addresses, where clouds
/// tell their machines' secrets.
pub(super) fn is_allowed(patterns: &[HostPattern], address: &Url) -> bool {
    let host = address.host_str().unwrap_or_default().to_ascii_lowercase();
    if patterns.iter().any(|pattern| pattern.allows(&host, address.port_or_known_default())) {
        return true;
    }
    patterns.is_empty() && !is_link_local(&host)
}

fn is_link_local(host: &str) -> bool {
    match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            // The last is where a cloud has its metadata service over IPv6.
            let is_metadata = address.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254];
            let mapped = address.to_ipv4_mapped().is_some_and(|address| address.is_link_local());
            address.is_unicast_link_local() || mapped || is_metadata
        }
        Err(_) => host == "metadata.google.internal",
    }
}

/// Whether a text is like a pattern, in which `*` stands for any text.
fn is_like(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        match text.split_once(part) {
            Some((_, behind)) => text = behind,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(patterns: &[&str], url: &str) -> bool {
        let patterns: Vec<HostPattern> = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        is_allowed(&patterns, &Url::parse(url).unwrap())
    }

    #[test]
    fn hosts_are_allowed_by_name_and_port() {
        assert!(allowed(&["10.0.0.*"], "http://10.0.0.7:8000"));
        assert!(!allowed(&["10.0.0.*"], "http://10.0.1.7:8000"));
        assert!(allowed(&["*.box.example:8000"], "http://a.B.box.example:8000/s/1"));
        assert!(!allowed(&["*.box.example:8000"], "http://a.box.example:8001"));
        assert!(!allowed(&["*.box.example"], "http://a.box.example.evil"));
        assert!(allowed(&["a:443"], "https://a/"));
        assert!(allowed(&["[::1]"], "http://[::1]:5") && allowed(&["[::1]:5"], "http://[::1]:5"));
        assert!(is_like("a*b*c", "a1b2c") && !is_like("a*b*c", "a1c2b") && is_like("*", ""));
    }

    #[test]
    fn link_local_addresses_must_be_asked_for() {
        for url in [
            "http://169.254.169.254/",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fd00:ec2::254]/",
        ] {
            assert!(!allowed(&[], url), "{url}");
        }
        assert!(allowed(&["169.254.1.1"], "http://169.254.1.1:8000") && allowed(&[], "http://10.0.0.1"));
    }

    #[test]
    fn a_pattern_is_a_host() {
        for text in ["", ":80", "a:b", "http://a", "a/b", "a:99999"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }
}
