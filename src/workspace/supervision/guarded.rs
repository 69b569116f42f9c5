use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{self, Poll},
};

use actix::{Actor, Context, Supervised, dev::ContextFut};

/// How much of what a panic said is kept, in bytes.
const MOST_TEXT: usize = 300;

/// An actor that outlives its own panics: its state, its mailbox and so its address stay, and it can be started again.
pub(crate) struct Guarded<A: Actor<Context = Context<A>>>(ContextFut<A, Context<A>>);

/// Why an actor no longer runs.
#[derive(Debug)]
pub(crate) enum Exit {
    /// It was stopped, or nobody can reach it any more.
    Stopped,
    /// It panicked, and said this.
    Panicked(String),
}

impl<A: Actor<Context = Context<A>> + Supervised> Guarded<A> {
    pub(crate) fn new(context: Context<A>, actor: A) -> Self {
        Self(context.into_future(actor))
    }

    /// Runs the actor until it stops or panics. What it was doing at a panic is lost, with the message that it had taken out
    /// of its mailbox; the messages behind that one wait.
    pub(crate) async fn run(&mut self) -> Exit {
        poll_fn(|cx| self.poll_run(cx)).await
    }

    /// The same, a step at a time.
    pub(crate) fn poll_run(&mut self, cx: &mut task::Context<'_>) -> Poll<Exit> {
        match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.0).poll(cx))) {
            Ok(polled) => polled.map(|()| Exit::Stopped),
            Err(payload) => Poll::Ready(Exit::Panicked(panic_text(&*payload))),
        }
    }

    /// Makes the actor ready to run again. Returns false when nobody can reach it any more.
    pub(crate) fn restart(&mut self) -> bool {
        self.0.restart()
    }
}

/// What a panic said, shortened.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text.as_str(),
        (None, None) => "a panic without words",
    };
    text[..text.floor_char_boundary(MOST_TEXT)].to_owned()
}

#[cfg(test)]
mod tests {
    use actix::{Handler, Message};

    use super::*;

    /// Counts what it is told, and panics when told nothing.
    struct Counting(u32);

    #[derive(Message)]
    #[rtype(result = "u32")]
    struct Add(u32);

    impl Actor for Counting {
        type Context = Context<Self>;
    }

    impl Supervised for Counting {}

    impl Handler<Add> for Counting {
        type Result = u32;

        fn handle(&mut self, Add(more): Add, _: &mut Self::Context) -> u32 {
            assert!(more > 0, "told nothing");
            self.0 += more;
            self.0
        }
    }

    #[actix_rt::test]
    async fn a_panic_costs_the_message_in_hand_and_nothing_else() {
        let context = Context::new();
        let address = actix::AsyncContext::address(&context);
        let mut guarded = Guarded::new(context, Counting(0));
        let (first, lost, behind) = (address.send(Add(1)), address.send(Add(0)), address.send(Add(2)));
        let answers = actix_rt::spawn(async move { futures::join!(first, lost, behind) });
        let said = match guarded.run().await {
            Exit::Panicked(said) => said,
            Exit::Stopped => panic!("the actor was told to panic"),
        };
        assert_eq!(said, "told nothing");
        assert!(guarded.restart());
        let (run, answers) = futures::join!(guarded.run(), async {
            let answers = answers.await.unwrap();
            drop(address);
            answers
        });
        assert!(matches!(run, Exit::Stopped), "without an address there is nobody to run for");
        assert_eq!((answers.0.unwrap(), answers.2.unwrap()), (1, 3), "state and mailbox are those from before");
        assert!(answers.1.is_err());
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = panic_text(&"é".repeat(MOST_TEXT));
        assert_eq!(text, "é".repeat(MOST_TEXT / 2));
    }
}
