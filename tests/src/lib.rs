//! What integration tests stand on: an engine with a program and hands of the test's own
//! ([`engine`]), and real instances of the product around a scripted model.

/// Settings with which agents do all that they can without asking anybody.
pub const FREE: &str = "[[approvals.rules]]\nthen = \"allow\"\n";

pub mod app;
pub mod chaos;
pub mod doubles;
pub mod engine;
pub mod faults;
pub mod life;
pub mod model;
pub mod money;
pub mod place;
pub mod tool;
pub mod wait;
pub mod world;
