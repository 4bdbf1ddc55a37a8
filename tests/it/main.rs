//! One integration binary, a module for each behaviour.

mod agent_loop;
mod engine;
mod first_answer;
mod limits;
mod retry;
mod routing;
