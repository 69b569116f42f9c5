//! The decoders of everything that others send or write, each for any bytes at all.
//!
//! None may panic, take long, or take much memory, whatever it is given. The folder `fuzz` has a target for each; the tests
//! here give them a little of the same.

use crate::{
    fleet::{NamePattern, split_list},
    protocol::{BashEvent, BashEventPage, CommandHead, EventId, ServerInfo, Trace, TraceParent},
};

/// A decoder, and texts to begin with.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its target in `fuzz`.
    pub name: &'static str,
    /// Reads any bytes.
    pub read: fn(&[u8]),
    /// What makes sense to it.
    pub seeds: &'static [&'static [u8]],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "event_page",
        read: event_page,
        seeds: &[PAGE, br#"{"items":[{"kind":"x","y":[[1,{"z":null}]]}]}"#],
    },
    Target { name: "events", read: events, seeds: &[&[0, 0, 1, 0, 1, 1, 2, 0, 2, 2, 3, 0xf1, 3, 255, 9, 0xf0]] },
    Target {
        name: "frames",
        read: frames,
        seeds: &[b"\x81\x0e{\"kind\":\"x\"}\n", b"\x01\x01{\x89\x01p\x80\x01}\x88\x02\x03\xe8"],
    },
    Target { name: "server_info", read: server_info, seeds: &[INFO] },
    Target { name: "refusal", read: refusal, seeds: &[REFUSAL, b"\x01\x2e7\nhttp://h/\ntext/html\n<title>no</title>"] },
    Target { name: "header", read: header, seeds: &[b"7", b"Sun, 06 Nov 1994 08:49:37 GMT", b"bytes 2-5/6"] },
    #[cfg(feature = "cli")]
    Target {
        name: "inventory",
        read: inventory,
        seeds: &[INVENTORY, br#"{"workspace":[{"name":"a","host":"http://h:1"}]}"#],
    },
    #[cfg(feature = "cli")]
    Target { name: "hostfile", read: hostfile, seeds: &[b"# all\nweb-[1-3]\n\nhttp://h:[1,2]/s  # two\n"] },
    #[cfg(feature = "cli")]
    Target { name: "jobs", read: jobs, seeds: &[JOB] },
    Target { name: "archive", read: archive, seeds: &[b"no archive"] },
    Target {
        name: "built_archive",
        read: built_archive,
        seeds: &[b"\x05\x01a\x00\x00\x02\x03a/b\x00\x01x\x32\x01l\x02..\x00\x00\x03l/x\x00\x01y"],
    },
    Target { name: "pattern", read: pattern, seeds: &[b"web-[01-10,35].*", b"?[!a-f_][0-9]", b"http://h:[1-3]/[a]"] },
    Target { name: "git_path", read: git_path, seeds: &[br#""sub/303/274n\\303\\257.txt""#] },
    Target { name: "trace", read: trace, seeds: &[b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", TRACE] },
    Target { name: "text", read: text, seeds: &[b"server 7\n0f8fad5bd9cb469fa16570867728950e 7\n", HEAD] },
];

const PAGE: &[u8] = br#"{"items":[{"kind":"BashOutput","id":"0f8fad5bd9cb469fa16570867728950e","timestamp":"2026-01-02T03:04:05.000006Z","command_id":"0f8fad5bd9cb469fa16570867728950f","order":0,"exit_code":null,"stdout":"a\u00fc","stderr":null}],"next_page_id":"x"}"#;
const INFO: &[u8] = br#"{"uptime":1.5,"idle_time":0,"version":"1.58.0","runtime_idle_timeout_seconds":60,"instance_id":"a","capabilities":["bash_event_push_v1"]}"#;
const REFUSAL: &[u8] = b"\x01\x367\n\napplication/json\n{\"detail\":[{\"type\":\"t\",\"loc\":[\"body\",1],\"msg\":\"m\"}],\"exception\":\"500: x\"}";
#[cfg(feature = "cli")]
const INVENTORY: &[u8] = b"[[workspace]]\nname = \"a\"\nhost = \"http://h:1/s\"\napi_key = \"k\"\nheaders = { X-A = \"b\" }\nlabels = { tier = \"gpu\" }\n";
#[cfg(feature = "cli")]
const JOB: &[u8] = br#"{"name":"a","steps":[{"run":"x","timeout":"2m","env":{"B":"c"}},{"download":{"from":"/l","to":"out/{job}"}},{"diff":{"path":"/r"}}],"timeout":5}"#;
const TRACE: &[u8] = br#"{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","tags":{"a":"1"}}"#;
const HEAD: &[u8] = b"export WSFLEET_COMMAND_ID=0f8fad5bd9cb469fa16570867728950e; if [ -e /tmp/.wsfleet-$WSFLEET_COMMAND_ID ]; then echo wsfleet:superseded >&2; exit 125; fi; true";

/// The bytes as text, as far as they are.
fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// A page of events. What is read is written as something that reads the same.
pub fn event_page(bytes: &[u8]) {
    let Ok(page) = serde_json::from_slice::<BashEventPage>(bytes) else { return };
    assert!(page.items.len() <= bytes.len());
    let known = |event: &BashEvent| *event != BashEvent::Unknown;
    for event in page.items.iter().filter(|event| known(event)) {
        let written = serde_json::to_vec(event).expect("what was read can be written");
        assert_eq!(&serde_json::from_slice::<BashEvent>(&written).expect("and read again"), event);
    }
}

/// The order in which events come.
pub fn events(bytes: &[u8]) {
    crate::workspace::decoders::events(bytes);
}

/// What comes over an event socket.
pub fn frames(bytes: &[u8]) {
    crate::client::decoders::frames(bytes);
}

/// What a server says of itself.
pub fn server_info(bytes: &[u8]) {
    if let Ok(info) = serde_json::from_slice::<ServerInfo>(bytes) {
        crate::workspace::decoders::server_info(&info);
    }
}

/// An answer that is a refusal.
pub fn refusal(bytes: &[u8]) {
    crate::client::decoders::refusal(bytes);
}

/// Values of headers.
pub fn header(bytes: &[u8]) {
    crate::client::decoders::header(&lossy(bytes));
}

/// An inventory, as TOML or JSON.
#[cfg(feature = "cli")]
pub fn inventory(bytes: &[u8]) {
    let file = std::path::Path::new("inventory");
    match crate::inventory::Inventory::from_bytes(file, bytes.to_vec()) {
        Ok(inventory) => inventory.entries().for_each(|entry| assert!(!entry.name.is_empty())),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A hostfile, and a list of targets.
#[cfg(feature = "cli")]
pub fn hostfile(bytes: &[u8]) {
    let text = lossy(bytes);
    // A range may stand for a million names, which takes its time.
    let is_small = |text: &str| text.parse::<NamePattern>().map_or(true, |pattern| pattern.count() <= 1_000);
    if text.lines().all(is_small) && NamePattern::of_url(&text).map_or(true, |pattern| pattern.count() <= 1_000) {
        let _ = crate::inventory::parse_hostfile("hosts", &text);
        let _ = crate::inventory::parse_target_list(&text);
    }
}

/// A file of jobs.
#[cfg(feature = "cli")]
pub fn jobs(bytes: &[u8]) {
    crate::cli::read_job_lines(&lossy(bytes));
}

/// A directory as a tar stream.
pub fn archive(bytes: &[u8]) {
    crate::workspace::decoders::archive(bytes);
}

/// The same, with headers that are right: a byte for the kind of each entry, and its name, link and content, each after its
/// length.
pub fn built_archive(bytes: &[u8]) {
    const KINDS: [u8; 12] = *b"0125LKxg7346";
    let mut rest = bytes;
    let mut take = |most: usize| {
        let length = rest.split_off_first().map_or(0, |length| usize::from(*length) % (most + 1)).min(rest.len());
        rest.split_off(..length).unwrap_or_default()
    };
    let mut archive = Vec::new();
    for _ in 0..16 {
        let [kind] = *take(1) else { break };
        let (name, link, content) = (take(100), take(100), take(255));
        let mut header = tar::Header::new_ustar();
        let fields = header.as_old_mut();
        fields.name[..name.len()].copy_from_slice(name);
        fields.linkname[..link.len()].copy_from_slice(link);
        fields.linkflag = [KINDS[usize::from(kind) % KINDS.len()]];
        header.set_mode(u32::from(kind) << 1);
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    crate::workspace::decoders::archive(&archive);
}

/// Patterns over names: whatever one stands for, it matches.
pub fn pattern(bytes: &[u8]) {
    let text = lossy(bytes);
    let _ = split_list(&text).count();
    for pattern in [text.parse::<NamePattern>(), NamePattern::of_url(&text)].into_iter().flatten() {
        let _ = pattern.matches(&text);
        if pattern.count() <= 1_000 {
            for name in pattern.expand().expect("it is not too many") {
                assert!(pattern.matches(&name), "{pattern} gives {name}");
            }
        }
    }
}

/// A path as git tells it.
pub fn git_path(bytes: &[u8]) {
    crate::workspace::decoders::git_path(&lossy(bytes));
}

/// A trace.
pub fn trace(bytes: &[u8]) {
    let text = lossy(bytes);
    if let Ok(parent) = text.parse::<TraceParent>() {
        assert!(parent.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let tagged = Trace::default().with_tag("t", text.clone());
    for trace in serde_json::from_str::<Trace>(&text).ok().into_iter().chain(tagged.ok()) {
        assert!(trace.baggage().unwrap_or_default().bytes().all(|byte| byte.is_ascii_graphic()));
    }
}

/// Ids, heads of commands, lists of processes, addresses.
pub fn text(bytes: &[u8]) {
    let text = lossy(bytes);
    crate::workspace::decoders::processes(&text);
    if let Some((head, command)) = CommandHead::strip(&text) {
        assert_eq!(format!("{head}{command}"), text);
    }
    if let Ok(id) = text.parse::<EventId>() {
        assert_eq!(id.to_string().len(), 32);
    }
    let _ = crate::Connection::new(&text);
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};

    use super::*;

    /// A change to a text.
    #[derive(Debug, Clone)]
    enum Edit {
        Set(Index, u8),
        Insert(Index, Vec<u8>),
        Remove(Index, usize),
        Repeat(Index, usize),
    }

    fn edit() -> impl Strategy<Value = Edit> {
        let words = [
            "0",
            "-1",
            "18446744073709551616",
            "1e999",
            "\\",
            "\"",
            "null",
            "[",
            "{",
            "]",
            "}",
            ",",
            ":",
            "..",
            "/",
            "\n",
            "\u{0}",
            "\u{1b}",
            "é",
        ];
        let inserted = prop_oneof![
            prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..8),
        ];
        prop_oneof![
            (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
            (any::<Index>(), inserted).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
            (any::<Index>(), 1..9usize).prop_map(|(at, count)| Edit::Remove(at, count)),
            (any::<Index>(), 1..400usize).prop_map(|(at, count)| Edit::Repeat(at, count)),
        ]
    }

    fn edited(seed: &[u8], edits: &[Edit]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for edit in edits {
            let place = |at: &Index, bytes: &Vec<u8>| at.index(bytes.len() + 1);
            match edit {
                Edit::Set(at, byte) => {
                    let at = place(at, &bytes);
                    if let Some(place) = bytes.get_mut(at) {
                        *place = *byte;
                    }
                }
                Edit::Insert(at, more) => {
                    let at = place(at, &bytes);
                    bytes.splice(at..at, more.iter().copied());
                }
                Edit::Remove(at, count) => {
                    let at = place(at, &bytes);
                    bytes.drain(at..(at + count).min(bytes.len()));
                }
                Edit::Repeat(at, count) => {
                    let at = place(at, &bytes);
                    let end = (at + 4).min(bytes.len());
                    let part = bytes[at..end].repeat(*count);
                    bytes.splice(at..at, part);
                }
            }
        }
        bytes
    }

    /// How many inputs are made, for all decoders together. More of them than anybody would wait for are asked for with
    /// `WSFLEET_FUZZ_CASES`.
    fn cases() -> u32 {
        std::env::var("WSFLEET_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(8_000)
    }

    #[test]
    fn what_makes_sense_is_read() {
        for target in TARGETS {
            target.seeds.iter().for_each(|seed| (target.read)(seed));
        }
        assert!(
            serde_json::from_slice::<BashEventPage>(PAGE).is_ok() && serde_json::from_slice::<ServerInfo>(INFO).is_ok()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases()))]

        #[test]
        fn whatever_is_read_is_borne(
            target in any::<Index>(), seed in any::<Index>(), edits in prop::collection::vec(edit(), 0..6), noise in prop::option::weighted(0.2, prop::collection::vec(any::<u8>(), 0..300)),
        ) {
            let target = target.get(TARGETS);
            let bytes = noise.unwrap_or_else(|| edited(seed.get::<&[u8]>(target.seeds), &edits));
            (target.read)(&bytes);
        }
    }
}
