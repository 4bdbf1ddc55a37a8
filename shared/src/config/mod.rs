//! Configuration.
pub mod secret;
mod types;
pub use types::*;
