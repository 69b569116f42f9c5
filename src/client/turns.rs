//! Turns at what keeps a thread busy.
//!
//! The workspaces of a thread share it by giving way to each other, and a large answer that is read and understood in one go
//! gives way to nobody. So a large one is taken in pieces, and before each piece whoever takes it waits for a turn. Turns
//! are given in the order of asking, and everything else that can go on does so before the next. However many large answers
//! come at once, what is small waits for one piece of one of them.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker, ready},
};

use tokio::task::yield_now;

/// How much is read, or understood, in one turn. Less than that needs none.
pub(super) const PIECE: usize = 128 << 10;

thread_local! {
    static TURNS: Turns = const { Turns { asked: RefCell::new(VecDeque::new()), are_given: Cell::new(false) } };
}

/// The turns of a thread.
struct Turns {
    asked: RefCell<VecDeque<Weak<Turn>>>,
    /// Whether the task that gives them runs.
    are_given: Cell<bool>,
}

/// A turn that was asked for. It is given whether or not anybody still waits for it: whoever turns to something else keeps
/// nobody from theirs.
#[derive(Default)]
struct Turn {
    is_given: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Turn {
    fn ask() -> Rc<Self> {
        let turn = Rc::new(Self::default());
        TURNS.with(|turns| {
            turns.asked.borrow_mut().push_back(Rc::downgrade(&turn));
            if !turns.are_given.replace(true) {
                actix_rt::spawn(give(Giving));
            }
        });
        turn
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_given.get() {
            return Poll::Ready(());
        }
        self.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    fn give(&self) {
        self.is_given.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The task's line in the thread's book, which is struck out when it ends, be it because the runtime of the thread does.
struct Giving;

impl Drop for Giving {
    fn drop(&mut self) {
        // While a thread ends this may be gone already.
        let _ = TURNS.try_with(|turns| {
            turns.are_given.set(false);
            drop(turns.asked.take());
        });
    }
}

/// Gives turns until nobody asks.
async fn give(_giving: Giving) {
    loop {
        // All that can go on does so meanwhile.
        yield_now().await;
        let next = TURNS.with(|turns| {
            let mut asked = turns.asked.borrow_mut();
            std::iter::from_fn(|| asked.pop_front()).find_map(|turn| turn.upgrade())
        });
        match next {
            Some(turn) => turn.give(),
            None => return,
        }
    }
}

/// Waits for a turn to understand so much. It lasts until the caller waits for anything.
pub(super) async fn turn_for(bytes: usize) {
    Waiting::default().turn_for(bytes).await;
}

/// The turn of somebody who may turn to something else before it comes, and keeps it.
#[derive(Default)]
pub(super) struct Waiting(Option<Rc<Turn>>);

impl Waiting {
    /// As [`turn_for`].
    pub(super) async fn turn_for(&mut self, bytes: usize) {
        if bytes > PIECE {
            poll_fn(|cx| self.poll(cx)).await;
        }
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        ready!(self.0.get_or_insert_with(Turn::ask).poll(cx));
        self.0 = None;
        Poll::Ready(())
    }
}

/// How much a connection has brought without a pause, and the turn that it waits for.
#[derive(Default)]
pub(super) struct Taken {
    bytes: usize,
    waiting: Waiting,
}

impl Taken {
    /// Waits until more may be read.
    pub(super) fn poll_turn(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.bytes >= PIECE {
            ready!(self.waiting.poll(cx));
            self.bytes = 0;
        }
        Poll::Ready(())
    }

    /// Notes that so much was read.
    pub(super) const fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Notes that there was nothing to be read, so that others have had their turn.
    pub(super) fn pause(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, future::join_all};

    use super::*;

    #[actix_rt::test]
    async fn others_have_their_turn_between_two() {
        let (given, rounds) = (Rc::new(Cell::new(0)), Cell::new(0));
        let large = join_all((0..8).map(|at| {
            let given = given.clone();
            async move {
                turn_for(PIECE + 1).await;
                assert_eq!(given.replace(at + 1), at, "not in the order of asking");
            }
        }));
        let mut large = actix_rt::spawn(large.map(drop));
        let small = async {
            let mut before = 0;
            loop {
                yield_now().await;
                rounds.set(rounds.get() + 1);
                assert!(given.get() <= before + 1, "two in one round");
                before = given.get();
            }
        };
        tokio::select! {
            ended = &mut large => ended.unwrap(),
            () = small => {}
        }
        assert_eq!(given.get(), 8);
        assert!(rounds.get() >= 8, "{rounds:?}");
    }

    #[actix_rt::test]
    async fn whoever_turns_to_something_else_keeps_nobody() {
        let (left, forgotten) = (Turn::ask(), Turn::ask());
        drop(forgotten);
        turn_for(PIECE + 1).await;
        assert!(left.is_given.get(), "it came first and was not polled");
    }

    #[test]
    fn another_runtime_on_the_same_thread_gives_turns_too() {
        let system = actix_rt::System::new();
        system.block_on(async { drop(Turn::ask()) });
        drop(system);
        actix_rt::System::new().block_on(turn_for(PIECE + 1));
    }

    #[actix_rt::test]
    async fn what_is_small_waits_for_nothing() {
        assert_eq!(turn_for(PIECE).now_or_never(), Some(()));
        assert_eq!(turn_for(PIECE + 1).now_or_never(), None);
        let mut taken = Taken::default();
        let mut poll = |bytes, is_pause| {
            taken.add(bytes);
            if is_pause {
                taken.pause();
            }
            poll_fn(|cx| Poll::Ready(taken.poll_turn(cx).is_ready())).now_or_never()
        };
        assert_eq!([poll(PIECE - 1, false), poll(1, true), poll(PIECE - 1, false)], [Some(true); 3]);
        assert_eq!(poll(1, false), Some(false));
    }
}
