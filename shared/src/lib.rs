//! Words and outside services that both `agents` and `supervisor` need. No actors, no HTTP server.
//!
//! The way of a task: door → intake → **journal** → supervisor's run → agent's run → **model** or
//! tool through **egress** → **journal** → answer. What stands in bold lives here, behind ports:
//! [`run`] (what a durable run may do), [`store`] (the journal's tables), [`model`], [`egress`],
//! [`email`], and the words they share.

pub mod ask;
pub mod blob;
pub mod budget;
pub mod clock;
pub mod config;
pub mod crash;
pub mod disguise;
pub mod egress;
pub mod email;
pub mod event;
pub mod feedback;
pub mod hash;
pub mod id;
pub mod label;
pub mod model;
pub mod money;
pub mod permit;
pub mod retry;
pub mod run;
pub mod store;
pub mod task;
