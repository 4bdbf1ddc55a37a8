//! supervisor
pub mod engine;
pub mod telemetry;
