//! One integration binary, a module for each behaviour.

mod agent_loop;
mod engine;
mod first_answer;
