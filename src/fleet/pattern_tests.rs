use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> NamePattern {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn expand(text: &str) -> Vec<String> {
    pattern(text).expand().unwrap()
}

#[test]
fn ranges_are_expanded_with_their_zeros() {
    assert_eq!(expand("node[1-3,7]"), ["node1", "node2", "node3", "node7"]);
    assert_eq!(expand("n[08-11]"), ["n08", "n09", "n10", "n11"]);
    assert_eq!(expand("n[098-100]x"), ["n098x", "n099x", "n100x"]);
    assert_eq!(expand("n[99-101]"), ["n99", "n100", "n101"]);
    assert_eq!(expand("r[1-2]n[01-02]"), ["r1n01", "r1n02", "r2n01", "r2n02"]);
    assert_eq!(expand("[0-2]"), ["0", "1", "2"]);
    assert_eq!(expand("web"), ["web"]);
    assert_eq!(expand("web*"), Vec::<String>::new());
}

#[test]
fn a_range_means_the_names_it_expands_to() {
    for (text, yes, no) in [
        ("n[1-20]", &["n1", "n20"][..], &["n0", "n01", "n21", "n", "n1x", "xn1", "n200"][..]),
        ("n[01-10]", &["n01", "n10"], &["n1", "n001", "n11", "n010"]),
        ("n[08-100]", &["n08", "n99", "n100"], &["n8", "n008", "n101", "n0100"]),
        ("r[1-2]n[1-2]", &["r1n1", "r2n2"], &["r1n3", "r3n1", "r1n"]),
        ("n[1-2][1-2]", &["n11", "n22"], &["n1", "n2", "n33"]),
        ("n[0,5]", &["n0", "n5"], &["n00", "n3"]),
    ] {
        yes.iter().for_each(|name| assert!(pattern(text).matches(name), "{text} {name}"));
        no.iter().for_each(|name| assert!(!pattern(text).matches(name), "{text} {name}"));
    }
}

#[test]
fn globs_mean_any_text_and_any_character() {
    for (text, yes, no) in [
        ("*", &["", "a"][..], &[][..]),
        ("web*", &["web", "web-1"], &["we", "xweb"]),
        ("*-1", &["web-1", "-1"], &["web-12"]),
        ("w?b", &["web", "wüb"], &["wb", "weeb"]),
        ("[a-c]x", &["ax", "cx"], &["dx", "x", "abx"]),
        ("[!a-c]x", &["dx", "üx"], &["ax", "x"]),
        ("n[1-2]*", &["n1", "n15", "n2-a"], &["n3"]),
        ("[0-9]x", &["7x"], &["77x"]),
        ("[x-]", &["x", "-"], &["y"]),
        ("**a**", &["a", "bab"], &["b"]),
    ] {
        yes.iter().for_each(|name| assert!(pattern(text).matches(name), "{text} {name}"));
        no.iter().for_each(|name| assert!(!pattern(text).matches(name), "{text} {name}"));
    }
}

#[test]
fn what_is_no_pattern_is_refused_with_the_reason() {
    for (text, why) in [
        ("n[1-3", "has no `]`"),
        ("n1-3]", "has no `[`"),
        ("n[]", "hold nothing"),
        ("n[3-1]", "3 is more than 1"),
        ("n[1-]", "a number is missing"),
        ("n[1,,2]", "a number is missing"),
        ("n[1-2-3]", "not a number"),
        ("n[1-1000000000000000000]", "digits"),
        ("n[c-a]", "turn them round"),
    ] {
        let reason = text.parse::<NamePattern>().unwrap_err().to_string();
        assert!(reason.contains(why), "{text}: {reason}");
    }
    let too_many = pattern("a[1-10000]b[1-10000]").expand().unwrap_err().to_string();
    assert!(too_many.contains("100000000 names") && too_many.contains("1000000 are"), "{too_many}");
    assert_eq!(pattern("a[0-999999999999999999][0-999999999999999999]").count(), u64::MAX);
}

#[test]
fn an_address_has_ranges_alone() {
    let urls = |text| NamePattern::of_url(text).unwrap().expand().unwrap();
    assert_eq!(urls("http://10.0.0.[1-2]:8000"), ["http://10.0.0.1:8000", "http://10.0.0.2:8000"]);
    assert_eq!(urls("http://[::1]:80/[1-2]?*"), ["http://[::1]:80/1?*", "http://[::1]:80/2?*"]);
    assert!(NamePattern::of_url("http://h[2-1]").is_err());
}

#[test]
fn commas_within_brackets_stay() {
    let parts: Vec<_> = split_list("a[1-3,7], b ,,http://h:[1,2]/x").collect();
    assert_eq!(parts, ["a[1-3,7]", "b", "http://h:[1,2]/x"]);
}

#[test]
fn the_serde_form_is_the_text() {
    let json = serde_json::to_string(&pattern("n[1-3]*")).unwrap();
    assert_eq!(json, "\"n[1-3]*\"");
    assert_eq!(serde_json::from_str::<NamePattern>(&json).unwrap(), pattern("n[1-3]*"));
    assert!(serde_json::from_str::<NamePattern>("\"n[\"").is_err());
}

/// A matcher that tries everything.
fn naive(parts: &[Part], text: &str) -> bool {
    let Some((part, parts)) = parts.split_first() else { return text.is_empty() };
    let cuts = (0..=text.len()).filter(|&at| text.is_char_boundary(at));
    let mut cuts = cuts.filter(|&at| {
        let piece = &text[..at];
        match part {
            Part::Literal(literal) => piece == literal,
            Part::AnyText => true,
            Part::AnyCharacter => piece.chars().count() == 1,
            Part::OneOf { characters, inverted } => {
                let mut all = piece.chars();
                all.next().is_some_and(|c| characters.iter().any(|range| range.contains(&c)) != *inverted)
                    && all.next().is_none()
            }
            Part::Range(spans) => spans.iter().any(|span| {
                (span.from..=span.to).any(|number| piece == format!("{number:0width$}", width = span.width))
            }),
        }
    });
    cuts.any(|at| naive(parts, &text[at..]))
}

proptest! {
    #[test]
    fn it_matches_as_the_naive_matcher_does(
        text in "([ab0-2ü]|\\*|\\?|\\[0?[0-2]-1[0-9]\\]|\\[[0-3],[0-9]{2}\\]|\\[[ab!][a-c]\\]){0,7}",
        name in "[ab0-2ü]{0,8}",
    ) {
        if let Ok(pattern) = text.parse::<NamePattern>() {
            prop_assert_eq!(pattern.matches(&name), naive(&pattern.parts, &name), "{} {}", text, name);
        }
    }

    #[test]
    fn it_matches_what_it_expands_to(from in 0_u64..200, more in 0_u64..50, zeros in 0_usize..4, other in 0_u64..400) {
        let text = format!("n[{:0>1$}-{2}]", from, zeros, from + more);
        let names = expand(&text);
        prop_assert_eq!(names.len() as u64, more + 1);
        prop_assert!(names.iter().all(|name| pattern(&text).matches(name)));
        for name in [format!("n{other}"), format!("n{other:02}"), format!("n{other:03}")] {
            prop_assert_eq!(pattern(&text).matches(&name), names.contains(&name), "{} {}", text, name);
        }
    }

    #[test]
    fn any_text_is_a_pattern_or_refused(text in "\\PC{0,30}|[\\[\\]0-9,a*?!-]{0,20}", name in "\\PC{0,10}") {
        if let Ok(pattern) = text.parse::<NamePattern>() {
            let _ = pattern.matches(&name);
            if pattern.count() < 1000 {
                prop_assert_eq!(pattern.expand().unwrap().len() as u64, pattern.count());
            }
        }
    }
}
