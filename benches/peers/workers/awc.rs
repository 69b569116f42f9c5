use std::rc::Rc;

use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::process::{Result, Sample, Stopwatch};

/// The same two requests for each command with the bare client, without anything around them: the ceiling.
pub(crate) fn run(url: &str, commands: usize, at_once: usize) -> Result<Sample> {
    actix_rt::System::new().block_on(async {
        let connector = awc::Connector::new().limit(at_once);
        let client = Rc::new(awc::Client::builder().connector(connector).disable_redirects().finish());
        let watch = Stopwatch::start();
        let lanes = (0..at_once).map(|lane| {
            let (client, url) = (Rc::clone(&client), format!("{url}/w{lane}"));
            async move {
                for _ in 0..commands / at_once {
                    one(&client, &url).await?;
                }
                Ok::<_, Box<dyn std::error::Error>>(())
            }
        });
        try_join_all(lanes).await?;
        Ok(watch.sample(commands / at_once * at_once))
    })
}

async fn one(client: &awc::Client, url: &str) -> Result<()> {
    let start = json!({ "command": "true", "cwd": null, "timeout": 31 });
    let mut answer = client.post(format!("{url}/api/bash/start_bash_command")).send_json(&start).await?;
    let started: Value = answer.json().await?;
    let id = started["id"].as_str().ok_or("no id")?;
    let search = format!("{url}/api/bash/bash_events/search?kind__eq=BashOutput&command_id__eq={id}&limit=8");
    let page: Value = client.get(search).send().await?.json().await?;
    if page["items"][0]["exit_code"] == 0 { Ok(()) } else { Err(format!("no end: {page}").into()) }
}
