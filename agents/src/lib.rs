//! How one agent does one piece of work.
//!
//! The way of an assignment: supervisor's run → [`run`] (the loop, over `RunCtx`) → engine →
//! [`actor`] (the agent's own actor: its model, its tools, its limits) → model or [`tools`] → back
//! through the journal. [`policy`] says which calls people are asked about, [`catalog`] is everything that
//! the loop's decisions depend on.

pub mod actor;
pub mod catalog;
mod context;
mod loop_guard;
pub mod policy;
pub mod run;
pub mod tools;
