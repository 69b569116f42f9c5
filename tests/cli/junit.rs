//! JUnit reports hold to their schema.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};

use crate::support::Place;

const SCHEMA: &str = include_str!("junit.xsd");

/// What the schema says of an element or a type: the elements in it, and its attributes, with whether each is required.
#[derive(Debug, Default, Clone)]
struct Rule {
    children: BTreeSet<String>,
    attributes: BTreeMap<String, bool>,
    /// The type that it takes its attributes from.
    of_type: Option<String>,
}

fn attributes(element: &BytesStart<'_>) -> BTreeMap<String, String> {
    let found = element.attributes().map(|found| found.unwrap());
    found.map(|found| (found.key.as_ref().to_owned(), found.value.as_ref().to_owned())).collect()
}

/// Walks a document: each element with the one around it.
fn walk(xml: &str, mut visit: impl FnMut(&str, Option<&str>, BTreeMap<String, String>)) {
    let mut reader = Reader::from_str(xml);
    let mut open: Vec<String> = Vec::new();
    loop {
        let event = reader.read_event().unwrap();
        match &event {
            Event::Start(element) | Event::Empty(element) => {
                let name = element.name().as_ref().to_owned();
                visit(&name, open.last().map(String::as_str), attributes(element));
                if matches!(event, Event::Start(_)) {
                    open.push(name);
                }
            }
            Event::End(_) => drop(open.pop()),
            Event::Eof => return assert!(open.is_empty(), "{open:?} is not closed"),
            _ => {}
        }
    }
}

/// The rules of the schema, by the names of elements and types. It knows the parts of XML Schema that are used there.
fn rules() -> BTreeMap<String, Rule> {
    let mut rules = BTreeMap::<String, Rule>::new();
    let mut current = String::new();
    walk(SCHEMA, |name, _, attributes| match (name, attributes.get("name"), attributes.get("ref")) {
        ("xs:element", None, Some(child)) => drop(rules.get_mut(&current).unwrap().children.insert(child.clone())),
        ("xs:element" | "xs:complexType", Some(name), _) => {
            current.clone_from(name);
            let of_type = attributes.get("type").cloned();
            rules.insert(name.clone(), Rule { of_type, ..Rule::default() });
        }
        ("xs:attribute", Some(name), _) => {
            let required = attributes.get("use").is_some_and(|usage| usage == "required");
            rules.get_mut(&current).unwrap().attributes.insert(name.clone(), required);
        }
        _ => {}
    });
    rules
}

/// What is wrong with a report, by the schema.
pub(crate) fn check(xml: &str) -> Result<(), String> {
    let rules = rules();
    let mut wrong = Vec::new();
    walk(xml, |name, parent, attributes| {
        let Some(rule) = rules.get(name) else { return wrong.push(format!("<{name}> is unknown")) };
        let allowed = rule.of_type.as_ref().and_then(|of_type| rules.get(of_type)).unwrap_or(rule);
        if parent.is_some_and(|parent| !rules[parent].children.contains(name)) {
            wrong.push(format!("<{name}> is in <{parent:?}>"));
        }
        wrong.extend(
            attributes
                .keys()
                .filter(|key| !allowed.attributes.contains_key(*key))
                .map(|key| format!("{key} of <{name}>")),
        );
        let required = allowed.attributes.iter().filter(|(_, required)| **required);
        wrong.extend(
            required.filter(|(key, _)| !attributes.contains_key(*key)).map(|(key, _)| format!("<{name}> lacks {key}")),
        );
    });
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

#[test]
fn a_report_holds_to_the_schema() {
    let place = Place::new();
    let agent = crate::support::Agent::start(&place, &[], &[]);
    let targets = format!("{},http://127.0.0.1:1", agent.url);
    let script = "printf '<a>]]>\\033[0m\\001\\377'; echo '&' >&2; exit 3";
    place.run(&["run", "-w", &targets, "--junit", "report.xml", "--", script]).expect(4);
    let report = place.read("report.xml");
    check(&report).unwrap();
    assert!(report.contains("&lt;a&gt;]]&gt;\u{fffd}[0m\u{fffd}\u{fffd}"), "{report}");
    // A second opinion, where there is one.
    let schema = place.file("junit.xsd", SCHEMA);
    let linted = Command::new("xmllint")
        .arg("--noout")
        .arg("--schema")
        .arg(schema)
        .arg(place.path().join("report.xml"))
        .status();
    assert!(linted.map_or(true, |status| status.success()), "xmllint finds it wrong");
}

#[test]
fn what_does_not_hold_to_the_schema_is_found() {
    let case = "<testcase name='a' classname='b'/>";
    check(&format!("<testsuites><testsuite name='x' tests='1'>{case}</testsuite></testsuites>")).unwrap();
    for wrong in [
        format!("<testsuites>{case}</testsuites>"),
        "<testsuites><testsuite name='x'/></testsuites>".to_owned(),
        "<testsuites colour='red'/>".to_owned(),
        "<tests/>".to_owned(),
    ] {
        assert!(check(&wrong).is_err(), "{wrong}");
    }
}
