use std::{borrow::Cow, fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use actix_web::HttpRequest;

use super::{Problem, ProblemKind};

/// The parameters of a request's query. Each is asked for by name, and what nobody asked for is refused: a misspelt filter
/// would otherwise pick everything.
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Those of this request.
    pub(crate) fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let query = request.query_string();
        let decoded = percent_encoding::percent_decode_str(query).decode_utf8();
        if decoded.is_err() {
            return Err(Problem::new(ProblemKind::Malformed, "the query is not UTF-8"));
        }
        let owned = |(name, value): (Cow<'_, str>, Cow<'_, str>)| (name.into_owned(), value.into_owned());
        Ok(Self(url::form_urlencoded::parse(query.as_bytes()).map(owned).collect()))
    }

    /// Every value of a parameter that may be given more than once.
    pub(crate) fn all(&mut self, name: &str) -> Vec<String> {
        let (found, others) = std::mem::take(&mut self.0).into_iter().partition(|(given, _)| given == name);
        self.0 = others;
        Vec::into_iter(found).map(|(_, value): (String, String)| value).collect()
    }

    /// A parameter that may be given once.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let mut found = self.all(name);
        if found.len() > 1 {
            return Err(Problem::invalid(format!("`{name}` is given more than once")));
        }
        Ok(found.pop())
    }

    /// A parameter that must be given.
    pub(crate) fn required(&mut self, name: &str) -> Result<String, Problem> {
        self.text(name)?.ok_or_else(|| Problem::invalid(format!("the parameter `{name}` is missing")))
    }

    /// A parameter that is read as something else.
    pub(crate) fn read<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let wrong = |error| Problem::invalid(format!("`{name}` is wrong: {error}"));
        text.parse().map(Some).map_err(wrong)
    }

    /// A number within bounds.
    pub(crate) fn number(&mut self, name: &str, bounds: RangeInclusive<u64>, default: u64) -> Result<u64, Problem> {
        match self.read::<u64>(name)? {
            None => Ok(default),
            Some(number) if bounds.contains(&number) => Ok(number),
            Some(_) => Err(Problem::invalid(format!("`{name}` is {} to {}", bounds.start(), bounds.end()))),
        }
    }

    /// A time in milliseconds within bounds.
    pub(crate) fn millis(
        &mut self,
        name: &str,
        bounds: RangeInclusive<u64>,
        default: u64,
    ) -> Result<Duration, Problem> {
        self.number(name, bounds, default).map(Duration::from_millis)
    }

    /// Something that is so or not: `true` or `false`.
    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        Ok(self.read::<bool>(name)?.unwrap_or_default())
    }

    /// Refuses what nobody asked for.
    pub(crate) fn end(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(64).collect();
                Err(Problem::invalid(format!("there is no parameter `{}` here", name.escape_debug())))
            }
        }
    }
}
