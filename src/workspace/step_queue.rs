use std::{cell::RefCell, collections::VecDeque, future::Future, rc::Rc};

use futures::channel::oneshot;

/// Keeps the steps of one workspace in the order in which they were asked for.
///
/// A place is taken synchronously with [`enter`](Self::enter), which is what fixes the order; the returned future
/// resolves when it is the step's turn. Dropping the future gives the place up, dropping the [`Permit`] ends the step,
/// so neither a cancelled nor a panicking step can block those behind it.
#[derive(Clone)]
pub(crate) struct StepQueue(Rc<RefCell<State>>);

struct State {
    running: usize,
    max_running: usize,
    max_waiting: usize,
    waiting: VecDeque<Waiting>,
    door: Door,
    /// Those who wait until nothing runs.
    on_idle: Vec<oneshot::Sender<()>>,
}

struct Waiting {
    turn: oneshot::Sender<Permit>,
    /// Whether it is part of something that has begun.
    under_way: bool,
}

/// Who gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Everybody,
    /// What is part of something that has begun.
    UnderWay,
    Nobody,
}

impl Door {
    fn lets_in(self, under_way: bool) -> bool {
        self == Self::Everybody || (self == Self::UnderWay && under_way)
    }
}

/// The right to carry a step out; given back when dropped.
pub(crate) struct Permit(Option<StepQueue>);

/// Why there is no turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// As many steps as allowed wait already.
    Full {
        /// How many that is.
        waiting: usize,
    },
    /// The workspace stops.
    Closed,
}

impl StepQueue {
    pub(crate) fn new(max_running: usize, max_waiting: usize) -> Self {
        let max_running = max_running.max(1);
        Self(Rc::new(RefCell::new(State {
            running: 0,
            max_running,
            max_waiting,
            waiting: VecDeque::new(),
            door: Door::Everybody,
            on_idle: Vec::new(),
        })))
    }

    /// Takes the next place, for a step that is part of something that has begun, or for one that is not.
    pub(crate) fn enter(
        &self,
        under_way: bool,
    ) -> Result<impl Future<Output = Result<Permit, Refused>> + use<>, Refused> {
        let (sender, turn) = oneshot::channel();
        let mut state = self.0.borrow_mut();
        if !state.door.lets_in(under_way) {
            return Err(Refused::Closed);
        }
        if state.running < state.max_running {
            state.running += 1;
            drop(state);
            // The receiver is alive, so this cannot fail; if it did, the permit would end the step as it is dropped.
            let _ = sender.send(Permit(Some(self.clone())));
        } else {
            if state.waiting.len() >= state.max_waiting {
                state.waiting.retain(|waiting| !waiting.turn.is_canceled());
            }
            if state.waiting.len() >= state.max_waiting {
                return Err(Refused::Full { waiting: state.waiting.len() });
            }
            state.waiting.push_back(Waiting { turn: sender, under_way });
        }
        Ok(async { turn.await.map_err(|oneshot::Canceled| Refused::Closed) })
    }

    /// Turns everybody away who has not begun, from now on.
    pub(crate) fn close(&self) {
        self.narrow(Door::Nobody);
    }

    /// Turns everybody away who has not begun, but for the further steps of what has. Returns how many waited.
    pub(crate) fn let_end(&self) -> usize {
        self.narrow(Door::UnderWay)
    }

    fn narrow(&self, door: Door) -> usize {
        let turned_away: VecDeque<Waiting> = {
            let mut state = self.0.borrow_mut();
            if state.door == Door::Nobody {
                return 0;
            }
            state.door = door;
            let waiting = std::mem::take(&mut state.waiting).into_iter();
            let (kept, turned_away) = waiting.partition(|waiting| door.lets_in(waiting.under_way));
            state.waiting = kept;
            turned_away
        };
        turned_away.iter().filter(|waiting| !waiting.turn.is_canceled()).count()
    }

    /// Waits until no step is being carried out.
    pub(crate) async fn idle(&self) {
        let idle = {
            let mut state = self.0.borrow_mut();
            if state.running == 0 {
                return;
            }
            let (waiting, idle) = oneshot::channel();
            state.on_idle.push(waiting);
            idle
        };
        // A sender that is dropped unsent has nothing left to wait for either.
        let _ = idle.await;
    }

    /// How many steps are being carried out, and how many wait.
    pub(crate) fn load(&self) -> (usize, usize) {
        let state = self.0.borrow();
        (state.running, state.waiting.iter().filter(|waiting| !waiting.turn.is_canceled()).count())
    }

