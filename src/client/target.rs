//! What a request is for.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but what RFC 3986 leaves alone, and `/`, which needs no escape in a query.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The URI of a request, built by appending to the client's prefix.
#[derive(Clone)]
pub(super) struct Target {
    uri: String,
    /// Where the server's own path begins, for logs and messages.
    route: usize,
    has_query: bool,
}

impl Target {
    /// The target `route` below `prefix`, an absolute URI whose first `root` bytes messages leave out.
    pub(super) fn new(prefix: &str, root: usize, route: &str) -> Self {
        let mut uri = String::with_capacity(prefix.len() + route.len() + 160);
        uri.push_str(prefix);
        uri.push_str(route);
        Self { route: root, uri, has_query: false }
    }

    /// With a query parameter.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.uri.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.uri.push_str(name);
        self.uri.push('=');
        self.uri.extend(utf8_percent_encode(value, VALUE));
        self
    }

    /// With a query parameter, where there is a value for it.
    pub(super) fn with_some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }
}

/// The route without the query, whose values are the user's.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = &self.uri[self.route..];
        f.write_str(route.split('?').next().unwrap_or(route))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_and_left_out_of_messages() {
        let target = Target::new("http://h:1/s/api", "http://h:1/s".len(), "/file/upload");
        let target = target.with("path", "/tmp/a b+ü&?#%").with_some("x", None);
        assert_eq!(target.uri(), "http://h:1/s/api/file/upload?path=/tmp/a%20b%2B%C3%BC%26%3F%23%25");
        assert_eq!(target.with("y", "1").to_string(), "/api/file/upload");
    }
}
