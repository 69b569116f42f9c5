//! Searches of many pages, some of which get lost.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures::{StreamExt as _, future::join_all, stream};

use crate::{
    scene::{PATIENCE, Scene, alone, impatient, runs},
    support::{
        eventually,
        proxy::{Fault, Proxy},
    },
};

#[test]
fn a_shared_search_of_many_pages_gets_to_its_end_where_every_other_page_gets_lost() {
    alone(async {
        let scene = Scene::new().await;
        let [gate, began, ended] = ["gate", "began", "ended"].map(|name| scene.root.path().join(name));
        let proxy = Proxy::start(&scene.url()).await.unwrap();
        let (is_down, shared) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (down, counted) = (is_down.clone(), shared.clone());
        proxy.judge(move |request| {
            if !request.path.contains("/bash_events/search") {
                return None;
            }
            // Nobody may search alone, which would take one page.
            if down.load(Ordering::Relaxed) || request.path.contains("command_id__eq") {
                return Some(Fault::Refuse(503, 0));
            }
            let is_lost = counted.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
            is_lost.then_some(Fault::AnswerInstead(502))
        });
        let mut config = impatient("w", &proxy.url(), scene.root.path());
        config.max_concurrent_steps = 2;
        config.max_outage = 2 * PATIENCE;
        let workspace = scene.fleet.add(config).await.unwrap();
        let waiting = "echo began >>began; until [ -e gate ]; do sleep 0.02; done; echo out; echo ended >>ended";
        let running = tokio::spawn(join_all([workspace.execute_command(waiting), workspace.execute_command(waiting)]));
        assert!(eventually(PATIENCE, || runs(&began) == 2).await);
        // Four pages of what others wrote meanwhile.
        let others = scene.fleet.add(impatient("others", &scene.url(), scene.root.path())).await.unwrap();
        let commands = stream::iter(0..300).map(|_| others.execute_command("true"));
        commands.buffer_unordered(16).map(Result::unwrap).count().await;
        scene.fleet.remove("others").await.unwrap();
        std::fs::write(gate, "").unwrap();
        assert!(eventually(PATIENCE, || runs(&ended) == 2).await);
        is_down.store(false, Ordering::Relaxed);
        for result in running.await.unwrap() {
            assert_eq!(result.unwrap().stdout, "out\n");
        }
        assert!(shared.load(Ordering::Relaxed) >= 2 * 4, "{shared:?}");
        scene.fleet.remove("w").await.unwrap();
        drop(proxy);
        assert_eq!(scene.end().await, Vec::<String>::new());
    });
}
