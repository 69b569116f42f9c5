//! What may stand in an address: of a server, of a proxy, of the API below a server.

use url::Url;

use crate::Failure;

/// Reads a server's address and takes the slashes off its end.
pub(super) fn server(text: &str) -> Result<Url, Failure> {
    let mut url = parse(text, "host")?;
    match url.scheme() {
        "http" | "https" => {}
        scheme => return Err(invalid("host", text, &format!("`{scheme}` is not http or https"))),
    }
    if !url.username().is_empty() || url.password().is_some() {
        let reason = "the host must not hold a user name or a password; give the session key as `api_key`, and what a \
                      gateway asks for as a header";
        return Err(Failure::invalid(reason));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("host", text, "it must end after the path, without `?` or `#`"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Reads a proxy's address.
pub(super) fn proxy(text: &str) -> Result<Url, Failure> {
    let url = parse(text, "proxy")?;
    if url.scheme() != "http" {
        return Err(Failure::invalid(format!(
            "the proxy must be an http:// address (it may still tunnel https), not {}://",
            url.scheme()
        )));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(Failure::invalid("the proxy must be a host and a port, without a path"));
    }
    Ok(url)
}

/// Checks the path before `/bash`, `/file` and `/git` and takes the slashes off its end.
pub(super) fn api_prefix(text: &str) -> Result<String, Failure> {
    let bad = |why: &str| Failure::invalid(format!("api_prefix `{text}`: {why}"));
    if !text.is_empty() && !text.starts_with('/') {
        return Err(bad("it must start with `/`, as in /api"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
    if let Some(odd) = text.chars().find(|&c| !plain(c)) {
        return Err(bad(&format!("`{}` may not stand in it", odd.escape_default())));
    }
    if text.split('/').any(|part| part == ".." || part == ".") {
        return Err(bad("`.` and `..` may not be parts of it"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Host and port, the default port included.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn parse(text: &str, what: &str) -> Result<Url, Failure> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(Failure::invalid(format!("the {what} is empty; write it as http://127.0.0.1:8000")));
    }
    if !trimmed.contains("://") {
        let reason = format!("the scheme is missing; write http://{0} or https://{0}", shown(trimmed));
        return Err(invalid(what, text, &reason));
    }
    let url = Url::parse(trimmed).map_err(|error| invalid(what, text, &error.to_string()))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(invalid(what, text, "it names no host"));
    }
    Ok(url)
}

fn invalid(what: &str, text: &str, why: &str) -> Failure {
    Failure::invalid(format!("{what} `{}`: {why}", shown(text)))
}

/// The text without what may be a password, for messages.
fn shown(text: &str) -> String {
    let short: String = text.trim().chars().take(120).collect();
    match short.rfind('@') {
        Some(at) => format!("..{}", &short[at..]),
        None => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(result: Result<Url, Failure>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_server_address_keeps_its_path_and_loses_its_last_slashes() {
        assert_eq!(server("https://gw/s/abc//").unwrap().as_str(), "https://gw/s/abc");
        assert_eq!(server(" http://h:8000/ ").unwrap().path(), "/");
    }

    #[test]
    fn a_bad_server_address_is_told_with_the_way_out() {
        assert!(refusal(server("10.0.0.1:8000")).contains("http://10.0.0.1:8000"));
        assert!(refusal(server("localhost")).contains("http://localhost"));
        assert!(refusal(server("ftp://h")).contains("not http or https"));
        assert!(refusal(server("http://h/?a=1")).contains('?'));
        assert!(refusal(server("http://")).contains("host"));
        assert!(refusal(server("http://h:99999")).contains("port"));
        assert!(refusal(server("")).contains("empty"));
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        let message = refusal(server("http://me:hush@h:1"));
        assert!(message.contains("api_key") && !message.contains("hush"), "{message}");
        let message = refusal(server("me:hush@h:1"));
        assert!(!message.contains("hush"), "{message}");
        let message = refusal(server("http://me:hush@h:1x"));
        assert!(!message.contains("hush"), "{message}");
    }

    #[test]
    fn a_proxy_is_an_http_address_without_path() {
        assert!(proxy("http://user:pw@p:3128").is_ok());
        assert!(refusal(proxy("https://p:3128")).contains("http://"));
        assert!(refusal(proxy("http://p/x")).contains("path"));
    }

    #[test]
    fn an_api_prefix_is_a_plain_path() {
        assert_eq!(api_prefix("/api/").unwrap(), "/api");
        assert_eq!(api_prefix("").unwrap(), "");
        for bad in ["api", "/a/../b", "/a?b", "/a b", "/a%2f"] {
            assert!(api_prefix(bad).is_err(), "{bad}");
        }
    }
}
