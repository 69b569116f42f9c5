/// The longest name, in bytes: it becomes part of file names.
const MAX_BYTES: usize = 200;

/// Checks a workspace's name.
///
/// A name is made of letters, digits and `. _ - : / + = ~ %`, so that it can stand in a list, in a file name and in a
/// shell without quotes, and so that patterns over names stay possible.
///
/// # Errors
/// What is wrong with the name.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a name must not be empty".to_owned());
    }
    if name.len() > MAX_BYTES {
        return Err(format!("a name must not be longer than {MAX_BYTES} bytes; this one has {}", name.len()));
    }
    if name.starts_with('-') {
        return Err("a name must not begin with `-`, which begins an option".to_owned());
    }
    if let Some(odd) = name.chars().find(|c| !c.is_alphanumeric() && !"._-:/+=~%".contains(*c)) {
        return Err(format!(
            "`{}` must not stand in a name; use letters, digits and any of . _ - : / + = ~ %",
            odd.escape_debug()
        ));
    }
    if name.contains("://") {
        return Err("a name must not be a URL; put the URL into `host`".to_owned());
    }
    // Downloads make directories of names.
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("the parts of a name between slashes must be neither empty nor `.` nor `..`".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_port_and_path_make_a_name() {
        for good in ["web-1", "127.0.0.1:8000", "gw:443/s/abc", "größe_2", "[::1]".trim_matches(['[', ']'])] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_would_leave_its_directory_or_start_an_option_is_no_name() {
        for (bad, why) in [
            ("", "empty"),
            ("-w", "option"),
            ("a b", "` `"),
            ("a,b", "`,`"),
            ("web[1-3]", "`[`"),
            ("a\nb", "\\n"),
            ("http://h", "URL"),
            ("../up", ".."),
            ("/abs", "empty nor"),
            ("a//b", "empty nor"),
        ] {
            let reason = check_name(bad).unwrap_err();
            assert!(reason.contains(why), "{bad}: {reason}");
        }
        assert!(check_name(&"x".repeat(201)).unwrap_err().contains("200 bytes"));
    }
}
