//! One integration binary, a module for each behaviour.

mod engine;
mod first_answer;