    /// Hands a free place to the first who still waits for it.
    fn pass_on(&self) {
        loop {
            let next = {
                let mut state = self.0.borrow_mut();
                match state.waiting.pop_front() {
                    Some(next) => next,
                    None => {
                        state.running -= 1;
                        if state.running == 0 {
                            for waiting in state.on_idle.drain(..) {
                                // Whoever waited for this may have stopped waiting.
                                let _ = waiting.send(());
                            }
                        }
                        return;
                    }
                }
            };
            match next.turn.send(Permit(Some(self.clone()))) {
                Ok(()) => return,
                // Whoever waited is gone: the permit must not pass itself on, this loop does.
                Err(mut permit) => permit.0 = None,
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            queue.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::Pin, task::Context};

    use futures::{FutureExt as _, task::noop_waker_ref};
    use proptest::prelude::*;

    use super::*;

    type Turn = Pin<Box<dyn Future<Output = Result<Permit, Refused>>>>;

    fn poll(turn: &mut Turn) -> Option<Result<Permit, Refused>> {
        match turn.poll_unpin(&mut Context::from_waker(noop_waker_ref())) {
            std::task::Poll::Ready(result) => Some(result),
            std::task::Poll::Pending => None,
        }
    }

    fn enter(queue: &StepQueue) -> Turn {
        Box::pin(queue.enter(false).unwrap())
    }

    #[test]
    fn a_full_queue_refuses_at_once_and_a_given_up_place_is_free_again() {
        let queue = StepQueue::new(1, 1);
        let _running = poll(&mut enter(&queue)).unwrap().unwrap();
        let waiting = enter(&queue);
        assert!(matches!(queue.enter(false), Err(Refused::Full { waiting: 1 })));
        drop(waiting);
        assert!(queue.enter(false).is_ok());
    }

    #[test]
    fn closing_turns_the_waiting_away_and_lets_the_running_end() {
        let queue = StepQueue::new(1, 4);
        let running = poll(&mut enter(&queue)).unwrap().unwrap();
        let mut waiting = enter(&queue);
        queue.close();
        assert!(matches!(poll(&mut waiting), Some(Err(Refused::Closed))));
        assert!(matches!(queue.enter(true), Err(Refused::Closed)));
        let mut idle = Box::pin(queue.idle());
        let mut poll_idle = || idle.poll_unpin(&mut Context::from_waker(noop_waker_ref())).is_ready();
        assert!(!poll_idle());
        drop(running);
        assert!(poll_idle());
        assert_eq!(queue.load(), (0, 0));
    }

    #[test]
    fn what_has_begun_may_end_when_nothing_else_is_let_in() {
        let queue = StepQueue::new(1, 4);
        let running = poll(&mut enter(&queue)).unwrap().unwrap();
        let (mut other, mut under_way) = (enter(&queue), Box::pin(queue.enter(true).unwrap()) as Turn);
        assert_eq!(queue.let_end(), 1);
        assert!(matches!(poll(&mut other), Some(Err(Refused::Closed))));
        assert!(matches!(queue.enter(false), Err(Refused::Closed)));
        drop(running);
        drop(poll(&mut under_way).unwrap().unwrap());
        drop(poll(&mut (Box::pin(queue.enter(true).unwrap()) as Turn)).unwrap().unwrap());
        queue.close();
        queue.let_end();
        assert!(matches!(queue.enter(true), Err(Refused::Closed)), "closed for good");
    }

    #[derive(Debug, Clone)]
    enum Action {
        Enter,
        Finish(usize),
        GiveUp(usize),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![3 => Just(Action::Enter), 2 => (0..8usize).prop_map(Action::Finish), 1 => (0..8usize).prop_map(Action::GiveUp)]
    }

    proptest! {
        /// Whatever enters, finishes and gives up: turns come in the order of entering, never more than allowed run,
        /// and nobody waits while a place is free.
        #[test]
        fn order_and_bounds_hold(max_running in 1..4usize, actions in proptest::collection::vec(action(), 0..80)) {
            let queue = StepQueue::new(max_running, usize::MAX);
            let mut waiting: VecDeque<Turn> = VecDeque::new();
            let mut running: Vec<Permit> = Vec::new();
            for action in actions {
                match action {
                    Action::Enter => waiting.push_back(enter(&queue)),
                    Action::Finish(at) if !running.is_empty() => drop(running.swap_remove(at % running.len())),
                    Action::GiveUp(at) if !waiting.is_empty() => drop(waiting.remove(at % waiting.len())),
                    Action::Finish(_) | Action::GiveUp(_) => {}
                }
                let mut still_waiting = VecDeque::new();
                for mut turn in waiting {
                    match poll(&mut turn) {
                        Some(permit) => {
                            prop_assert!(still_waiting.is_empty(), "a later step overtook an earlier one");
                            running.push(permit.unwrap());
                        }
                        None => still_waiting.push_back(turn),
                    }
                }
                waiting = still_waiting;
                prop_assert!(running.len() <= max_running);
                prop_assert!(waiting.is_empty() || running.len() == max_running, "a free place and somebody waiting");
            }
        }
    }
}
