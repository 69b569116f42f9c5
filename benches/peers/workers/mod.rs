//! The contenders. Each runs in a process of its own, does its work once, and prints a sample as JSON.

mod awc;
mod fleet;
mod hyper;
mod idle;
mod lag;
mod long;
mod output;
mod wide_area;

use std::time::Duration;

pub(crate) use output::text;

use crate::process::{Result, Sample};

/// Runs the contender of this name.
pub(crate) fn run(name: &str, arguments: &[String]) -> Result<Sample> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match (name, arguments.as_slice()) {
        ("fleet", words @ [_, _, _, _]) => load(words)?.cold(),
        ("fleet-warm", words @ [_, _, _, _]) => load(words)?.warm(),
        ("fleet-turns", [words @ .., at_work]) => load(words)?.in_turns(at_work.parse()?),
        ("fleet-tls", [words @ .., authority]) => {
            fleet::Load { authority: Some(authority.as_ref()), ..load(words)? }.cold()
        }
        ("awc", [url, commands, at_once]) => awc::run(url, commands.parse()?, at_once.parse()?),
        ("hyper", [port, commands, at_once]) => hyper::run(port.parse()?, commands.parse()?, at_once.parse()?),
        ("true", [url, each]) => fleet::on_agent(url, each.parse()?),
        ("idle", [url, workspaces]) => idle::run(url, workspaces.parse()?),
        ("lag", [url, push, duration, commands]) => lag::run(url, push.parse()?, duration.parse()?, commands.parse()?),
        ("long", [url, push, seconds]) => long::run(url, push.parse()?, seconds.parse()?),
        ("wide-area", [url, workspaces, each, pause, authority]) => {
            let pause = Duration::from_millis(pause.parse()?);
            wide_area::run(url, workspaces.parse()?, each.parse()?, pause, authority.as_ref())
        }
        ("output", [url, bytes, how]) => output::run(url, bytes.parse()?, how),
        _ => Err(format!("there is no contender {name} with {} arguments", arguments.len()).into()),
    }
}

fn load<'a>(words: &[&'a str]) -> Result<fleet::Load<'a>> {
    let [url, workspaces, each, at_once] = words else { return Err("a load has four words".into()) };
    Ok(fleet::Load {
        url,
        workspaces: workspaces.parse()?,
        each: each.parse()?,
        at_once: at_once.parse()?,
        authority: None,
    })
}

/// The median and the 99th percentile, in seconds.
fn percentiles(mut lags: Vec<Duration>) -> [f64; 2] {
    lags.sort_unstable();
    [50, 99].map(|percent| lags[(lags.len() * percent / 100).min(lags.len() - 1)].as_secs_f64())
}
