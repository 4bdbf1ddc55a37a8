//! Stand-ins for the two chat services, written from their documentation and from the source of
//! the real Bot API server, to be as unpleasant as the real ones.
//!
//! ```text
//! test ── script ──> state machine <── calls ── HTTP front <── client under test
//!   └──── oracle ──────────┘                       └── faults, down/up, storms
//! ```
//!
//! [`telegram::FakeTelegram`] and [`slack::FakeSlack`] run in the test's own process and stop when
//! dropped; `fake-telegram` and `fake-slack` are the same things as processes, with the scripting
//! behind a control port, for tests that kill the client. The rules of each service are plain
//! synchronous code over a state that is handed the time; only the fronts and the deliverers do IO.

pub mod clock;
pub mod control;
pub mod core;
pub mod fault;
pub mod front;
pub mod post;
pub mod receiver;
pub mod slack;
pub mod smtp;
pub mod spoil;
pub mod telegram;
