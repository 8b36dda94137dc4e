//! Where a provider may live when somebody other than the operator says so (chapter 40 §14.1, INF-7, decision 38).

use std::net::IpAddr;

/// The rule for provider URLs that did not come from the operator (chapter 40 §14.1, INF-7): https, and no host that is
/// local by its name or its literal address. Names are checked again after resolution, where the connection is made.
///
/// # Errors
/// The contract's text.
pub fn check_provider_url(url: &str) -> Result<(), String> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("invalid URL: {url}"))?;
    match scheme.to_ascii_lowercase().as_str() {
        "https" => {}
        "http" => return Err("http scheme is not allowed".into()),
        other => return Err(format!("unsupported URL scheme \"{other}\"")),
    }
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = if let Some(v6) = host.strip_prefix('[') {
        v6.split(']').next().unwrap_or_default()
    } else {
        host.split(':').next().unwrap_or_default()
    };
    if host.is_empty() {
        return Err("URL host is required".into());
    }
    if host.contains('%') {
        return Err(format!("zoned IP address \"{host}\" is not allowed"));
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost"
        || name.ends_with(".localhost")
        || name.rsplit('.').next() == Some("local")
    {
        return Err(format!("local hostname \"{host}\" is not allowed"));
    }
    if let Ok(address) = name.parse() {
        return check_provider_address(address);
    }
    // `2130706433`, `0x7f.1` and friends are addresses to a resolver although no parser of ours says so.
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = last.starts_with("0x") || last.bytes().all(|b| b.is_ascii_digit());
    if numeric { Err(format!("disallowed IP address \"{host}\"")) } else { Ok(()) }
}

/// Whether an address holds a user or a password (decision 15).
#[must_use]
pub fn has_credentials(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#', '\\']).next().is_some_and(|authority| authority.contains('@'))
}

/// The same address without its user and password, if it has any.
pub(super) fn without_credentials(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, host) = authority.rsplit_once('@')?;
    if user.contains(char::is_whitespace) {
        return None; // a sentence
    }
    Some(format!("{scheme}://{host}{path}"))
}

/// The rule for an address that a provider's name resolved to.
///
/// # Errors
/// The contract's text.
pub fn check_provider_address(address: IpAddr) -> Result<(), String> {
    let address = address.to_canonical();
    if address.is_unspecified() || address.is_multicast() {
        return Err(format!("disallowed IP address \"{address}\""));
    }
    let local = match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_documentation()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 198 && (b == 18 || b == 19))
        }
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            v6.is_loopback()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || (first == 0x2001 && second == 0x0db8)
                || (first == 0x0064 && second == 0xff9b)
        }
    };
    if local { Err(format!("local network IP \"{address}\" is not allowed")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_credentials_are_told() {
        for (url, told) in [
            ("https://u:p@h/v1", true),
            ("https://token@h", true),
            ("u:p@h", true),
            ("https://h/v1/@x", false),
            ("https://h?mail=a@b", false),
            ("", false),
        ] {
            assert_eq!(has_credentials(url), told, "{url}");
        }
    }

    #[test]
    fn inf_7_provider_urls_of_profiles_are_never_local() {
        for url in [
            "http://api.example.com",
            "ftp://api.example.com",
            "https://",
            "https://localhost/v1",
            "https://localhost./v1",
            "https://a.localhost",
            "https://printer.local",
            "https://127.0.0.1",
            "https://user@127.0.0.1:8443/v1",
            "https://10.1.2.3",
            "https://169.254.169.254/latest",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[fe80::1%25eth0]/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0.0.0.0",
            "https://100.64.0.1",
        ] {
            assert!(check_provider_url(url).is_err(), "{url}");
        }
        assert!(check_provider_url("https://api.example.com:8443/v1").is_ok());
        assert!(check_provider_url("https://8.8.8.8").is_ok());
    }
}
