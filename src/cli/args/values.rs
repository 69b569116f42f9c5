use std::str::FromStr;

use crate::SessionKey;

/// `KEY=VALUE` of `-e`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Variable {
    pub(in crate::cli) name: String,
    pub(in crate::cli) value: String,
}

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) =
            text.split_once('=').ok_or("write it as KEY=VALUE; a value is not taken from the environment here")?;
        check_name(name)?;
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// `KEY` or `KEY=VARIABLE` of `--secret-env`: a variable of the command, and the one here that holds its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct SecretVariable {
    pub(in crate::cli) name: String,
    pub(in crate::cli) source: String,
}

impl FromStr for SecretVariable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, source) = text.split_once('=').unwrap_or((text, text));
        check_name(name)?;
        // Whoever writes the secret itself here must not find it repeated in the message.
        check_name(source).map_err(|_| {
            "after `=` comes the name of a variable of your environment that holds the value, never the value itself"
        })?;
        Ok(Self { name: name.to_owned(), source: source.to_owned() })
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let mut chars = name.chars();
    let good = chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if good {
        return Ok(());
    }
    Err(format!(
        "`{}` is no name of an environment variable: use letters, digits and _, and no digit first",
        name.escape_debug()
    ))
}

/// `NAME: VALUE` of `--header`.
#[derive(Debug, Clone)]
pub(in crate::cli) struct HeaderArg {
    pub(in crate::cli) name: String,
    pub(in crate::cli) value: SessionKey,
}

impl FromStr for HeaderArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((name, value)) if !name.trim().is_empty() => {
                Ok(Self { name: name.trim().to_owned(), value: SessionKey::from(value.trim()) })
            }
            _ => Err("write it as 'NAME: VALUE', as in 'X-Team: blue'".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_needs_a_name_and_a_value() {
        let variable: Variable = "A_1=b=c".parse().unwrap();
        assert_eq!((variable.name.as_str(), variable.value.as_str()), ("A_1", "b=c"));
        assert_eq!("A=".parse::<Variable>().unwrap().value, "");
        assert!("A".parse::<Variable>().unwrap_err().contains("KEY=VALUE"));
        assert!("1A=x".parse::<Variable>().unwrap_err().contains("`1A`"));
        assert!("A B=x".parse::<Variable>().unwrap_err().contains("`A B`"));
    }

    #[test]
    fn a_secret_is_named_and_never_given() {
        let same: SecretVariable = "TOKEN".parse().unwrap();
        assert_eq!((same.name.as_str(), same.source.as_str()), ("TOKEN", "TOKEN"));
        let other: SecretVariable = "TOKEN=MY_TOKEN".parse().unwrap();
        assert_eq!((other.name.as_str(), other.source.as_str()), ("TOKEN", "MY_TOKEN"));
        let refused = "TOKEN=hush-hush".parse::<SecretVariable>().unwrap_err();
        assert!(refused.contains("never the value") && !refused.contains("hush"), "{refused}");
    }

    #[test]
    fn a_header_is_a_name_and_a_value() {
        assert_eq!("X-Team: blue:1".parse::<HeaderArg>().unwrap().name, "X-Team");
        assert!("X-Team=blue".parse::<HeaderArg>().is_err());
        assert!(": x".parse::<HeaderArg>().is_err());
        assert!(!format!("{:?}", "X-A: hush".parse::<HeaderArg>().unwrap()).contains("hush"));
    }
}
