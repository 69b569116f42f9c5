//! Starts that meet one fault after the other.

use workspace_fleet::messages::ExecuteCommand;

use crate::{
    scene::{Scene, alone, impatient, runs},
    support::proxy::{Act, Fault, Proxy, Stage},
};

const START: &str = "/start_bash_command";
const SEARCH: &str = "/bash_events/search";
const TOMBSTONE: &str = "/file/upload";

const GARBAGE: Fault = Fault::At(Stage::Unanswered, Act::Garbage);

/// Each row: what happens to requests, in turn.
const ROWS: [&[(&str, Fault)]; 7] = [
    // What is not HTTP is not believed at once, neither while it is looked for the command nor while that is forbidden.
    &[(START, Fault::DropAnswer), (SEARCH, GARBAGE), (SEARCH, Fault::AnswerInstead(502))],
    &[(START, Fault::DeliverAfter(2)), (SEARCH, GARBAGE), (TOMBSTONE, GARBAGE), (SEARCH, GARBAGE)],
    // Nor is a gateway that does not know the sandbox for a moment.
    &[(START, Fault::AnswerInstead(504)), (SEARCH, Fault::Refuse(404, 0)), (SEARCH, Fault::Refuse(401, 0))],
    // What was refused is sent again.
    &[(START, Fault::Refuse(408, 0)), (START, Fault::Refuse(429, 0)), (START, Fault::Refuse(503, 0))],
    // What was called off is sent again under another name, and may get lost again.
    &[(START, Fault::DeliverAfter(3)), (START, Fault::DeliverWhenGivenUp), (START, Fault::DropAnswer)],
    &[(START, Fault::DeliverAfter(1)), (TOMBSTONE, Fault::CutRequest(0)), (TOMBSTONE, Fault::DropAnswer)],
    // All of it is found again.
    &[(START, Fault::CutAnswer(10)), (SEARCH, Fault::CutAnswer(20)), (SEARCH, Fault::DropAnswer), (SEARCH, GARBAGE)],
];

#[test]
fn a_start_that_meets_one_fault_after_the_other_happens_once() {
    alone(async {
        let scene = Scene::new().await;
        let mut counters = Vec::new();
        for (at, row) in ROWS.iter().enumerate() {
            let proxy = Proxy::start(&scene.url()).await.unwrap();
            for (path, fault) in *row {
                proxy.spoil_next(path, *fault);
            }
            let name = format!("w{at}");
            let workspace = scene.fleet.add(impatient(&name, &proxy.url(), scene.root.path())).await.unwrap();
            let command = ExecuteCommand::new(format!("echo ran >>counter-{at}; echo out; exit 3"));
            let result = workspace.execute_command(command).await.unwrap_or_else(|error| panic!("{row:?}: {error}"));
            assert_eq!((&*result.stdout, result.exit_code), ("out\n", 3), "{row:?}");
            scene.fleet.remove(&name).await.unwrap();
            proxy.release().await;
            counters.push(scene.root.path().join(format!("counter-{at}")));
        }
        assert_eq!(scene.quiet().await, Vec::<String>::new());
        for (counter, row) in counters.iter().zip(ROWS) {
            assert_eq!(runs(counter), 1, "{row:?}");
        }
        assert_eq!(scene.end().await, Vec::<String>::new());
    });
}
