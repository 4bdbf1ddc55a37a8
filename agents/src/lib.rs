//! How one agent does one piece of work.
pub mod tools;
