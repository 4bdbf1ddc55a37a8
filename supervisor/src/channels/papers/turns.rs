//! Seats that people share by turns: whoever holds the fewest is next, however much others have waiting,
//! and of those who hold as few they go round. Of one's own, what came first goes first.
//!
//! Each wait is somebody's call, so there are no more of them than callers. Whoever stops waiting gives
//! up their turn, and a seat that nobody takes goes to the next.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use shared::id::{PrincipalId, TenantId};

/// Who takes turns: a person, within their tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Whose data it is.
    pub tenant: TenantId,
    /// Who it is done for.
    pub principal: PrincipalId,
}

/// So many seats.
#[derive(Clone)]
pub(super) struct Turns(Arc<Mutex<Room>>);

struct Room {
    free: usize,
    /// Seats by who holds them; nobody who holds none.
    held: HashMap<Owner, usize>,
    /// Who waits, whoever was served last at the end. None of the lines is empty.
    lines: VecDeque<(Owner, VecDeque<oneshot::Sender<Seat>>)>,
}

/// A seat. It is free again when this is dropped.
pub(super) struct Seat {
    turns: Turns,
    owner: Owner,
}

impl Turns {
    /// None of them taken.
    pub(super) fn new(seats: usize) -> Self {
        Self(Arc::new(Mutex::new(Room {
            free: seats,
            held: HashMap::new(),
            lines: VecDeque::new(),
        })))
    }

    /// A seat, when it is this one's turn; none where nobody gives any out any more. Safe to drop at any
    /// time.
    pub(super) async fn seat(&self, owner: &Owner) -> Option<Seat> {
        let (give, given) = oneshot::channel();
        self.room().enter(owner, give);
        self.give_out();
        given.await.ok()
    }

    /// Seats whoever is next, as long as a seat is free.
    fn give_out(&self) {
        loop {
            let mut room = self.room();
            let Some((owner, give)) = room.next() else {
                return;
            };
            drop(room);
            let turns = self.clone();
            // Where nobody takes it, it is dropped here, and free again.
            drop(give.send(Seat { turns, owner }));
        }
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    fn enter(&mut self, owner: &Owner, give: oneshot::Sender<Seat>) {
        match self.lines.iter_mut().find(|(other, _)| other == owner) {
            Some((_, line)) => line.push_back(give),
            None => self
                .lines
                .push_back((owner.clone(), VecDeque::from([give]))),
        }
    }

    /// Takes a seat for whoever is next; none where none is free, or nobody waits.
    fn next(&mut self) -> Option<(Owner, oneshot::Sender<Seat>)> {
        for (_, line) in &mut self.lines {
            line.retain(|give| !give.is_closed());
        }
        self.lines.retain(|(_, line)| !line.is_empty());
        self.free.checked_sub(1)?;
        let holds = |(owner, _): &(Owner, _)| self.held.get(owner).copied().unwrap_or_default();
        // The first of those who hold the fewest.
        let (at, _) = self
            .lines
            .iter()
            .enumerate()
            .min_by_key(|(_, line)| holds(line))?;
        let (owner, mut line) = self.lines.remove(at)?;
        let give = line.pop_front()?;
        if !line.is_empty() {
            self.lines.push_back((owner.clone(), line));
        }
        self.free -= 1;
        *self.held.entry(owner.clone()).or_default() += 1;
        Some((owner, give))
    }

    fn leave(&mut self, owner: &Owner) {
        self.free += 1;
        if let Some(held) = self.held.get_mut(owner) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(owner);
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.turns.room().leave(&self.owner);
        self.turns.give_out();
    }
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;
    use futures::{FutureExt as _, poll};

    use super::*;

    fn owner(name: &str) -> Owner {
        Owner {
            tenant: "home".into(),
            principal: name.into(),
        }
    }

    /// Those who wait, in the order in which they came.
    struct Waiting<'a>(Vec<(&'a str, BoxFuture<'a, Option<Seat>>)>);

    impl<'a> Waiting<'a> {
        async fn enter(&mut self, turns: &'a Turns, name: &'a str) {
            let mut waits = async move { turns.seat(&owner(name)).await }.boxed();
            assert!(poll!(&mut waits).is_pending(), "{name} has to wait");
            self.0.push((name, waits));
        }

        /// Who was seated, and their seat.
        async fn seated(&mut self) -> Option<(&'a str, Seat)> {
            for at in 0..self.0.len() {
                if let std::task::Poll::Ready(seat) = poll!(&mut self.0[at].1) {
                    return Some((self.0.remove(at).0, seat?));
                }
            }
            None
        }
    }

    #[tokio::test]
    async fn whoever_has_many_waiting_holds_up_nobody_else() {
        let turns = Turns::new(2);
        let mut seats = VecDeque::new();
        for _ in 0..2 {
            seats.push_back(turns.seat(&owner("ada")).await.unwrap());
        }
        let mut waiting = Waiting(Vec::new());
        for _ in 0..4 {
            waiting.enter(&turns, "ada").await;
        }
        for name in ["bob", "bob", "eve"] {
            waiting.enter(&turns, name).await;
        }
        let mut order = Vec::new();
        while let Some(seat) = seats.pop_front() {
            drop(seat);
            if let Some((name, seat)) = waiting.seated().await {
                order.push(name);
                seats.push_back(seat);
            }
        }
        assert_eq!(order, ["bob", "ada", "eve", "bob", "ada", "ada", "ada"]);
    }

    #[tokio::test]
    async fn the_same_name_in_another_tenant_is_somebody_else() {
        let turns = Turns::new(2);
        let first = turns.seat(&owner("ada")).await.unwrap();
        let _second = turns.seat(&owner("ada")).await.unwrap();
        let other = Owner {
            tenant: "elsewhere".into(),
            ..owner("ada")
        };
        let ada = owner("ada");
        let mut third = turns.seat(&ada).boxed();
        let mut fourth = turns.seat(&other).boxed();
        assert!(poll!(&mut third).is_pending() && poll!(&mut fourth).is_pending());
        drop(first);
        assert!(poll!(&mut third).is_pending());
        assert!(poll!(&mut fourth).is_ready());
    }

    #[tokio::test]
    async fn who_stops_waiting_gives_up_their_turn_before_and_after_it_came() {
        let turns = Turns::new(1);
        let ada = owner("ada");
        let held = turns.seat(&ada).await.unwrap();
        let mut gone = turns.seat(&ada).boxed();
        assert!(poll!(&mut gone).is_pending());
        let mut late = turns.seat(&ada).boxed();
        assert!(poll!(&mut late).is_pending());
        let mut last = turns.seat(&ada).boxed();
        assert!(poll!(&mut last).is_pending());
        drop(gone);
        drop(held);
        // The seat is his already, and he does not come for it.
        drop(late);
        let seat = poll!(&mut last);
        assert!(seat.is_ready());
        drop((seat, last));
        assert_eq!(turns.room().free, 1);
        assert!(turns.room().held.is_empty() && turns.room().lines.is_empty());
    }
}
