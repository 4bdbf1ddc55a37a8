//! Configuration: its types, its loading, and what it says when something in it is wrong.
//!
//! Leaves out what needs more than the files to be known: whether a key is right, whether a server
//! answers, whether tools describe themselves well. Called by the binary's composition root and by
//! `majordomo check`, `schema` and `init`.

mod approvals;
mod approver;
mod budget;
mod builtin;
mod chat;
mod check;
mod document;
mod email;
mod escalation;
mod grant;
mod load;
mod price;
mod problem;
pub mod schema;
pub mod secret;
mod shape;
pub mod starter;
mod suggest;
#[cfg(test)]
mod tests;
mod text;
mod tools;
mod types;
mod webhook;

pub use approvals::*;
pub use budget::*;
pub(crate) use email::is_here;
pub use email::{EmailSettings, MailTls};
pub use escalation::{Contact, EscalationSettings, Rung};
pub use load::{Config, Source, load};
pub use price::MissingPrice;
pub use problem::{Problem, Report};
pub use text::is_name;
pub use tools::{KnownTools, Need};
pub use types::*;
pub use webhook::*;
