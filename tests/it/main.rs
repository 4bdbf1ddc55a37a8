//! One integration binary, a module for each behaviour.

mod crash;
mod engine;
mod first_answer;
mod store;
